"""A small picture of a volume as PNG, with nothing but zlib."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from greenrfm.volumes import Preprocessing, Volume, to_canonical

LONGEST = 128


def thumbnail(volume: Volume, preprocessing: Preprocessing) -> bytes:
    """Return the middle axial slice in radiological display as an 8-bit PNG, its longest side 128 pixels.

    Grey values run over the bundle's window in HU, or over the slice's percentiles where it has none.
    """
    placed = to_canonical(volume)
    plane = placed.array[:, :, placed.shape[2] // 2].astype(np.float32)
    low, high = preprocessing.window or np.percentile(plane, preprocessing.percentiles or (1, 99))
    lengths = [count * step for count, step in zip(plane.shape, placed.spacing[:2], strict=True)]
    rows, columns = (
        (np.arange(pixels) + 0.5) * count // pixels
        for pixels, count in zip(
            (max(1, round(LONGEST * length / max(lengths))) for length in lengths), plane.shape, strict=True
        )
    )
    shown = plane[np.ix_(rows.astype(int), columns.astype(int))]
    grey = np.clip((shown - low) / max(high - low, 1e-6), 0, 1) * 255
    return png(grey.round().astype(np.uint8))


def png(grey: NDArray[np.uint8]) -> bytes:
    """Return a grey picture (rows, columns) as PNG (RFC 2083)."""
    rows, columns = grey.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), grey], axis=1)  # filter 0 before every line
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

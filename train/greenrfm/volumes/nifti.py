"""Voxels of a NIfTI file that hold no number: SimpleITK and Slicer make zeros of them unsaid."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

# sizeof_hdr to the header's length: where the type of the voxels stands, and how; then where they begin.
_LAYOUTS = {348: (70, 108, "f4"), 540: (12, 168, "i8")}
_FLOATS = {16: "f4", 64: "f8"}
_CHUNK = 1 << 22


def not_numbers(path: Path) -> int:
    """Return how many voxels of a NIfTI file hold no finite number; 0 of other files, and of one that is not there."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(540)
            order = next((one for one in "<>" if _number(header, 0, f"{one}i4") in _LAYOUTS), "")
            if not order:
                return 0
            of_type, of_begin, kind = _LAYOUTS[int(_number(header, 0, f"{order}i4"))]
            dtype = _FLOATS.get(int(_number(header, of_type, f"{order}i2")))
            if dtype is None:
                return 0
            stream.seek(int(_number(header, of_begin, order + kind)))
            return sum(_not_finite(chunk, np.dtype(order + dtype)) for chunk in iter(lambda: stream.read(_CHUNK), b""))
    except (OSError, EOFError, ValueError, OverflowError, zlib.error):
        return 0


def _not_finite(chunk: bytes, dtype: np.dtype[Any]) -> int:
    values = np.frombuffer(chunk, dtype, len(chunk) // dtype.itemsize)
    return int(np.count_nonzero(~np.isfinite(values)))


def _number(header: bytes, place: int, kind: str) -> float:
    return float(np.frombuffer(header, kind, 1, place)[0])

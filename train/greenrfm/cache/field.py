"""One prepared volume as one file: a blosc2 array of float16 with checksums, read whole and decompressed in part.

The file is a plain .b2nd frame, which other tools open, and behind it TRAILER: the frame's CRC-32. Bytes are compared
with it before blosc2's C code sees them, because a damaged frame may crash a decompressor.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import blosc2
import msgpack
import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.files import replacing

SUFFIX = ".b2nd"
META = "greenrfm"
TRAILER = struct.Struct("<4sII")  # magic, the frame's CRC-32, the trailer's version
MAGIC, VERSION = b"GRFM", 1
# Blocks so small that a crop decompresses little more than itself. On a chest CT (13.8 MB as float16) this takes
# 4.7 MB and 4 ms a crop; ZSTD takes 4.1 to 4.7 MB and twice the time, blocks of 16³ or 24³ and other chunks gain
# nothing (train/benchmarks/cache_crops.py --layouts).
BLOCK = (32, 32, 16)
CHUNK = (64, 64, 64)
CODEC, LEVEL, FILTER = blosc2.Codec.LZ4HC, 5, blosc2.Filter.SHUFFLE
# Every array would start threads of its own, for milliseconds of work and against the network's.
blosc2.set_nthreads(1)


class BrokenVolume(UserError):
    """A file of the cache that does not hold what was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"prepared volume {path} is broken ({why}); run greenrfm cache verify --repair "
            f"--cache {path.parent.parent} and start again, which prepares it anew"
        )
        self.path, self.why = path, why

    def __reduce__(self) -> tuple[type[BrokenVolume], tuple[Path, str]]:
        """Return how to make this again in the process that waits for a worker."""
        return BrokenVolume, (self.path, self.why)


class Field:
    """A prepared volume in memory, compressed; `field[a:b, c:d, e:f]` decompresses what it returns."""

    def __init__(self, path: Path, frame: memoryview) -> None:
        self.path = path
        self._frame = frame  # the array below points into it
        try:
            self._array = blosc2.ndarray_from_cframe(frame, copy=False)
        except (RuntimeError, ValueError) as error:
            raise BrokenVolume(path, "no blosc2 frame") from error

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the padded field's voxels (H, W, D)."""
        h, w, d = self._array.shape
        return h, w, d

    def __getitem__(self, box: tuple[slice, slice, slice]) -> NDArray[np.float16]:
        """Return the voxels of the box, float16; raise BrokenVolume if they cannot be decompressed."""
        try:
            voxels: NDArray[np.float16] = self._array[box]
        except (RuntimeError, ValueError) as error:
            raise BrokenVolume(self.path, "blosc2 cannot decompress it") from error
        return voxels

    def meta(self) -> dict[str, Any]:
        """Return what `write_field` was told, "crc32" of the voxels, and "blosc2", the version that wrote them."""
        try:
            # Not blosc2's own decoder, which would also build objects that a stranger's file describes.
            meta: dict[str, Any] = msgpack.unpackb(self._array.schunk.vlmeta.get_vlmeta(META))
        except (KeyError, RuntimeError, ValueError) as error:
            raise BrokenVolume(self.path, "without its facts") from error
        return meta


def write_field(path: Path, array: NDArray[np.floating[Any]], facts: Mapping[str, Any]) -> int:
    """Write a prepared volume (H, W, D) as float16 with its `facts` (plain types) in one step; return the bytes.

    Raises UserError if a value does not fit into float16, whose largest is 65504.
    """
    with np.errstate(over="ignore"):
        voxels = np.ascontiguousarray(array, np.float16)
    if not np.isfinite(voxels).all():
        raise UserError(
            "prepared intensities reach beyond 65504, which half precision does not hold; "
            "choose a larger scale in the recipe's preprocessing"
        )
    chunk = tuple(min(part, whole) for part, whole in zip(CHUNK, voxels.shape, strict=True))
    stored = blosc2.asarray(
        voxels,
        chunks=chunk,
        blocks=tuple(min(part, whole) for part, whole in zip(BLOCK, chunk, strict=True)),
        cparams=blosc2.CParams(codec=CODEC, clevel=LEVEL, filters=[FILTER], nthreads=1),
    )
    stored.schunk.vlmeta[META] = {**facts, "crc32": zlib.crc32(voxels.data), "blosc2": blosc2.__version__}
    frame = stored.to_cframe()
    content = frame + TRAILER.pack(MAGIC, zlib.crc32(frame), VERSION)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except PermissionError:
        # Windows replaces no file that is being read: then another process was first, with the same volume.
        if not path.is_file():
            raise
    return len(content)


def read_field(path: Path, *, compare: bool = True) -> Field:
    """Read a prepared volume's file, still compressed.

    `compare` computes the CRC-32 of the bytes and looks at whose volume it is; without it only their number counts.

    Raises
    ------
    BrokenVolume
        If the file is cut off or its bytes are not those that were written.
    UserError
        If it is not there.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"prepared volume {path} is gone; start again, which prepares it anew") from error
    except OSError as error:
        raise BrokenVolume(path, error.strerror or "the disk cannot read it") from error
    frame = data[: -TRAILER.size]
    if len(data) <= 24 + TRAILER.size or bytes(frame[2:9]) != b"b2frame":
        raise BrokenVolume(path, "cut off or overwritten")
    magic, checksum, version = TRAILER.unpack(data[-TRAILER.size :])
    # The frame's own length, bytes 16-23 of its header (c-blosc2, README_CFRAME_FORMAT).
    if magic != MAGIC or version != VERSION or int.from_bytes(frame[16:24], "big") != len(frame):
        raise BrokenVolume(path, "cut off or overwritten")
    if compare and zlib.crc32(frame) != checksum:
        raise BrokenVolume(path, "its bytes have changed")
    field = Field(path, frame)
    if compare and field.meta().get("key") != path.name.removesuffix(SUFFIX):
        raise BrokenVolume(path, "it is another volume's")
    return field


def check_field(path: Path) -> None:
    """Decompress a prepared volume whole and compare everything; raise BrokenVolume or UserError if it differs."""
    field = read_field(path)
    if zlib.crc32(np.ascontiguousarray(field[:, :, :]).data) != field.meta().get("crc32"):
        raise BrokenVolume(path, "its voxels have changed")

"""Reading .npz files whose every claim is checked before memory is given to it."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from greenrfm.bundle.limits import most_bytes
from greenrfm.errors import UserError

_MOST_ARRAYS = 64
_MOST_AXES = 8
# Plain numbers, text and bytes of fixed width; nothing that needs pickle or a structure.
_KINDS = "biufUS"


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an .npz as `numpy.savez` writes it, uncompressed.

    Because nothing is compressed, an array cannot be larger than the file that claims it: a shape of 10¹² numbers
    in a small file is refused, not allocated. Raises UserError if the file cannot be read, is no such .npz, or
    holds anything but plain numbers and text: an array of objects would need pickle, which could run code.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes(path.name):
            raise ValueError("too large")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            plain = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            # Members may overlap in a forged file, and then claim more than there is.
            total = sum(member.file_size for member in members)
            names = {member.filename for member in members}
            if not plain or total > size or not len(names) == len(members) <= _MOST_ARRAYS:
                raise ValueError("compressed, or claims more than it holds")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except UserError:
        raise
    except Exception as error:  # what a forged archive or header raises is not listed anywhere
        raise UserError(f"{path} is not a plain .npz of numbers; export the bundle again") from error


def _array(content: bytes) -> NDArray[np.generic]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    shape, by_column, dtype = read(stream)
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.itemsize == 0 or len(shape) > _MOST_AXES:
        raise ValueError(f"an array of {dtype}")
    body = memoryview(content)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError("a shape that is not the content's")
    # A copy, because the memory of `content` cannot be written to.
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_column else "C").copy()


def shaped(
    arrays: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int | None, ...], path: Path
) -> NDArray[np.float32]:
    """Return the finite float32 array called `name`; None in `shape` stands for any length but 0.

    Raises UserError, naming `path`, if it is missing or anything else.
    """
    wanted = " × ".join("any" if size is None else str(size) for size in shape)
    array = arrays.get(name)
    fits = (
        array is not None
        and array.dtype == np.float32
        and array.ndim == len(shape)
        and all(size in (None, actual) for size, actual in zip(shape, array.shape, strict=True))
        and array.size > 0
        and bool(np.isfinite(array).all())
    )
    if array is None or not fits:
        found = "is missing" if array is None else f"is {array.dtype} {' × '.join(map(str, array.shape))}"
        raise UserError(f"{path}: '{name}' {found}, it must be finite float32 {wanted}; export the bundle again")
    return array.astype(np.float32, copy=False)

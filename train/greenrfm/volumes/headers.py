"""What must hold of a file before ITK opens it.

ITK reads zeros past a file's end, prints lines of its own about a bad header, and follows a detached header to
any place on the disk.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from greenrfm.errors import UserError

# A text header ends long before; what follows is voxels.
HEADER_BYTES = 1 << 16


def check_header(path: Path) -> None:
    """Raise for a NIfTI, MetaImage or NRRD file that ITK should not be asked to open.

    Raises
    ------
    UserError
        If a detached header names a data file that is not there or lies outside the header's folder.
    EOFError, OSError, ValueError, struct.error, zlib.error
        If the file is damaged, cut off, or not what its name says.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    else:
        for data_file in data_files(path, meta=name.endswith((".mha", ".mhd"))):
            _check_data_file(path, data_file)


def _check_nifti(path: Path) -> None:
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        header = stream.read(540)
        held = len(header)
        # To the end, so that gzip also compares its checksum.
        while block := stream.read(1 << 20):
            held += len(block)
    order = "<" if header[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
    if struct.unpack(order + "i", header[:4])[0] == 540:  # NIfTI-2
        bits, dimensions = 14, struct.unpack_from(order + "8q", header, 16)
        start = struct.unpack_from(order + "q", header, 168)[0]
    else:
        bits, dimensions = 72, struct.unpack_from(order + "8h", header, 40)
        data_offset = struct.unpack_from(order + "f", header, 108)[0]
        if not math.isfinite(data_offset):
            raise ValueError("data offset")
        start = int(data_offset)
    extents = dimensions[1 : dimensions[0] + 1]
    if not 1 <= dimensions[0] <= 7 or min(extents) < 1:
        raise ValueError("dimensions")
    voxels = int(np.prod(extents, dtype=np.int64))
    if held < start + voxels * struct.unpack_from(order + "h", header, bits)[0] // 8:
        raise EOFError(path)


def data_files(path: Path, *, meta: bool) -> Iterator[str]:
    """Yield the data files that a MetaImage or NRRD header names; raise ValueError for a header without its fields."""
    with path.open("rb") as stream:
        lines = iter(stream.read(HEADER_BYTES).decode("latin-1").split("\n"))
    separator, last = ("=", "elementdatafile") if meta else (":", "datafile")
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(separator)
        key = key.replace(" ", "").strip().lower()  # NRRD knows "data file" and "datafile"
        fields[key] = value.strip()
        if key == last or (not meta and not line.strip()):
            break
    if not meta:
        named = fields.get(last, "")
    elif "dimsize" in fields and last in fields:
        named = "" if fields[last].upper() == "LOCAL" else fields[last]
    else:
        raise ValueError("header")
    if named.upper().startswith("LIST"):
        yield from (line.strip() for line in lines if line.strip())
    elif named:
        yield named


def _check_data_file(path: Path, name: str) -> None:
    folder = path.parent.resolve()
    target = (folder / name).resolve()
    if not target.is_relative_to(folder):
        raise UserError(f"{path} names its data outside its own folder; put both into one folder")
    # "slice%03d.raw 1 40 1" stands for many files.
    if "%" not in name and not target.is_file():
        raise UserError(f"{path} names the data file {name}, which is not beside it; copy it there")

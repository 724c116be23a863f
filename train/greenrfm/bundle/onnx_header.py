"""The few fields of an ONNX file that say who can run it, read without the onnx package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from greenrfm.errors import UserError

# Field numbers of ModelProto and OperatorSetIdProto in onnx.proto.
_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2


@dataclass(frozen=True)
class OnnxHeader:
    """IR version and the version of the default operator set (0 if the file imports none)."""

    ir_version: int
    opset: int


def read_header(path: Path) -> OnnxHeader:
    """Return the header of an ONNX file; the graph itself is skipped, so this takes no time.

    Raises UserError if the file cannot be read or is not a protocol buffer of a model.
    """
    ir_version = opset = 0
    try:
        with path.open("rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            for field, value in _fields(stream, end):
                if field == _IR_VERSION and isinstance(value, int):
                    ir_version = value
                elif field == _OPSET_IMPORT and isinstance(value, range):
                    stream.seek(value.start)
                    entries = dict(_fields(stream, value.stop))
                    domain, version = entries.get(_DOMAIN, range(0)), entries.get(_VERSION, 0)
                    if isinstance(version, int) and isinstance(domain, range) and not len(domain):
                        opset = version
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable ONNX file; export it again") from error
    if not ir_version:
        raise UserError(f"{path} is not an ONNX model; export it again")
    return OnnxHeader(ir_version, opset)


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int | range]]:
    """Yield (field number, value); a value is an int, or the file range of a length-delimited one."""
    while stream.tell() < end:
        tag = _varint(stream)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            yield field, _varint(stream)
            continue
        if wire == 1:
            length = 8
        elif wire == 2:
            length = _varint(stream)
        elif wire == 5:
            length = 4
        else:
            raise ValueError(f"wire type {wire}")
        start = stream.tell()
        if start + length > end:
            raise ValueError("a field runs past the end of the file")
        yield field, range(start, start + length)
        stream.seek(start + length)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is too long")

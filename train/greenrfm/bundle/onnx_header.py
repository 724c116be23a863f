"""What an ONNX file asks of its reader, read without the onnx package: versions, operators, files elsewhere."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from greenrfm.bundle.limits import most_bytes
from greenrfm.errors import UserError

# Field numbers of onnx.proto.
_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_NODE_DOMAIN = 7
# Which fields of a message hold which messages: all ways by which a tensor or a node can be reached.
_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_STANDARD_DOMAINS = (b"", b"ai.onnx")
# A BERT of 12 layers has 20,000; a forged file could hold a billion.
_MOST_FIELDS = 400_000
_MOST_DEPTH = 64


class _Unwanted(Exception):
    """What the file asks for, as the end of a sentence."""


@dataclass(frozen=True)
class OnnxHeader:
    """IR version and the version of the default operator set (0 if the file imports none)."""

    ir_version: int
    opset: int


def read_header(path: Path) -> OnnxHeader:
    """Return the header of an ONNX file, after a walk over its graph that skips the weights themselves.

    Raises UserError if the file cannot be read, is not a protocol buffer of a model, keeps weights in another file
    (which could lie anywhere on this machine), or needs operators beyond ONNX's own.
    """
    try:
        if path.stat().st_size > most_bytes(path.name):
            raise ValueError("too large")
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _Walk(content).header()
    except _Unwanted as unwanted:
        raise UserError(f"{path} {unwanted}; export it again as one file with ONNX's own operators") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable ONNX file; export it again") from error
    if not header.ir_version:
        raise UserError(f"{path} is not an ONNX model; export it again")
    return header


class _Walk:
    """Goes through the messages of a model, with a limit to how many."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._left = _MOST_FIELDS

    def header(self) -> OnnxHeader:
        ir_version = opset = 0
        whole = range(len(self._content))
        for field, value in self._fields(whole):
            if field == _IR_VERSION and isinstance(value, int):
                ir_version = value
            elif field == _OPSET_IMPORT and isinstance(value, range):
                entries = dict(self._fields(value))
                domain, version = entries.get(_DOMAIN, range(0)), entries.get(_VERSION, 0)
                if isinstance(version, int) and isinstance(domain, range) and not len(domain):
                    opset = version
        self._check(whole)
        return OnnxHeader(ir_version, opset)

    def _check(self, whole: range) -> None:
        """Raise _Unwanted or ValueError for anything in the model that must not be opened."""
        waiting = [("model", whole, 0)]
        while waiting:
            kind, part, depth = waiting.pop()
            if depth > _MOST_DEPTH:
                raise ValueError("nested too deeply")
            below = _PARTS[kind]
            for field, value in self._fields(part):
                if kind == "tensor" and field in (_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION) and value != 0:
                    raise _Unwanted("keeps weights in another file")
                if kind == "node" and field == _NODE_DOMAIN and self._bytes(value) not in _STANDARD_DOMAINS:
                    raise _Unwanted("needs operators that are not ONNX's own")
                if field in below:
                    if not isinstance(value, range):
                        raise ValueError("a number where a message belongs")
                    waiting.append((below[field], value, depth + 1))

    def _bytes(self, value: int | range) -> bytes:
        return bytes(self._content[value.start : value.stop]) if isinstance(value, range) else b"?"

    def _fields(self, part: range) -> Iterator[tuple[int, int | range]]:
        """Yield (field number, value); a value is an int, or the file range of a length-delimited one."""
        at, end = part.start, part.stop
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("more parts than any network has")
            tag, at = self._varint(at, end)
            field, wire = tag >> 3, tag & 7
            if wire == 0:
                value, at = self._varint(at, end)
                yield field, value
                continue
            if wire == 1:
                length = 8
            elif wire == 2:
                length, at = self._varint(at, end)
            elif wire == 5:
                length = 4
            else:
                raise ValueError(f"wire type {wire}")
            if at + length > end:
                raise ValueError("a field runs past the end of its message")
            yield field, range(at, at + length)
            at += length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise ValueError("the message ends inside a number")
            byte = self._content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError("a number is too long")

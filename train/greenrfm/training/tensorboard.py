"""Scalars as a TensorBoard event file, written by hand: the format has not changed since 2015.

A file is a row of records (length, CRC of it, content, CRC of it), a content one `Event` message of
tensorflow/core/util/event.proto. These lines stand for `tensorboard`, with its server and gRPC, or
`tensorboardX` with protobuf, of which scalars need nothing.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path


class EventFile:
    """An event file in `folder`, which is made if missing; TensorBoard reads it while it grows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self.path = folder / f"events.out.tfevents.{int(now):010d}.{os.getpid()}.greenrfm"
        self._stream = self.path.open("wb")
        self._record(_double(1, now) + _bytes(3, b"brain.Event:2"))

    def scalar(self, tag: str, value: float, step: int, seconds: float) -> None:
        """Append a number at a step and a time (seconds since 1970)."""
        summary = _bytes(1, _bytes(1, tag.encode()) + _float(2, value))
        self._record(_double(1, seconds) + _integer(2, step) + _bytes(5, summary))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _record(self, content: bytes) -> None:
        length = struct.pack("<Q", len(content))
        self._stream.write(length + _checksum(length) + content + _checksum(content))
        self._stream.flush()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # the Castagnoli polynomial, reversed
        table.append(byte)
    return tuple(table)


_CRC32C = _table()


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

"""One deadline for a whole exchange over HTTP, however slowly its bytes come.

A socket's time-out begins anew with every byte: headers, interim answers and sizes of chunks that drip
in would hold a run for ever.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_of_thread = threading.local()


class Deadline:
    """Shuts the connection that this thread uses inside the block once `seconds` are over; `passed` tells so."""

    def __init__(self, seconds: float) -> None:
        """Begin with the block."""
        self.passed = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._seconds = seconds

    def __enter__(self) -> Self:
        """Let the time run."""
        _of_thread.deadline = self
        _CLOCK.add(self, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the connection: another thread may use it next."""
        _of_thread.deadline = None
        with self._lock:
            self._drop()

    def watch(self, connection: socket.socket) -> None:
        """Take over the connection that the block goes through.

        A handle of our own: libraries close or wrap theirs while something still reads from it.
        """
        with self._lock:
            self._drop()
            self._handle = socket.fromfd(connection.fileno(), connection.family, connection.type)
            if self.passed:
                self._shut()

    def end(self) -> None:
        """Shut the connection; once the block is left there is none."""
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self._handle is not None:
            with suppress(OSError):  # closed by the other side
                self._handle.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class _Clock(threading.Thread):
    """Ends every deadline when it is due: one thread, because to start one takes longer than to send a request."""

    def __init__(self) -> None:
        super().__init__(name="deadlines", daemon=True)
        self._due: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()  # deadlines themselves have no order
        self._earlier = threading.Condition()

    def add(self, deadline: Deadline, seconds: float) -> None:
        """End `deadline` in so many seconds."""
        with self._earlier:
            if not self.is_alive():
                self.start()
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), deadline))
            if self._due[0][2] is deadline:
                self._earlier.notify()

    def run(self) -> None:
        """Wait for the earliest deadline, again and again."""
        while True:
            with self._earlier:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._earlier.wait(self._due[0][0] - time.monotonic() if self._due else None)
                deadline = heapq.heappop(self._due)[2]
            deadline.end()


_CLOCK = _Clock()


class Adapter(requests.adapters.HTTPAdapter):
    """A connection pool whose connections keep to the `Deadline` of the thread that uses them."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _watch(connection: socket.socket | None) -> None:
    deadline: Deadline | None = getattr(_of_thread, "deadline", None)
    if deadline is not None and connection is not None:
        deadline.watch(connection)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _watch(connection)
        return connection

    def request(self, *arguments: Any, **options: Any) -> None:
        _watch(self.sock)  # one that was used before
        super().request(*arguments, **options)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _watch(connection)  # before the handshake, which may drip too
        return connection

    def request(self, *arguments: Any, **options: Any) -> None:
        _watch(self.sock)
        super().request(*arguments, **options)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection

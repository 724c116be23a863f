"""Work on many things at once, with a bound on how many are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` of every item as they finish; at most 2 × `workers` items are taken ahead.

    What `work` raises is raised here. One worker needs no thread. Leaving the loop early waits for
    nothing: threads that wait for a server do not keep the program from ending, as an executor's would.
    """
    if workers == 1:
        yield from map(work, items)
        return
    waiting: SimpleQueue[tuple[Item] | None] = SimpleQueue()
    done: SimpleQueue[tuple[Result] | BaseException] = SimpleQueue()

    def serve() -> None:
        while (item := waiting.get()) is not None:
            try:
                done.put((work(*item),))
            except BaseException as error:
                done.put(error)

    for _ in range(workers):
        Thread(target=serve, daemon=True).start()
    under_way = 0
    try:
        for item in items:
            waiting.put((item,))
            under_way += 1
            if under_way == 2 * workers:
                yield _next(done)
                under_way -= 1
        for _ in range(under_way):
            yield _next(done)
    finally:
        for _ in range(workers):
            waiting.put(None)


def _next(done: SimpleQueue[tuple[Result] | BaseException]) -> Result:
    while True:
        try:
            result = done.get(timeout=1)  # without one, Windows hears no Ctrl-C
        except Empty:
            continue
        if isinstance(result, BaseException):
            raise result
        return result[0]

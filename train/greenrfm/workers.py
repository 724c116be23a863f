"""Worker processes: one core each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait


@contextmanager
def make_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes for work in numpy and ITK; an error or Ctrl-C drops the work that has not begun."""
    # "spawn": forking a process that already runs torch's threads can hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin() -> None:
    # Threads of numpy and ITK would only take the other workers' cores.
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # not on the reading side
        pass
    else:
        threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent closes no queue that its workers also hold open: they would wait for work for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

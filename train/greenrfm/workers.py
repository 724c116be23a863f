"""Worker processes: one core each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def make_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of processes for work in numpy and ITK."""
    # "spawn": forking a process that already runs torch's threads can hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)


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

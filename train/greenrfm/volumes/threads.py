"""How many threads ITK uses in this process."""

from __future__ import annotations

import SimpleITK as sitk


def one_itk_thread() -> None:
    """Let ITK compute on one thread: in a pool each worker has a core, and ITK's own threads would take the others'."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

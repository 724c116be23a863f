"""One reading in a background thread, so that the viewer stays usable, and can be cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import qt
from slicer.i18n import tr as _

from greenrfm.errors import UserError
from GreenRFMLib.scene import Voxels
from GreenRFMLib.unexpected import sentence_for

if TYPE_CHECKING:
    from greenrfm.bundle import Bundle
    from greenrfm.reading import Reader, Reading

_POLL_MS = 30
# Slicer's main thread keeps Python's lock (the GIL) while it waits for events in C++: a Python thread then
# stands still, see discourse.slicer.org/t/multithreading-in-extension/6941. Sleeping for a moment in the main
# thread lends the lock to the worker, short enough to be felt by nobody. Measured with the lock held for 30 ms
# between two polls, on 2 cores: a thread's pure Python code runs at 36 % of its speed, without the sleep at 13 %.
# SimpleITK, onnxruntime, hashing and numpy's copying drop the lock, so most of the work goes on at full speed.
_LEND_S = 0.010


@dataclass(frozen=True, eq=False)
class Finished:
    """A reading, and for each score the logit from which its finding is called present."""

    reading: Reading
    decision_logits: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """Why there is no reading, in one sentence."""

    sentence: str


class Analysis:
    """Reads one volume at a time; a polled timer hands the outcome to the main thread."""

    def __init__(self) -> None:
        """Be idle; neither onnxruntime nor SimpleITK is imported before the first `start`."""
        self._run: _Run | None = None
        self._when_done: Callable[[Finished | Failed], None] | None = None
        self._on_stage: Callable[[str], None] | None = None
        self._stage = ""
        self._readers = _Readers()
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self) -> bool:
        """Return whether an analysis is under way that was not cancelled."""
        return self._run is not None

    def start(
        self,
        voxels: Voxels,
        folder: Path,
        when_done: Callable[[Finished | Failed], None],
        on_stage: Callable[[str], None],
    ) -> None:
        """Read `voxels` with the bundle in `folder`.

        In the main thread, and unless cancelled, `on_stage` is told what is being done, `when_done` the outcome.

        Raises
        ------
        RuntimeError
            If an analysis is running.
        """
        if self._run is not None:
            raise RuntimeError("an analysis is running; cancel it first")
        self._when_done, self._on_stage, self._stage = when_done, on_stage, ""
        self._run = _Run(voxels, folder, self._readers)
        self._run.start()
        self._timer.start()

    def cancel(self) -> None:
        """Forget the running analysis at once; its thread ends by itself, without an outcome."""
        self._timer.stop()
        if self._run is not None:
            self._run.cancel()
        self._run = self._when_done = self._on_stage = None

    def close(self) -> None:
        """Cancel, and wait a moment for the thread: Python must not end under it."""
        run = self._run
        self.cancel()
        if run is not None:
            run.join(5)

    def _poll(self) -> None:
        run, when_done, on_stage = self._run, self._when_done, self._on_stage
        if run is None or when_done is None or on_stage is None:
            return
        if run.outcome is None:
            if run.stage != self._stage:
                self._stage = run.stage
                on_stage(run.stage)
            time.sleep(_LEND_S)
            return
        self._timer.stop()
        self._run = self._when_done = self._on_stage = None
        when_done(run.outcome)


class _Run(threading.Thread):
    """The worker: it touches no Qt object and no node."""

    def __init__(self, voxels: Voxels, folder: Path, readers: _Readers) -> None:
        super().__init__(name="GreenRFM analysis", daemon=True)
        self._voxels, self._folder, self._readers = voxels, folder, readers
        self._cancelled = threading.Event()
        self._options: Any = None
        self.stage = _("Checking the model bundle")
        self.outcome: Finished | Failed | None = None

    def cancel(self) -> None:
        # The worker makes the options and then looks at the flag; here it is the other way round, so
        # that one of the two sees the other.
        self._cancelled.set()
        if self._options is not None:
            self._options.terminate = True

    def run(self) -> None:
        try:
            outcome: Finished | Failed | None = self._read()
        except UserError as error:
            outcome = Failed(str(error))
        except MemoryError:
            outcome = Failed(_("There is not enough memory to read this volume. Close other volumes and try again."))
        except Exception as error:
            outcome = None if self._cancelled.is_set() else Failed(sentence_for(error))
        self.outcome = outcome

    def _read(self) -> Finished | None:
        began = time.monotonic()
        with self._readers.lock:  # a cancelled run may still be ending
            if self._cancelled.is_set():
                return None
            import onnxruntime

            self._options = onnxruntime.RunOptions()
            reader = self._readers.get(self._folder)
            if self._cancelled.is_set():
                return None
            self.stage = _("Preparing the volume")
            volume = self._voxels.copy()
            if self._cancelled.is_set():
                return None
            self.stage = _("Reading the volume")
            reading = reader.read(volume, heatmaps=True, cancel=self._options)
            return Finished(reading, decision_logits(reader.bundle), time.monotonic() - began)


class _Readers:
    """The last bundle that was read with, open: checking and opening it again would take seconds each time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._key: tuple[Path, int, int] | None = None
        self._reader: Reader | None = None

    def get(self, folder: Path) -> Reader:
        """Return a reader for the bundle in `folder`; its files are verified unless it is the open one, unchanged."""
        from greenrfm.bundle import Bundle
        from greenrfm.reading import Reader

        manifest = folder / "manifest.json"
        key = (folder, manifest.stat().st_mtime_ns, manifest.stat().st_size) if manifest.is_file() else None
        if self._reader is None or key is None or key != self._key:
            self._reader, self._key = None, None  # a failure below must not leave the former bundle in use
            self._reader = Reader(Bundle.load(folder))
            self._key = key
        return self._reader


def decision_logits(bundle: Bundle) -> tuple[float, ...]:
    """Return for each finding the logit whose calibrated probability is the bundle's threshold."""
    calibration = bundle.manifest.calibration
    threshold = np.clip(np.array(bundle.manifest.thresholds.present), 1e-6, 1 - 1e-6)
    slope = np.array(calibration.slope)
    # A slope of 0 gives every logit the same probability: then there is no such logit, and 0 is as good as any.
    usable = np.where(slope == 0, 1.0, slope)
    with np.errstate(over="ignore"):  # so does one that is 0 but for rounding
        logits = (np.log(threshold / (1 - threshold)) - np.array(calibration.intercept)) / usable
    return tuple(float(value) for value in np.where((slope == 0) | ~np.isfinite(logits), 0.0, logits))

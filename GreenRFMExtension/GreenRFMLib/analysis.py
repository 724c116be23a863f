"""A reading, a text query, or a piece of work in a background thread: the viewer stays usable; it can be cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from greenrfm.errors import UserError
from GreenRFMLib.advice import in_viewer
from GreenRFMLib.readers import Readers, decision_logits
from GreenRFMLib.scene import Voxels
from GreenRFMLib.study import ALONE, Key
from GreenRFMLib.unexpected import sentence_for

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps, Reading
    from greenrfm.volumes import Preprocessing

_POLL_MS = 30
# Slicer's main thread keeps Python's lock (the GIL) while it waits for events in C++: a Python thread then
# stands still, see discourse.slicer.org/t/multithreading-in-extension/6941. Sleeping for a moment in the main
# thread lends the lock to the worker, short enough to be felt by nobody. Measured with the lock held for 30 ms
# between two polls, on 2 cores: a thread's pure Python code runs at 36 % of its speed, without the sleep at 13 %.
# SimpleITK, onnxruntime, hashing and numpy's copying drop the lock, so most of the work goes on at full speed.
_LEND_S = 0.010


@dataclass(frozen=True, eq=False)
class Finished:
    """A reading, and for each score the logit from which its finding is called present.

    `folder` is the bundle's; `has_text` says whether it understands text, and then the reading has features.
    """

    reading: Reading
    decision_logits: tuple[float, ...]
    seconds: float
    folder: Path
    has_text: bool
    preprocessing: Preprocessing


@dataclass(frozen=True, eq=False)
class Found:
    """Where the volumes of a reading resemble `text`: a heat map for each plane, "" for a bundle without planes."""

    text: str
    heatmaps: Mapping[str, HeatMaps]


@dataclass(frozen=True)
class Failed:
    """Why there is no reading, in one sentence."""

    sentence: str


@dataclass(frozen=True, eq=False)
class Done:
    """What a piece of work returned."""

    value: Any


Outcome = Finished | Found | Done | Failed


class Analysis:
    """Does one thing at a time; a polled timer hands the outcome to the main thread."""

    def __init__(self) -> None:
        """Be idle; neither onnxruntime nor SimpleITK is imported before the first `start`."""
        self._run: _Run | None = None
        self._when_done: Callable[[Any], None] | None = None
        self._on_stage: Callable[[str], None] | None = None
        self._stage = ""
        self._readers = Readers()
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self) -> bool:
        """Return whether an analysis is under way that was not cancelled."""
        return self._run is not None

    def start(
        self,
        voxels: Mapping[Key, Voxels],
        folder: Path,
        when_done: Callable[[Finished | Failed], None],
        on_stage: Callable[[str], None],
    ) -> None:
        """Read `voxels` with the bundle in `folder`: one volume under `ALONE`, or several by sequence and plane.

        In the main thread, and unless cancelled, `on_stage` is told what is being done, `when_done` the outcome.

        Raises
        ------
        RuntimeError
            If an analysis is running.
        """
        self._begin(_Reading(voxels, folder, self._readers), when_done, on_stage)

    def query(
        self,
        text: str,
        finished: Finished,
        when_done: Callable[[Found | Failed], None],
        on_stage: Callable[[str], None],
    ) -> None:
        """Look where the volume of a reading by a bundle with text resembles `text`; otherwise as `start`."""
        self._begin(_TextQuery(text, finished, self._readers), when_done, on_stage)

    def do(
        self,
        work: Callable[[], Any],
        stage: str,
        when_done: Callable[[Done | Failed], None],
        on_stage: Callable[[str], None],
    ) -> None:
        """Call `work`, which touches no Qt object and no node, and may raise UserError; otherwise as `start`.

        Work that has begun is done to its end, also when it is cancelled.
        """
        self._begin(_Work(work, stage, self._readers), when_done, on_stage)

    def _begin(self, run: _Run, when_done: Callable[[Any], None], on_stage: Callable[[str], None]) -> None:
        if self._run is not None:
            raise RuntimeError("an analysis is running; cancel it first")
        self._when_done, self._on_stage, self._stage = when_done, on_stage, ""
        self._run = run
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

    stage = ""

    def __init__(self, readers: Readers) -> None:
        super().__init__(name="GreenRFM analysis", daemon=True)
        self._readers = readers
        self._cancelled = threading.Event()
        self._options: Any = None
        self.outcome: Outcome | None = None

    def cancel(self) -> None:
        # The worker makes the options and then looks at the flag; here it is the other way round, so
        # that one of the two sees the other.
        self._cancelled.set()
        if self._options is not None:
            self._options.terminate = True

    def run(self) -> None:
        with self._readers.lock:
            if not self._cancelled.is_set():
                self.outcome = self._outcome()

    def _outcome(self) -> Outcome | None:
        try:
            return self._work()
        except UserError as error:
            self._readers.forget()  # it may be the bundle that is at fault: mended, it is opened anew
            return Failed(in_viewer(str(error)))
        except MemoryError:
            return Failed(_("There is not enough memory to read this volume. Close other volumes and try again."))
        except Exception as error:
            return None if self._cancelled.is_set() else Failed(sentence_for(error))

    def _work(self) -> Outcome | None:
        """Return the outcome, or None if it was cancelled."""
        raise NotImplementedError


class _Reading(_Run):
    """Reads a volume."""

    def __init__(self, voxels: Mapping[Key, Voxels], folder: Path, readers: Readers) -> None:
        super().__init__(readers)
        self._voxels, self._folder = voxels, folder
        self.stage = _("Checking the model bundle")

    def _work(self) -> Outcome | None:
        began = time.monotonic()
        import onnxruntime

        self._options = onnxruntime.RunOptions()
        reader = self._readers.get(self._folder)
        if self._cancelled.is_set():
            return None
        self.stage = _("Preparing the volume")
        volumes = {}
        for key, voxels in self._voxels.items():
            volumes[key] = voxels.copy()
            if self._cancelled.is_set():
                return None
        self.stage = _("Reading the volume")
        has_text = reader.bundle.has_text
        study = volumes.get(ALONE, volumes)
        reading = reader.read(study, heatmaps=True, features=has_text, cancel=self._options)
        seconds = time.monotonic() - began
        return Finished(
            reading, decision_logits(reader.bundle), seconds, self._folder, has_text, reader.bundle.preprocessing
        )


class _TextQuery(_Run):
    """Compares a text with the features of a reading; the volume itself is not read again."""

    def __init__(self, text: str, finished: Finished, readers: Readers) -> None:
        super().__init__(readers)
        self._text, self._finished = text, finished
        self.stage = _("Comparing the volume with the text")

    def _work(self) -> Outcome | None:
        reader = self._readers.get(self._finished.folder)
        if reader.bundle.hash != self._finished.reading.bundle_hash:
            raise UserError(_("The bundle was changed since this volume was read. Analyze it again."))
        reading = self._finished.reading
        features = reading.plane_features or {"": reading.features}
        return Found(self._text, {plane: reader.text_heatmap(self._text, one) for plane, one in features.items()})


class _Work(_Run):
    """Anything else that takes a while."""

    def __init__(self, work: Callable[[], Any], stage: str, readers: Readers) -> None:
        super().__init__(readers)
        self._call, self.stage = work, stage

    def _work(self) -> Outcome | None:
        return Done(self._call())

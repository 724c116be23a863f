"""The bundle that is read with, kept open, and the logits at which its findings are called present."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from greenrfm.bundle import Bundle
    from greenrfm.reading import Reader


class Readers:
    """The last bundle that was read with, open: checking and opening it again would take seconds each time.

    Take `lock` around `get` and the reading: a cancelled one may still be ending.
    """

    def __init__(self) -> None:
        """Hold no bundle yet; nothing is imported."""
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

    def forget(self) -> None:
        """Open the bundle anew at the next `get`."""
        self._reader = self._key = None


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

"""Where the demo's time and memory went."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from greenrfm.progress import Progress


@dataclass(frozen=True)
class StageCost:
    """Wall-clock seconds of one stage, and the peak memory of the whole demo when it ended."""

    name: str
    seconds: float
    peak_rss_mb: float | None


class Clock:
    """A progress that passes everything on and adds up what passes between two calls.

    The time before a call belongs to the stage that the call names, so that the stages' seconds add up to
    the whole without a gap.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun = self._last = time.monotonic()
        self._costs: dict[str, StageCost] = {}

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Count the time since the last call for `stage`, and pass the call on."""
        now = time.monotonic()
        before = self._costs[stage].seconds if stage in self._costs else 0.0
        self._costs[stage] = StageCost(stage, before + now - self._last, peak_rss_mb())
        self._last = now
        self._progress(stage, done, total, metrics)

    @property
    def costs(self) -> list[StageCost]:
        """Return the stages in the order in which they first reported."""
        return list(self._costs.values())

    @property
    def seconds(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self._begun


def renamed(progress: Progress, name: str) -> Progress:
    """Return a progress that reports every stage under another name."""

    def report(stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        progress(name, done, total, metrics)

    return report


def peak_rss_mb() -> float | None:
    """Return the peak resident memory in MB of the largest single process: this one, or a child that has ended.

    None where the system does not tell (Windows).
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(peaks) * unit / 1e6


def machine() -> dict[str, str]:
    """Return what the times depend on: processor, cores, system, Python and the two engines."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "onnxruntime": version("onnxruntime"),
    }


def processor() -> str:
    """Return the processor's name, as Linux says it, or its kind."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""The fastest way to run a bundle's network on this machine, found by running it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.files import user_cache, write_text

VARIABLE = "GREENRFM_SPEED"
_RUNS = 3
# Another setting must be faster by this share: below it lies the noise of a machine that does other things too.
_WORTH = 0.03


@dataclass(frozen=True)
class Trial:
    """One candidate: `threads` (None is one per physical core), half or single precision, median seconds a field."""

    threads: int | None
    half: bool
    seconds: float


@dataclass(frozen=True)
class Setting:
    """How to run the network: `threads`, `half` precision or not; `seconds` a field, and all that was `tried`."""

    threads: int | None = None
    half: bool = False
    seconds: float = 0.0
    tried: tuple[Trial, ...] = ()


def tune(bundle: Bundle, folder: Path | None = None, runs: int = _RUNS) -> Setting:
    """Run the bundle's network with each number of threads and precision, and remember the fastest for `Reader`.

    It runs on noise of the size of the training crop: speed does not depend on what is in it. The choice is kept
    per machine, onnxruntime and bundle in `folder`, or the user's folder for caches. Half precision is tried only if
    the bundle has it, and its answers were compared when the bundle was written.

    Raises UserError if the network cannot run, or the choice cannot be written.
    """
    network = bundle.manifest.networks[0]
    shape = (1, network.channels, *bundle.preprocessing.crop)
    field = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    cores = os.cpu_count() or 1
    counts: list[int | None] = [None, *sorted({1, *(2**power for power in range(1, 8) if 2**power < cores), cores})]
    tried = [
        Trial(threads, half, _median_seconds(bundle, threads, half, field, runs))
        for half in ((False, True) if all(each.half for each in bundle.manifest.networks) else (False,))
        for threads in counts
    ]
    usual = tried[0]
    best = min(tried, key=lambda trial: trial.seconds)
    chosen = best if best.seconds < (1 - _WORTH) * usual.seconds else usual
    setting = Setting(chosen.threads, chosen.half, chosen.seconds, tuple(tried))
    path = _path(bundle, folder)
    try:
        write_text(path, json.dumps(asdict(setting), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); check the folder's permissions") from error
    return setting


def stored(bundle: Bundle, folder: Path | None = None) -> Setting | None:
    """Return what `tune` chose for this bundle on this machine, or None; a damaged file is as good as none."""
    try:
        content = json.loads(_path(bundle, folder).read_text(encoding="utf-8"))
        threads, half, seconds = content["threads"], content["half"], float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not (threads is None or (type(threads) is int and 1 <= threads <= 1024)) or type(half) is not bool:
        return None
    if half and not all(network.half for network in bundle.manifest.networks):
        return None
    return Setting(threads, half, seconds)


def _median_seconds(bundle: Bundle, threads: int | None, half: bool, field: NDArray[np.float32], runs: int) -> float:
    session = bundle.vision(threads, bundle.manifest.networks[0].plane, half)
    seconds = []
    try:
        for _ in range(runs + 1):
            began = time.perf_counter()
            session.run(["latent"], {"volume": field})
            seconds.append(time.perf_counter() - began)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise UserError(
            f"bundle {bundle.folder} could not read a field of {field.shape[2:]} voxels ({type(error).__name__}); "
            "free some memory, or check it: greenrfm bundle check"
        ) from error
    return statistics.median(seconds[1:])  # the first run also allocates


def _path(bundle: Bundle, folder: Path | None) -> Path:
    """Return where the choice lies: another processor or onnxruntime is another file."""
    machine = (platform.node(), platform.machine(), _processor(), os.cpu_count(), onnxruntime.__version__)
    name = hashlib.sha256(json.dumps([*machine, bundle.hash]).encode()).hexdigest()[:32]
    return (folder or default_folder()) / f"{name}.json"


def _processor() -> str:
    """Return the processor's name; Linux says it in a file alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def default_folder() -> Path:
    """Return $GREENRFM_SPEED, or speed in the user's folder for our caches."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else user_cache() / "speed"

"""What a training step costs: seconds, peak memory, and the hours that follow for 24,000 studies.

    python train/benchmarks/step_cost.py                      # this machine's own table
    python train/benchmarks/step_cost.py --json costs.json    # the same, kept

Every row is a process of its own that runs the stage's real loop on random volumes held in memory, so that
peaks do not mix; reading volumes is not in it (see cache_crops.py). Seconds are the median over the steps after
the first two. Peak memory on a GPU is what the allocator reserved, which is what a card must have beside a few
hundred MB for CUDA itself; on a CPU it is the growth of the process's peak resident size over that before the
stage. `contrastive` is stage 2, its text encoder reading 512 tokens a report.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from greenrfm.commands.demo.clock import processor
from greenrfm.networks import Supervised
from greenrfm.training.align import train_alignment
from greenrfm.training.batches import TrainingSet
from greenrfm.training.encoders import save_stage, text_encoder, vision_encoder
from greenrfm.training.precision import Precision, hardware_precision, make_fabric
from greenrfm.training.recipe import Recipe, load_recipe, parse_recipe
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_vision

STUDIES, EPOCHS = 24_000, 10
FINDINGS = 18


@dataclass(frozen=True)
class Case:
    """A row of the table: `micro` studies of `batch` go through the network at a time."""

    recipe: str
    stage: str
    batch: int
    micro: int
    precision: Precision
    checkpointing: bool = False


class RandomCrops:
    """Two random volumes, over and over: a step costs the same whatever they show."""

    def __init__(self, crop: Sequence[int]) -> None:
        self._volumes = np.random.default_rng(0).standard_normal((2, 1, *crop), np.float32)

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return crops (N, 1, H, W, D)."""
        return self._volumes[np.asarray(indices) % 2]


def cases(gpu: bool) -> list[Case]:
    """Return the rows for this machine."""
    fast: Precision = hardware_precision()
    precisions: list[Precision] = [fast] if fast == "32-true" else [fast, "32-true"]
    if not gpu:
        rows = [Case("lite", "vision", 4, 4, precision) for precision in precisions]
        return [*rows, Case("lite", "vision", 4, 1, fast), Case("lite", "vision", 4, 4, fast, True)]
    rows = [Case(recipe, "vision", 10, 10, each) for recipe in ("lite", "performant") for each in precisions]
    for recipe, micro in (("lite", 8), ("performant", 4)):
        rows += [Case(recipe, "contrastive", 64, micro, each) for each in precisions]
        rows += [Case(recipe, "contrastive", 64, micro, fast, True)]
    return rows


def recipe_of(case: Case) -> Recipe:
    """Return the packaged recipe with this case's batch, for one epoch."""
    packaged = load_recipe(case.recipe)
    content = packaged.model_dump(mode="json", exclude={"preprocessing"})
    content["preprocessing"] = packaged.preprocessing.to_dict()
    sizes = {"epochs": 1, "batch": case.batch, "micro_batch": case.micro, "checkpointing": case.checkpointing}
    for stage in ("stage1_vision", "stage2"):
        content[stage] |= sizes
    return parse_recipe(content, case.recipe)


def measure(case: Case, steps: int) -> dict[str, float]:
    """Return seconds a step and the peak in GB of this case, run here."""
    recipe = recipe_of(case)
    count = steps * case.batch
    reports = Reports(recipe, ["effusion " * 509] * count)
    states = np.random.default_rng(1).integers(0, 2, (count, FINDINGS)).astype(np.int8)
    crops = RandomCrops(recipe.preprocessing.crop)
    data = TrainingSet(tuple(map(str, range(count))), crops, reports, states)  # type: ignore[arg-type]
    fabric = make_fabric(case.precision)
    gpu = fabric.device.type == "cuda"
    times: list[float] = []

    def progress(stage: str, done: int, total: int, numbers: dict[str, float] | None = None) -> None:
        if stage.startswith("stage"):
            times.append(time.perf_counter())

    session = Session(progress=progress)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "vision.pt", Path(folder) / "text.pt"
        if case.stage == "contrastive":
            save_stage(Supervised(vision_encoder(recipe), FINDINGS), files[0])
            save_stage(Supervised(text_encoder(recipe), FINDINGS), files[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if case.stage == "contrastive":
            train_alignment(fabric, recipe, data, *files, seed=0, session=session)
        else:
            train_vision(fabric, recipe, data, 0, session)
    if gpu:
        peak = torch.cuda.max_memory_reserved() / 1e9
    else:
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
    # The loop reads each step's loss as a number, so a step has ended on the device when progress hears of it.
    return {"seconds": statistics.median(np.diff(times[1:]).tolist()), "peak_gb": peak}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(Case(**json.loads(arguments.one)), arguments.steps)))
        return
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else processor()
    print(f"{device}, {os.cpu_count()} CPU cores, torch {torch.__version__}; medians of {arguments.steps - 2} steps")
    print(
        f"{'recipe':11s}{'stage':12s}{'batch':>6s}{'micro':>6s}  {'numbers':11s}{'ckpt':5s}"
        f"{'s/step':>8s}{'volumes/s':>10s}{'peak GB':>9s}{'hours':>8s}"
    )
    rows = []
    for case in cases(gpu):
        command = [sys.executable, __file__, "--steps", str(arguments.steps), "--one", json.dumps(asdict(case))]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        start = f"{case.recipe:11s}{case.stage:12s}{case.batch:6d}{case.micro:6d}  {case.precision:11s}"
        start += f"{'yes' if case.checkpointing else 'no':5s}"
        if ended.returncode:
            print(f"{start} failed: {ended.stderr.strip().splitlines()[-1][:120]}")
            continue
        found = json.loads(ended.stdout.splitlines()[-1])
        speed = case.batch / found["seconds"]
        hours = STUDIES * EPOCHS / speed / 3600
        print(f"{start}{found['seconds']:8.2f}{speed:10.2f}{found['peak_gb']:9.2f}{hours:8.1f}", flush=True)
        rows.append({**asdict(case), **found, "volumes_per_second": speed, "hours": hours})
    print(f"hours: {STUDIES:,} studies × {EPOCHS} epochs of this stage at this speed, volumes read in the meantime")
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": device, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

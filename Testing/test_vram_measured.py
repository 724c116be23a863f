"""`--vram` measures: what it says of a step is what the step took, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux measures a CPU's peak memory"
)

# In a Python of its own, so that nothing else's memory is in the peaks.
CHILD = """
import json, time
import torch
from greenrfm.training import vram
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import load_recipe, parse_recipe

torch.set_num_threads(1)
content = load_recipe("adrenal").model_dump(mode="json", exclude={"preprocessing"})
whole = {"spacing": [1.0] * 3, "size": [64] * 3, "crop": [64] * 3, "intensity": "zscore", "percentiles": [1.0, 99.0]}
recipe, fabric = parse_recipe(content | {"preprocessing": whole}, "test"), make_fabric("32-true")
ballast = torch.ones(150_000_000)  # 600 MB that are gone before anything is measured
del ballast
found = {}
for micro, checkpointing in ((1, False), (10, False), (10, True)):
    saved, steps = [0], [0]
    def pack(tensor):
        saved[0] += tensor.numel() * tensor.element_size()
        return tensor
    step = torch.optim.AdamW.step
    def counted(*arguments, **named):
        steps[0] += 1
        return step(*arguments, **named)
    torch.optim.AdamW.step = counted
    began = time.perf_counter()
    choice = vram._step(recipe, 2, micro, checkpointing, fabric)
    wall = time.perf_counter() - began
    torch.optim.AdamW.step = step
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        vram._step(recipe, 2, micro, checkpointing, fabric)
    found[f"{micro}{checkpointing}"] = [choice.peak, choice.seconds * micro, wall, saved[0] / 2, steps[0]]
print(json.dumps(found))
"""


def test_a_step_is_really_measured():
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(HERE.parent / "train"), str(HERE)))},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (small, _, _, kept_small, _), (large, _, _, kept_large, _), (_, _, _, kept_twice, _) = found.values()
    # The activations of nine more studies are in the peak, whatever else is.
    assert large - small > 0.5 * (kept_large - kept_small) > 3e7
    # Computing activations twice keeps fewer; the peak of this small step is elsewhere, so it says nothing of that.
    assert kept_twice < 0.5 * kept_large
    for peak, seconds, wall, _, steps in found.values():
        assert 2e8 < peak < 3e9
        assert steps == 2
        assert 0.02 * wall < seconds < wall

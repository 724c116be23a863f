"""`--vram`: the micro-batch and checkpointing that fit a memory limit, found by measuring steps on this device."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.networks import DualEncoder, VisionAlone
from greenrfm.training.batches import adamw, channels_last
from greenrfm.training.encoders import untrained_dual, untrained_vision
from greenrfm.training.memory import checkpoint_activations
from greenrfm.training.recipe import Recipe

# What a step of random numbers does not show: fragmentation, and validation on the larger field.
MARGIN = 0.9
# A quarter of 800 measured reports is longer than 512 tokens and goes in as two chunks (METHOD.md, fault 7).
CHUNKS_A_REPORT = 1.25
# Batch normalisation over fewer volumes costs accuracy (docs/benchmarks.md): only where no more fit.
LEAST_FOR_STATISTICS = 4
CHOSEN = "memory.json"
UNITS = {"mb": 1e6, "gb": 1e9, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Choice:
    """A way to compute a batch and what a step of it took: the peak in bytes and the time of a study in seconds."""

    micro: int
    checkpointing: bool
    peak: int
    seconds: float


def parse_bytes(text: str) -> int:
    """Return the bytes of "6GB", "6 GiB", "500MB"; raise UserError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b)\s*", text.lower())
    if match is None or match[2] not in UNITS or float(match[1]) <= 0:
        raise UserError(f"--vram '{text}' is no amount of memory; write it like 6GB or 500MB")
    return int(float(match[1]) * UNITS[match[2]])


def choose(recipe: Recipe, findings: int, limit: int, fabric: Fabric) -> Choice:
    """Return the fastest way to compute a step of the recipe's encoders within 90 % of `limit` bytes.

    Fewer than 4 studies at a time only if no more fit. Each candidate really runs on the device. On a GPU the peak is
    what torch's allocator reserved, and the limit is set for the process, so that the promise is kept by the driver.
    On a CPU it is the peak of the process's resident memory, which Linux resets on request; other systems have no
    such measure.

    Raises
    ------
    UserError
        If not even one study at a time with checkpointing fits, or there is nothing to measure with.
    """
    if fabric.device.type == "cuda":
        whole = torch.cuda.get_device_properties(fabric.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole), fabric.device)
    elif not Path("/proc/self/clear_refs").exists():
        raise UserError("--vram measures a GPU, or a CPU under Linux; set micro_batch in the recipe instead")
    fitting: list[Choice] = []
    for micro, checkpointing in _candidates(recipe):
        if any(not choice.checkpointing or checkpointing for choice in fitting if choice.micro > micro):
            continue  # a larger one with as little work fits already
        measured = _measured(recipe, findings, micro, checkpointing, fabric)
        if measured is not None and measured.peak <= MARGIN * limit:
            fitting.append(measured)
    if not fitting:
        raise UserError(
            f"not even one study at a time fits in {limit / 1e9:.1f} GB; take a larger stem or a smaller crop"
        )
    return min(fitting, key=lambda choice: (-min(choice.micro, LEAST_FOR_STATISTICS), choice.seconds))


def apply(recipe: Recipe, choice: Choice) -> Recipe:
    """Return the recipe with the choice in every stage; the batch stays, gradients add up to it."""
    changed = {}
    for name in ("stage1_vision", "stage1_text", "stage2"):
        stage = getattr(recipe, name)
        if stage is not None:
            micro = choice.micro if choice.micro < stage.batch else None
            changed[name] = stage.model_copy(update={"micro_batch": micro, "checkpointing": choice.checkpointing})
    return recipe.model_copy(update=changed)


def remembered(out: Path, recipe: Recipe, findings: int, limit: int | None, fabric: Fabric) -> tuple[Recipe, str]:
    """Return the recipe that fits `limit` and a sentence about it.

    A run that goes on keeps its choice unless the limit has changed; `limit` may be None if the run folder
    `out` holds a choice.
    """
    path = out / CHOSEN
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if kept and limit in (None, kept["limit"]):
        limit, choice = kept["limit"], Choice(**kept["choice"])
    else:
        assert limit is not None
        choice = fabric.broadcast(choose(recipe, findings, limit, fabric))
        if fabric.is_global_zero:
            write_text(path, json.dumps({"limit": limit, "choice": asdict(choice)}, indent=1) + "\n")
    how = "activations computed twice" if choice.checkpointing else "activations kept"
    said = (
        f"memory: {choice.micro} studies at a time, {how}: {choice.peak / 1e9:.2f} of {limit / 1e9:.2f} GB, "
        f"{1 / choice.seconds:.1f} studies/s"
    )
    return apply(recipe, choice), said


def _candidates(recipe: Recipe) -> Iterator[tuple[int, bool]]:
    """Yield micro-batches and whether to compute activations twice, the largest first."""
    stages = [stage for stage in (recipe.stage1_vision, recipe.stage1_text, recipe.stage2) if stage is not None]
    micro = max(stage.batch for stage in stages)
    while True:
        yield micro, False
        yield micro, True
        if micro == 1:
            return
        micro = (micro + 1) // 2


def _measured(recipe: Recipe, findings: int, micro: int, checkpointing: bool, fabric: Fabric) -> Choice | None:
    """Return peak and time of a step, None if memory ran out."""
    try:
        return _step(recipe, findings, micro, checkpointing, fabric)
    except torch.OutOfMemoryError:
        pass
    if fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _step(recipe: Recipe, findings: int, micro: int, checkpointing: bool, fabric: Fabric) -> Choice:
    model: DualEncoder | VisionAlone
    if recipe.is_vision_only:
        model = VisionAlone(untrained_vision(recipe, findings))
    else:
        model = untrained_dual(recipe, findings)
    channels_last(model)
    fabric.to_device(model)
    if checkpointing:
        checkpoint_activations(model.vision)
    optimizer = adamw([(model, 1e-9)], recipe.stage1_vision)
    volumes = torch.randn(micro, model.vision.inputs, *recipe.preprocessing.crop)
    volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    rows = max(1, round(micro * CHUNKS_A_REPORT))
    ids = torch.ones(rows, recipe.network.max_tokens, dtype=torch.long)
    volumes, ids = fabric.to_device(volumes), fabric.to_device(ids)
    seconds = []
    _reset_peak(fabric)
    for _ in range(2):  # the first one also pays for choosing algorithms and the optimiser's moments
        began = time.perf_counter()
        with fabric.autocast():
            logits = model.classifier(model.encode_volumes(volumes)).sum()
            if isinstance(model, DualEncoder):
                logits = logits + model.classifier(model.encode_texts(ids, torch.ones_like(ids))).sum()
        logits.float().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return Choice(micro, checkpointing, _peak(fabric), seconds[-1] / micro)


def _reset_peak(fabric: Fabric) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(fabric.device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak(fabric: Fabric) -> int:
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_reserved(fabric.device)
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])

"""The folder of a run: what it is made from, so that it can be gone on with, repeated and shown."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from greenrfm import __version__
from greenrfm.cohort import Cohort, Study, write_cohort
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.training.earlier import RECORD
from greenrfm.training.recipe import Recipe
from greenrfm.training.session import LOCK
from greenrfm.training.volumes import volume_key

PACKAGES = ("torch", "monai", "transformers", "lightning-fabric", "onnx", "numpy", "SimpleITK")


def check_folder(out: Path, resume: bool) -> None:
    """Raise UserError unless `out` is free for a run, or holds one that is to go on."""
    if not (out / RECORD).is_file():
        # Volumes may have been prepared before the run was told which of them can be read; the lock is our own.
        if out.is_dir() and any(item.name not in ("prepared", LOCK) for item in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no run; name another folder")
    elif not resume:
        raise UserError(f"{out} already holds a run; go on with --resume or name another folder")


def begin(out: Path, facts: Mapping[str, Any], resume: bool) -> None:
    """Make the run folder, or check that it holds this very run.

    Raises UserError if it holds something else, another run, or this one and `resume` is not asked for.
    """
    check_folder(out, resume)
    record = out / RECORD
    text = json.dumps(facts, indent=1) + "\n"
    if not record.is_file():
        write_text(record, text)
    elif record.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{out} was begun with another recipe, seed, split or labels ({record}); name another folder to start anew"
        )


def describe(out: Path, recipe: Recipe, cohort: Cohort, precision: str, processes: int) -> None:
    """Write recipe.yaml (every key resolved), environment.json, cohort.csv and split.csv (ids only) into the run."""
    content = {
        **recipe.model_dump(mode="json", exclude={"preprocessing"}),
        "preprocessing": json.loads(json.dumps(recipe.preprocessing.to_dict())),
    }
    write_text(out / "recipe.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    write_text(out / "environment.json", json.dumps(environment(precision, processes), indent=1) + "\n")
    write_cohort(cohort, out / "cohort.csv")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study_id", "split"])
    writer.writerows([study.study_id, study.split] for study in cohort)
    write_text(out / "split.csv", text.getvalue())


def software() -> dict[str, str]:
    """Return the versions that the weights depend on."""
    packages = {name: version(name) for name in PACKAGES}
    return {"greenrfm": __version__, **packages, "python": platform.python_version()}


def environment(precision: str, processes: int) -> dict[str, Any]:
    """Return software and hardware of this process; no names of the machine or its user."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "software": software(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": None if gpu is None else {"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)},
        "cuda": torch.version.cuda,
        "precision": precision,
        "processes": processes,
    }


def facts(
    recipe: Recipe,
    seed: int,
    keys: Sequence[str],
    parts: Mapping[str, Sequence[Study]],
    states: Mapping[str, NDArray[np.int8]],
) -> dict[str, Any]:
    """Return what makes two runs the same: not how much of a batch is computed at a time, which may change."""
    in_parts = {"micro_batch", "checkpointing"}
    stages = {name: in_parts for name in ("stage1_vision", "stage1_text", "stage2") if getattr(recipe, name)}
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"preprocessing": True, **stages}),
        "preprocessing": recipe.preprocessing.to_dict(),
        "seed": seed,
        "findings": list(keys),
        "studies": {name: [study.study_id for study in studies] for name, studies in parts.items()},
        "labels": {name: values.tolist() for name, values in states.items()},
        "volumes": {
            name: [volume_key(study, recipe.preprocessing, recipe.network.inputs) for study in studies]
            for name, studies in parts.items()
        },
        # Hashes only: a run folder is shown around, reports are not.
        "reports": {
            name: [hashlib.sha256(study.report.encode()).hexdigest() for study in studies]
            for name, studies in parts.items()
            if not recipe.is_vision_only
        },
    }

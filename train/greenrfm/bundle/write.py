"""Writing a bundle: into a temporary folder, checked, then renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from greenrfm.bundle.bundle import MANIFEST, Bundle
from greenrfm.bundle.check import failures
from greenrfm.bundle.manifest import (
    REQUIRED_FILES,
    TEXT_FILES,
    Calibration,
    FeatureGrid,
    FileRecord,
    Fitness,
    Manifest,
    Thresholds,
    VisionNetwork,
    network_files,
)
from greenrfm.bundle.onnx_header import read_header
from greenrfm.bundle.parse import parse_manifest
from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.findings import FindingSet
from greenrfm.volumes import Preprocessing


@dataclass(frozen=True)
class BundleFields:
    """What the manifest says beyond its files; `metrics` and `training` are JSON values.

    `metrics` holds "n" and intervals beside every number, `training` the recipe, seed, cohort sizes
    and software versions. `max_tokens` is None for a model of images alone.
    """

    name: str
    intended_use: str
    licence: str
    finding_set: FindingSet
    preprocessing: Preprocessing
    features: FeatureGrid
    calibration: Calibration
    thresholds: Thresholds
    max_tokens: int | None = 512
    networks: tuple[VisionNetwork, ...] = (VisionNetwork(),)
    fitness: Fitness | None = None
    similarity: str = "dot"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def write_bundle(
    folder: Path,
    fields: BundleFields,
    *,
    vision_onnx: Path | Mapping[str, Path],
    weight: ArrayLike,
    bias: ArrayLike,
    projection: ArrayLike,
    reference: Mapping[str, ArrayLike],
    text_onnx: Path | None = None,
    tokenizer: Path | None = None,
    prompts_positive: ArrayLike | None = None,
    prompts_negative: ArrayLike | None = None,
    prompt_texts: Mapping[str, ArrayLike] | None = None,
) -> Bundle:
    """Write a bundle to `folder` and return it, loaded.

    `vision_onnx` is the one vision network, or each file name of `fields.networks` with where it lies now.
    `weight` (findings, 768), `bias` (findings,), `projection` (768, features) and the prompts
    (pairs, findings, 768) are stored as float32; `prompt_texts` are their sentences, "positive" and "negative"
    (pairs, findings), by which `check` encodes some again. `reference` holds at least the test vector: `input`
    float32 (1, 1, H, W, D) and `latent` (768,), as the trained network (not the ONNX file) gives it.
    Text network, tokenizer and prompts are left out of a model of images alone (`fields.max_tokens` is None), whose
    latent may have any length in place of 768.
    The bundle must pass `check` before it takes the place of one that is already in `folder`.

    Raises UserError if `folder` exists and is no bundle, or if what is written does not pass.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} exists and is not a bundle; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{os.getpid()}.{folder.name}")
    temporary.mkdir()
    try:
        for name in network_files(fields.networks):
            shutil.copyfile(vision_onnx if isinstance(vision_onnx, Path) else vision_onnx[name], temporary / name)
        if text_onnx is not None:
            shutil.copyfile(text_onnx, temporary / "text.onnx")
        if tokenizer is not None:
            shutil.copyfile(tokenizer, temporary / "tokenizer.json")
        if prompts_positive is not None and prompts_negative is not None:
            texts = {f"{name}_texts": np.asarray(array, np.str_) for name, array in (prompt_texts or {}).items()}
            _save(temporary / "prompts.npz", {"positive": prompts_positive, "negative": prompts_negative, **texts})
        _save(temporary / "heads.npz", {"weight": weight, "bias": bias, "projection": projection})
        _save(temporary / "reference.npz", reference)
        text = _manifest(temporary, fields).to_json()
        parse_manifest(text, str(folder / MANIFEST))
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        problems = failures(Bundle.load(temporary))
        if problems:
            raise UserError(f"bundle {folder} was not written, its {problems[0]}; export the networks again")
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Bundle.load(folder, verify=False)


def _save(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    # Half and double precision come from training; whole numbers and text are kept as they are.
    single = {
        name: array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in plain.items()
    }
    np.savez(path, allow_pickle=False, **single)


def _manifest(folder: Path, fields: BundleFields) -> Manifest:
    written = [
        name for name in (*network_files(fields.networks), *REQUIRED_FILES, *TEXT_FILES) if (folder / name).exists()
    ]
    files = {name: FileRecord(sha256(folder / name), (folder / name).stat().st_size) for name in written}
    opset = max(read_header(folder / name).opset for name in written if name.endswith(".onnx"))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(created=created, opset=opset, files=files, **vars(fields))


def _replace(folder: Path, temporary: Path) -> None:
    """Put `temporary` in the place of `folder`; a kill between the renames leaves the old bundle beside it."""
    old = folder.with_name(f".{os.getpid()}.{folder.name}.old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)

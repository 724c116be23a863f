"""The end of a run: export, calibrate on validation, write the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from greenrfm.adapt import LatentFit, calibrate, fit_latents
from greenrfm.bundle import (
    Bundle,
    BundleFields,
    Calibration,
    FeatureGrid,
    Fitness,
    Thresholds,
    VisionNetwork,
    write_bundle,
)
from greenrfm.evaluation import evaluate_classification
from greenrfm.findings import FindingSet, State
from greenrfm.networks import DualEncoder, VisionAlone, VisionExport, text_encoder_folder, tokenizer_file
from greenrfm.progress import Progress
from greenrfm.reading.features import tiles
from greenrfm.training.export import export_text, export_vision
from greenrfm.training.prompts import encode_prompts
from greenrfm.training.recipe import Labels, Network, Recipe
from greenrfm.training.volumes import Crops

LICENCE = "as the cohort it was trained on allows"
# What is read from a volume: measured best, see docs/benchmarks.md.
FIELD = "tiles"
# The covariance of the latents needs a few of the training studies, not all.
FITNESS_STUDIES = 100


@dataclass(frozen=True)
class Split:
    """A part of the cohort to measure on: volumes, states (N, C) and patients."""

    volumes: Crops
    states: NDArray[np.int8]
    patients: tuple[str, ...]


def finish_bundle(
    model: DualEncoder | VisionAlone,
    recipe: Recipe,
    findings: FindingSet,
    validation: Split,
    training: Crops,
    out: Path,
    provenance: Mapping[str, Any],
    intended_use: str,
    progress: Progress,
) -> Bundle:
    """Export to ONNX, calibrate and choose thresholds with the exported network on validation, write `out`/bundle.

    Volumes are seen as the reader will see them. The limit of the fitness check is fitted on some of `training` and set
    on validation.
    """
    model = model.cpu().eval()
    export = out / "export"
    progress("export", 0, 3)
    dilated = recipe.network.dilated_export
    networks = _networks(recipe.network)
    visions = {network.file: VisionExport(model, dilated, network.plane) for network in networks}
    for name, vision in visions.items():
        export_vision(vision, export / name)
    progress("export", 1, 3)
    projection, text = np.eye(model.vision.channels, dtype=np.float32), {}
    if isinstance(model, DualEncoder):
        projection = model.vision_projection.weight.detach().numpy()
        text = _text_part(model, recipe, findings, export)
    progress("export", 2, 3)
    weight = model.classifier.weight.detach().numpy()
    bias = model.classifier.bias.detach().numpy()
    files = {name: export / name for name in visions}
    networks_seen = _Latents(list(files.values()), recipe.preprocessing.crop)
    latents = networks_seen.of(validation.volumes, range(len(validation.patients)), "calibrate", progress)
    logits = (latents @ weight.T + bias).astype(np.float64)
    splits = ["validation"] * len(logits)
    states = as_taught(validation.states, recipe.labels)
    calibration, thresholds = calibrate(logits, states, splits, findings.keys)
    measured = evaluate_classification(
        calibration.apply(logits),
        states,
        findings.keys,
        patient_ids=validation.patients,
        thresholds=thresholds.by_key(),
        absent_below=thresholds.absent_by_key(),
    )
    some = np.unique(np.linspace(0, len(training) - 1, min(len(training), FITNESS_STUDIES)).astype(int)).tolist()
    fit = fit_latents(networks_seen.of(training, some, "fitness", progress), latents, projection)
    # Noise, not a study: a bundle travels, and no patient may travel in it.
    shape = (1, networks[0].channels, *recipe.preprocessing.size)
    reference = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    vectors: dict[str, NDArray[np.float32]] = {}
    for network in networks:
        with torch.no_grad():
            expected = visions[network.file](torch.from_numpy(reference))[0][0].numpy()
        vectors |= {f"input{network.suffix}": reference, f"latent{network.suffix}": expected}
    fields = BundleFields(
        name=f"{findings.name}-{recipe.name}",
        intended_use=intended_use,
        licence=LICENCE,
        finding_set=findings,
        preprocessing=recipe.preprocessing,
        features=FeatureGrid.of_stem(recipe.network.stem, dilated),
        calibration=Calibration(tuple(calibration.slope.tolist()), tuple(calibration.intercept.tolist())),
        thresholds=Thresholds(thresholds.rule, tuple(thresholds.present.tolist()), tuple(thresholds.absent.tolist())),
        fitness=None if fit is None else Fitness(fit.limit, fit.quantile, fit.n),
        max_tokens=recipe.network.max_tokens if text else None,
        networks=networks,
        metrics={"split": "validation", "against": "the labels of the reports" if text else "the labels", **measured},
        training={
            **provenance,
            "field": FIELD,
            "calibration_notes": calibration.notes,
            "threshold_notes": thresholds.notes,
        },
    )
    bundle = write_bundle(
        out / "bundle",
        fields,
        vision_onnx=files,
        weight=weight,
        bias=bias,
        projection=projection,
        reference={**vectors, **_arrays(fit)},
        **text,
    )
    progress("export", 3, 3)
    return bundle


def _networks(network: Network) -> tuple[VisionNetwork, ...]:
    """Return what the manifest says of the vision networks: one, or one for each plane."""
    if not network.planes:
        return (VisionNetwork(),)
    return tuple(VisionNetwork(f"vision-{plane}.onnx", None, plane, network.sequences) for plane in network.planes)


def as_taught(states: NDArray[np.int8], labels: Labels) -> NDArray[np.int8]:
    """Return states (N, C) with what the report does not mention as absent, where training counted it so.

    Reports mention what is there far more often than what is not: of the findings that they mention alone, too many
    would be present, and probabilities calibrated on those too high.
    """
    taught = labels.not_mentioned
    absent = taught.weight > 0 and taught.target == 0
    return np.where(absent & (states == State.NOT_MENTIONED), np.int8(State.ABSENT), states).astype(np.int8)


class _Latents:
    """The exported networks, which see studies as the reader does: in tiles, and the mean over planes."""

    def __init__(self, networks: Sequence[Path], crop: tuple[int, int, int]) -> None:
        self._sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in networks]
        self._crop = crop

    def of(self, volumes: Crops, studies: Sequence[int], stage: str, progress: Progress) -> NDArray[np.float32]:
        """Return the latents (N, L) of these studies."""
        rows = []
        for number, index in enumerate(studies, start=1):
            planes = np.split(volumes.fields([index])[0], len(self._sessions), axis=0)
            latents = [
                self._tiled(session, plane)
                for session, plane in zip(self._sessions, planes, strict=True)
                if plane.any()
            ]
            rows.append(np.mean(latents, axis=0, dtype=np.float32))
            progress(stage, number, len(studies))
        return np.stack(rows)

    def _tiled(self, session: ort.InferenceSession, field: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width, depth = self._crop
        rows = [
            session.run(["latent"], {"volume": np.ascontiguousarray(tile)[None]})[0][0]
            for top, left, low in tiles(field.shape[1:], self._crop)
            for tile in [field[:, top : top + height, left : left + width, low : low + depth]]
        ]
        return np.asarray(np.mean(rows, axis=0), np.float32)


def _arrays(fit: LatentFit | None) -> dict[str, NDArray[np.float32]]:
    return {} if fit is None else {"center": fit.center, "whitening": fit.whitening}


def _text_part(model: DualEncoder, recipe: Recipe, findings: FindingSet, export: Path) -> dict[str, Any]:
    """Export the text network, and return what `write_bundle` takes of the text."""
    export_text(model, export / "text.onnx")
    tokenizer = tokenizer_file(text_encoder_folder(recipe.text_encoder))
    prompts = encode_prompts(model, tokenizer, findings, recipe.network.max_tokens)
    return {"text_onnx": export / "text.onnx", "tokenizer": tokenizer, **prompts}

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
from tokenizers import Tokenizer

from greenrfm.adapt import calibrate
from greenrfm.bundle import Bundle, BundleFields, Calibration, FeatureGrid, Thresholds, write_bundle
from greenrfm.evaluation import evaluate_classification
from greenrfm.findings import FindingSet
from greenrfm.networks import DualEncoder, VisionAlone, VisionExport, text_encoder_folder, tokenizer_file
from greenrfm.progress import Progress
from greenrfm.training.encoders import encode_reports
from greenrfm.training.export import export_text, export_vision
from greenrfm.training.recipe import Recipe
from greenrfm.training.volumes import Crops

LICENCE = "as the cohort it was trained on allows"


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
    out: Path,
    provenance: Mapping[str, Any],
    intended_use: str,
    progress: Progress,
) -> Bundle:
    """Export to ONNX, calibrate and choose thresholds with the exported network on validation, write `out`/bundle."""
    model = model.cpu().eval()
    export = out / "export"
    progress("export", 0, 3)
    dilated = recipe.network.dilated_export
    vision = VisionExport(model, dilated)
    export_vision(vision, export / "vision.onnx")
    progress("export", 1, 3)
    projection, text = np.eye(model.vision.channels, dtype=np.float32), {}
    if isinstance(model, DualEncoder):
        projection = model.vision_projection.weight.detach().numpy()
        text = _text_part(model, recipe, findings, export)
    progress("export", 2, 3)
    weight = model.classifier.weight.detach().numpy()
    bias = model.classifier.bias.detach().numpy()
    latents = _latents(export / "vision.onnx", validation.volumes, len(validation.patients), progress)
    logits = (latents @ weight.T + bias).astype(np.float64)
    splits = ["validation"] * len(logits)
    calibration, thresholds = calibrate(logits, validation.states, splits, findings.keys)
    measured = evaluate_classification(
        calibration.apply(logits),
        validation.states,
        findings.keys,
        patient_ids=validation.patients,
        thresholds=thresholds.by_key(),
    )
    # Noise, not a study: a bundle travels, and no patient may travel in it.
    shape = (1, 1, *recipe.preprocessing.size)
    reference = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    with torch.no_grad():
        expected = vision(torch.from_numpy(reference))[0][0].numpy()
    fields = BundleFields(
        name=f"{findings.name}-{recipe.name}",
        intended_use=intended_use,
        licence=LICENCE,
        finding_set=findings,
        preprocessing=recipe.preprocessing,
        features=FeatureGrid.of_stem(recipe.network.stem, dilated),
        calibration=Calibration(tuple(calibration.slope.tolist()), tuple(calibration.intercept.tolist())),
        thresholds=Thresholds(thresholds.rule, *(tuple(thresholds.values.tolist()),) * 2),
        max_tokens=recipe.network.max_tokens if text else None,
        metrics={"split": "validation", "against": "the labels of the reports" if text else "the labels", **measured},
        training={**provenance, "calibration_notes": calibration.notes, "threshold_notes": thresholds.notes},
    )
    bundle = write_bundle(
        out / "bundle",
        fields,
        vision_onnx=export / "vision.onnx",
        weight=weight,
        bias=bias,
        projection=projection,
        reference={"input": reference, "latent": expected},
        **text,
    )
    progress("export", 3, 3)
    return bundle


def _latents(vision: Path, volumes: Crops, count: int, progress: Progress) -> NDArray[np.float32]:
    """Return the exported network's latents (N, L) of the whole padded fields."""
    session = ort.InferenceSession(str(vision), providers=["CPUExecutionProvider"])
    rows = []
    for index in range(count):
        rows.append(session.run(["latent"], {"volume": volumes.fields([index])})[0][0])
        progress("calibrate", index + 1, count)
    return np.stack(rows)


def _text_part(model: DualEncoder, recipe: Recipe, findings: FindingSet, export: Path) -> dict[str, Any]:
    """Export the text network, and return what `write_bundle` takes of the text.

    The zero-shot prompts are encoded already, (pairs, findings, 768) each.
    """
    export_text(model, export / "text.onnx")
    tokenizer = tokenizer_file(text_encoder_folder(recipe.text_encoder))

    def encoded(texts: Sequence[str]) -> NDArray[np.float32]:
        latents = encode_reports(model, Tokenizer.from_file(str(tokenizer)), texts, recipe.network.max_tokens)
        return latents.reshape(len(findings.prompts), len(findings.findings), -1)

    filled = [pair.fill(finding.name.lower()) for pair in findings.prompts for finding in findings.findings]
    return {
        "text_onnx": export / "text.onnx",
        "tokenizer": tokenizer,
        "prompts_positive": encoded([positive for positive, _ in filled]),
        "prompts_negative": encoded([negative for _, negative in filled]),
    }

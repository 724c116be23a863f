"""A tiny bundle that reads MR in three planes and two sequences, and a study in four stacks around one bright ball."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from greenrfm.bundle import LATENT_SIZE, Bundle, BundleFields, Calibration, FeatureGrid, Thresholds, write_bundle
from greenrfm.bundle.manifest import VisionNetwork
from greenrfm.volumes import PLANES, Preprocessing
from make_tiny_bundle import FINDINGS, STRIDE, WORDS, numpy_features, text_model, tokenizer_model, vision_model

SEQUENCES = ("pd", "t2")
PREPROCESSING = Preprocessing(
    spacing=(2.0, 2.0, 4.0),
    size=(64, 64, 32),
    crop=(48, 48, 24),
    intensity="zscore",
    percentiles=(1.0, 99.0),
    orientation="acquired",
)
# RAS mm: where the ball lies, off the middle of every stack.
BALL = np.array([22.0, -18.0, 26.0])
# Voxel to RAS of stacks with their slices last, 2 mm pixels, slices every 4 mm; right-handed, as Slicer loads a file.
TURNS = {
    "axial": np.array([[-2.0, 0, 0], [0, -2.0, 0], [0, 0, 4.0]]),
    "coronal": np.array([[-2.0, 0, 0], [0, 0, -4.0], [0, -2.0, 0]]),
    "sagittal": np.array([[0, 0, 4.0], [-2.0, 0, 0], [0, -2.0, 0]]),
}


def make_planes_bundle(folder: Path) -> Bundle:
    """Write the bundle to `folder`: finding 0 answers to what is bright, in every plane and both sequences."""
    parts = folder.parent / f"{folder.name}-parts"
    parts.mkdir(parents=True)
    random = np.random.default_rng(7)
    projection = (random.normal(size=(LATENT_SIZE, 4)) / np.sqrt(LATENT_SIZE)).astype(np.float32)
    wanted = np.array([[4, 0, 0, 0], [0, 3, 0, 0], [1, 1, 0.5, -0.5]], np.float32)
    networks = tuple(VisionNetwork(f"vision-{plane}.onnx", None, plane, SEQUENCES) for plane in PLANES)
    vision, reference = {}, {}
    for network in networks:
        vision[network.file] = parts / network.file
        onnx.save(_of_two_sequences(vision_model(projection, 0)), vision[network.file])
        field = random.uniform(-1, 1, (1, 2, 17, 16, 9)).astype(np.float32)
        reference[f"input-{network.plane}"] = field
        reference[f"latent-{network.plane}"] = projection @ numpy_features(field[0].mean(axis=0)).mean(axis=(1, 2, 3))
    text, tokenizer = parts / "text.onnx", parts / "tokenizer.json"
    onnx.save(text_model(len(WORDS) + 4, random), text)
    tokenizer_model().save(str(tokenizer))
    prompts = random.normal(size=(2, 5, len(FINDINGS.keys), LATENT_SIZE))
    return write_bundle(
        folder,
        BundleFields(
            name="tiny-mr",
            intended_use="research",
            licence="Apache-2.0",
            finding_set=replace(FINDINGS, name="tiny-mr", modality="MR", body_part="knee"),
            preprocessing=PREPROCESSING,
            features=FeatureGrid(STRIDE, tuple((step - 1) / 2 for step in STRIDE)),
            calibration=Calibration((1.0, 2.0, 1.0), (0.0, 0.0, -1.0)),
            thresholds=Thresholds("youden", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            max_tokens=8,
            networks=networks,
        ),
        vision_onnx=vision,
        weight=wanted @ np.linalg.pinv(projection),
        bias=np.array([-0.5, 0.1, 0.0]),
        projection=projection,
        reference=reference,
        text_onnx=text,
        tokenizer=tokenizer,
        prompts_positive=prompts[0],
        prompts_negative=prompts[1],
    )


def stack(slicer: Any, plane: str, name: str, thin: bool = False) -> Any:
    """Return a stack of 60 × 60 pixels and 30 slices of the plane; `thin` ones are as thin as the pixels are wide."""
    affine = np.eye(4)
    affine[:3, :3] = TURNS[plane] / ([1, 1, 2] if thin else 1)
    counts = np.array([60, 60, 60 if thin else 30])
    affine[:3, 3] = -affine[:3, :3] @ ((counts - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1)
    array = _intensities(index @ affine[:3, :3].T + affine[:3, 3])
    return slicer.util.addVolumeFromArray(array.transpose(2, 1, 0), ijkToRAS=affine, name=name)


def _intensities(places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a dim cylinder with a bright ball, and the noise without which nothing is normalised."""
    noise = np.random.default_rng(1).normal(0, 5, places.shape[:3])
    body = 100.0 * (np.linalg.norm(places[..., :2], axis=-1) < 50)
    ball = 500.0 * (np.linalg.norm(places - BALL, axis=-1) < 14)
    return np.asarray(body + ball + noise, np.float32)


def _of_two_sequences(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with two input channels, of which it sees the mean."""
    for constant in model.graph.initializer:
        if constant.name == "filters":
            filters = numpy_helper.to_array(constant)
            constant.CopyFrom(numpy_helper.from_array(np.repeat(filters, 2, axis=1) / np.float32(2), "filters"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    onnx.checker.check_model(model)
    return model

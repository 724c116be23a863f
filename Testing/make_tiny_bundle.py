"""A bundle of a few kilobytes whose networks can be followed by hand, for tests of the reading side.

Vision: average over cells of `STRIDE` voxels, four fixed 1 × 1 × 1 filters, ReLU; finding 0 answers to
what is denser than soft tissue, finding 1 to air, finding 2 to both. Text: mean of word vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from greenrfm.bundle import (
    LATENT_SIZE,
    Bundle,
    BundleFields,
    Calibration,
    FeatureGrid,
    Thresholds,
    write_bundle,
)
from greenrfm.findings import Code, Finding, FindingSet
from greenrfm.volumes import Preprocessing

STRIDE = (8, 8, 4)
OPSET = 17
WORDS = ("no", "pleural", "effusion", "lung", "nodule", "emphysema", "is", "there", "present", ".")

FINDINGS = FindingSet(
    "tiny-ct",
    "Tiny",
    "CT",
    "chest",
    (
        Finding("lung_nodule", "Lung nodule", codes=(Code("99TEST", "1", "A nodule"),)),
        Finding("emphysema", "Emphysema"),
        Finding("effusion", "Effusion"),
    ),
    (),
)

PREPROCESSING = Preprocessing(
    spacing=(2.0, 2.0, 4.0),
    size=(64, 64, 32),
    crop=(48, 48, 24),
    intensity="window",
    window=(-1000.0, 200.0),
    shift=400.0,
    scale=600.0,
)

# Rows of the 1 × 1 × 1 filters and their thresholds: dense, air, and the two halves of the scale.
FILTERS = np.array([1.0, -1.0, 0.5, -0.5], np.float32)
FILTER_BIAS = np.array([-0.1, -0.4, 0.2, 0.2], np.float32)


def make_tiny_bundle(
    folder: Path, intended_use: str = "research", layers: int = 0, rounds: int = 1, text: bool = True
) -> Bundle:
    """Write the tiny bundle to `folder`; `layers` slow convolutions make its vision network worth cancelling.

    `rounds` goes through them again and again in a full field, less often in a smaller one such as the reference's:
    a network that nobody can wait for, in a small file. Without `text` it is a model of images alone, with the same
    scores: its latent is the four pooled features.
    """
    parts = folder.parent / f"{folder.name}-parts"
    parts.mkdir(parents=True)
    random = np.random.default_rng(7)
    projection = (random.normal(size=(LATENT_SIZE, 4)) / np.sqrt(LATENT_SIZE)).astype(np.float32)
    projection = projection if text else np.eye(4, dtype=np.float32)
    # Heads that undo the projection, so that each finding answers to the filters of its row.
    wanted = np.array([[4, 0, 0, 0], [0, 3, 0, 0], [1, 1, 0.5, -0.5]], np.float32)
    weight = wanted @ np.linalg.pinv(projection)
    vision = parts / "vision.onnx"
    onnx.save(vision_model(projection, layers, rounds), vision)
    text_part = _text_part(parts, random) if text else {}
    volume = random.uniform(-1, 1, (1, 1, 17, 16, 9)).astype(np.float32)
    return write_bundle(
        folder,
        BundleFields(
            name="tiny",
            intended_use=intended_use,
            licence="Apache-2.0",
            finding_set=FINDINGS,
            preprocessing=PREPROCESSING,
            features=FeatureGrid(STRIDE, tuple((step - 1) / 2 for step in STRIDE)),
            calibration=Calibration((1.0, 2.0, 1.0), (0.0, 0.0, -1.0)),
            thresholds=Thresholds("youden", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            max_tokens=8 if text else None,
            metrics={"macro_auc": 0.5, "n": 0},
            training={"recipe": "tiny", "seed": 7},
        ),
        vision_onnx=vision,
        weight=weight,
        bias=np.array([-0.5, 0.1, 0.0]),
        projection=projection,
        reference={"input": volume, "latent": projection @ numpy_features(volume[0, 0]).mean(axis=(1, 2, 3))},
        **text_part,
    )


def _text_part(parts: Path, random: np.random.Generator) -> dict[str, Any]:
    """Return what `write_bundle` takes of the text."""
    text, tokenizer = parts / "text.onnx", parts / "tokenizer.json"
    onnx.save(text_model(len(WORDS) + 4, random), text)
    tokenizer_model().save(str(tokenizer))
    prompts = random.normal(size=(2, 5, len(FINDINGS.keys), LATENT_SIZE))
    return {
        "text_onnx": text, "tokenizer": tokenizer, "prompts_positive": prompts[0], "prompts_negative": prompts[1]
    }  # fmt: skip


def numpy_features(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vision network's feature map (4, h, w, d) of one field (H, W, D), computed with numpy."""
    cells = [count // step for count, step in zip(field.shape, STRIDE, strict=True)]
    blocks = field[: cells[0] * STRIDE[0], : cells[1] * STRIDE[1], : cells[2] * STRIDE[2]].reshape(
        cells[0], STRIDE[0], cells[1], STRIDE[1], cells[2], STRIDE[2]
    )
    mean = blocks.mean(axis=(1, 3, 5))
    shape = (4, 1, 1, 1)
    return np.maximum(FILTERS.reshape(shape) * mean + FILTER_BIAS.reshape(shape), 0)


def vision_model(projection: NDArray[np.float32], layers: int, rounds: int = 1) -> onnx.ModelProto:
    """Return volume (N, 1, H, W, D) -> latent (N, L), features (N, 4, h, w, d)."""
    nodes, constants, current = [], {}, "volume"
    if layers:
        # One voxel's own value goes through unchanged; the other 26 taps cost time.
        identity = np.zeros((1, 1, 3, 3, 3), np.float32)
        identity[0, 0, 1, 1, 1] = 1
        constants["identity"] = identity
    for layer in range(layers):
        nodes.append(helper.make_node("Conv", [current, "identity"], [f"slow{layer}"], pads=[1] * 6))
        current = f"slow{layer}"
    if layers and rounds > 1:
        constants["rounds"] = np.array(rounds, np.int64)
        constants["full"] = np.array(np.prod(PREPROCESSING.size), np.int64)
        nodes = [
            helper.make_node("Size", ["volume"], ["voxels"]),
            helper.make_node("Mul", ["voxels", "rounds"], ["voxel_rounds"]),
            helper.make_node("Div", ["voxel_rounds", "full"], ["count"]),
            helper.make_node("Loop", ["count", "", "volume"], ["last"], body=_body(nodes)),
        ]
        current = "last"
    constants |= {
        "filters": FILTERS.reshape(4, 1, 1, 1, 1),
        "filter_bias": FILTER_BIAS,
        "projection": projection.T.copy(),
    }
    nodes += [
        helper.make_node("AveragePool", [current], ["cells"], kernel_shape=STRIDE, strides=STRIDE),
        helper.make_node("Conv", ["cells", "filters", "filter_bias"], ["filtered"]),
        helper.make_node("Relu", ["filtered"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["latent"]),
    ]
    return _model(
        nodes,
        constants,
        [("volume", TensorProto.FLOAT, ("N", 1, "H", "W", "D"))],
        [("latent", ("N", len(projection))), ("features", ("N", 4, "h", "w", "d"))],
    )


def _body(layers: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
    """Return one round of a Loop through `layers`, of which the first takes "volume"."""
    field = ("N", 1, "H", "W", "D")
    first, last = onnx.NodeProto(), layers[-1].output[0]
    first.CopyFrom(layers[0])
    first.input[0] = "field"
    return helper.make_graph(
        [first, *layers[1:], helper.make_node("Identity", ["go_on"], ["going_on"])],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("field", TensorProto.FLOAT, field),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info(last, TensorProto.FLOAT, field),
        ],
    )


def text_model(words: int, random: np.random.Generator) -> onnx.ModelProto:
    """Return input_ids, attention_mask (N, T) -> latent (N, 768): the mean word vector under the mask."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["latent"]),
    ]
    constants = {
        "table": random.normal(size=(words, LATENT_SIZE)).astype(np.float32),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    inputs = [(name, TensorProto.INT64, ("N", "T")) for name in ("input_ids", "attention_mask")]
    return _model(nodes, constants, inputs, [("latent", ("N", LATENT_SIZE))])


def tokenizer_model() -> Tokenizer:
    """Return a word-level tokenizer that adds [CLS] and [SEP], as BERT's does."""
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: Sequence[tuple[str, int, Sequence[str | int]]],
    outputs: Sequence[tuple[str, Sequence[str | int]]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model

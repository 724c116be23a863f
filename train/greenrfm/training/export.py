"""From trained networks to ONNX files that onnxruntime runs without torch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from greenrfm.files import replacing
from greenrfm.networks import DualEncoder, TextExport, VisionExport

OPSET = 18


def export_vision(network: VisionExport, path: Path) -> None:
    """Write vision.onnx: any volumes (N, inputs, H, W, D) → latent (N, L) and features (N, F, h, w, d)."""
    # Twice the stride and a step more: neither 0 nor 1 cells, so that no size is taken for a constant.
    height, width, depth = (2 * step + 8 for step in network.vision.stride)
    example = torch.zeros(2, network.vision.inputs, height, width, depth)
    shapes = {"volume": _dynamic(("n", None, "h", "w", "d"))}
    _export(network, (example,), path, ["volume"], ["latent", "features"], shapes)


def export_text(model: DualEncoder, path: Path) -> None:
    """Write text.onnx: ids and mask (N, T) → latent (N, 768)."""
    ids = torch.ones(2, 9, dtype=torch.long)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    shapes = {"input_ids": _dynamic(("n", "t")), "attention_mask": _dynamic(("n", "t"))}
    _export(TextExport(model), (ids, mask), path, ["input_ids", "attention_mask"], ["latent"], shapes)


def _dynamic(names: tuple[str | None, ...]) -> dict[int, object]:
    return {axis: torch.export.Dim.DYNAMIC for axis, name in enumerate(names) if name}


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    shapes: dict[str, dict[int, object]],
) -> None:
    module = module.cpu().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with replacing(path) as temporary, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            str(temporary),
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )

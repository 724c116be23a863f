"""The public GreenRFM code's checkpoints: where their tensors lie, and what we call them.

Read in its repository (SadVoxel/GreenRFM, 33c3d08): training/alignment.py saves {"model": …}, mr_alignment.py
{"model_state_dict": …}, supervise_pretrain.py {"encoder": …, "classifier": …}, mr_supervise.py the bare state dict;
its inference reads only the second and the last, with strict=False, and so scores an untrained model for the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from greenrfm.errors import UserError
from greenrfm.training.initial import kinetics_name

Axes = Literal["zyx", "zxy"]
# How a kernel (out, in, depth, a, b) of theirs becomes ours (out, in, H, W, D).
_TURNED: dict[str, tuple[int, ...]] = {"zyx": (0, 1, 3, 4, 2), "zxy": (0, 1, 4, 3, 2)}
_STATES = ("model", "model_state_dict", "state_dict")
_WRAPPERS = ("module.", "_orig_mod.")
PLANES = {"sag": "sagittal", "cor": "coronal", "tra": "axial"}
# Their temperature has no part in their loss; BERT's positions are counted; its pooler lies behind [CLS].
_NOT_USED = ("logit_scale", "text_encoder.embeddings.position_ids", "text_encoder.embeddings.token_type_ids")
_HEADS = {
    "to_text_latent.weight": "text_projection.weight",
    "to_visual_latent.weight": "vision_projection.weight",
    "classifier.weight": "classifier.weight",
    "classifier.bias": "classifier.bias",
}


@dataclass(frozen=True)
class PublicState:
    """A checkpoint's tensors under our names; `ignored` names everything else that the file holds."""

    tensors: dict[str, Tensor]
    planes: tuple[str, ...]
    has_text: bool
    ignored: tuple[str, ...]


def read_public(file: Path, axes: Axes = "zyx") -> PublicState:
    """Return the tensors of a checkpoint of the public layout under the names of our networks.

    Kernels are turned from its (D, H, W) to our (H, W, D); `axes` says whether its last two axes are rows and columns
    ("zyx") or the other way round ("zxy").

    Raises
    ------
    UserError
        If the file cannot be read as tensors alone (no code in it is run), is of another layout, or holds a tensor
        that has no place in a GreenRFM.
    """
    found, ignored = _state(_loaded(file), file)
    if "stem.0.weight" in found and "fc.weight" in found:
        raise UserError(
            f"{file} holds the weights of a video network (Kinetics), which scores no finding and makes no bundle; "
            "train with it: in a recipe, network: {vision_weights: {kinetics: " + str(file) + "}}"
        )
    tensors: dict[str, Tensor] = {}
    unused, planes = [], set()
    for name, tensor in found.items():
        if name in _NOT_USED:
            unused.append(name)
            continue
        ours, plane = _our_name(name)
        if ours is None:
            raise UserError(f"{file}: '{name}' has no place in a GreenRFM; it is not a checkpoint of the public code")
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{file}: '{name}' holds values that are not finite; take an earlier checkpoint")
        planes.add(plane)
        turned = tensor.permute(_TURNED[axes]) if tensor.ndim == 5 else tensor
        tensors[ours] = turned.float() if turned.is_floating_point() else turned
    has_text = any(name.startswith("text.") for name in tensors)
    has_vision = any(name.startswith("vision.") for name in tensors)
    if not has_vision:
        raise UserError(f"{file} holds no vision encoder, a bundle needs one; give the checkpoint of the alignment")
    named = tuple(ours for ours in PLANES.values() if ours in planes)
    return PublicState(tensors, named or ("",), has_text, (*ignored, *unused))


def _loaded(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {file} does not exist; check its path") from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, … for a damaged file
        raise UserError(
            f"checkpoint {file} cannot be read as plain tensors: it is damaged, or holds objects whose loading could "
            "run code; get it again, or save {'model': model.state_dict()} alone"
        ) from error


def _state(content: Any, file: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by name without the wrappers' prefixes, and the names of what else the file holds."""
    if isinstance(content, Mapping):
        taken = next((key for key in _STATES if isinstance(content.get(key), Mapping)), None)
        if taken is not None:
            return _plain(content[taken], file), [str(key) for key in content if key != taken]
        if all(isinstance(content.get(key), Mapping) for key in ("encoder", "classifier")):
            encoder = {f"encoder.{name}": value for name, value in _plain(content["encoder"], file).items()}
            head = {f"classifier.{name}": value for name, value in _plain(content["classifier"], file).items()}
            return encoder | head, [str(key) for key in content if key not in ("encoder", "classifier")]
        return _plain(content, file), []
    raise UserError(f"checkpoint {file} is no state dict; save {{'model': model.state_dict()}}")


def _plain(state: Mapping[Any, Any], file: Path) -> dict[str, Tensor]:
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint {file} is no state dict of tensors by name; save {{'model': model.state_dict()}}")
    plain = {}
    for key, value in state.items():
        name = str(key)
        while name.startswith(_WRAPPERS):
            name = name.split(".", 1)[1]
        plain[name] = value
    if len(plain) < len(state):
        raise UserError(f"checkpoint {file} names a tensor twice; save model.state_dict() again")
    return plain


def _our_name(name: str) -> tuple[str | None, str]:
    """Return our name of a tensor (None if it has none), and the plane that it belongs to."""
    if name in _HEADS:
        return _HEADS[name], ""
    if name.startswith("text_encoder."):
        return name.replace("text_encoder.", "text.bert.", 1), ""
    for prefix in ("image_encoder.", "backbone.", "encoder."):
        if not name.startswith(prefix):
            continue
        rest, plane, home = name.removeprefix(prefix), "", "vision"
        if rest.startswith("backbones."):
            _, short, rest = rest.split(".", 2) if rest.count(".") >= 2 else ("", "", "")
            if short not in PLANES:
                return None, ""
            plane = PLANES[short]
            home = f"vision.encoders.{plane}"
        ours = "conv1.weight" if rest == "stem.0.weight" else kinetics_name(rest)
        return (f"{home}.net.{ours}" if ours else None), plane
    return None, ""

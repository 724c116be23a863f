"""Where training begins: random weights, Kinetics, or an earlier run; and which modules keep what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.networks import PlaneEncoders, TextEncoder, VisionEncoder
from greenrfm.training.earlier import earlier_run
from greenrfm.training.recipe import Recipe

Vision = TypeVar("Vision", bound=VisionEncoder | PlaneEncoders)
KINETICS_WIDTH = 64
# The colour stem and the 400 actions of Kinetics have no place in our networks.
KINETICS_LEFT_OUT = ("stem.0.", "fc.")
# Where a run keeps an encoder, best first: the file and the prefix of its tensors.
_KEPT = {
    "vision": (("stage2.pt", "vision."), ("stage1_vision.pt", "encoder.")),
    "text": (("stage2.pt", "text."), ("stage1_text.pt", "encoder.")),
}
_BLOCK = {"conv1.0": "conv1", "conv1.1": "bn1", "conv2.0": "conv2", "conv2.1": "bn2"}


def begin_vision(encoder: Vision, recipe: Recipe) -> Vision:
    """Fill the vision encoder with the recipe's `vision_weights` and return it; `random` leaves it as it is.

    Raises UserError if the file or run is missing, damaged, or of another architecture.
    """
    weights = recipe.network.vision_weights
    if weights.kinetics is not None:
        for part in encoder.by_plane.values():
            _load_kinetics(part, Path(weights.kinetics))
    elif weights.earlier is not None:
        _fill(encoder, earlier_weights(weights.earlier, "vision"), weights.earlier)
    return encoder


def begin_text(encoder: TextEncoder, recipe: Recipe) -> TextEncoder:
    """Fill the text encoder with those of the recipe's `text_weights`, if it names an earlier run, and return it."""
    earlier = recipe.network.text_weights
    if earlier is not None:
        _fill(encoder, earlier_weights(earlier, "text"), earlier)
    return encoder


def kinetics_name(name: str) -> str | None:
    """Return our name of a tensor of torchvision's r3d_18, None for one that is left out.

    `layer2.0.conv1.1.weight` (its convolution and normalisation are a Sequential) is our
    `layer2.0.bn1.weight`; the normalisation behind the stem, `stem.1`, is `bn1`.
    """
    if name.startswith(KINETICS_LEFT_OUT):
        return None
    if name.startswith("stem.1."):
        return name.replace("stem.1.", "bn1.")
    for theirs, ours in _BLOCK.items():
        if f".{theirs}." in name:
            return name.replace(f".{theirs}.", f".{ours}.")
    return name


def from_kinetics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return r3d_18's tensors under our names, kernels turned from (time, H, W) to (H, W, D).

    The stem stays random: theirs is 3 × 7 × 7 over three colours, ours a block of one.
    """
    named = {ours: tensor for name, tensor in state.items() if (ours := kinetics_name(name)) is not None}
    return {name: tensor.permute(0, 1, 3, 4, 2) if tensor.ndim == 5 else tensor for name, tensor in named.items()}


def freeze(model: nn.Module, names: Sequence[str], stage: str) -> None:
    """Keep weights and batch statistics of the named modules, whatever the loop does; `stage` is for errors.

    A name is a module's own, `vision.net.layer1`, or an end of it that no other module has, `layer1`. Frozen
    modules work as in evaluation: no dropout, and batch normalisation by the stored statistics.

    Raises
    ------
    UserError
        If no module or several have that name, with the nearest one, or nothing is left that learns.
    """
    ends: dict[str, list[str]] = {}
    for full, _ in model.named_modules():
        parts = full.split(".") if full else []
        for start in range(len(parts)):
            ends.setdefault(".".join(parts[start:]), []).append(full)
    for name in names:
        found = [name] if name in ends.get(name, ()) else ends.get(name, [])
        if not found:
            raise UserError(f"{stage}.freeze: the network has no module '{name}'{nearest(name, tuple(ends))}")
        if len(found) > 1:
            raise UserError(f"{stage}.freeze: '{name}' is the end of {', '.join(found[:3])}; give more of the name")
        module = model.get_submodule(found[0])
        module.requires_grad_(False)
        # `model.train()` reaches frozen modules too: each goes back to evaluation when it is used. On every part,
        # because the encoders call their layers one by one.
        for part in module.modules():
            part.register_forward_pre_hook(_evaluating)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{stage}.freeze: nothing is left that learns; freeze fewer modules")


def _evaluating(module: nn.Module, _: object) -> None:
    module.eval()


def _load_kinetics(encoder: VisionEncoder, file: Path) -> None:
    """Fill all but the stem; raise UserError unless every tensor of the file finds its place."""
    if encoder.channels != 8 * KINETICS_WIDTH:
        raise UserError(
            f"Kinetics weights have width {KINETICS_WIDTH}, the recipe has {encoder.channels // 8}; "
            f"set network.width to {KINETICS_WIDTH} or vision_weights to random"
        )
    state = from_kinetics(read_weights(file))
    state["conv1.weight"] = encoder.net.conv1.weight.detach()
    _fill(encoder.net, state, str(file))


def earlier_weights(path: str | Path, encoder: str) -> dict[str, Tensor]:
    """Return the tensors of an earlier run's "vision" or "text" encoder, of its last finished stage.

    Raises UserError if there is no run, it has finished no stage with that encoder, or the file is damaged.
    """
    run = earlier_run(path)
    for name, prefix in _KEPT[encoder]:
        if (run / name).is_file():
            state = read_weights(run / name)
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    raise UserError(f"run {run} has finished no stage with a {encoder} encoder; let it finish first")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file of torch.save; raise UserError if it is anything but tensors by name."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"weights {file} do not exist; check the recipe's path") from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, … for a damaged file
        raise UserError(f"weights {file} cannot be read as plain tensors; get the file again") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"weights {file} are no state dict of tensors by name; save model.state_dict()")
    return state


def _fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor into its place; raise UserError if one is missing, left over or of another shape."""
    wanted = module.state_dict()
    for name, tensor in state.items():
        if name not in wanted:
            raise UserError(f"weights {source} do not fit the recipe's network: it has no '{name}'")
        if tensor.shape != wanted[name].shape:
            shapes = " and ".join("×".join(map(str, shape)) or "one" for shape in (tensor.shape, wanted[name].shape))
            raise UserError(
                f"weights {source} do not fit the recipe's network: '{name}' is {shapes}; change the recipe"
            )
    # Counters are only missing in files older than torch 0.4.1.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"weights {source} lack '{missing[0]}'; they are of another network")
    module.load_state_dict(dict(state), strict=False)

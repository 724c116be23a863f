"""A checkpoint of the public GreenRFM code becomes a bundle: every tensor in its place, nothing calibrated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from greenrfm.bundle import (
    NOT_CHOSEN,
    Bundle,
    BundleFields,
    Calibration,
    FeatureGrid,
    Thresholds,
    VisionNetwork,
    write_bundle,
)
from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.findings import FindingSet
from greenrfm.networks import (
    LATENT,
    DualEncoder,
    PlaneEncoders,
    Supervised,
    TextEncoder,
    VisionAlone,
    VisionEncoder,
    VisionExport,
    text_encoder_folder,
    tokenizer_file,
)
from greenrfm.training.export import export_text, export_vision
from greenrfm.training.prompts import encode_prompts
from greenrfm.training.public_names import Axes, PublicState, read_public
from greenrfm.volumes import Preprocessing

# What the public code cuts its reports to; a longer text goes in as chunks of this length.
PUBLIC_TOKENS = 128
LICENCE = "not stated: the public code that made the checkpoint has none"


@dataclass(frozen=True)
class Imported:
    """The bundle, and the names of what the checkpoint held besides."""

    bundle: Bundle
    ignored: tuple[str, ...]


def import_checkpoint(
    file: Path,
    out: Path,
    findings: FindingSet,
    preprocessing: Preprocessing,
    *,
    text_encoder: str = "",
    sequences: Sequence[str] = (),
    axes: Axes = "zyx",
    max_tokens: int = PUBLIC_TOKENS,
    licence: str = LICENCE,
) -> Imported:
    """Write the bundle `out` from a checkpoint of the public code and return it; `bundle check` passes.

    Parameters
    ----------
    file
        Of torch.save: an alignment (CT or MR), or a supervised stage 1 of images alone. Read without running code.
    findings, preprocessing
        What the checkpoint was trained on; it does not say so itself, but for the number of findings.
    text_encoder
        `minilm` or the folder of a BERT with config.json and tokenizer.json; its weights come from the checkpoint.
    sequences
        Names of an MR network's input channels, in order.
    axes
        See `public_names.read_public`.

    Raises
    ------
    UserError
        If the file is of another layout, a tensor is missing, left over or of another shape, the numbers of findings
        differ, or the bundle that comes out does not compute what the network does.
    """
    state = read_public(file, axes)
    model, stem = _model(state, file, findings, text_encoder, sequences)
    unused = _fill(model, state.tensors, file)
    model.eval()
    networks = tuple(
        VisionNetwork(f"vision-{plane}.onnx" if plane else "vision.onnx", None, plane, tuple(sequences))
        for plane in state.planes
    )
    count = len(findings.findings)
    fields = BundleFields(
        name=f"{findings.name}-imported",
        intended_use="research",
        licence=licence,
        finding_set=findings,
        preprocessing=preprocessing,
        features=FeatureGrid.of_stem(stem),
        calibration=Calibration((1.0,) * count, (0.0,) * count),
        thresholds=Thresholds(f"{NOT_CHOSEN}: imported", (0.5,) * count, (0.5,) * count),
        max_tokens=max_tokens if state.has_text else None,
        networks=networks,
        training={
            "imported_from": file.name,
            "sha256": sha256(file),
            "axes": axes,
            "ignored": [*state.ignored, *unused],
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        bundle = _write(model, fields, Path(scratch), out, text_encoder)
    return Imported(bundle, (*state.ignored, *unused))


def _model(
    state: PublicState, file: Path, findings: FindingSet, text_encoder: str, sequences: Sequence[str]
) -> tuple[DualEncoder | VisionAlone, tuple[int, int, int]]:
    """Return an untrained model of the checkpoint's sizes, and its stem (H, W, D)."""
    stem_name = next((name for name in state.tensors if name.endswith("net.conv1.weight")), None)
    head = state.tensors.get("classifier.weight")
    if stem_name is None or head is None or head.ndim != 2:
        raise UserError(f"{file} lacks {'its stem' if stem_name is None else 'classifier.weight'}; get it again")
    width, inputs, height, columns, depth = state.tensors[stem_name].shape
    if len(head) != len(findings.findings):
        raise UserError(
            f"{file} scores {len(head)} findings, the set {findings.name} has {len(findings.findings)}; give the "
            "finding set that it was trained on"
        )
    if state.planes == ("",) and inputs != 1:
        raise UserError(f"{file} takes {inputs} channels and has no planes; it is not a checkpoint of the public code")
    if state.planes != ("",) and len(sequences) != inputs:
        raise UserError(f"{file} takes {inputs} sequences, {len(sequences)} are named; name them with --sequences")
    if state.planes == ("",) and sequences:
        raise UserError(f"{file} reads one volume without sequences; leave out --sequences")
    stem = (height, columns, depth)
    vision = VisionEncoder(width, stem) if state.planes == ("",) else PlaneEncoders(state.planes, inputs, width, stem)
    if not state.has_text:
        return VisionAlone(Supervised(vision, len(head))), stem
    if not text_encoder:
        raise UserError(f"{file} has a text encoder; say which BERT it is with --text-encoder minilm or its folder")
    if head.shape[1] != LATENT:
        raise UserError(f"{file} has latents of {head.shape[1]} numbers, a bundle with text has {LATENT}")
    return DualEncoder(vision, TextEncoder(text_encoder_folder(text_encoder), pretrained=False), len(head)), stem


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> list[str]:
    """Load every tensor into its place; return the names of those that have no part in what is exported.

    Raises UserError if one is missing, left over, or of another shape.
    """
    wanted = model.state_dict()
    unused = [name for name in tensors if name.startswith("text.bert.pooler.")]
    for name, tensor in tensors.items():
        if name in unused:
            continue
        if name not in wanted:
            raise UserError(f"{file}: '{name}' has no place in this network; give the BERT that it was trained with")
        if tensor.shape != wanted[name].shape:
            shapes = " and ".join("×".join(map(str, shape)) or "one" for shape in (tensor.shape, wanted[name].shape))
            raise UserError(f"{file}: '{name}' is {shapes}; give the BERT and findings that it was trained with")
    missing = [
        name
        for name in wanted
        if name not in tensors
        and not name.startswith("text.bert.pooler.")
        and not name.endswith(("num_batches_tracked", "position_ids", "token_type_ids"))
    ]
    if missing:
        raise UserError(f"{file} lacks {len(missing)} tensors, such as '{missing[0]}'; it is cut or of another network")
    model.load_state_dict({name: tensors[name] for name in tensors if name not in unused}, strict=False)
    return unused


def _write(
    model: DualEncoder | VisionAlone, fields: BundleFields, scratch: Path, out: Path, text_encoder: str
) -> Bundle:
    """Export the networks to `scratch`, and write the bundle with a test vector for each."""
    files: dict[str, Path] = {}
    # Noise, not a study: a bundle travels, and no patient may travel in it.
    random = np.random.default_rng(0)
    reference: dict[str, Any] = {}
    for network in fields.networks:
        export = VisionExport(model, plane=network.plane)
        files[network.file] = scratch / network.file
        export_vision(export, files[network.file])
        volume = random.uniform(-1, 1, (1, network.channels, *fields.preprocessing.crop)).astype(np.float32)
        with torch.no_grad():
            latent = export(torch.from_numpy(volume))[0][0].numpy()
        reference |= {f"input{network.suffix}": volume, f"latent{network.suffix}": latent}
    projection, text = np.eye(model.vision.channels, dtype=np.float32), {}
    if isinstance(model, DualEncoder):
        assert fields.max_tokens is not None
        projection = model.vision_projection.weight.detach().numpy()
        tokenizer = tokenizer_file(text_encoder_folder(text_encoder))
        export_text(model, scratch / "text.onnx")
        text = {
            "text_onnx": scratch / "text.onnx",
            "tokenizer": tokenizer,
            **encode_prompts(model, tokenizer, fields.finding_set, fields.max_tokens),
        }
    return write_bundle(
        out,
        fields,
        vision_onnx=files,
        weight=model.classifier.weight.detach().numpy(),
        bias=model.classifier.bias.detach().numpy(),
        projection=projection,
        reference=reference,
        **text,
    )

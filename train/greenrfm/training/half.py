"""A bundle's vision networks in half precision: files half as large, for what computes with 16 bits."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from greenrfm.bundle import Bundle, BundleFields, write_bundle
from greenrfm.bundle.arrays import load_arrays
from greenrfm.errors import UserError


def add_half(bundle: Bundle, out: Path) -> Bundle:
    """Write `bundle` again to `out` with its vision networks in float16 beside those it has, and return it.

    Inputs and outputs stay float32, and so do averages over the field, whose sums could overflow. The bundle is
    written only if the stored test vectors agree within `check_networks.HALF_TOLERANCE`. Its hash is a new one: a
    case library made with the old bundle does not fit.

    Raises UserError if a network cannot be converted, or does not agree.
    """
    arguments = {name: getattr(bundle.manifest, name) for name in BundleFields.__dataclass_fields__}
    networks = tuple(
        replace(network, half=f"{network.file.removesuffix('.onnx')}.fp16.onnx") for network in bundle.manifest.networks
    )
    with tempfile.TemporaryDirectory() as scratch:
        files = {network.file: bundle.path(network.file) for network in networks}
        for network in networks:
            assert network.half is not None
            files[network.half] = Path(scratch) / network.half
            _convert(bundle.path(network.file), files[network.half])
        prompts = load_arrays(bundle.path("prompts.npz")) if bundle.has_text else {}
        return write_bundle(
            out,
            BundleFields(**arguments | {"networks": networks}),
            vision_onnx=files,
            weight=bundle.weight,
            bias=bundle.bias,
            projection=bundle.projection,
            reference=bundle.reference(),
            text_onnx=bundle.path("text.onnx") if bundle.has_text else None,
            tokenizer=bundle.path("tokenizer.json") if bundle.has_text else None,
            prompts_positive=prompts.get("positive"),
            prompts_negative=prompts.get("negative"),
            prompt_texts={
                name: np.asarray(prompts[f"{name}_texts"])
                for name in ("positive", "negative")
                if f"{name}_texts" in prompts
            },
        )


def _convert(source: Path, target: Path) -> None:
    # Part of onnxruntime itself and kept with it; onnxconverter-common's copy stumbles over the shapes that torch's
    # exporter leaves in the file (measured with 1.16.0).
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a line for every weight that becomes 0
            model = convert_float_to_float16(
                onnx.load(source),
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, "ReduceMean", "GlobalAveragePool"],
            )
        onnx.save(model, target)
    except Exception as error:  # the converter raises what its parts raise
        raise UserError(f"{source} cannot be converted to half precision ({type(error).__name__})") from error

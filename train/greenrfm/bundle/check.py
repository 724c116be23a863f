"""What can be proven about a bundle without any patient: that it computes what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle.bundle import LATENT_SIZE, Bundle, verify_files
from greenrfm.bundle.manifest import VisionNetwork, network_files
from greenrfm.bundle.onnx_header import read_header
from greenrfm.bundle.text import TextEncoder
from greenrfm.errors import UserError

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was found."""

    name: str
    ok: bool
    detail: str


def check(bundle: Bundle) -> list[Check]:
    """Run every check and return them all, passed or not.

    files: size and SHA-256. networks: opset, inputs and outputs. test vector: the stored input gives
    the stored latent, to 1e-3 (relative for latents above 1). heat map: its mean is the logit, to
    1e-3 likewise. text: a sentence gives a finite latent, or the bundle says that it has no text encoder.
    """
    checks: tuple[tuple[str, Callable[[Bundle], tuple[bool, str]]], ...] = (
        ("files", _files),
        ("networks", _networks),
        ("test vector", _test_vector),
        ("heat map", _heat_map),
        ("text", _text),
    )
    results = []
    for name, function in checks:
        try:
            ok, detail = function(bundle)
        except UserError as error:
            ok, detail = False, str(error)
        results.append(Check(name, ok, detail))
    return results


def failures(bundle: Bundle) -> list[str]:
    """Return `name: detail` of the checks that failed."""
    return [f"{result.name} fails: {result.detail}" for result in check(bundle) if not result.ok]


def _files(bundle: Bundle) -> tuple[bool, str]:
    verify_files(bundle.folder, bundle.manifest)
    return True, f"{len(bundle.manifest.files)} files have the size and hash of the manifest"


def _networks(bundle: Bundle) -> tuple[bool, str]:
    networks = bundle.manifest.networks
    names = [*network_files(networks), *(["text.onnx"] if bundle.has_text else [])]
    headers = [read_header(bundle.path(name)) for name in names]
    opset = max(header.opset for header in headers)
    if opset != bundle.manifest.opset:
        return False, f"the networks use opset {opset}, the manifest says {bundle.manifest.opset}"
    wanted = [
        (bundle.vision(plane=network.plane, half=half), ["volume"], ["latent", "features"])
        for network in networks
        for half in (False, True)[: 2 if network.half else 1]
    ]
    if bundle.has_text:
        wanted.append((bundle.text(), ["input_ids", "attention_mask"], ["latent"]))
    for session, inputs, outputs in wanted:
        found = [node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()]
        if (sorted(found[0]), sorted(found[1])) != (sorted(inputs), sorted(outputs)):
            return False, f"a network maps {found[0]} to {found[1]}, it must map {inputs} to {outputs}"
    return True, f"opset {opset}, IR {max(header.ir_version for header in headers)}"


def _test_vector(bundle: Bundle) -> tuple[bool, str]:
    return _each_network(bundle, _latent_of_reference)


def _latent_of_reference(bundle: Bundle, network: VisionNetwork) -> tuple[bool, str]:
    volume, expected = _reference(bundle, network)
    latent, _ = _run_vision(bundle, network, volume)
    return _close(latent, expected, f"the latent of the reference input{_of(network)}")


def _heat_map(bundle: Bundle) -> tuple[bool, str]:
    return _each_network(bundle, _mean_of_map)


def _mean_of_map(bundle: Bundle, network: VisionNetwork) -> tuple[bool, str]:
    latent, features = _run_vision(bundle, network, _reference(bundle, network)[0])
    if features.ndim != 4 or len(features) != bundle.projection.shape[1]:
        return False, f"features have shape {features.shape}, the projection takes {bundle.projection.shape[1]}"
    step = bundle.manifest.features.pooled
    mean = features[:, ::step, ::step, ::step].mean(axis=(1, 2, 3), dtype=np.float64)
    from_map = bundle.weight @ (bundle.projection @ mean) + bundle.bias
    return _close(
        from_map, bundle.weight @ latent + bundle.bias, f"the mean of the heat map and the logit{_of(network)}"
    )


def _text(bundle: Bundle) -> tuple[bool, str]:
    if not bundle.has_text:
        return True, "none: the bundle was trained on images and labels alone"
    latents = TextEncoder(bundle).encode(["No pleural effusion.", ""])
    ok = latents.shape == (2, LATENT_SIZE) and bool(np.isfinite(latents).all())
    return ok, f"two texts give latents of shape {latents.shape}" + ("" if ok else ", not finite 2 × 768")


def _each_network(bundle: Bundle, function: Callable[[Bundle, VisionNetwork], tuple[bool, str]]) -> tuple[bool, str]:
    """Return what `function` says of every network; the first that fails speaks alone."""
    details = []
    for network in bundle.manifest.networks:
        ok, detail = function(bundle, network)
        if not ok:
            return False, detail
        details.append(detail)
    return True, "; ".join(details)


def _of(network: VisionNetwork) -> str:
    return f" ({network.plane})" if network.plane else ""


def _reference(bundle: Bundle, network: VisionNetwork) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    arrays, end = bundle.reference(), network.suffix
    volume, latent = arrays.get(f"input{end}"), arrays.get(f"latent{end}")
    size, shape = bundle.latent_size, (1, network.channels)
    if volume is None or latent is None or volume.shape[:2] != shape or volume.ndim != 5 or latent.size != size:
        raise UserError(
            f"reference.npz needs 'input{end}' (1, {network.channels}, H, W, D) and 'latent{end}' ({size},)"
        )
    return volume.astype(np.float32, copy=False), latent.astype(np.float32, copy=False).reshape(size)


def _run_vision(
    bundle: Bundle, network: VisionNetwork, volume: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        latent, features = bundle.vision(plane=network.plane).run(["latent", "features"], {"volume": volume})
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise UserError(f"onnxruntime {onnxruntime.__version__} cannot run {network.file}") from error
    return latent[0], features[0]


def _close(found: NDArray[np.float32], expected: NDArray[np.float32], what: str) -> tuple[bool, str]:
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return False, f"{what}: shapes {found.shape} and {expected.shape}, or values that are not finite"
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return difference <= allowed, f"{what} differ by at most {difference:.1e} (allowed {allowed:.1e})"

"""Checks of a bundle's networks: what they take and give, and that they compute what the bundle says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle.bundle import LATENT_SIZE, Bundle
from greenrfm.bundle.manifest import VisionNetwork, network_files
from greenrfm.bundle.onnx_header import read_header
from greenrfm.errors import UserError

TOLERANCE = 1e-3
# Of the largest value of the latent. A number has 11 bits; measured differences: docs/bundle.md, "Half precision".
HALF_TOLERANCE = 2e-2
# Differences are relative to a latent's largest value; below this it is as good as zero.
_LEAST_LATENT = 1e-2

Verdict = tuple[bool, str]
Output = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass
class NetworkChecks:
    """Checks that share what the networks gave for their test vectors: each runs once."""

    bundle: Bundle
    _outputs: dict[tuple[str, bool], Output] = field(default_factory=dict)

    def networks(self) -> Verdict:
        """Check every file's opset, and names, types, channels and free axes of inputs and outputs."""
        bundle = self.bundle
        names = [*network_files(bundle.manifest.networks), *(["text.onnx"] if bundle.has_text else [])]
        headers = [read_header(bundle.path(name)) for name in names]
        opset = max(header.opset for header in headers)
        if opset != bundle.manifest.opset:
            return False, f"the networks use opset {opset}, the manifest says {bundle.manifest.opset}"
        features = bundle.projection.shape[1]
        for network, half in self._variants():
            session = bundle.vision(plane=network.plane, half=half)
            problem = _mismatch(
                session,
                {"volume": ("tensor(float)", (None, network.channels, None, None, None))},
                {"latent": (None, bundle.latent_size), "features": (None, features, None, None, None)},
            )
            if problem:
                return False, f"{network.half if half else network.file}: {problem}"
        if bundle.has_text:
            whole = ("tensor(int64)", (None, None))
            problem = _mismatch(
                bundle.text(), {"input_ids": whole, "attention_mask": whole}, {"latent": (None, LATENT_SIZE)}
            )
            if problem:
                return False, f"text.onnx: {problem}"
        return True, f"{len(names)} files, opset {opset}, IR {max(header.ir_version for header in headers)}"

    def test_vector(self) -> Verdict:
        """Check that the stored input gives the stored latent."""
        return self._each(half=False)

    def half_precision(self) -> Verdict:
        """Check that the files in half precision give the same latent, within their own tolerance."""
        if not any(network.half for network in self.bundle.manifest.networks):
            return True, "none"
        return self._each(half=True)

    def heat_map(self) -> Verdict:
        """Check that the mean of a heat map over the pooled cells is the logit."""
        bundle, details = self.bundle, []
        for network in bundle.manifest.networks:
            latent, features = self._run(network, half=False)
            if features.ndim != 4 or len(features) != bundle.projection.shape[1]:
                return False, f"features have shape {features.shape}, the projection takes {bundle.projection.shape[1]}"
            field, cells = self._reference(network)[0].shape[2:], features.shape[1:]
            if not bundle.manifest.features.fits(cells, field):
                return False, (
                    f"the network gives {_words(cells)} cells for a field of {_words(field)} voxels, "
                    f"'features.stride' says {_words(bundle.manifest.features.cells(field))}"
                )
            step = bundle.manifest.features.pooled
            mean = features[:, ::step, ::step, ::step].mean(axis=(1, 2, 3), dtype=np.float64)
            from_map = bundle.weight @ (bundle.projection @ mean) + bundle.bias
            ok, detail = close(
                from_map, bundle.weight @ latent + bundle.bias, f"the mean of the heat map and the logit{_of(network)}"
            )
            if not ok:
                return False, detail
            details.append(detail)
        return True, "; ".join(details)

    def _each(self, half: bool) -> Verdict:
        """Compare the latent of every network; the first that fails speaks alone."""
        details = []
        for network, is_half in self._variants():
            if is_half is not half:
                continue
            _, expected = self._reference(network)
            latent, _ = self._run(network, half)
            name = f"the latent of the reference input{_of(network)}{' in half precision' if half else ''}"
            tolerance = HALF_TOLERANCE if half else TOLERANCE
            ok, detail = close(latent, expected, name, tolerance, least=_LEAST_LATENT)
            if not ok:
                return False, detail
            details.append(detail)
        return True, "; ".join(details)

    def _variants(self) -> Iterator[tuple[VisionNetwork, bool]]:
        """Yield every network, and again in half precision if it has that file."""
        for network in self.bundle.manifest.networks:
            yield network, False
            if network.half:
                yield network, True

    def _reference(self, network: VisionNetwork) -> Output:
        arrays, end = self.bundle.reference(), network.suffix
        volume, latent = arrays.get(f"input{end}"), arrays.get(f"latent{end}")
        size, shape = self.bundle.latent_size, (1, network.channels)
        if volume is None or latent is None or volume.shape[:2] != shape or volume.ndim != 5 or latent.size != size:
            raise UserError(
                f"reference.npz needs 'input{end}' (1, {network.channels}, H, W, D) and 'latent{end}' ({size},)"
            )
        if volume.dtype != np.float32 or latent.dtype != np.float32:
            raise UserError(f"reference.npz: 'input{end}' and 'latent{end}' must be float32; export the bundle again")
        return volume.astype(np.float32, copy=False), latent.astype(np.float32, copy=False).reshape(size)

    def _run(self, network: VisionNetwork, half: bool) -> Output:
        key = (network.plane, half)
        if key not in self._outputs:
            volume, _ = self._reference(network)
            session = self.bundle.vision(plane=network.plane, half=half)
            try:
                latent, features = session.run(["latent", "features"], {"volume": volume})
            except Exception as error:  # onnxruntime's exceptions share no base class but this
                name = network.half if half else network.file
                raise UserError(f"onnxruntime {onnxruntime.__version__} cannot run {name}") from error
            self._outputs[key] = latent[0], features[0]
        return self._outputs[key]


def close(
    found: NDArray[Any], expected: NDArray[Any], what: str, tolerance: float = TOLERANCE, least: float = 1.0
) -> Verdict:
    """Return whether two arrays agree to `tolerance` of the largest expected value, or of `least` if that is more."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return False, f"{what}: shapes {found.shape} and {expected.shape}, or values that are not finite"
    difference = float(np.abs(found - expected).max())
    allowed = tolerance * max(least, float(np.abs(expected).max()))
    return difference <= allowed, f"{what} differ by at most {difference:.1e} (allowed {allowed:.1e})"


def _mismatch(
    session: onnxruntime.InferenceSession,
    inputs: dict[str, tuple[str, tuple[int | None, ...]]],
    outputs: dict[str, tuple[int | None, ...]],
) -> str:
    """Return what is wrong with a network's inputs and outputs, or nothing; None stands for any size."""
    taken = {node.name: node for node in session.get_inputs()}
    given = {node.name: node for node in session.get_outputs()}
    if set(taken) != set(inputs) or set(given) != set(outputs):
        return f"maps {sorted(taken)} to {sorted(given)}, it must map {sorted(inputs)} to {sorted(outputs)}"
    for name, (kind, shape) in inputs.items():
        found = taken[name]
        free = len(found.shape) == len(shape) and not any(
            isinstance(size, int) for size, wanted in zip(found.shape, shape, strict=True) if wanted is None
        )
        if found.type != kind or not free or not _fits(found.shape, shape):
            return f"'{name}' is {found.type} {_words(found.shape)}, it must be {kind} {_words(shape)}"
    for name, wanted_shape in outputs.items():
        found = given[name]
        if found.type != "tensor(float)" or not _fits(found.shape, wanted_shape):
            return f"'{name}' is {found.type} {_words(found.shape)}, it must be tensor(float) {_words(wanted_shape)}"
    return ""


def _fits(found: Sequence[Any], wanted: Sequence[int | None]) -> bool:
    """Return whether a shape can be the wanted one; a name in place of a size says nothing."""
    return len(found) == len(wanted) and all(
        size == expected or not isinstance(size, int) or expected is None
        for size, expected in zip(found, wanted, strict=True)
    )


def _words(shape: Sequence[Any]) -> str:
    return " × ".join(str(size) if isinstance(size, int) else "any" for size in shape)


def _of(network: VisionNetwork) -> str:
    return f" ({network.plane})" if network.plane else ""

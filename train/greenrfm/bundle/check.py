"""What can be proven about a bundle without any patient: that it computes what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from greenrfm.bundle.arrays import load_arrays, shaped
from greenrfm.bundle.bundle import LATENT_SIZE, Bundle
from greenrfm.bundle.check_networks import NetworkChecks, Verdict, close
from greenrfm.bundle.text import TextEncoder
from greenrfm.bundle.verify import verify_files
from greenrfm.errors import UserError
from greenrfm.volumes import Volume

# Prompts are encoded by the trained network and read by its export; a few of them show whether both are of one kind.
_PROMPTS_TRIED = 4


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was found."""

    name: str
    ok: bool
    detail: str


def check(bundle: Bundle) -> list[Check]:
    """Run every check and return them all, passed or not.

    files: size and SHA-256. preprocessing: a small volume goes through it. networks: opset, names, types and shapes
    of inputs and outputs. test vector: the stored input gives the stored latent, to 1e-3 of its largest value. half
    precision: likewise, to 2 %. heat map: its mean is the logit, to 1e-3. fitness: the arrays of the distance have
    its shapes. text: sentences give finite latents. prompts: those stored are what the text network says of their
    sentences. What a bundle does not have is said and passes.
    """
    networks = NetworkChecks(bundle)
    checks: tuple[tuple[str, Callable[[], Verdict]], ...] = (
        ("files", lambda: _files(bundle)),
        ("preprocessing", lambda: _preprocessing(bundle)),
        ("networks", networks.networks),
        ("test vector", networks.test_vector),
        ("half precision", networks.half_precision),
        ("heat map", networks.heat_map),
        ("fitness", lambda: _fitness(bundle)),
        ("text", lambda: _text(bundle)),
        ("prompts", lambda: _prompts(bundle)),
    )
    results = []
    for name, function in checks:
        try:
            ok, detail = function()
        except UserError as error:
            ok, detail = False, str(error)
        results.append(Check(name, ok, detail))
    return results


def failures(bundle: Bundle) -> list[str]:
    """Return `name: detail` of the checks that failed."""
    return [f"{result.name} fails: {result.detail}" for result in check(bundle) if not result.ok]


def _files(bundle: Bundle) -> Verdict:
    verify_files(bundle.folder, bundle.manifest)
    return True, f"{len(bundle.manifest.files)} files have the size and hash of the manifest"


def _preprocessing(bundle: Bundle) -> Verdict:
    preprocessing = bundle.preprocessing
    noise = np.random.default_rng(0).integers(-1000, 1000, (24, 20, 16)).astype(np.int16)
    volume = Volume(noise, np.diag([2.0, 2.0, 2.0, 1.0]), bundle.findings.modality)
    field = preprocessing.apply(volume).array
    if field.shape != preprocessing.size or field.dtype != np.float32 or not np.isfinite(field).all():
        return False, f"a volume of noise becomes {field.dtype} {field.shape}, or values that are not finite"
    largest = float(np.abs(field).max())
    if largest > 100 or float(np.ptp(field)) == 0:
        return False, f"a volume of noise becomes values up to {largest:.3g}, a network expects about 1"
    height, width, depth = field.shape
    return True, f"a volume of noise fills a field of {height} × {width} × {depth}, values up to {largest:.2g}"


def _fitness(bundle: Bundle) -> Verdict:
    if bundle.manifest.fitness is None:
        return True, "none: scans are not compared with those of the training"
    path, size = bundle.path("reference.npz"), bundle.latent_size
    arrays = bundle.reference()
    shaped(arrays, "center", (size,), path)
    rank = len(shaped(arrays, "whitening", (None, size), path))
    return True, f"a distance in {rank} directions, limit {bundle.manifest.fitness.limit:.3g}"


def _text(bundle: Bundle) -> Verdict:
    if not bundle.has_text:
        return True, "none: the bundle was trained on images and labels alone"
    latents = TextEncoder(bundle).encode(["No pleural effusion.", ""])
    ok = latents.shape == (2, LATENT_SIZE) and bool(np.isfinite(latents).all())
    return ok, f"two texts give latents of shape {latents.shape}" + ("" if ok else ", not finite 2 × 768")


def _prompts(bundle: Bundle) -> Verdict:
    if bundle.prompts is None:
        return True, "none"
    path = bundle.path("prompts.npz")
    arrays = load_arrays(path)
    stored = {"positive_texts": bundle.prompts.positive, "negative_texts": bundle.prompts.negative}
    if not stored.keys() & arrays.keys():
        return True, "their sentences are not stored, so they cannot be encoded again"
    texts, latents = [], []
    for name, encoded in stored.items():
        sentences = arrays.get(name)
        if sentences is None or sentences.dtype.kind != "U" or sentences.shape != encoded.shape[:2]:
            raise UserError(f"{path}: '{name}' must be {' × '.join(map(str, encoded.shape[:2]))} texts")
        # Spread over pairs and findings.
        tried = np.linspace(0, sentences.size - 1, _PROMPTS_TRIED // 2).astype(int)
        texts += [str(text) for text in sentences.ravel()[tried]]
        latents.append(encoded.reshape(-1, LATENT_SIZE)[tried])
    return close(TextEncoder(bundle).encode(texts), np.concatenate(latents), f"{len(texts)} prompts, encoded again,")

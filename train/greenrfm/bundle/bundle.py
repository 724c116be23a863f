"""A bundle on disk, verified and opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle.arrays import load_arrays, shaped
from greenrfm.bundle.limits import MOST_MANIFEST_BYTES
from greenrfm.bundle.manifest import Manifest
from greenrfm.bundle.onnx_header import read_header
from greenrfm.bundle.parse import parse_manifest
from greenrfm.bundle.strict_json import read_bounded
from greenrfm.bundle.verify import Stamp, stamps, verify_files, verify_unchanged
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet
from greenrfm.volumes import Preprocessing

LATENT_SIZE = 768
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Prompts:
    """Latents of the zero-shot prompts, float32 (pairs, findings, 768)."""

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: `logit = weight @ latent + bias`, `latent = projection @ mean(features)`.

    `weight` is float32 (findings, L), `bias` (findings,), `projection` (L, features); `hash` is the SHA-256 of
    manifest.json, which holds those of all other files, and so names the bundle. A bundle with a text encoder has
    latents of L = 768. One of images alone has no `prompts`, its projection may be the identity, and L is then the
    width of its vision encoder.
    """

    folder: Path
    manifest: Manifest
    hash: str
    weight: NDArray[np.float32] = field(repr=False)
    bias: NDArray[np.float32] = field(repr=False)
    projection: NDArray[np.float32] = field(repr=False)
    prompts: Prompts | None = field(repr=False)
    _stamps: Mapping[str, Stamp] = field(default_factory=dict, repr=False)
    _sessions: dict[tuple[str, int | None], onnxruntime.InferenceSession] = field(default_factory=dict, repr=False)

    @property
    def findings(self) -> FindingSet:
        """Return the findings this bundle scores, in the order of its heads."""
        return self.manifest.finding_set

    @property
    def has_text(self) -> bool:
        """Return whether the bundle encodes texts too."""
        return self.manifest.has_text

    @property
    def latent_size(self) -> int:
        """Return how many numbers a latent has: 768 with a text encoder."""
        return len(self.projection)

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how a volume becomes the network's input."""
        return self.manifest.preprocessing

    @classmethod
    def load(cls, folder: Path, verify: bool = True) -> Bundle:
        """Load the bundle in `folder`; with `verify`, every file's SHA-256 is compared (not only its size).

        The networks are opened when first used. Raises UserError, in one sentence that says what to
        do, for a missing folder or file, another format version or opset, a file whose size or hash
        is not the manifest's, a name that leaves the folder, and arrays whose shapes do not fit.
        """
        path = folder / MANIFEST
        try:
            text = read_bounded(path, MOST_MANIFEST_BYTES)
            content = text.decode("utf-8")
        except (OSError, ValueError) as error:
            raise UserError(
                f"there is no bundle in {folder}: its {MANIFEST} cannot be read; give its folder"
            ) from error
        manifest = parse_manifest(content, str(path))
        seen = stamps(folder, manifest)
        verify_files(folder, manifest, hashes=verify)
        count = len(manifest.finding_set.findings)
        heads = load_arrays(folder / "heads.npz")
        size = LATENT_SIZE if manifest.has_text else None
        projection = shaped(heads, "projection", (size, None), folder / "heads.npz")
        weight = shaped(heads, "weight", (count, len(projection)), folder / "heads.npz")
        bias = shaped(heads, "bias", (count,), folder / "heads.npz")
        prompts = _prompts(folder / "prompts.npz", count) if manifest.has_text else None
        digest = hashlib.sha256(text).hexdigest()
        return cls(folder, manifest, digest, weight, bias, projection, prompts, seen)

    def path(self, name: str) -> Path:
        """Return the path of one of the bundle's files."""
        return self.folder / name

    def unchanged(self, name: str) -> Path:
        """Return the path of a file to read with; raise UserError if it changed since the bundle was opened."""
        if name in self._stamps:
            verify_unchanged(self.folder, name, self._stamps[name])
        return self.path(name)

    def reference(self) -> dict[str, NDArray[np.generic]]:
        """Return the reference arrays: the test vector `input` and `latent`, and what the fitness check needs."""
        return load_arrays(self.path("reference.npz"))

    def vision(self, threads: int | None = None, plane: str = "", half: bool = False) -> onnxruntime.InferenceSession:
        """Return the vision network of a plane, opened at the first call; `threads` None is one per physical core.

        `half` takes its file in half precision. Raises UserError if the bundle has no such plane or file.
        """
        network = self.manifest.network(plane)
        if half and network.half is None:
            raise UserError(f"bundle {self.folder} has no network in half precision; read with full precision")
        return self._session(network.half if half and network.half else network.file, threads)

    def text(self, threads: int | None = None) -> onnxruntime.InferenceSession:
        """Return the text network, opened at the first call; `threads` None is one per physical core.

        Raises UserError if the bundle was trained on images alone.
        """
        if not self.has_text:
            raise UserError(
                f"bundle {self.folder} has no text encoder: it was trained on images and labels alone; give an image, "
                "or train with reports"
            )
        return self._session("text.onnx", threads)

    def _session(self, name: str, threads: int | None) -> onnxruntime.InferenceSession:
        if (name, threads) not in self._sessions:
            read_header(self.unchanged(name))  # refuses what wants a file elsewhere, before onnxruntime opens it
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or 0
            options.log_severity_level = 4  # errors are raised; nothing else belongs on a user's stderr
            try:
                session = onnxruntime.InferenceSession(
                    os.fspath(self.path(name)), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's exceptions share no base class but this
                raise UserError(
                    f"onnxruntime {onnxruntime.__version__} cannot open {self.path(name)} "
                    f"(opset {self.manifest.opset}); update onnxruntime or export the bundle again"
                ) from error
            self._sessions[name, threads] = session
        return self._sessions[name, threads]


def _prompts(path: Path, findings: int) -> Prompts:
    pairs = load_arrays(path)
    positive = shaped(pairs, "positive", (None, findings, LATENT_SIZE), path)
    return Prompts(positive, shaped(pairs, "negative", (len(positive), findings, LATENT_SIZE), path))

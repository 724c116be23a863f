"""manifest.json: what a bundle says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greenrfm.errors import UserError
from greenrfm.findings import FindingSet
from greenrfm.volumes import Preprocessing

FORMAT = "greenrfm-bundle"
# How the rule of thresholds begins that nobody chose: those of an imported checkpoint.
NOT_CHOSEN = "not chosen"
NOT_CALIBRATED_BUNDLE = (
    "This model is not calibrated: its probabilities and calls are not those of measured cases; adapt it with "
    "studies and labels of your own."
)
FORMAT_VERSION = 2
SIMILARITIES = ("dot",)
# What onnxruntime 1.20, the oldest one we install, executes.
OPSETS = range(13, 22)
# Besides the vision networks, which "vision" names.
REQUIRED_FILES = ("heads.npz", "reference.npz")
# What a bundle with a text encoder has besides.
TEXT_FILES = ("text.onnx", "tokenizer.json", "prompts.npz")


@dataclass(frozen=True)
class FileRecord:
    """SHA-256 (lower-case hexadecimal) and size in bytes of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Calibration:
    """Platt scaling per finding: probability = sigmoid(slope * logit + intercept)."""

    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    def probability(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities, below 1, for logits of shape (…, findings)."""
        scaled = np.asarray(logits, np.float64) * np.array(self.slope) + np.array(self.intercept)
        # Nothing is certain, and a threshold of 1 must keep its promise that nothing is called present.
        return np.asarray(np.minimum(0.5 * (1.0 + np.tanh(0.5 * scaled)), np.nextafter(1.0, 0.0)))


@dataclass(frozen=True)
class Thresholds:
    """Calibrated probabilities per finding that make a call, and the rule that chose them.

    From `present` up a finding is called present, below `absent` absent, between them indeterminate; `absent` is
    nowhere above `present`.
    """

    rule: str
    present: tuple[float, ...]
    absent: tuple[float, ...]


@dataclass(frozen=True)
class Fitness:
    """How far from the training studies a latent may lie before a reading is doubted.

    The distance of a latent is |whitening @ (latent - center)| with the arrays of reference.npz (Mahalanobis); `limit`
    is the `quantile` of the distances of `n` validation studies.
    """

    limit: float
    quantile: float
    n: int


@dataclass(frozen=True)
class VisionNetwork:
    """One vision network: its file, that file in half precision if there is one, and what it looks at.

    A bundle that reads one volume has one network, with neither plane nor sequences. One that reads MR has a network
    for each plane (METHOD.md, "Networks"), whose input channels are `sequences` in their order.
    """

    file: str = "vision.onnx"
    half: str | None = None
    plane: str = ""
    sequences: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Return how many channels its input has."""
        return max(1, len(self.sequences))

    @property
    def suffix(self) -> str:
        """Return what its arrays in reference.npz end with: `input` and `latent`, or `input-sagittal` and so on."""
        return f"-{self.plane}" if self.plane else ""


@dataclass(frozen=True)
class FeatureGrid:
    """Where the cells of the feature map lie in the field: cell c is centred on voxel offset + stride * c.

    Both are in voxels of the prepared field, (H, W, D). A network whose convolutions pad looks at
    the centre of its receptive field, which is not the middle of an even tiling of the field.

    The latent is the average of every `pooled`-th cell along each axis, beginning with the first: a network
    trained with a stride and exported without it shows the cells between, and averages those it learned.
    """

    stride: tuple[float, float, float]
    offset: tuple[float, float, float]
    pooled: int = 1

    def cells(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return how many cells (h, w, d) have their centre in a field of `size` voxels, at least one along each axis.

        A network may give one less where a stem leaves over the last voxels.
        """
        height, width, depth = (
            max(1, int((whole - 1 - first) // step) + 1)
            for whole, first, step in zip(size, self.offset, self.stride, strict=True)
        )
        return height, width, depth

    def fits(self, cells: Sequence[int], size: Sequence[int]) -> bool:
        """Return whether a feature map of `cells` (h, w, d) can be what this grid says of a field of `size` voxels."""
        return all(abs(found - wanted) <= 1 for found, wanted in zip(cells, self.cells(size), strict=True))

    @classmethod
    def of_stem(cls, stem: tuple[int, int, int], dilated: bool = False) -> FeatureGrid:
        """Return the grid of a ResNet: an unpadded stem (kernel = stride), then three centred stages of stride 2.

        `dilated`: the last stage is exported without its stride, but pooled as if it had it.

        A 3-wide convolution of stride 2 and padding 1 centres its output c on its input 2 c, so only
        the stem shifts the grid.
        """
        factor = 4 if dilated else 8
        height, width, depth = stem
        return cls(
            (height * factor, width * factor, depth * factor),
            ((height - 1) / 2, (width - 1) / 2, (depth - 1) / 2),
            2 if dilated else 1,
        )


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json; see DESIGN.md, "The bundle".

    `max_tokens` is None for a model of images alone: it has no text encoder, tokenizer or prompts (`TEXT_FILES`),
    and "text" is null.
    """

    name: str
    created: str
    intended_use: str
    licence: str
    finding_set: FindingSet
    preprocessing: Preprocessing
    features: FeatureGrid
    max_tokens: int | None
    calibration: Calibration
    thresholds: Thresholds
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    opset: int
    files: Mapping[str, FileRecord]
    similarity: str = "dot"
    networks: tuple[VisionNetwork, ...] = (VisionNetwork(),)
    fitness: Fitness | None = None

    def network(self, plane: str = "") -> VisionNetwork:
        """Return the vision network of a plane; raise UserError if there is none."""
        for network in self.networks:
            if network.plane == plane:
                return network
        planes = ", ".join(network.plane for network in self.networks if network.plane)
        raise UserError(
            f"bundle {self.name} reads {f'the planes {planes}' if planes else 'one volume without planes'}, not "
            f"'{plane}'; give what it reads"
        )

    @property
    def has_text(self) -> bool:
        """Return whether the bundle encodes texts too."""
        return self.max_tokens is not None

    @property
    def calibrated(self) -> bool:
        """Return whether calibration and thresholds were fitted; those of an imported checkpoint are not."""
        return not self.thresholds.rule.startswith(NOT_CHOSEN)

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "created": self.created,
            "intended_use": self.intended_use,
            "licence": self.licence,
            "finding_set": {
                "name": self.finding_set.name,
                "title": self.finding_set.title,
                "modality": self.finding_set.modality,
                "body_part": self.finding_set.body_part,
                "findings": [
                    {"key": finding.key, "name": finding.name, "codes": [asdict(code) for code in finding.codes]}
                    for finding in self.finding_set.findings
                ],
            },
            "preprocessing": self.preprocessing.to_dict(),
            "vision": [asdict(network) for network in self.networks],
            "features": asdict(self.features),
            "text": None if self.max_tokens is None else {"max_tokens": self.max_tokens},
            "similarity": self.similarity,
            "calibration": {"method": "platt", **asdict(self.calibration)},
            "thresholds": asdict(self.thresholds),
            "fitness": None if self.fitness is None else {"method": "mahalanobis", **asdict(self.fitness)},
            "metrics": self.metrics,
            "training": self.training,
            "opset": self.opset,
            "files": {name: asdict(record) for name, record in self.files.items()},
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def network_files(networks: Iterable[VisionNetwork]) -> tuple[str, ...]:
    """Return the file names of the vision networks, those in half precision included."""
    return tuple(name for network in networks for name in (network.file, network.half) if name)

"""From a volume to the array a network sees (METHOD.md, table "input")."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.volumes.volume import CANONICAL, NO_AIR, Volume, orient

Size = tuple[int, int, int]
Spacing = tuple[float, float, float]
Orientation = Literal["canonical", "acquired", "sagittal", "coronal", "axial"]

# The axes (H, W, D) of each plane as it is displayed; D runs through the slices.
PLANE_AXES = {"sagittal": "IPL", "coronal": "ILP", "axial": "PLS"}
PLANES = tuple(PLANE_AXES)

AIR, METAL = -1024.0, 3071.0  # the HU range of 12 bits: paddings such as -3024 become air
SAMPLING = "bin-shrink+linear"
# Averaging begins when the grid is at least 1.75 times coarser than the volume: 0.8 mm voxels are
# averaged in pairs for a 1.5 mm grid, 2 mm slices for a 3 mm grid are only interpolated.
_ROUND_UP = 0.25
# Slices that are averaged at once.
_SLAB = 24
# Of a field as large as the volume. A body of 0.6 × 0.6 × 2 m has a hundredth of it in voxels of 3 mm.
_MOST_VOXELS = 1 << 28
# Part of a grid step: forgives the rounding of spacings in files, so that a voxel at the rim does
# not flip between anatomy and air.
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Prepared:
    """Network input: `array` float32 (H, W, D); `affine` from its index to LPS mm; sentences in `warnings`."""

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """How a volume becomes network input; stored in recipes and in the bundle's manifest.

    Parameters
    ----------
    spacing
        Of the grid along (H, W, D) in mm; None keeps the volume's own.
    size, crop
        Voxels (H, W, D) of the padded field and of the training crop.
    intensity
        "window": x -> (clip(x, *window) + shift) / scale, in HU. "zscore": clip to `percentiles` of
        the volume, subtract the mean, divide by the standard deviation.
    orientation
        "canonical": axial, rows to posterior, columns to left, slices to superior. "acquired": the
        same display convention for the plane of the thick slices, so that D is through-plane. A
        plane's name: that plane, and a volume whose thick slices lie in another one is refused.
    sampling
        The one way to resample; a bundle that asks for another is refused.
    """

    spacing: Spacing | None
    size: Size
    crop: Size
    intensity: Literal["window", "zscore"]
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    shift: float = 0.0
    scale: float = 1.0
    orientation: Orientation = "canonical"
    sampling: str = SAMPLING

    def __post_init__(self) -> None:
        """Raise UserError for values that make no sense."""
        wrong = ""
        if self.intensity not in ("window", "zscore"):
            wrong = "intensity must be 'window' or 'zscore'"
        elif self.intensity == "window" and not _rising(self.window):
            wrong = "window must be [low, high] in HU"
        elif self.intensity == "zscore" and not _rising(self.percentiles, 0, 100):
            wrong = "percentiles must be [low, high] between 0 and 100"
        elif self.orientation not in ("canonical", "acquired", *PLANES):
            wrong = f"orientation must be 'canonical', 'acquired' or a plane ({', '.join(PLANES)})"
        elif self.sampling != SAMPLING:
            wrong = f"sampling must be '{SAMPLING}'"
        elif self.spacing is not None and not (len(self.spacing) == 3 and min(self.spacing) > 0):
            wrong = "spacing must be three lengths in mm, or null"
        elif not all(len(size) == 3 and min(size) > 0 for size in (self.size, self.crop)):
            wrong = "size and crop must be three numbers of voxels each"
        elif any(part > whole for part, whole in zip(self.crop, self.size, strict=True)):
            wrong = "crop must not be larger than size"
        elif self.scale <= 0:
            wrong = "scale must be above 0"
        if wrong:
            raise UserError(f"preprocessing: {wrong}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that `to_dict` described; raise UserError for unknown, missing or odd values."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                raise UserError(
                    f"preprocessing has an unknown key '{key}'" + (f"; did you mean '{close[0]}'?" if close else "")
                )
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        try:
            return cls(**given)
        except TypeError as error:
            raise UserError(f"preprocessing needs the keys of {', '.join(known)} with values that fit") from error

    def for_plane(self, plane: str) -> Preprocessing:
        """Return the preprocessing of one plane's stacks; "" is a network of one volume in any, and changes nothing."""
        return replace(self, orientation=cast(Orientation, plane)) if plane else self

    def apply(self, volume: Volume, size: Size | Literal["whole"] | None = None) -> Prepared:
        """Return the volume on the grid, scaled, centred in a field of air.

        Parameters
        ----------
        volume
            In any orientation; the result does not depend on it.
        size
            Voxels (H, W, D) of the field; None takes `self.size`, "whole" the field that just holds
            the volume.

        Raises
        ------
        UserError
            If the volume has no contrast to normalise by ("zscore"), or its slices lie in another plane.
        """
        placed = orient(volume, _axes(volume, self.orientation))
        low, high, shift, scale = self._scaling(placed)
        grid = self.spacing or placed.spacing
        extent = [count * step for count, step in zip(placed.shape, placed.spacing, strict=True)]
        if size is None:
            size = self.size
        elif size == "whole":
            h, w, d = (max(1, math.ceil(long / step - _TOLERANCE)) for long, step in zip(extent, grid, strict=True))
            size = (h, w, d)
            if h * w * d > _MOST_VOXELS:
                raise UserError(
                    f"the volume is {' × '.join(f'{length:.0f}' for length in extent)} mm large, too large to be seen "
                    "as a whole; check the spacing in the file, or read the field 'padded'"
                )
        array = np.full(size, np.float32((low + shift) / scale))
        source = _averaged(placed, grid, clip=self.intensity == "window")
        start = [_first_sample(*axis) for axis in zip(size, grid, source.GetOrigin(), source.GetSpacing(), strict=True)]
        # Only samples within the volume's outer faces show anatomy; the rest stays air.
        inside = [_within(*axis) for axis in zip(size, grid, start, extent, strict=True)]
        if all(part.start < part.stop for part in inside):
            sampled = _resampled(source, grid, start, inside)
            array[tuple(inside)] = (np.clip(sampled, low, high) + np.float32(shift)) / np.float32(scale)
        warnings = volume.warnings
        if self.intensity == "window" and volume.modality != "CT" and volume.array.min() >= 0:
            warnings = (*warnings, NO_AIR)
        return Prepared(array, _grid_affine(placed, grid, start), warnings)

    def _scaling(self, volume: Volume) -> tuple[float, float, float, float]:
        """Return low, high, shift and scale of x -> (clip(x, low, high) + shift) / scale."""
        if self.intensity == "window":
            assert self.window is not None
            return *self.window, self.shift, self.scale
        values = np.ascontiguousarray(volume.array, np.float32)
        low, high = (float(value) for value in np.percentile(values, self.percentiles or (0, 100)))
        clipped = np.clip(values, low, high)
        deviation = float(clipped.std(dtype=np.float64))
        if deviation == 0:
            raise UserError("the volume has the same value almost everywhere; check that it is the right image")
        return low, high, -float(clipped.mean(dtype=np.float64)), deviation


def _rising(pair: tuple[float, ...] | None, least: float = -math.inf, most: float = math.inf) -> bool:
    """Return whether this is two rising numbers within bounds."""
    return pair is not None and len(pair) == 2 and least <= pair[0] < pair[1] <= most


def plane_of(volume: Volume) -> str:
    """Return the plane in which the volume's thick slices lie; "" if they are not clearly thicker than its pixels."""
    spacing = volume.spacing
    thick = int(np.argmax(spacing))
    if spacing[thick] < 1.2 * sorted(spacing)[1]:
        return ""
    return {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}[
        volume.axis_codes[thick]
    ]


def _axes(volume: Volume, orientation: Orientation) -> str:
    """Return the axes that put the slices last, each plane as it is displayed."""
    if orientation == "canonical":
        return CANONICAL
    found = plane_of(volume)
    if orientation == "acquired":
        return PLANE_AXES.get(found, CANONICAL)
    # Thin slices, as of a 3D sequence, can be shown in any plane.
    if found not in ("", orientation):
        raise UserError(f"its slices are {found}, not {orientation}; give it as the {found} plane")
    return PLANE_AXES[orientation]


def _averaged(volume: Volume, grid: Spacing, clip: bool) -> sitk.Image:
    """Return the volume as float32, averaged over blocks where the grid is coarser, with one voxel of rim.

    The image's axes are the array's, in mm from the volume's centre: the patient's coordinates would
    make rounding depend on the orientation in which the volume was stored.
    """
    # A block ends with the volume: of a spacing in a wrong unit it could be thousands of times as long.
    factors = [
        max(1, min(int(new / old + _ROUND_UP), count))
        for new, old, count in zip(grid, volume.spacing, volume.shape, strict=True)
    ]
    depth = volume.shape[2]
    slab = max(1, _SLAB // factors[2]) * factors[2]
    # Slab by slab what is copied stays in the processor's cache, and the memory for it is small.
    slabs = [_shrunk(volume.array[:, :, start : start + slab], factors, clip) for start in range(0, depth, slab)]
    image = sitk.GetImageFromArray(np.concatenate(slabs) if len(slabs) > 1 else slabs[0])
    image.SetSpacing([step * factor for step, factor in zip(volume.spacing, factors, strict=True)])
    image.SetOrigin(
        [(factor - count) / 2 * step for count, step, factor in zip(volume.shape, volume.spacing, factors, strict=True)]
    )
    # The outer half of a rim voxel has no neighbour to interpolate with.
    padded: sitk.Image = sitk.ZeroFluxNeumannPad(image, [1, 1, 1], [1, 1, 1])
    return padded


def _shrunk(array: NDArray[Any], factors: list[int], clip: bool) -> NDArray[np.float32]:
    """Return the averages of blocks of voxels, in SimpleITK's order (k, j, i)."""
    # SimpleITK would copy a strided array itself, and meanwhile no other thread of the viewer could run.
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    # BinShrink drops an incomplete last block: repeat the last voxel to complete it.
    lacking = [-count % factor for count, factor in zip(array.shape, factors, strict=True)]
    if any(lacking):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], lacking)
    image = sitk.Clamp(image, sitk.sitkFloat32, AIR, METAL) if clip else sitk.Cast(image, sitk.sitkFloat32)
    if max(factors) > 1:
        image = sitk.BinShrink(image, factors)
    averages: NDArray[np.float32] = sitk.GetArrayFromImage(image)
    return averages


def _first_sample(count: int, step: float, origin: float, image_step: float) -> float:
    """Return the position of the first of `count` samples, in mm from the volume's centre.

    Where the image already has the grid's spacing the samples move by at most half a step onto its
    voxels: interpolating half-way between voxels would blur it for nothing.
    """
    start = -(count - 1) / 2 * step
    if abs(image_step - step) > _TOLERANCE * step:
        return start
    behind = (start - origin) / step
    return start + (math.floor(behind + 0.5 - _TOLERANCE) - behind) * step


def _within(count: int, step: float, start: float, extent: float) -> slice:
    """Return which of the samples lie within the volume's two outer faces."""
    first = math.ceil((-extent / 2 - start) / step - _TOLERANCE)
    last = math.floor((extent / 2 - start) / step + _TOLERANCE)
    return slice(max(0, first), min(count, last + 1))


def _resampled(source: sitk.Image, grid: Spacing, start: list[float], inside: list[slice]) -> NDArray[np.float32]:
    """Return the samples of the box `inside`, linearly interpolated, in array order (H, W, D)."""
    resample = sitk.ResampleImageFilter()
    resample.SetSize([part.stop - part.start for part in inside])
    resample.SetOutputSpacing(grid)
    resample.SetOutputOrigin([at + part.start * step for at, part, step in zip(start, inside, grid, strict=True)])
    resample.SetInterpolator(sitk.sitkLinear)
    samples: NDArray[np.float32] = sitk.GetArrayFromImage(resample.Execute(source)).transpose(2, 1, 0)
    return samples


def _grid_affine(volume: Volume, grid: Spacing, start: list[float]) -> NDArray[np.float64]:
    """Return the 4 × 4 affine from grid index to LPS mm; `start` is in mm from the volume's centre."""
    from_mm = np.eye(4)  # mm from the centre -> voxel index
    from_mm[:3, :3] /= volume.spacing
    from_mm[:3, 3] = (np.array(volume.shape) - 1) / 2
    from_index = np.diag([*grid, 1.0])  # grid index -> mm from the centre
    from_index[:3, 3] = start
    affine: NDArray[np.float64] = volume.affine @ from_mm @ from_index
    return affine


_MR = Preprocessing(
    spacing=None,
    size=(240, 240, 24),
    crop=(192, 192, 20),
    intensity="zscore",
    percentiles=(1.0, 99.0),
    orientation="acquired",
)

# METHOD.md, table "input", as read in the public code.
PRESETS = {
    "chest-ct": Preprocessing(
        spacing=(1.5, 1.5, 3.0),
        size=(240, 240, 120),
        crop=(192, 192, 96),
        intensity="window",
        window=(-1000.0, 200.0),
        shift=400.0,
        scale=600.0,
    ),
    "abdomen-ct": Preprocessing(
        spacing=(1.5, 1.5, 3.0),
        size=(280, 280, 180),
        crop=(224, 224, 144),
        intensity="window",
        window=(-1000.0, 1000.0),
        scale=1000.0,
    ),
    "knee-mr": _MR,
    "spine-mr": _MR,
}

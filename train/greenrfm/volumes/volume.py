"""A volume in memory: voxels and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

# Rows run toward posterior, columns toward the patient's left, slices toward the head, so that
# array[:, :, k] is an axial picture as radiologists see it and shapes read (H, W, D).
CANONICAL = "PLS"
NO_AIR = "no value is below 0 HU: the file may hold unscaled values instead of Hounsfield units"
_OPPOSITE = {"P": "A", "A": "P", "L": "R", "R": "L", "S": "I", "I": "S"}


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image with its geometry.

    Parameters
    ----------
    array
        Shape (i, j, k), int16 or float32; HU for CT.
    affine
        4 × 4, float64: voxel index (i, j, k) to LPS millimetres. Its axes are at right angles.
    modality
        "CT", "MR", …, or "" where the file does not say.
    series_uid
        DICOM SeriesInstanceUID, or "".
    warnings
        Sentences on what was odd in the file.

    Raises
    ------
    ValueError
        If the array is not three-dimensional, has another type, or the affine is no right-angled frame.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    modality: str = ""
    series_uid: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shape, type and frame."""
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise ValueError(f"a volume has three axes, not shape {self.array.shape}")
        if self.array.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise ValueError(f"a volume is int16 or float32, not {self.array.dtype}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all() or not right_angled(self.affine):
            raise ValueError("a volume needs a finite 4 × 4 affine whose axes are at right angles")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the number of voxels along each array axis."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Return the distance between voxel centres along each array axis in mm."""
        i, j, k = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return i, j, k

    @property
    def axis_codes(self) -> str:
        """Return the patient direction nearest to each array axis' increasing index, for example "PLS"."""
        directions = self.affine[:3, :3] / self.spacing
        return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(directions.ravel().tolist()))


def right_angled(affine: NDArray[np.float64]) -> bool:
    """Return whether the three axes of the 4 × 4 affine are not degenerate and at right angles to 0.1 %."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not lengths.all():
        return False
    directions = affine[:3, :3] / lengths
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() < 1e-3)


def orient(volume: Volume, codes: str) -> Volume:
    """Return the volume with its axes permuted and flipped to the nearest `codes`, for example "PLS".

    No voxel is resampled: an oblique volume stays oblique. The array is a view where possible.
    """
    stored = volume.axis_codes
    order = [next(axis for axis in range(3) if stored[axis] in (code, _OPPOSITE[code])) for code in codes]
    flipped = [stored[axis] != code for axis, code in zip(order, codes, strict=True)]
    index = np.zeros((4, 4))  # new voxel index -> stored voxel index
    index[3, 3] = 1.0
    for new, (axis, flip) in enumerate(zip(order, flipped, strict=True)):
        index[axis, new] = -1.0 if flip else 1.0
        index[axis, 3] = volume.shape[axis] - 1.0 if flip else 0.0
    array = volume.array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    return replace(volume, array=array, affine=volume.affine @ index)


def to_canonical(volume: Volume) -> Volume:
    """Return the volume in the canonical orientation (see `CANONICAL` and `orient`)."""
    return orient(volume, CANONICAL)


def to_image(volume: Volume) -> sitk.Image:
    """Return the volume as a SimpleITK image whose (x, y, z) are the array axes (i, j, k)."""
    image = sitk.GetImageFromArray(volume.array.transpose(2, 1, 0))
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / volume.spacing).ravel().tolist())
    return image


def image_affine(image: sitk.Image) -> NDArray[np.float64]:
    """Return the 4 × 4 affine from index to LPS mm of a three-dimensional SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers that fit as int16 and everything else as float32."""
    if array.dtype == np.int16 or array.dtype == np.float32:
        return array
    if array.dtype.kind in "iub" and array.min() >= -32768 and array.max() <= 32767:
        return array.astype(np.int16)
    return array.astype(np.float32)

"""Heat maps as volumes: on their own coarse grid, or on that of the scan."""

from __future__ import annotations

from typing import Literal

import numpy as np
import SimpleITK as sitk

from greenrfm.reading.maps import HeatMaps
from greenrfm.volumes import Volume
from greenrfm.volumes.volume import to_image


def coarse_volume(heatmaps: HeatMaps, key: str) -> Volume:
    """Return one finding's map, a voxel per cell, as a float32 volume that `write_volume` can write."""
    return Volume(np.ascontiguousarray(heatmaps[key]), heatmaps.affine)


def resample(
    heatmaps: HeatMaps, key: str, like: Volume, interpolation: Literal["linear", "nearest"] = "linear"
) -> Volume:
    """Return one finding's map on the voxel grid of `like`, float32, in logits.

    Voxels outside the field the network saw get the map's minimum: nothing was found there. Between
    the outermost cell centres and the rim of the field the outermost cells continue.

    Raises UserError if there is no map for `key`.
    """
    coarse = coarse_volume(heatmaps, key)
    field = Volume(np.ones(heatmaps.field_shape, np.int16), heatmaps.field_affine)
    linear = interpolation == "linear"
    # The outermost cells go on to the rim by extrapolation, the mask then ends them there.
    heat = _on_grid(coarse, like, sitk.sitkLinear if linear else sitk.sitkNearestNeighbor, sitk.sitkFloat32, True)
    seen = _on_grid(field, like, sitk.sitkNearestNeighbor, sitk.sitkUInt8, False)
    masked = sitk.Mask(heat, seen, outsideValue=float(coarse.array.min()))
    return Volume(sitk.GetArrayFromImage(masked).transpose(2, 1, 0), like.affine, series_uid=like.series_uid)


def _on_grid(volume: Volume, like: Volume, interpolator: int, pixel: int, extrapolate: bool) -> sitk.Image:
    origin, direction = like.affine[:3, 3].tolist(), (like.affine[:3, :3] / like.spacing).ravel().tolist()
    return sitk.Resample(
        to_image(volume),
        like.shape,
        sitk.Transform(),
        interpolator,
        origin,
        like.spacing,
        direction,
        0.0,
        pixel,
        extrapolate,
    )

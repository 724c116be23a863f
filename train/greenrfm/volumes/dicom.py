"""Reading a DICOM series: its slices in order, in real units, as one volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.files import check_name
from greenrfm.volumes.dicom_series import Series, Slice, listed, scan
from greenrfm.volumes.volume import Volume, narrow

_SAME_PLACE = 0.01  # mm
_TILT = 0.1  # degrees: half a millimetre over a chest


def read_folder(folder: Path, series_uid: str | None = None) -> Volume:
    """Read the DICOM series in `folder` (or, if it holds no DICOM itself, below it).

    Raises UserError if there is none, if there are several and `series_uid` names none of them, if
    slices are too few or share a position, or if a file cannot be decoded.
    """
    try:
        series = scan(path for path in sorted(folder.iterdir()) if path.is_file())
        if not series:
            series = scan(path for path in sorted(folder.rglob("*")) if path.is_file())
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read ({error.strerror}); check its permissions") from error
    if not series:
        raise UserError(f"folder {folder} holds no DICOM images; give the folder of one series")
    if series_uid is not None:
        if series_uid not in series:
            raise UserError(f"folder {folder} holds no series {series_uid}; it holds {listed(series.values())}")
        return _assemble(series[series_uid], folder)
    # A localizer beside the one real series is no reason to ask.
    volumes = [one for one in series.values() if len(one.slices) > 1]
    if len(volumes) > 1:
        raise UserError(f"folder {folder} holds several series; choose one with --series UID: {listed(volumes)}")
    return _assemble((volumes or list(series.values()))[0], folder)


def read_file(path: Path, series_uid: str | None = None) -> Volume:
    """Read the volume in a multi-frame file, or the series a single-frame file belongs to, from its folder.

    Raises UserError as `read_folder` does, and if `series_uid` is given and is not the file's.
    """
    own = scan([path])
    if not own:
        raise UserError(f"{path} is DICOM but holds no image; give an image of a CT or MR series")
    ((uid, series),) = own.items()
    if series_uid is not None and series_uid != uid:
        raise UserError(f"{path} belongs to series {uid or 'without UID'}, not to {series_uid}; leave --series out")
    if len(series.slices) < 2:
        series = scan(sorted(item for item in path.parent.iterdir() if item.is_file()))[uid]
    return _assemble(series, path)


def _assemble(series: Series, source: Path) -> Volume:
    slices = series.stack()
    if len(slices) < 2:
        raise UserError(
            f"{source} holds {len(slices)} slice{'s' * (not slices)} with a position in the patient; "
            "give a whole CT or MR series"
        )
    first = slices[0]
    offsets = np.array([item.position for item in slices]) - first.position
    along = offsets @ first.normal
    steps = np.diff(along)
    if steps.min() < _SAME_PLACE:
        raise UserError(
            f"{source} holds several images at the same position (phases or echoes in one series); export one of them"
        )
    warnings = []
    if series.left_out:
        warnings.append(f"{series.left_out} images of the series (localizer, other plane or size) were left out")
    # Without gaps the mean is the better estimate: positions are often rounded to a tenth of a mm.
    step = float(np.median(steps))
    if (steps > 1.5 * step).any():
        missing = int(np.round(steps / step - 1).clip(0).sum())
        warnings.append(f"about {missing} slices are missing between the first and the last of {len(slices)}")
    else:
        step = float(along[-1]) / (len(slices) - 1)
        if np.abs(along - step * np.arange(len(slices))).max() > 0.25 * step:
            apart = f"{steps.min():.2f} to {steps.max():.2f} mm apart"
            warnings.append(f"slices lie unevenly, {apart}; {step:.2f} mm is used")
    array = narrow(np.stack(_decode(slices)).transpose(2, 1, 0))
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 2] = first.normal * step
    affine[:3, 3] = first.position
    drift = first.orientation @ offsets[-1] / along[-1]  # mm in the plane per mm through it
    degrees = float(np.degrees(np.arctan(np.linalg.norm(drift))))
    if degrees > _TILT:
        array, affine = _straightened(array, affine, drift)
        warnings.append(f"the gantry was tilted by {degrees:.1f} degrees; the volume was resampled to right angles")
    return Volume(array, affine, series.modality, series.uid, tuple(warnings))


def _decode(slices: list[Slice]) -> list[NDArray[np.int16] | NDArray[np.float32]]:
    """Return the pixels of each slice, (rows, columns), with rescale slope and intercept applied by GDCM."""
    pixels = []
    frames: NDArray[np.generic] | None = None
    opened: Path | None = None
    for item in slices:
        if item.path != opened:
            check_name(item.path)
            try:
                frames = narrow(sitk.GetArrayFromImage(sitk.ReadImage(str(item.path), imageIO="GDCMImageIO")))
            except RuntimeError as error:
                raise UserError(
                    f"{item.path} is damaged or compressed in an unknown way; export the series again uncompressed"
                ) from error
            frames = frames.reshape(-1, *frames.shape[-2:])
            opened = item.path
        assert frames is not None
        pixels.append(frames[item.frame])
    return pixels


def _straightened(
    array: NDArray[np.generic], affine: NDArray[np.float64], drift: NDArray[np.float64]
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return the slices of a tilted gantry on a right-angled grid that holds all of them.

    `drift` is how far, in mm along the array's first two axes, slices move per mm through them.
    """
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    travel = np.array([*drift, 0.0]) * (array.shape[2] - 1) * spacing[2]
    start = np.minimum(travel, 0.0)
    size = np.array(array.shape) + np.ceil(np.abs(travel) / spacing - 1e-3).astype(int)
    shear = sitk.AffineTransform(3)  # from the right-angled grid to where the slice has the same anatomy
    shear.SetMatrix([1, 0, -drift[0], 0, 1, -drift[1], 0, 0, 1])
    straight = sitk.Resample(
        image,
        [int(count) for count in size],
        shear,
        sitk.sitkLinear,
        start.tolist(),
        spacing.tolist(),
        [1, 0, 0, 0, 1, 0, 0, 0, 1],
        float(array.min()),
    )
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ (start / spacing)
    return sitk.GetArrayFromImage(straight).transpose(2, 1, 0), moved

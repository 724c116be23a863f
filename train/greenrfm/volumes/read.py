"""Reading a volume from a file or a DICOM folder."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.misc import is_dicom

from greenrfm.errors import UserError
from greenrfm.files import check_name
from greenrfm.volumes import dicom
from greenrfm.volumes.headers import check_header
from greenrfm.volumes.nifti import not_numbers
from greenrfm.volumes.volume import NO_AIR, Volume, image_affine, narrow, right_angled

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

# Users get our own sentence; ITK's would come on top of it, with source lines and addresses.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read_volume(path: Path, series_uid: str | None = None) -> Volume:
    """Read a volume with its geometry, CT in Hounsfield units.

    Parameters
    ----------
    path
        NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a folder with a DICOM
        series, or one DICOM file of a series in its folder. DICOM may be compressed.
    series_uid
        Which DICOM series to read where the folder holds several.

    Raises
    ------
    UserError
        If nothing is there, the format is not supported, the file is damaged, the image is not one
        three-dimensional grey-value volume, or the folder holds several series and none is chosen.
    """
    path = Path(path)
    if path.is_dir():
        volume = dicom.read_folder(path, series_uid)
    elif not path.exists():
        raise UserError(f"{path} does not exist; check the path")
    elif not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder; give a volume")
    elif path.name.lower().endswith(VOLUME_SUFFIXES):
        volume = _read_file(path)
    elif _is_dicom(path):
        volume = dicom.read_file(path, series_uid)
    else:
        raise UserError(f"{path} is no volume that can be read; give NIfTI, NRRD, MHA or a folder with a DICOM series")
    return checked(volume)


def _is_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}); check its permissions") from error


def _read_file(path: Path) -> Volume:
    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        check_header(path)
        reader.ReadImageInformation()
        size = reader.GetSize()
        if reader.GetNumberOfComponents() > 1:
            raise UserError(f"{path} holds colour or vector values; give an image with one grey value per voxel")
        if len(size) < 3 or min(size[:3]) < 2:
            raise UserError(f"{path} is a single slice ({' × '.join(map(str, size))}); give a whole volume")
        if any(extent > 1 for extent in size[3:]):
            raise UserError(f"{path} has {len(size)} dimensions ({' × '.join(map(str, size))}); give one volume of it")
        image = reader.Execute()
        if len(size) > 3:
            image = image[(slice(None),) * 3 + (0,) * (len(size) - 3)]
        array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    except PermissionError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    except (RuntimeError, OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise UserError(f"{path} is damaged or cut off, or not what its name says; copy or export it again") from error
    if array.dtype.kind not in "iubf":
        raise UserError(f"{path} holds {array.dtype} values; give an image with real grey values")
    affine = image_affine(image)
    if not np.isfinite(affine).all() or not right_angled(affine):
        raise UserError(f"{path} has axes that are not at right angles; resample it to a regular grid first")
    lost = not_numbers(path)
    said = f"{lost} voxels of the file hold no number and are read as 0; save it again with the value of air there"
    return Volume(narrow(array), affine, warnings=(said,) if lost else ())


def checked(volume: Volume) -> Volume:
    """Return the volume with warnings on values that no scanner gives, and without values that are no number."""
    warnings = list(volume.warnings)
    array = volume.array
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            lowest = array[finite].min() if finite.any() else 0
            warnings.append(f"{(~finite).sum()} voxels hold no number and were set to {lowest:g}")
            array = np.where(finite, array, np.float32(lowest))
    if volume.modality == "CT" and array.min() >= 0:
        warnings.append(NO_AIR)
    return replace(volume, array=array, warnings=tuple(warnings))

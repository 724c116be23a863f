"""Writing a volume to one file."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from greenrfm.errors import UserError
from greenrfm.files import check_name, replacing
from greenrfm.volumes.volume import Volume, to_image

# Formats of one file: a header with a separate data file could not be replaced in one step.
_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


def write_volume(volume: Volume, path: Path) -> None:
    """Write the volume as NIfTI, NRRD or MHA, by the suffix of `path`, in one step and compressed if possible.

    Raises UserError for another suffix and if the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(_SUFFIXES):
        raise UserError(f"{path} cannot be written; the name must end in {', '.join(_SUFFIXES)}")
    check_name(path)
    try:
        with replacing(path) as temporary:
            sitk.WriteImage(to_image(volume), str(temporary), useCompression=not path.name.lower().endswith(".nii"))
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path} cannot be written; check that the folder exists and the disk has room") from error

"""Classic CT series as a scanner would send them, written for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from greenrfm.volumes import Volume


def write_dicom(volume: Volume, folder: Path, uid: str, **changes: object) -> list[Path]:
    """Write an LPS volume as the classic CT series a scanner would send; `changes` are set on every image."""
    folder.mkdir(parents=True, exist_ok=True)
    directions = volume.affine[:3, :3] / volume.spacing
    paths = []
    for k in range(volume.shape[2]):
        image = blank_image(uid, CTImageStorage)
        image.InstanceNumber = k + 1
        image.ImagePositionPatient = (volume.affine @ [0, 0, k, 1])[:3].tolist()
        image.ImageOrientationPatient = [*directions[:, 0], *directions[:, 1]]
        image.PixelSpacing = [volume.spacing[1], volume.spacing[0]]
        image.Rows, image.Columns = volume.shape[1], volume.shape[0]
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = (volume.array[:, :, k].T.astype(np.int32) + 1024).astype(np.int16).tobytes()
        for name, value in changes.items():
            setattr(image, name, value)
        # Names in no order, and without .dcm, as exports have them.
        paths.append(folder / f"IM{k * 7919 % 1009:04d}")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def blank_image(uid: str, kind: str) -> FileDataset:
    """Return an image without geometry or pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID, image.StudyInstanceUID = uid, "1.2.3"
    image.Modality, image.SeriesNumber = "CT", 4
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    return image

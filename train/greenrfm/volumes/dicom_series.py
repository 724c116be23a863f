"""DICOM headers: which images of a folder make one series, and where each lies in the patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from greenrfm.errors import UserError

_TAGS = [
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class Slice:
    """One image: its file, its frame in there, and its place in the patient (LPS mm)."""

    path: Path
    frame: int
    instance: str
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]  # (2, 3): direction along a row, direction down a column
    spacing: tuple[float, float]  # between rows, between columns
    size: tuple[int, int]  # rows, columns

    @property
    def normal(self) -> NDArray[np.float64]:
        """Return the unit direction through the slices."""
        normal = np.cross(self.orientation[0], self.orientation[1])
        unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
        return unit


@dataclass
class Series:
    """The images of one SeriesInstanceUID; `left_out` counts those that no volume can hold."""

    uid: str
    number: str = ""
    modality: str = ""
    slices: list[Slice] = field(default_factory=list)
    left_out: int = 0

    def stack(self) -> list[Slice]:
        """Return the slices that share plane, pixel spacing and size with most others, by position.

        Copies of an image are left out silently; images of other planes or sizes count as left out.
        """
        stacks: dict[Any, dict[Any, Slice]] = defaultdict(dict)
        for item in self.slices:
            plane = (*np.round(item.orientation.ravel(), 3) + 0.0, *np.round(item.spacing, 4), *item.size)
            stacks[plane][item.instance or item.path, item.frame] = item
        largest = max(stacks.values(), key=len, default={})
        self.left_out += sum(len(stack) for stack in stacks.values() if stack is not largest)
        return sorted(largest.values(), key=lambda item: float(item.normal @ item.position))


def scan(paths: Iterable[Path]) -> dict[str, Series]:
    """Return the series among these files by their UID; files that are not DICOM images are ignored.

    Raises UserError for a DICOM file whose header is damaged.
    """
    found: dict[str, Series] = {}
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            if "Rows" not in header or header.get("Modality") == "SEG":
                continue
            uid = str(header.get("SeriesInstanceUID", ""))
            slices = _slices(header, path)
        except InvalidDicomError:
            continue
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        except Exception as error:  # pydicom raises whatever a damaged value makes it stumble over
            raise UserError(f"{path} has a damaged DICOM header; copy or export it again") from error
        series = found.setdefault(uid, Series(uid))
        series.number = series.number or str(header.get("SeriesNumber") or "")
        series.modality = series.modality or str(header.get("Modality") or "")
        series.slices.extend(slices)
        series.left_out += not slices
    return found


def listed(series: Iterable[Series]) -> str:
    """Return the series as one line: number, UID and slices of each."""
    return "; ".join(f"{one.number or '-'}: {one.uid or 'without UID'} ({len(one.slices)} slices)" for one in series)


def _slices(header: Dataset, path: Path) -> list[Slice]:
    """Return the image's frames that have a place in the patient: none for a localizer or in colour."""
    if "LOCALIZER" in (header.get("ImageType") or ()) or int(header.get("SamplesPerPixel") or 1) > 1:
        return []
    frames = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence") or ([Dataset()] if frames == 1 else [])
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    slices = []
    for frame, group in enumerate(groups):
        position, orientation, spacing = (_place(header, (group, shared), *names) for names in _PLACE)
        if not position or not orientation or not spacing:
            continue
        slices.append(
            Slice(
                path,
                frame,
                str(header.get("SOPInstanceUID", "")),
                np.array(position, np.float64).reshape(3),
                _right_angled(np.array(orientation, np.float64).reshape(2, 3)),
                (float(spacing[0]), float(spacing[1])),
                (int(header.Rows), int(header.Columns)),
            )
        )
    return slices


# Where an enhanced multi-frame image keeps what a classic image has at its top level.
_PLACE = (
    ("PlanePositionSequence", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing"),
)


def _place(header: Dataset, groups: tuple[Dataset, Dataset], sequence: str, name: str) -> Any:
    """Return the attribute from the frame's own or the shared functional group, or from the top level."""
    for group in groups:
        if group.get(sequence):
            return group[sequence][0].get(name)
    return header.get(name)


def _right_angled(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return both directions as unit vectors at right angles: headers round them to a few digits."""
    row = orientation[0] / np.linalg.norm(orientation[0])
    column = orientation[1] - (orientation[1] @ row) * row
    directions = np.stack([row, column / np.linalg.norm(column)])
    if not np.isfinite(directions).all():
        raise ValueError("ImageOrientationPatient")
    return directions

"""Which images of a study a network looks at: the one in column `image`, or several planes and sequences of MR."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from greenrfm.cohort.table import Study
from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.volumes import PLANES

_COLUMN = re.compile(r"image_([a-z0-9]+)_([a-z0-9]+)")


def image_column(sequence: str, plane: str) -> str:
    """Return the column of cohort.csv for a sequence of a plane, such as `image_t1_sagittal`."""
    return f"image_{sequence}_{plane}"


@dataclass(frozen=True)
class Inputs:
    """The planes and the sequences in each of them that a network takes, in the order of its channels.

    Both are empty for a network of one volume, in column `image`.
    """

    planes: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the image columns, one a channel: all sequences of the first plane, then those of the next."""
        return tuple(image_column(sequence, plane) for plane in self.planes for sequence in self.sequences) or (
            "image",
        )

    def of_plane(self, plane: str) -> tuple[str, ...]:
        """Return the image columns of a plane."""
        return tuple(image_column(sequence, plane) for sequence in self.sequences) if plane else ("image",)

    def check(self, study: Study) -> None:
        """Raise UserError, saying what to do, if the study has none of these images."""
        if any(column in study.images for column in self.columns):
            return
        if self.planes:
            raise UserError(
                f"study {study.study_id} has none of the images {', '.join(self.columns)}; fill one of these columns "
                "or leave the study out"
            )
        hint = " (planes and sequences of MR need a recipe that names them, such as mr)" if study.images else ""
        raise UserError(f"study {study.study_id} has no image; training needs one in column 'image'{hint}")

    def unread(self, studies: Iterable[Study]) -> list[str]:
        """Return a sentence for each image column of these studies that a network of planes does not take.

        Raises UserError for a column that names no plane: that is a slip, and its images would be missed in silence.
        """
        if not self.planes:
            return []
        sentences = []
        for column in sorted({column for study in studies for column in study.images} - set(self.columns)):
            match = _COLUMN.fullmatch(column)
            if match is None or match[2] not in PLANES:
                hint = nearest(column, self.columns)
                raise UserError(
                    f"column '{column}' of the cohort names no plane{hint}; write image_<sequence>_<plane> with "
                    f"{', '.join(PLANES)}"
                )
            sentences.append(f"column '{column}' is not read: the recipe has {', '.join(self.columns)}")
        return sentences

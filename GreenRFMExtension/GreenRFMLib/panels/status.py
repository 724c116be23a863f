"""The sentence under the panel's buttons: what came of a reading, what comes next, what stands against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from slicer.i18n import tr as _

from GreenRFMLib.analysis import Finished
from GreenRFMLib.record import Result
from GreenRFMLib.requirements import names
from GreenRFMLib.scene import problem_with
from GreenRFMLib.study import ALONE, Key, Study, keys_for, plane_of, read_as

if TYPE_CHECKING:
    from greenrfm.reading import Reading


@dataclass(frozen=True, eq=False)
class Read:
    """The last reading of the chosen volume: scores that are withheld, and features, are nowhere but here."""

    study: Study
    finished: Finished

    @property
    def volume(self) -> Any:
        """Return the chosen volume node."""
        return self.study.volume

    @property
    def withheld(self) -> Reading | None:
        """Return the reading if its scores must not be shown."""
        return self.finished.reading if self.finished.reading.withheld else None


def obstacle(missing: list[Requirement], volume: Any, folder: Path | None, keys: Sequence[Key]) -> str:
    """Return what stands against analyzing, as a sentence that says what to do, or "".

    `keys` are the images that the bundle reads, () for one volume.
    """
    if missing:
        return _("Reading needs {names}: press Install.").format(names=names(missing))
    if volume is None and folder is None:
        return _("Choose a volume and the folder of a model bundle.")
    if folder is None:
        return problem_with(volume) or _("Choose the folder of a model bundle.")
    return problem_with(volume) or _wrong_image(volume, keys)


def _wrong_image(volume: Any, keys: Sequence[Key]) -> str:
    if not keys:
        return ""
    if not keys_for(volume, keys):
        sentence = _("The slices of this volume are {plane}, the model reads {planes} ones. Choose another volume.")
        planes = ", ".join(dict.fromkeys(plane for _sequence, plane in keys))
        return sentence.format(plane=plane_of(volume), planes=planes)
    if read_as(volume) == ALONE:
        return _("Say in the list of images what this volume is; then add the others of its study.")
    return ""


def text_obstacle(result: Result | None, read: Read | None) -> str:
    """Return what stands against a text query, as a sentence, or ""."""
    if result is None:
        return _("Analyze a volume first.")
    if read is None:
        return _("Analyze this volume again: what a text is compared with is not saved with the scene.")
    if not read.finished.has_text:
        return _("This model was trained on images alone and understands no text.")
    return ""


def ready(result: Result | None, read: Read | None) -> str:
    """Return what is shown, while there is nothing else to say."""
    if read is not None and read.withheld is not None:
        return _("The scores of this reading are withheld.")
    if result is None:
        return _("Press Analyze to read this volume.")
    return _("Result of {time}, bundle {bundle}.").format(time=result.time, bundle=result.bundle_hash[:8])


def summary(result: Result, read: Read) -> str:
    """Return what came of a reading that is shown."""
    calls = [score.call for score in result.scores]
    sentence = _("{present} of {all} findings called present, {unsure} indeterminate; read in {seconds} s.")
    return sentence.format(
        present=calls.count("present"), all=len(calls), unsure=calls.count("indeterminate"), seconds=_seconds(read)
    )


def withheld(read: Read) -> str:
    """Return what came of a reading whose scores are withheld."""
    return _("Read in {seconds} s; the scores are withheld.").format(seconds=_seconds(read))


def _seconds(read: Read) -> str:
    return f"{read.finished.seconds:.1f}"

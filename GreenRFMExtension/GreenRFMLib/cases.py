"""The case library behind the panel: the study at hand as a case, and the past cases most similar to it.

Nothing here touches Qt. `find` and `add` take up to seconds: call them in a worker. The library is open only while they
run, in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from greenrfm.errors import UserError
from GreenRFMLib import library_process
from GreenRFMLib.study import ALONE, Study

if TYPE_CHECKING:
    from greenrfm.reading import Reading
    from greenrfm.volumes import Preprocessing

SHOWN = 10


@dataclass(frozen=True)
class Identity:
    """What DICOM says of a volume: ids, and the day as `YYYY-MM-DD`; "" for what is not known."""

    study_id: str = ""
    patient_id: str = ""
    study_date: str = ""
    series_uid: str = ""


@dataclass(frozen=True)
class SimilarCase:
    """A past case; findings by name, those that the panel calls present against those its report has.

    `compared` is False where the scores are withheld or nobody said what the report has.
    """

    similarity: float
    study_id: str
    study_date: str
    report: str
    thumbnail: Path | None
    compared: bool = False
    shared: tuple[str, ...] = ()
    only_here: tuple[str, ...] = ()
    only_there: tuple[str, ...] = ()


@dataclass(frozen=True)
class Added:
    """What became of a study that was added: whether it took the place of an earlier one, and the library's size."""

    replaced: bool
    count: int


def identity_of(volume: Any) -> Identity:
    """Return what the subject hierarchy knows of a volume node from its DICOM import."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy and volume is not None else 0
    if not item:
        return Identity()
    names = slicer.vtkMRMLSubjectHierarchyConstants
    study = hierarchy.GetItemAncestorAtLevel(item, names.GetDICOMLevelStudy())
    patient = hierarchy.GetItemAncestorAtLevel(item, names.GetDICOMLevelPatient())
    uid = names.GetDICOMUIDName()
    day = hierarchy.GetItemAttribute(study, names.GetDICOMStudyDateAttributeName()) if study else ""
    return Identity(
        (hierarchy.GetItemUID(study, uid) if study else "").strip(),
        (hierarchy.GetItemAttribute(patient, names.GetDICOMPatientIDAttributeName()) if patient else "").strip(),
        _iso(day.strip()),
        hierarchy.GetItemUID(item, uid).strip(),
    )


def find(folder: Path, reading: Reading, patient_id: str) -> tuple[SimilarCase, ...]:
    """Return the cases most similar to a reading, best first, none of them of patient `patient_id` unless it is "".

    Raises
    ------
    UserError
        If the folder holds no library, or one that is damaged, of another bundle, or open elsewhere.
    """
    if not (folder / "library.json").is_file():
        raise UserError(_("There is no case library in this folder. Choose another one, or add a study to make one."))
    found = library_process.ask(
        "find",
        folder=str(folder.absolute()),
        bundle_hash=reading.bundle_hash,
        latent=reading.latent.tolist(),
        count=SHOWN,
        patient_id=patient_id,
    )
    return tuple(_similar(hit, reading) for hit in found["hits"])


def add(
    folder: Path, study: Study, reading: Reading, preprocessing: Preprocessing, identity: Identity, report: str
) -> Added:
    """Add a study with its reading's latent, or replace the one with its id; an empty folder becomes a library.

    The reading's calls are no labels of a report, so the case has no states.

    Raises
    ------
    UserError
        As `find` does; and if the scores are withheld, the folder is not empty, or the id is another patient's study.
    """
    if reading.withheld:
        raise UserError(_("The scores of this reading are withheld, so it is not added."))
    if not folder.is_dir():
        raise UserError(_("There is no such folder. Make it first, or choose another one."))
    from greenrfm import cohort
    from greenrfm.commands.cases import case_of
    from greenrfm.library.case import entry_of

    extra = {"study_date": identity.study_date, "series_uid": identity.series_uid}
    row = cohort.Study(identity.study_id, identity.patient_id, _files(study), report, extra=extra)
    case = case_of(row, study.images[0].voxels.copy(), {}, preprocessing)
    done = library_process.ask(
        "add",
        folder=str(folder.absolute()),
        bundle_hash=reading.bundle_hash,
        latent=reading.latent.tolist(),
        keys=[score.key for score in reading.scores],
        entry=entry_of(case),
        report=case.report,
        thumbnail=case.thumbnail.hex(),
    )
    if "other_patient" in done:
        raise UserError(_("The library has a study of this id from another patient. Check both ids."))
    return Added(done["replaced"], done["count"])


def _similar(hit: dict[str, Any], reading: Reading) -> SimilarCase:
    from greenrfm.findings import State
    from greenrfm.library import compare
    from greenrfm.library.case import case_from

    case = case_from(hit["entry"], hit["report"], b"")
    picture = Path(hit["thumbnail"]) if hit["thumbnail"] else None
    similar = (hit["score"], case.study_id, case.study_date, case.report, picture)
    if reading.withheld or not case.states:
        return SimilarCase(*similar)
    states = {"present": State.PRESENT, "absent": State.ABSENT}
    # What the reader cannot decide counts as uncertain, as on the command line.
    common = compare({score.key: states.get(score.call, State.UNCERTAIN) for score in reading.scores}, case)
    names = {score.key: score.name for score in reading.scores}
    parts = (tuple(names[key] for key in keys) for keys in (common.shared, common.only_query, common.only_case))
    return SimilarCase(*similar, True, *parts)


def _files(study: Study) -> dict[str, Path]:
    """Return the images' files by the cohort's columns, a folder for DICOM, without what came from no file."""
    from greenrfm.cohort import image_column
    from greenrfm.volumes.read import VOLUME_SUFFIXES

    files = {}
    for image in study.images:
        file = image.voxels.file
        if file is not None:
            column = "image" if image.key == ALONE else image_column(*image.key)
            files[column] = file if file.name.lower().endswith(VOLUME_SUFFIXES) else file.parent
    return files


def _iso(day: str) -> str:
    """Return a DICOM date, YYYYMMDD, as `YYYY-MM-DD`; "" for anything else."""
    try:
        return datetime.strptime(day, "%Y%m%d").date().isoformat() if len(day) == 8 else ""
    except ValueError:
        return ""

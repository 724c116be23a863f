"""Studies as cases of a library: what a case keeps of the cohort, the labels and the volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from greenrfm.cohort import Study
from greenrfm.commands.thumbnail import thumbnail
from greenrfm.findings import LabelTable, State
from greenrfm.library import Case
from greenrfm.volumes import Preprocessing, Volume

States = Mapping[str, State]


def case_of(study: Study, volume: Volume, states: States, preprocessing: Preprocessing) -> Case:
    """Return the study as a case; date and series come from the volume where the cohort does not name them.

    The viewer makes a `Study` of what it shows and adds `case_of(…)` with its reading's latent.
    """
    images = {name: str(path.absolute()) for name, path in study.images.items()}
    return Case(
        study_id=study.study_id,
        patient_id=study.patient_id,
        states=dict(states),
        report=study.report,
        thumbnail=thumbnail(volume, preprocessing),
        modality=volume.modality or study.modality,
        study_date=study.extra.get("study_date", ""),
        series_uid=volume.series_uid or study.extra.get("series_uid", ""),
        source=next(iter(images.values()), ""),
        images=images if len(images) > 1 or "image" not in images else {},
    )


def reported_states(labels: LabelTable, studies: Iterable[str], keys: Iterable[str]) -> dict[str, States]:
    """Return each study's states of those `keys` that the labels have; what is not mentioned is left out."""
    ids = list(studies)
    known = [key for key in keys if key in labels.keys]
    return {
        study: {key: State(int(value)) for key, value in zip(known, row, strict=True) if value != State.NOT_MENTIONED}
        for study, row in zip(ids, labels.select(known).rows(ids), strict=True)
    }

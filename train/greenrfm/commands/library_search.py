"""`greenrfm library search`: the most similar past studies, by an image, by a text or by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenrfm.commands.answer import print_json, sentence
from greenrfm.commands.library_options import (
    AllowHost,
    AllowPlain,
    BundleOption,
    Folder,
    Json,
    Threads,
    Url,
    server_at,
)
from greenrfm.commands.show import Display, display
from greenrfm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from greenrfm.bundle import Bundle
    from greenrfm.commands.cases import States
    from greenrfm.commands.scan import Scan
    from greenrfm.library import Hit
    from greenrfm.reading import Reading


def search(
    library: Folder,
    bundle: BundleOption,
    image: Annotated[Path | None, typer.Option(metavar="VOLUME", help="Find cases that look like this volume.")] = None,
    text: Annotated[str, typer.Option(help="Find cases that this sentence or report describes.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many cases.")] = 10,
    present: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Only with this finding reported present; repeatable.")
    ] = None,
    absent: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Only with this finding reported absent; repeatable.")
    ] = None,
    modality: Annotated[str, typer.Option(help="Only this modality, such as CT.")] = "",
    date_from: Annotated[str, typer.Option("--from", metavar="DAY", help="Only from this day, YYYY-MM-DD.")] = "",
    date_to: Annotated[str, typer.Option("--to", metavar="DAY", help="Only to this day, YYYY-MM-DD.")] = "",
    weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image where --image and --text are both given.")
    ] = 0.5,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="labels.csv with a row --study: each hit says what it shares with it."),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="COHORT", help="cohort.csv whose row --study is searched for, with all of its images."),
    ] = None,
    study: Annotated[str, typer.Option(metavar="ID", help="The query's study in --cohort and --labels.")] = "",
    sequence: Annotated[
        str, typer.Option(metavar="NAME", help="Which sequence --image is, such as t2fs, for a bundle that names some.")
    ] = "",
    exclude_patient: Annotated[str, typer.Option(metavar="ID", help="Leave out this patient's cases.")] = "",
    series: Annotated[
        str, typer.Option(metavar="UID", help="Which DICOM series, where the folder of --image holds several.")
    ] = "",
    threads: Threads = None,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Find the most similar past studies, by an image, by a text or by both, and print them with their reports."""
    if image is None and cohort is None and not text.strip():
        raise typer.BadParameter("give --image, --text or both", param_hint="'--image' / '--text'")
    if image is not None and cohort is not None:
        raise typer.BadParameter("give either --image or --cohort with --study", param_hint="'--image' / '--cohort'")

    from greenrfm.bundle import Bundle
    from greenrfm.commands.scan import read_one
    from greenrfm.library import CaseLibrary
    from greenrfm.reading import Reader
    from greenrfm.reading.reading import notice

    loaded = Bundle.load(bundle)
    own = _own_states(labels, study, loaded.findings.keys)
    with CaseLibrary.open(library, loaded.hash, server_at(url, allow_host, allow_plain_http)) as cases:
        latents = []
        scan = _scan(image, series, sequence, cohort, study)
        if scan is not None:
            reading = read_one(Reader(loaded, threads), scan)[1]
            latents.append(reading.latent)
            for warning in reading.warnings:
                sentence(warning)
            own = own or _called(reading)
        if text.strip():
            latents.append(_text_latent(loaded, text, threads))
        hits = cases.search(
            cases.both(latents[0], latents[1], weight) if len(latents) == 2 else latents[0],
            k,
            present=present or (),
            absent=absent or (),
            modality=modality.strip(),
            exclude_patient=exclude_patient.strip(),
            date_from=date_from.strip(),
            date_to=date_to.strip(),
        )
    if as_json:
        print_json([_entry(hit, own) for hit in hits])
        return
    with display() as show:
        show.print(*notice(loaded.manifest.intended_use).splitlines(), "")
        for hit in hits:
            _print_hit(show, hit, loaded, own)
        if not hits:
            show.say("no case found; the library is empty or the filters leave none")


def _own_states(labels: Path | None, study: str, keys: tuple[str, ...]) -> States:
    """Return what the labels say of the query's study, where they are given."""
    from greenrfm.findings import LabelTable, State

    if labels is None:
        return {}
    table = LabelTable.read(labels)
    if not study or study not in table.study_ids:
        raise UserError(f"labels {labels} has no row of study '{study}'; name one of its studies with --study")
    known = [key for key in keys if key in table.keys]
    row = table.select(known).rows([study])[0]
    return {key: State(int(value)) for key, value in zip(known, row, strict=True)}


def _called(reading: Reading) -> States:
    """Return the reader's own calls, unless they are withheld; what it cannot decide counts as uncertain."""
    if reading.withheld:
        return {}
    from greenrfm.findings import State

    calls = {"present": State.PRESENT, "absent": State.ABSENT}
    return {finding.key: calls.get(finding.call, State.UNCERTAIN) for finding in reading.scores}


def _scan(image: Path | None, series: str, sequence: str, cohort: Path | None, study: str) -> Scan | None:
    """Return what the query's image is: a volume, or a study of the cohort with all of its images."""
    from greenrfm.cohort import read_cohort
    from greenrfm.commands.scan import scans_at, scans_of

    if image is not None:
        return scans_at([image], series, sequence)[0]
    if cohort is None:
        return None
    for scan in scans_of(read_cohort(cohort)):
        if scan.study_id == study:
            return scan
    raise UserError(f"cohort {cohort} has no study '{study}'; name one of its rows with --study")


def _text_latent(bundle: Bundle, text: str, threads: int | None) -> NDArray[np.float32]:
    from greenrfm.bundle import TextEncoder

    latent: NDArray[np.float32] = TextEncoder(bundle, threads).encode([text])[0]
    return latent


def _entry(hit: Hit, own: States) -> dict[str, Any]:
    from dataclasses import asdict

    from greenrfm.library import compare

    case = hit.case
    return {
        "rank": hit.rank,
        "score": hit.score,
        "study": case.study_id,
        "patient": case.patient_id,
        "modality": case.modality,
        "study_date": case.study_date,
        "series_uid": case.series_uid,
        "states": {key: state.name.lower() for key, state in case.states.items()},
        "report": case.report,
        "thumbnail": str(hit.thumbnail) if hit.thumbnail else None,
        "source": case.source,
        "findings": asdict(compare(own, case)) if own else None,
    }


def _print_hit(show: Display, hit: Hit, bundle: Bundle, own: States) -> None:
    from greenrfm.findings import State
    from greenrfm.library import compare

    case = hit.case
    facts = [f"study {case.study_id}", f"patient {case.patient_id}", case.modality, case.study_date]
    names = [finding.name for finding in bundle.findings.findings if case.states.get(finding.key) is State.PRESENT]
    lines = [f"{hit.rank}. {', '.join(fact for fact in facts if fact)} (similarity {hit.score:.3f})"]
    if names:
        lines.append(f"   reported present: {', '.join(names)}")
    if own:
        common = compare(own, case)
        titles = {"shared": common.shared, "only here": common.only_query, "only in this case": common.only_case}
        lines += [f"   {title}: {', '.join(keys)}" for title, keys in titles.items() if keys]
    if case.source:
        lines.append(f"   image: {case.source}")
    lines += [f"   {line}" for line in case.report.splitlines()]
    show.print(*lines, "")

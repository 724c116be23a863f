"""`greenrfm library`: past studies, found by image or by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenrfm.commands.answer import Misses, print_json, sentence
from greenrfm.commands.show import Display, display
from greenrfm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from greenrfm.bundle import Bundle
    from greenrfm.cohort import Study
    from greenrfm.commands.cases import States
    from greenrfm.library import CaseLibrary, Hit
    from greenrfm.library.server import Server
    from greenrfm.reading import Reading

app = typer.Typer(no_args_is_help=True, help="The case library: past studies with their reports.")

Folder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library", show_default=False)]
BundleOption = Annotated[Path, typer.Option(metavar="BUNDLE", help="The bundle that makes the latents.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]
Url = Annotated[
    str,
    typer.Option(
        metavar="URL", help="Qdrant server that holds the latents, such as http://127.0.0.1:6333.", show_default=False
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Another machine that may be given latents; repeatable.", show_default=False),
]
AllowPlain = Annotated[bool, typer.Option("--allow-plain-http", help="Allow that machine to be reached by http.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="New folder to write.", show_default=False)]
Threads = Annotated[int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")]


@app.command(epilog="Example: greenrfm library add cases cohort.csv --bundle run/bundle --labels labels.csv")
def add(
    library: Folder,
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    bundle: BundleOption,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="labels.csv, so that searches can filter by finding.")
    ] = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Also add scans that are not fit for the bundle, such as an MR to CTs.")
    ] = False,
    threads: Threads = None,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Add a cohort's studies with their reports; the library is made if there is none.

    A study that the library already has is replaced. One whose image cannot be read, or is not fit for the bundle, is
    said on stderr; the others are still added and the exit code is 1.
    """
    from greenrfm.cohort import read_cohort
    from greenrfm.commands.cases import case_of
    from greenrfm.commands.scan import open_reader, read_each, scans_of

    server = _server(url, allow_host, allow_plain_http)
    studies = {study.study_id: study for study in read_cohort(cohort)}
    reader = open_reader(bundle, threads)
    states = _states(labels, studies, reader.bundle.findings.keys)
    misses, added = Misses(), 0
    with _open_or_create(library, reader.bundle, server) as cases, display() as show:
        for scan, volume, reading in read_each(reader, scans_of(studies.values()), show, misses):
            study = studies[scan.study_id]
            if reading.withheld and not overrule:
                misses.note(f"study {scan.study_id} is not added: {reading.withheld}; --overrule adds it all the same")
                continue
            try:
                # One by one: encoding takes seconds, and what is done should survive an interruption.
                case = case_of(study, volume, states.get(scan.study_id, {}), reader.bundle.preprocessing)
                cases.add(case, reading.latent)
                added += 1
            except UserError as error:
                misses.note(error)
        total = len(cases)
    if as_json:
        print_json({"library": str(library), "added": added, "cases": total})
    else:
        print(f"{added} studies added; library {library} holds {total}")
    misses.finish()


@app.command(epilog="Example: greenrfm library search cases --bundle run/bundle --image scan.nii.gz -k 5")
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
    study: Annotated[str, typer.Option(metavar="ID", help="The query's study in --labels.")] = "",
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
    if image is None and not text.strip():
        raise typer.BadParameter("give --image, --text or both", param_hint="'--image' / '--text'")

    from greenrfm.bundle import Bundle
    from greenrfm.library import CaseLibrary
    from greenrfm.reading.reading import notice

    loaded = Bundle.load(bundle)
    own = _own_states(labels, study, loaded.findings.keys)
    with CaseLibrary.open(library, loaded.hash, _server(url, allow_host, allow_plain_http)) as cases:
        latents = []
        if image:
            reading = _read_image(loaded, image, series, threads)
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


@app.command(epilog="Example: greenrfm library info cases")
def info(
    library: Folder,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Say what a library holds: cases, patients, findings, and the bundle that it belongs to."""
    from greenrfm.library import CaseLibrary

    with CaseLibrary.open(library, server=_server(url, allow_host, allow_plain_http)) as cases:
        facts = cases.info()
    if as_json:
        print_json(facts)
        return
    print(f"{facts['cases']} cases of {facts['patients']} patients in {facts['folder']}")
    print(f"bundle: {facts['bundle_hash']}")
    for name, title in (("modalities", "modality"), ("present", "reported present")):
        counts = ", ".join(f"{key} {count}" for key, count in facts[name].items())
        print(f"{title}: {counts or '-'}")


@app.command(epilog="Example: greenrfm library delete cases --patient 4711")
def delete(
    library: Folder,
    patient: Annotated[str, typer.Option(metavar="ID", help="Whose cases to delete.", show_default=False)],
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Delete a patient's cases: no byte of their reports, ids, pictures or latents stays in the library's files."""
    from greenrfm.library import CaseLibrary

    with CaseLibrary.open(library, server=_server(url, allow_host, allow_plain_http)) as cases:
        deleted = cases.delete_patient(patient)
        total = len(cases)
    if not deleted:
        raise UserError(
            f"library {library} has no case of that patient; check the id (greenrfm library export lists all)"
        )
    if as_json:
        print_json({"library": str(library), "deleted": deleted, "cases": total})
    else:
        print(f"{deleted} cases deleted; library {library} holds {total}")


@app.command(epilog="Example: greenrfm library export cases --out cases-2026")
def export(
    library: Folder,
    out: Out,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Write all cases as plain files: with reports, names as they were given, pictures and latents."""
    from greenrfm.library import CaseLibrary
    from greenrfm.library.export import export as write

    with CaseLibrary.open(library, server=_server(url, allow_host, allow_plain_http)) as cases:
        count = write(cases, out)
    if as_json:
        print_json({"export": str(out), "cases": count})
    else:
        print(f"{count} cases written to {out}, with their reports, patient ids and pictures: keep it as safe as those")


@app.command("import", epilog="Example: greenrfm library import cases-2026 --out cases")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export", show_default=False)],
    out: Out,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Make a library of an export."""
    from greenrfm.library import CaseLibrary
    from greenrfm.library.export import Export

    content = Export(folder)
    server = _server(url, allow_host, allow_plain_http)
    settings: dict[str, Any] = {"dimension": content.dimension, "keys": content.keys, "server": server}
    with CaseLibrary.create(out, bundle_hash=content.bundle_hash, **settings) as cases:
        count = cases.add_many(content)
    if as_json:
        print_json({"library": str(out), "cases": count})
    else:
        print(f"{count} cases in library {out}")


@app.command(epilog="Example: greenrfm library rebuild cases --bundle run/bundle --out cases-new")
def rebuild(
    library: Folder,
    bundle: BundleOption,
    out: Out,
    threads: Threads = None,
    url: Url = "",
    allow_host: AllowHost = None,
    allow_plain_http: AllowPlain = False,
    as_json: Json = False,
) -> None:
    """Make a new library for another bundle: the images are read anew, reports and labels are taken over.

    The old library stays as it is. A case whose image is gone is said on stderr; the others are still taken over and
    the exit code is 1. A second run goes on where one was interrupted. --url is where the old library's index is;
    the new one's is in its folder.
    """
    from dataclasses import replace

    from greenrfm.commands.scan import Scan, open_reader, read_each
    from greenrfm.commands.thumbnail import thumbnail
    from greenrfm.library import CaseLibrary

    reader = open_reader(bundle, threads)
    if reader.bundle.manifest.networks[0].plane:
        raise UserError(
            f"bundle {bundle} reads several planes and a case keeps one image; make the library anew with library add"
        )
    keys, misses, added = reader.bundle.findings.keys, Misses(), 0
    with (
        CaseLibrary.open(library, server=_server(url, allow_host, allow_plain_http)) as old,
        _open_or_create(out, reader.bundle, None) as new,
        display() as show,
    ):
        scans = [
            Scan(case.study_id, Path(case.source) if case.source else None, case.series_uid, case.modality)
            for case, _ in old.items()
            if case.study_id not in new
        ]
        for scan, volume, reading in read_each(reader, scans, show, misses):
            if reading.withheld:
                misses.note(f"study {scan.study_id} is not taken over: {reading.withheld}")
                continue
            case = old.get(scan.study_id)
            states = {key: state for key, state in case.states.items() if key in keys}
            picture = thumbnail(volume, reader.bundle.preprocessing)
            new.add(replace(case, states=states, thumbnail=picture), reading.latent)
            added += 1
        total = len(new)
    if as_json:
        print_json({"library": str(out), "added": added, "cases": total})
    else:
        print(f"{added} studies read anew; library {out} holds {total}")
    misses.finish()


def _server(url: str, allowed: list[str] | None, plain_http: bool) -> Server | None:
    """Return the server at `url` if latents may be sent there, or None where there is no url."""
    if not url:
        return None
    from greenrfm.distill.hosts import check_endpoint
    from greenrfm.library.server import Server

    hosts = allowed or ()
    try:
        host = check_endpoint(url, hosts, plain_http)
        return Server(host.url, host.remote)
    except UserError as error:
        # The sentences are those of the language models, which would be sent reports.
        raise UserError(
            str(error)
            .replace("so reports would leave", "so latents and findings would leave")
            .replace("may read them", "may have them")
            .replace("the reports", "latents and findings")
            .replace("GREENRFM_API_KEY", "GREENRFM_QDRANT_API_KEY")
            .replace(":11434/v1", ":6333")
        ) from None


def _open_or_create(folder: Path, bundle: Bundle, server: Server | None) -> CaseLibrary:
    from greenrfm.library import CaseLibrary

    if folder.is_dir() and any(folder.iterdir()):
        return CaseLibrary.open(folder, bundle.hash, server)
    return CaseLibrary.create(
        folder, bundle_hash=bundle.hash, dimension=bundle.latent_size, keys=bundle.findings.keys, server=server
    )


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


def _states(path: Path | None, studies: dict[str, Study], keys: tuple[str, ...]) -> dict[str, States]:
    """Return each study's reported states of the findings that the bundle knows."""
    from greenrfm.commands.cases import reported_states
    from greenrfm.findings import LabelTable

    if path is None:
        return {}
    labels = LabelTable.read(path)
    if not set(keys) & set(labels.keys):
        raise UserError(f"labels {path} has none of the bundle's findings {', '.join(keys)}; name the right file")
    return reported_states(labels, studies, keys)


def _read_image(bundle: Bundle, image: Path, series: str, threads: int | None) -> Reading:
    from greenrfm.reading import Reader
    from greenrfm.volumes import read_volume

    return Reader(bundle, threads).read(read_volume(image, series or None))


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

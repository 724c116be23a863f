"""`greenrfm library`: past studies, found by image or by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.library_options import (
    AllowHost,
    AllowPlain,
    BundleOption,
    Folder,
    Json,
    Out,
    Threads,
    Url,
    server_at,
)
from greenrfm.commands.library_search import search
from greenrfm.commands.show import display
from greenrfm.errors import UserError

if TYPE_CHECKING:
    from greenrfm.bundle import Bundle
    from greenrfm.cohort import Study
    from greenrfm.commands.cases import States
    from greenrfm.library import CaseLibrary
    from greenrfm.library.server import Server

app = typer.Typer(no_args_is_help=True, help="The case library: past studies with their reports.")

Overrule = Annotated[
    bool, typer.Option("--overrule", help="Also take scans that are not fit for the bundle, such as an MR among CTs.")
]


@app.command(epilog="Example: greenrfm library add cases cohort.csv --bundle run/bundle --labels labels.csv")
def add(
    library: Folder,
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    bundle: BundleOption,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="labels.csv, so that searches can filter by finding.")
    ] = None,
    overrule: Overrule = False,
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

    server = server_at(url, allow_host, allow_plain_http)
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


app.command(epilog="Example: greenrfm library search cases --bundle run/bundle --image scan.nii.gz -k 5")(search)


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

    with CaseLibrary.open(library, server=server_at(url, allow_host, allow_plain_http)) as cases:
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

    with CaseLibrary.open(library, server=server_at(url, allow_host, allow_plain_http)) as cases:
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

    with CaseLibrary.open(library, server=server_at(url, allow_host, allow_plain_http)) as cases:
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
    server = server_at(url, allow_host, allow_plain_http)
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
    overrule: Overrule = False,
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
    keys, misses, added = reader.bundle.findings.keys, Misses(), 0
    with (
        CaseLibrary.open(library, server=server_at(url, allow_host, allow_plain_http)) as old,
        _open_or_create(out, reader.bundle, None) as new,
        display() as show,
    ):
        scans = [
            Scan(
                case.study_id,
                Path(case.source) if case.source else None,
                case.series_uid,
                case.modality,
                images={name: Path(path) for name, path in case.images.items()},
            )
            for case, _ in old.items()
            if case.study_id not in new
        ]
        for scan, volume, reading in read_each(reader, scans, show, misses):
            if reading.withheld and not overrule:
                misses.note(f"study {scan.study_id} is not taken over: {reading.withheld}; --overrule takes it over")
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


def _open_or_create(folder: Path, bundle: Bundle, server: Server | None) -> CaseLibrary:
    from greenrfm.library import CaseLibrary

    if folder.is_dir() and any(folder.iterdir()):
        return CaseLibrary.open(folder, bundle.hash, server)
    return CaseLibrary.create(
        folder, bundle_hash=bundle.hash, dimension=bundle.latent_size, keys=bundle.findings.keys, server=server
    )


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

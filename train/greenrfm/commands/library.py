"""`greenrfm library`: past studies, found by image or by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import Display, display
from greenrfm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from greenrfm.bundle import Bundle
    from greenrfm.cohort import Study
    from greenrfm.commands.cases import States
    from greenrfm.library import CaseLibrary, Hit

app = typer.Typer(no_args_is_help=True, help="The case library: past studies with their reports.")

Folder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library", show_default=False)]
BundleOption = Annotated[Path, typer.Option(metavar="BUNDLE", help="The bundle that makes the latents.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]
Threads = Annotated[int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")]


@app.command(epilog="Example: greenrfm library add cases cohort.csv --bundle run/bundle --labels labels.csv")
def add(
    library: Folder,
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    bundle: BundleOption,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="labels.csv, so that searches can filter by finding.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Add a cohort's studies with their reports; the library is made if there is none.

    A study that the library already has is replaced. One whose image cannot be read is said on stderr; the others
    are still added and the exit code is 1.
    """
    from greenrfm.cohort import read_cohort
    from greenrfm.commands.cases import case_of
    from greenrfm.commands.scan import open_reader, read_each, scans_of

    studies = {study.study_id: study for study in read_cohort(cohort)}
    reader = open_reader(bundle, threads)
    states = _states(labels, studies, reader.bundle.findings.keys)
    misses, added = Misses(), 0
    with _open_or_create(library, reader.bundle) as cases, display() as show:
        for scan, volume, reading in read_each(reader, scans_of(studies.values()), show, misses):
            study = studies[scan.study_id]
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
    exclude_patient: Annotated[str, typer.Option(metavar="ID", help="Leave out this patient's cases.")] = "",
    series: Annotated[
        str, typer.Option(metavar="UID", help="Which DICOM series, where the folder of --image holds several.")
    ] = "",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Find the most similar past studies, by an image or by a text, and print them with their reports."""
    if (image is None) == (not text.strip()):
        raise typer.BadParameter("give either --image or --text", param_hint="'--image' / '--text'")

    from greenrfm.bundle import Bundle
    from greenrfm.library import CaseLibrary
    from greenrfm.reading.reading import notice

    loaded = Bundle.load(bundle)
    with CaseLibrary.open(library, loaded.hash) as cases:
        latent = _image_latent(loaded, image, series, threads) if image else _text_latent(loaded, text, threads)
        hits = cases.search(
            latent, k, present=present or (), absent=absent or (), exclude_patient=exclude_patient.strip()
        )
    if as_json:
        print_json([_entry(hit) for hit in hits])
        return
    with display() as show:
        show.print(*notice(loaded.manifest.intended_use).splitlines(), "")
        for hit in hits:
            _print_hit(show, hit, loaded)
        if not hits:
            show.say("no case found; the library is empty or the filters leave none")


@app.command(epilog="Example: greenrfm library info cases")
def info(library: Folder, as_json: Json = False) -> None:
    """Say what a library holds: cases, patients, findings, and the bundle that it belongs to."""
    from greenrfm.library import CaseLibrary

    with CaseLibrary.open(library) as cases:
        facts = cases.info()
    if as_json:
        print_json(facts)
        return
    print(f"{facts['cases']} cases of {facts['patients']} patients in {facts['folder']}")
    print(f"bundle: {facts['bundle_hash']}")
    for name, title in (("modalities", "modality"), ("present", "reported present")):
        counts = ", ".join(f"{key} {count}" for key, count in facts[name].items())
        print(f"{title}: {counts or '-'}")


def _open_or_create(folder: Path, bundle: Bundle) -> CaseLibrary:
    from greenrfm.library import CaseLibrary

    if folder.is_dir() and any(folder.iterdir()):
        return CaseLibrary.open(folder, bundle.hash)
    return CaseLibrary.create(folder, bundle_hash=bundle.hash, dimension=bundle.latent_size, keys=bundle.findings.keys)


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


def _image_latent(bundle: Bundle, image: Path, series: str, threads: int | None) -> NDArray[np.float32]:
    from greenrfm.reading import Reader
    from greenrfm.volumes import read_volume

    return Reader(bundle, threads).read(read_volume(image, series or None)).latent


def _text_latent(bundle: Bundle, text: str, threads: int | None) -> NDArray[np.float32]:
    from greenrfm.bundle import TextEncoder

    latent: NDArray[np.float32] = TextEncoder(bundle, threads).encode([text])[0]
    return latent


def _entry(hit: Hit) -> dict[str, Any]:
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
    }


def _print_hit(show: Display, hit: Hit, bundle: Bundle) -> None:
    from greenrfm.findings import State

    case = hit.case
    facts = [f"study {case.study_id}", f"patient {case.patient_id}", case.modality, case.study_date]
    names = [finding.name for finding in bundle.findings.findings if case.states.get(finding.key) is State.PRESENT]
    lines = [f"{hit.rank}. {', '.join(fact for fact in facts if fact)} (similarity {hit.score:.3f})"]
    if names:
        lines.append(f"   reported present: {', '.join(names)}")
    lines += [f"   {line}" for line in case.report.splitlines()]
    show.print(*lines, "")

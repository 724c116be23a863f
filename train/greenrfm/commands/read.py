"""`greenrfm read`: volumes to scores, and where in the volume they come from."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import Display, display

if TYPE_CHECKING:
    from greenrfm.results import Prior, Result

EXAMPLE = "Example: greenrfm read run/bundle scan.nii.gz --heatmaps heat"
_MORE = "Many studies"


def read(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle", show_default=False)],
    volumes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="VOLUME",
            help="NIfTI, NRRD, MHA, a DICOM file or the folder of a DICOM series",
            show_default=False,
        ),
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Read the images of this cohort.csv instead.")] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Read every volume and DICOM series in DIR and below instead.")
    ] = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write DIR/<study>/<finding>.nii.gz, in logits, on the network's own coarse grid: small files that "
            "lie in the right place over the scan.",
        ),
    ] = None,
    query: Annotated[
        str, typer.Option(metavar="TEXT", help="With --heatmaps: also a map of where the scan looks like this text.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write a worklist there: index.html and worklist.csv, the most urgent study first, a page and a JSON "
            "file per study, readings.json, scores.csv, calls.csv and audit.jsonl. Started again, it goes on with "
            "what is missing.",
            rich_help_panel=_MORE,
        ),
    ] = None,
    urgent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=WEIGHT],…",
            help="Findings that put a study first if they are called present; weight 0: the finding counts for "
            "nothing. Repeatable.",
            rich_help_panel=_MORE,
        ),
    ] = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Also look for each patient's prior study in this earlier --out folder or case library. Repeatable.",
            rich_help_panel=_MORE,
        ),
    ] = None,
    patient_ids: Annotated[
        bool,
        typer.Option(
            "--patient-ids/--no-patient-ids",
            help="Whether the files in FOLDER name the patients.",
            rich_help_panel=_MORE,
        ),
    ] = True,
    sr: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write DIR/<study>.dcm, a DICOM structured report (TID 1500) that references the DICOM source.",
            rich_help_panel=_MORE,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")
    ] = None,
    series: Annotated[
        str, typer.Option(metavar="UID", help="Which DICOM series, where the folder holds several.")
    ] = "",
    sequence: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Which of an MR bundle's sequences a single volume is; its first if not given."
        ),
    ] = "",
    field: Annotated[
        Literal["tiles", "padded", "crop", "whole"] | None,
        typer.Option(
            help="What the network sees: crops that cover its full field, that field at once, the smaller and faster "
            "crop of its training, or the whole volume; as the bundle was calibrated if not given.",
            show_default=False,
        ),
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Also score by the findings' names alone; those are not calibrated.")
    ] = False,
    overrule: Annotated[
        bool,
        typer.Option("--overrule", help="Show scores also where the scan is not fit for the bundle and they are void."),
    ] = False,
) -> None:
    """Read volumes with a bundle: a calibrated probability and a call for each finding.

    A volume that cannot be read is said on stderr; the others are still read and the exit code is 1.
    """
    if sum((bool(volumes), cohort is not None, folder is not None)) != 1:
        raise typer.BadParameter("give either volumes or --cohort or --folder", param_hint="'VOLUME'")
    if series and len(volumes or ()) != 1:
        raise typer.BadParameter("it chooses the series of a single volume", param_hint="'--series'")
    if sequence and not volumes:
        raise typer.BadParameter(
            "it says what single volumes are; a cohort's columns name theirs", param_hint="'--sequence'"
        )
    if query.strip() and heatmaps is None:
        raise typer.BadParameter("it needs --heatmaps DIR for its map", param_hint="'--query'")

    from greenrfm.commands.priors import earlier_results
    from greenrfm.commands.scan import open_reader
    from greenrfm.commands.sources import find_sources
    from greenrfm.commands.study import Options
    from greenrfm.commands.worklist import Session
    from greenrfm.errors import UserError
    from greenrfm.results import ResultFolder, Urgency

    if sr is not None:
        _need_highdicom()
    reader = open_reader(bundle, threads)
    loaded, misses = reader.bundle, Misses()
    if (query.strip() or zero_shot) and not loaded.has_text:
        asked = "--query" if query.strip() else "--zero-shot"
        raise UserError(f"bundle {bundle} has no text encoder, which {asked} needs; leave it out")
    urgency = Urgency.parse(urgent or (), loaded.findings.keys)
    options = Options(field, heatmaps, sr, zero_shot, overrule, query.strip(), patient_ids)
    with ExitStack() as stack:
        show = stack.enter_context(display())
        outputs = [path for path in (out, heatmaps, sr) if path is not None]
        found = find_sources(
            volumes or (), series, cohort, folder, modality=loaded.findings.modality, outputs=outputs, progress=show
        )
        if sequence:
            found = replace(found, scans=tuple(replace(scan, sequence=sequence) for scan in found.scans))
        for text in found.damaged:
            misses.note(text)
        kept = stack.enter_context(ResultFolder(out)) if out is not None else None
        places = [*([out] if out is not None else []), *(prior or ())]
        earlier = earlier_results(places, loaded, {scan.patient_id for scan in found.scans} - {""})
        session = Session(reader, found, options, urgency, misses, kept, earlier)
        try:
            for result in session.run(show):
                if not as_json and (volumes or kept is None):
                    print_result(show, result, session.prior(result))
        finally:
            # Also when interrupted: an hour of reading is not thrown away.
            session.write()
        if kept is not None and not as_json:
            show.say(f"{len(session.results)} of {len(found.scans)} studies read: {kept.root / 'index.html'}")
    if as_json:
        print_json(session.to_dicts())
    misses.finish()


def print_result(show: Display, result: Result, prior: Prior | None) -> None:
    """Print what must stand above the scores, the scores, and what changed since the prior study."""
    from rich.table import Table

    show.print(result.study_id, *result.notice.splitlines(), *(f"Warning: {warning}." for warning in result.warnings))
    if result.withheld:
        show.print(f"Scores withheld: {result.withheld}", "")
        return
    changes = {change.key: change for change in prior.changes} if prior else {}
    table = Table("finding", "probability", "call", *(["since prior"] if changes else []))
    table.columns[1].justify = "right"
    for score in result.scores:
        change = changes.get(score.key)
        since = [f"{change.difference:+.3f}, was {change.call_before}" if change else ""] if changes else []
        style = "bold" if score.call == "present" else ""
        table.add_row(score.name, f"{score.probability:.3f}", score.call, *since, style=style)
    show.print(table)
    if prior:
        show.print(f"Prior study: {prior.study_id} of {prior.study_date}{f', {prior.reason}' if prior.reason else ''}")
    zero_shot = result.reading.get("zero_shot")
    if zero_shot:
        table = Table("finding", "zero-shot", caption=zero_shot["notice"])
        for item in zero_shot["findings"]:
            table.add_row(item["name"], f"{item['probability']:.3f}")
        show.print(table)
    show.print("")


def _need_highdicom() -> None:
    """Raise UserError before hours of reading if structured reports cannot be written."""
    from greenrfm.errors import UserError

    try:
        import highdicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "--sr needs the Python package highdicom; install it with: pip install 'greenrfm[dicom]'"
        ) from error

"""`greenrfm read`: volumes to scores, and where in the volume they come from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import Display, display

if TYPE_CHECKING:
    from greenrfm.commands.scan import Scan
    from greenrfm.reading import HeatMaps, Reading

EXAMPLE = "Example: greenrfm read run/bundle scan.nii.gz --heatmaps heat"


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
    heatmaps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write DIR/<study>/<finding>.nii.gz, in logits, on the network's own coarse grid: small files that "
            "lie in the right place over the scan.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write readings.json and scores.csv there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")
    ] = None,
    series: Annotated[
        str, typer.Option(metavar="UID", help="Which DICOM series, where the folder holds several.")
    ] = "",
    field: Annotated[
        Literal["padded", "crop", "whole"],
        typer.Option(
            help="What the network sees: its full field centred on the volume, the smaller and faster crop of its "
            "training, or the whole volume."
        ),
    ] = "padded",
) -> None:
    """Read volumes with a bundle: a calibrated probability and a call for each finding.

    A volume that cannot be read is said on stderr; the others are still read and the exit code is 1.
    """
    if bool(volumes) == bool(cohort):
        raise typer.BadParameter("give either volumes or --cohort", param_hint="'VOLUME'")
    if series and len(volumes or ()) != 1:
        raise typer.BadParameter("it chooses the series of a single volume", param_hint="'--series'")

    from greenrfm.cohort import read_cohort
    from greenrfm.commands.scan import open_reader, read_each, scans_at, scans_of

    scans = scans_of(read_cohort(cohort)) if cohort else scans_at(volumes or (), series)
    reader = open_reader(bundle, threads)
    misses, done = Misses(), list[tuple["Scan", "Reading"]]()
    with display() as show:
        try:
            for scan, _, reading in read_each(reader, scans, show, misses, field=field, heatmaps=heatmaps is not None):
                done.append((scan, reading))
                if heatmaps is not None and reading.heatmaps is not None:
                    write_heatmaps(reading.heatmaps, heatmaps, scan.study_id)
                if not as_json:
                    print_reading(show, reading)
        finally:
            # Also when interrupted: an hour of reading is not thrown away.
            if out is not None:
                write_readings(done, reader.bundle.findings.keys, out)
    if as_json:
        print_json([reading.to_dict() for _, reading in done])
    misses.finish()


def print_reading(show: Display, reading: Reading) -> None:
    """Print what must stand above the scores, and the scores."""
    from rich.table import Table

    table = Table("finding", "probability", "call")
    table.columns[1].justify = "right"
    for score in reading.scores:
        style = "bold" if score.call == "present" else ""
        table.add_row(score.name, f"{score.probability:.3f}", score.call, style=style)
    show.print(
        reading.study_id,
        *reading.notice.splitlines(),
        *(f"Warning: {warning}." for warning in reading.warnings),
        table,
        "",
    )


def write_heatmaps(maps: HeatMaps, folder: Path, study_id: str) -> None:
    """Write one NIfTI per finding, a voxel per cell of the network's grid."""
    from greenrfm.commands.scan import file_name
    from greenrfm.reading import coarse_volume
    from greenrfm.volumes import write_volume

    for key in maps.keys:
        write_volume(coarse_volume(maps, key), folder / file_name(study_id) / f"{key}.nii.gz")


def write_readings(done: Sequence[tuple[Scan, Reading]], keys: Sequence[str], folder: Path) -> None:
    """Write readings.json (what --json prints) and scores.csv (what `greenrfm evaluate scores` takes)."""
    from greenrfm.files import write_text

    readings = [reading.to_dict() for _, reading in done]
    write_text(folder / "readings.json", json.dumps(readings, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    # Not by evaluation's ScoreTable: that room needs scipy, which reading must do without.
    patients = bool(done) and all(scan.patient_id for scan, _ in done)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study_id", *(["patient_id"] if patients else []), *keys])
    for scan, reading in done:
        names = [scan.study_id, scan.patient_id] if patients else [scan.study_id]
        writer.writerow([*names, *(repr(score.probability) for score in reading.scores)])
    write_text(folder / "scores.csv", text.getvalue())

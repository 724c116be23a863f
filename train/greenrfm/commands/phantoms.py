"""`greenrfm phantoms`: generated cohorts whose truth is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greenrfm.commands.answer import print_json
from greenrfm.commands.show import display

if TYPE_CHECKING:
    from greenrfm.cohort import Cohort

app = typer.Typer(no_args_is_help=True, help="Generated cohorts whose truth is known.")


Studies = Annotated[int, typer.Option(min=1, help="How many studies.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; a generation cut off goes on there.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same studies.")]
Matrix = Annotated[int, typer.Option(min=32, help="Rows and columns of each slice.")]
# Coarser pixels would be no thinner than the slices, which then lie in no plane.
KneeMatrix = Annotated[int, typer.Option(min=56, help="Rows and columns of each slice.")]
Workers = Annotated[int | None, typer.Option(min=1, show_default=False, help="Processes; one per core if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command(epilog="Example: greenrfm phantoms chest --studies 100 --out phantoms")
def chest(
    studies: Studies, out: Out, seed: Seed = 0, matrix: Matrix = 128, workers: Workers = None, as_json: Json = False
) -> None:
    """Generate chest CTs with findings, reports and truth masks: cohort.csv, labels.csv, truth.csv, volumes, truth.

    labels.csv holds what the reports say, truth.csv what the volumes show.
    """
    from greenrfm.phantoms.cohort import write_chest_cohort

    _write(write_chest_cohort, studies, out, seed, matrix, workers, as_json)


@app.command(epilog="Example: greenrfm phantoms knee --studies 100 --out knees")
def knee(
    studies: Studies, out: Out, seed: Seed = 0, matrix: KneeMatrix = 224, workers: Workers = None, as_json: Json = False
) -> None:
    """Generate knee MRs in three planes and up to three sequences: cohort.csv, labels.csv, truth.csv, volumes, truth.

    Some planes and sequences are missing, as in real cohorts. labels.csv holds what the reports say, truth.csv what
    was drawn. Train on it with --recipe mr, or a smaller one of your own.
    """
    from greenrfm.phantoms.knee_cohort import write_knee_cohort

    _write(write_knee_cohort, studies, out, seed, matrix, workers, as_json)


def _write(
    write: Callable[..., Cohort],
    studies: int,
    out: Path,
    seed: int,
    matrix: int,
    workers: int | None,
    as_json: bool,
) -> None:
    out = out.resolve()  # images in cohort.csv are relative to it, not to where the command was called
    with display() as show:
        cohort = write(out, studies, seed=seed, matrix=matrix, workers=workers or os.cpu_count() or 1, progress=show)
    if as_json:
        print_json({"cohort": str(out / "cohort.csv"), "labels": str(out / "labels.csv"),
                    "truth": str(out / "truth.csv"), "studies": len(cohort)})  # fmt: skip
    else:
        print(f"{len(cohort)} studies: {out / 'cohort.csv'}, labels.csv and truth.csv beside it")

"""`greenrfm phantoms`: generated cohorts whose truth is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from greenrfm.commands.answer import print_json
from greenrfm.commands.show import display

app = typer.Typer(no_args_is_help=True, help="Generated cohorts whose truth is known.")


@app.callback()
def _group() -> None:
    """Keep `chest` a subcommand while it is the only one."""


@app.command(epilog="Example: greenrfm phantoms chest --studies 100 --out phantoms")
def chest(
    studies: Annotated[int, typer.Option(min=1, help="How many studies.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; a generation cut off goes on there.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same studies.")] = 0,
    matrix: Annotated[int, typer.Option(min=32, help="Rows and columns of each slice.")] = 128,
    workers: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Processes; one per core if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Generate chest CTs with findings, reports and truth masks: cohort.csv, labels.csv, truth.csv, volumes, truth.

    labels.csv holds what the reports say, truth.csv what the volumes show.
    """
    from greenrfm.phantoms.cohort import write_chest_cohort

    out = out.resolve()  # images in cohort.csv are relative to it, not to where the command was called
    with display() as show:
        cohort = write_chest_cohort(
            out, studies, seed=seed, matrix=matrix, workers=workers or os.cpu_count() or 1, progress=show
        )
    if as_json:
        print_json({"cohort": str(out / "cohort.csv"), "labels": str(out / "labels.csv"),
                    "truth": str(out / "truth.csv"), "studies": len(cohort)})  # fmt: skip
    else:
        print(f"{len(cohort)} studies: {out / 'cohort.csv'}, labels.csv and truth.csv beside it")

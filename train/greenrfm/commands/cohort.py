"""`greenrfm cohort`: whether a table of studies is fit for use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenrfm.commands.answer import print_json
from greenrfm.errors import UserError

app = typer.Typer(no_args_is_help=True, help="The table of studies.")


@app.callback()
def _group() -> None:
    """Keep `check` a subcommand while it is the only one."""


@app.command(epilog="Example: greenrfm cohort check cohort.csv")
def check(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Check a cohort: columns, ids, splits by patient, and that every image is there; images are not opened."""
    from greenrfm.cohort import SPLITS, check_cohort, read_cohort

    table = read_cohort(cohort)
    problems = check_cohort(table)
    splits = {name or "none": len(table.by_split(name)) for name in (*SPLITS, "")}
    facts = {
        "studies": len(table),
        "patients": len({study.patient_id for study in table}),
        "with_image": sum(bool(study.images) for study in table),
        "with_report": sum(bool(study.report) for study in table),
        "splits": {name: count for name, count in splits.items() if count},
        "problems": problems,
    }
    if as_json:
        print_json(facts)
    else:
        print(f"{facts['studies']} studies of {facts['patients']} patients, {facts['with_image']} with an image, "
              f"{facts['with_report']} with a report")  # fmt: skip
        print("split: " + ", ".join(f"{name} {count}" for name, count in splits.items() if count))
        for problem in problems:
            print(problem)
    if problems:
        raise UserError(f"cohort {cohort} has {len(problems)} problems, listed on stdout; mend them first")

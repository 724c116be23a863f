"""`greenrfm labels`: how good labels are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from greenrfm.commands.answer import print_json

app = typer.Typer(no_args_is_help=True, help="Tables of labels.")

Policy = Literal["absent", "present", "exclude"]


@app.callback()
def _group() -> None:
    """Keep `compare` a subcommand while it is the only one."""


@app.command(epilog="Example: greenrfm labels compare gold.csv labels.csv --not-mentioned absent")
def compare(
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="labels.csv that is right", show_default=False)],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv to judge", show_default=False)],
    not_mentioned: Annotated[Policy, typer.Option(help="What an empty cell means, in both tables.")] = "absent",
    uncertain: Annotated[Policy, typer.Option(help="What -1 means, in both tables.")] = "exclude",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare labels with gold ones: precision, recall, F1 and kappa per finding and macro, with intervals."""
    from greenrfm.evaluation import as_text, compare_labels
    from greenrfm.findings import LabelTable

    result = compare_labels(
        LabelTable.read(gold), LabelTable.read(labels), not_mentioned=not_mentioned, uncertain=uncertain
    )
    if as_json:
        print_json(result)
    else:
        print(as_text(result, ("precision", "recall", "f1", "kappa")))

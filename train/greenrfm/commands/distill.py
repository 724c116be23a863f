"""`greenrfm distill`: reports to labels with evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from greenrfm.commands.answer import print_json
from greenrfm.commands.show import display
from greenrfm.errors import UserError

EXAMPLE = "Example: greenrfm distill cohort.csv --findings chest-ct-18 --labeler lexicon --out labels.csv"


def distill(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    findings: Annotated[str, typer.Option(metavar="NAME", help="Finding set: its name or your own .yaml file.")],
    out: Annotated[Path, typer.Option(metavar="LABELS", help="labels.csv to write; the evidence goes beside it.")],
    labeler: Annotated[Literal["lexicon"], typer.Option(help="Who reads the reports.")] = "lexicon",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Turn the reports of a cohort into states of findings, each with the sentence that it rests on.

    Writes labels.csv (1 present, 0 absent, -1 uncertain, empty not mentioned) and labels.evidence.jsonl.
    """
    from greenrfm.cohort import read_cohort
    from greenrfm.distill import LexiconLabeler, label_reports, write_evidence
    from greenrfm.findings import State, load_finding_set

    table, finding_set = read_cohort(cohort), load_finding_set(findings)
    if not any(study.report for study in table):
        raise UserError(f"cohort {cohort} has no report; fill its column 'report'")
    with display() as show:
        labels, evidence = label_reports(
            LexiconLabeler(finding_set),
            [(study.study_id, study.report) for study in table],
            lambda done, total: show("label reports", done, total),
        )
    beside = out.with_suffix(".evidence.jsonl")
    write_evidence(beside, evidence)
    labels.write(out)
    counts = {
        finding.key: {state.name.lower(): int((labels.states[:, column] == state).sum()) for state in State}
        for column, finding in enumerate(finding_set.findings)
    }
    if as_json:
        print_json({"labels": str(out), "evidence": str(beside), "studies": len(table), "findings": counts})
        return
    from rich.table import Table

    overview = Table("finding", *(state.name.lower().replace("_", " ") for state in State))
    for finding in finding_set.findings:
        overview.add_row(finding.name, *(str(count) for count in counts[finding.key].values()))
    show.print(overview, f"labels of {len(table)} studies: {out}", f"evidence: {beside}")

"""`greenrfm labels`: how good labels are, and a person's word on them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from greenrfm.commands.answer import print_json, sentence

if TYPE_CHECKING:
    from greenrfm.cohort import Cohort
    from greenrfm.findings import FindingSet

app = typer.Typer(no_args_is_help=True, help="Tables of labels.")

Policy = Literal["absent", "present", "exclude"]


@app.command(epilog="Example: greenrfm labels compare gold.csv labels.csv --not-mentioned absent")
def compare(
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="labels.csv that is right", show_default=False)],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv to judge", show_default=False)],
    not_mentioned: Annotated[Policy, typer.Option(help="What an empty cell means, in both tables.")] = "absent",
    uncertain: Annotated[Policy, typer.Option(help="What -1 means, in both tables.")] = "exclude",
    unlabelled: Annotated[
        Literal["refuse", "exclude"], typer.Option(help="What to do with gold studies that LABELS lack.")
    ] = "refuse",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare labels with gold ones: precision, recall, F1, kappa and counts per finding and macro, with intervals."""
    from greenrfm.evaluation import as_text, compare_labels
    from greenrfm.findings import LabelTable

    result = compare_labels(
        LabelTable.read(gold),
        LabelTable.read(labels),
        not_mentioned=not_mentioned,
        uncertain=uncertain,
        unlabelled=unlabelled,
    )
    if as_json:
        print_json(result)
    else:
        print(as_text(result, ("precision", "recall", "f1", "kappa"), ("tp", "fp", "fn", "tn")))


@app.command(epilog="Example: greenrfm labels review cohort.csv labels.csv --findings chest-ct-18 --out review.html")
def review(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv that was labelled", show_default=False)],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv to look at", show_default=False)],
    findings: Annotated[str, typer.Option(metavar="NAME", help="Finding set: its name or your own .yaml file.")],
    out: Annotated[Path | None, typer.Option(metavar="PAGE", help="Page to write (.html).")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many studies the page shows.")] = 200,
    decided: Annotated[
        Path | None, typer.Option("--apply", metavar="OVERRIDES", help="overrides.csv that the page saved.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Write a page of the studies at which a human look is worth most, or put what was decided into the labels.

    The page shows each report with its evidence, and saves decisions as overrides.csv; --apply keeps them
    beside the labels (labels.overrides.csv), where they survive every new greenrfm distill. The page holds
    reports: it stays in the house.
    """
    from greenrfm.cohort import read_cohort
    from greenrfm.distill.labels_files import check_outputs
    from greenrfm.findings import load_finding_set

    if out is None and decided is None:
        raise typer.BadParameter("name a page to write with --out, or decisions with --apply")
    if out is not None and out.suffix != ".html":
        raise typer.BadParameter("the page of --out must end in .html")
    check_outputs(labels, cohort, *filter(None, (out,)))
    studies, finding_set = read_cohort(cohort), load_finding_set(findings)
    answer: dict[str, Any] = {}
    if decided is not None:
        answer["applied"] = _apply(decided, studies, labels, finding_set)
    if out is not None:
        command = ["greenrfm", "labels", "review", str(cohort), str(labels)]
        command += ["--findings", findings, "--apply", "overrides.csv"]
        answer["page"] = _write_page(out, studies, labels, finding_set, limit, shlex.join(command))
    if as_json:
        print_json(answer)
        return
    if applied := answer.get("applied"):
        print(f"{applied['decided']} findings are decided by people; {applied['changed']} differ from the labeler")
        print(f"labels: {labels}; kept for the next run: {applied['overrides']}")
    if page := answer.get("page"):
        print(f"{page['shown']} of {page['studies']} studies: {out} (it holds reports: keep it in the house)")


@app.command(epilog="Example: greenrfm labels agreement labels.csv")
def agreement(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv of a consensus", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show how well the labelers of a consensus agree on each finding: share, Cohen's kappa, contradictions."""
    from greenrfm.distill.agreement import agreement, as_text
    from greenrfm.distill.evidence_file import evidence_path, read_evidence
    from greenrfm.findings import LabelTable

    table = LabelTable.read(labels)
    result = agreement(table.keys, len(table.study_ids), read_evidence(evidence_path(labels)))
    if as_json:
        print_json(result)
    else:
        print(as_text(result))


def _apply(decided: Path, cohort: Cohort, labels: Path, finding_set: FindingSet) -> dict[str, Any]:
    from greenrfm.distill.apply_overrides import apply_decisions
    from greenrfm.distill.overrides import overrides_path, read

    applied = apply_decisions(labels, cohort, finding_set, read(decided, finding_set))
    if applied.stale:
        many, study = len(applied.stale), applied.stale[0][0]
        sentence(f"not applied: {many} decided on another wording of the report (first: study {study}); review them")
    if applied.unknown_studies:
        many, study = len(applied.unknown_studies), applied.unknown_studies[0]
        sentence(f"not applied: decisions on {many} studies that cohort {cohort.path} lacks (first: {study})")
    if applied.incomplete:
        many, study = len(applied.incomplete), applied.incomplete[0]
        sentence(f"{many} failed studies are not decided on every finding and stay without labels (first: {study})")
    return {
        "overrides": str(overrides_path(labels)),
        "decided": applied.held,
        "changed": applied.changed,
        "labelled_by_hand": applied.by_hand,
        "stale": [{"study_id": study, "finding": finding} for study, finding in applied.stale],
        "unknown_studies": list(applied.unknown_studies),
        "incomplete": list(applied.incomplete),
    }


def _write_page(
    out: Path, cohort: Cohort, labels: Path, finding_set: FindingSet, limit: int, command: str
) -> dict[str, Any]:
    from datetime import datetime

    from greenrfm.distill.labels_files import Labels
    from greenrfm.distill.overrides import load
    from greenrfm.distill.page import render_page
    from greenrfm.distill.review import select
    from greenrfm.files import write_text

    with Labels(labels, cohort, finding_set) as files:
        chosen = select(files, load(labels, finding_set), limit)
    by = ", ".join(chosen.labelers) or "people"
    made = f"{finding_set.title}. Made on {datetime.now().date().isoformat()} from {labels.name}, labelled by {by}."
    write_text(out, render_page(chosen, finding_set, command=command, made=made))
    return {
        "page": str(out),
        "shown": len(chosen.items),
        "studies": chosen.studies,
        "stale": chosen.stale,
        "disagreements": chosen.disputed,
        "uncertain": chosen.uncertain,
        "failed": chosen.failed,
        "unfinished": chosen.unfinished,
        "decided": chosen.decided,
    }

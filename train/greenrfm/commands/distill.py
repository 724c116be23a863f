"""`greenrfm distill`: reports to labels with evidence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import Display, display
from greenrfm.errors import UserError

if TYPE_CHECKING:
    from greenrfm.commands.labelers import Made
    from greenrfm.distill.cost import Price
    from greenrfm.distill.run import Summary
    from greenrfm.findings import FindingSet

EXAMPLE = "Example: greenrfm distill cohort.csv --findings chest-ct-18 --labeler lexicon --out labels.csv"


def distill(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    findings: Annotated[str, typer.Option(metavar="NAME", help="Finding set: its name or your own .yaml file.")],
    out: Annotated[
        Path, typer.Option(metavar="LABELS", help="labels.csv to write; evidence, journal and failures go beside it.")
    ],
    labeler: Annotated[
        Literal["lexicon", "llm", "consensus"],
        typer.Option(help="Who reads the reports: phrases and rules, a language model, or both."),
    ] = "lexicon",
    endpoint: Annotated[
        str,
        typer.Option(metavar="URL", help="OpenAI-compatible server of the model; Ollama on this machine if not given."),
    ] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="The server's name of the model.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A host other than this machine that may see reports.")
    ] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Let reports go to another host unencrypted.")
    ] = False,
    deidentify: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(help="Remove dates, names and numbers before sending; auto: for other hosts."),
    ] = "auto",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Reports at once; as many as the server takes.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, metavar="S", help="Seconds to wait for an answer.")] = 120,
    context: Annotated[
        int,
        typer.Option(min=512, metavar="TOKENS", help="Context the server gives the model; longer reports are cut."),
    ] = 4096,
    samples: Annotated[
        int, typer.Option(min=1, max=9, help="Ask the model so many times and keep what all answers say.")
    ] = 1,
    budget: Annotated[
        float | None,
        typer.Option(min=0, metavar="AMOUNT", show_default=False, help="Stop asking once the runs have cost so much."),
    ] = None,
    price: Annotated[
        str, typer.Option(metavar="PROMPT,COMPLETION", help="Price of a million tokens of each, in your currency.")
    ] = "",
    ask_key: Annotated[
        bool, typer.Option("--ask-key", help="Ask for the API key instead of taking GREENRFM_API_KEY.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw earlier labels away and begin anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Turn the reports of a cohort into states of findings, each with the sentence that it rests on.

    Writes labels.csv (1 present, 0 absent, -1 uncertain, empty not mentioned) and labels.evidence.jsonl. A
    run that was stopped goes on where it was: run the same command again, which also retries reports that
    failed. Those have no row in labels.csv but one with the reason in labels.failed.csv; the exit code is 1.
    """
    from greenrfm.commands.labelers import Making, Server

    server = Server(
        endpoint, model, tuple(allow_host or ()), allow_plain_http, deidentify, timeout, context, samples, ask_key
    )
    prices = _price(price, budget)
    if labeler == "lexicon":
        server.check_unused()

    from greenrfm.cohort import read_cohort
    from greenrfm.distill.cost import Meter
    from greenrfm.distill.journal import Journal
    from greenrfm.distill.labels_files import check_outputs
    from greenrfm.distill.overrides import load
    from greenrfm.distill.run import distill_reports
    from greenrfm.findings import load_finding_set

    check_outputs(out, cohort)
    finding_set = load_finding_set(findings)
    studies = [(study.study_id, study.report) for study in read_cohort(cohort)]
    if not any(report for _, report in studies):
        raise UserError(f"cohort {cohort} has no report; fill its column 'report'")
    making, overrides = Making(labeler, finding_set, server), load(out, finding_set)
    with Journal(out, fresh=fresh) as journal, display() as show:
        meter = Meter(prices, budget, journal.usage)
        made = making.make(journal.form, meter)
        summary = distill_reports(
            made.labeler,
            studies,
            journal,
            # The lexicon is no faster for threads.
            workers=1 if labeler == "lexicon" else workers,
            progress=show,
            meter=meter,
            overrides=overrides,
            form=made.form,
            stop=made.close,
        )
    if as_json:
        print_json(_json(summary, made, len(studies)))
    else:
        _print(show, summary, made, finding_set, len(studies))
    misses, outputs = Misses(), summary.outputs
    if outputs.failed:
        misses.note(
            f"{outputs.failed} of {len(studies)} reports could not be labelled; {outputs.failures} says why, "
            "and the same command tries them again"
        )
    if summary.over_budget:
        misses.note(
            f"the budget is spent ({summary.cost:.4g} of {budget:g}) and {outputs.unfinished} of {len(studies)} "
            "reports are not labelled; a larger --budget goes on"
        )
    misses.finish()


def _price(text: str, budget: float | None) -> Price | None:
    from greenrfm.distill.cost import Price

    if budget is not None and not math.isfinite(budget):
        raise typer.BadParameter("it must be an amount such as 20", param_hint="'--budget'")
    if not text:
        if budget is not None:
            raise typer.BadParameter("it needs --price", param_hint="'--budget'")
        return None
    try:
        return Price.parse(text)
    except ValueError as error:
        raise typer.BadParameter("it must be two numbers such as 0.15,0.60", param_hint="'--price'") from error


def _json(summary: Summary, made: Made, studies: int) -> dict[str, Any]:
    outputs, usage = summary.outputs, summary.usage
    return {
        "labels": str(outputs.labels),
        "evidence": str(outputs.evidence),
        "failures": str(outputs.failures) if outputs.failed else None,
        "studies": studies,
        "labelled": outputs.labelled,
        "failed": outputs.failed,
        "unfinished": outputs.unfinished,
        "overridden": outputs.overridden,
        "stale_overrides": outputs.stale,
        "usage": {
            "requests": usage.requests,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "estimated": made.usage_is_estimated,
        },
        "cost": summary.cost,
        "removed": dict(made.deidentifier.removed) if made.deidentifier else None,
        "findings": outputs.counts,
    }


def _print(show: Display, summary: Summary, made: Made, finding_set: FindingSet, studies: int) -> None:
    from rich.table import Table

    from greenrfm.findings import State

    outputs, usage = summary.outputs, summary.usage
    overview = Table("finding", *(state.name.lower().replace("_", " ") for state in State))
    for finding in finding_set.findings:
        overview.add_row(finding.name, *(str(count) for count in outputs.counts[finding.key].values()))
    of_all = "" if outputs.labelled == studies else f" (of {studies})"
    show.print(overview, f"labels of {outputs.labelled} studies{of_all}: {outputs.labels}")
    show.print(f"evidence: {outputs.evidence}")
    if outputs.overridden or outputs.stale:
        stale = f"; {outputs.stale} were decided on another wording and are not applied" if outputs.stale else ""
        show.print(f"findings decided by people: {outputs.overridden}{stale}")
    if usage.requests:
        cost = "" if summary.cost is None else f", cost {summary.cost:.4g}"
        show.print(
            f"all runs: {usage.requests} requests, {usage.prompt_tokens} tokens sent and "
            f"{usage.completion_tokens} received{' (estimated)' if made.usage_is_estimated else ''}{cost}"
        )
    if made.deidentifier is not None:
        from greenrfm.distill.deidentify import in_words

        show.print(f"removed before sending, in this run: {in_words(made.deidentifier.removed)}")

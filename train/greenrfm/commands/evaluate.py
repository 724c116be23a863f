"""`greenrfm evaluate`: how good scores are, and how well reports find their volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import display
from greenrfm.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Measures with intervals.")

KS = (1, 5, 10)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]


@app.command(epilog="Example: greenrfm evaluate scores scores.csv labels.csv")
def scores(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="scores.csv, from greenrfm read", show_default=False)
    ],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv that is right", show_default=False)],
    as_json: Json = False,
) -> None:
    """Measure scores against labels: AUROC, average precision, Brier score and calibration error, with intervals.

    Uncertain and not mentioned entries are left out. JSON also has sensitivity, specificity and F1 at probability 0.5.
    """
    from greenrfm.evaluation import as_text, evaluate_scores

    result = evaluate_scores(scores, labels)
    if as_json:
        print_json(result)
    else:
        print(as_text(result, ("auroc", "average_precision", "brier", "ece")))


@app.command(epilog="Example: greenrfm evaluate retrieval run/bundle run/cohort.csv --split test")
def retrieval(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle", show_default=False)],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    split: Annotated[
        Literal["train", "validation", "test", "all"], typer.Option(help="Which part of the cohort.")
    ] = "test",
    threads: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how often a report finds its own volume among the first 1, 5 and 10, beside chance.

    A study whose image cannot be read is said on stderr and left out on both sides; the exit code is then 1.
    """
    from greenrfm.cohort import read_cohort

    table = read_cohort(cohort)
    studies = {study.study_id: study for study in (table if split == "all" else table.by_split(split))}
    if not studies:
        raise UserError(f"cohort {cohort} has no study in split '{split}'; name another with --split, or all")
    without = [study.study_id for study in studies.values() if not study.report]
    if without:
        raise UserError(f"cohort {cohort}: {len(without)} studies have no report, first {without[0]}; leave them out")

    import numpy as np

    from greenrfm.bundle import TextEncoder
    from greenrfm.commands.scan import open_reader, read_each, scans_of
    from greenrfm.evaluation import recall_at_k

    reader = open_reader(bundle, threads)
    encoder, misses = TextEncoder(reader.bundle, threads), Misses()
    with display() as show:
        found = {
            scan.study_id: reading.latent
            for scan, _, reading in read_each(reader, scans_of(studies.values()), show, misses)
        }
        reports = []
        for number, study in enumerate(found, start=1):
            reports.append(encoder.encode([studies[study].report])[0])
            show("encode reports", number, len(found))
    if not found:
        raise UserError(f"no image of cohort {cohort} could be read; there is nothing to find")
    result = recall_at_k(
        np.stack(reports) @ np.stack(list(found.values())).T,
        list(found),
        list(found),
        KS,
        patient_ids=[studies[study].patient_id for study in found],
    )
    if as_json:
        print_json({"n": len(found), "split": split, **result})
    else:
        print(f"report -> volume, {len(found)} studies, split {split}; 95 % intervals resample patients")
        for k in KS:
            low, high = result["intervals"][f"recall_at_{k}"]
            print(
                f"recall@{k:<3} {result[f'recall_at_{k}']:.3f} ({low:.3f}…{high:.3f})"
                f"  chance {result[f'chance_recall_at_{k}']:.3f}"
            )
        print(f"median rank {result['median_rank']:g}")
    misses.finish()

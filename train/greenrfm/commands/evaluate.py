"""`greenrfm evaluate`: how good scores are, and how well reports and volumes find each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import display
from greenrfm.errors import UserError
from greenrfm.progress import silent

if TYPE_CHECKING:
    from greenrfm.cohort import Study

# With so many scores the intervals take seconds, and progress is shown.
LONG = 100_000

app = typer.Typer(no_args_is_help=True, help="Measures with intervals.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a page there, its plots as SVG and PNG, and results.json."),
]


@app.command(epilog="Example: greenrfm evaluate scores scores.csv labels.csv --thresholds run/bundle --out evaluation")
def scores(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="scores.csv or calls.csv, from greenrfm read", show_default=False)
    ],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="labels.csv that is right", show_default=False)],
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE|CSV",
            help="Judge by these thresholds: a bundle's own, or a CSV 'finding,present,absent'. Without it, by the "
            "calls in SCORES, or else at probability 0.5.",
        ),
    ] = None,
    validation: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="SCORES LABELS",
            help="Judge by the threshold of each finding that reaches --specificity on these other studies.",
            show_default=False,
        ),
    ] = None,
    specificity: Annotated[float, typer.Option(min=0, max=1, help="At which specificity sensitivity is stated.")] = 0.9,
    sensitivity: Annotated[float, typer.Option(min=0, max=1, help="At which sensitivity specificity is stated.")] = 0.9,
    per: Annotated[
        Literal["volume", "report"],
        typer.Option(
            help="What counts once: every volume, or the first volume of each report, where reconstructions share one."
        ),
    ] = "volume",
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="COHORT", help="cohort.csv that says which patient and report a volume belongs to."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure scores against labels: AUC, average precision, F1, sensitivity and specificity, Brier, calibration error.

    Uncertain and not mentioned entries are left out. Thresholds never come from LABELS. An indeterminate call counts
    as not present; the share decided, and how good those calls are, stand beside it in JSON.
    """
    from greenrfm.cohort import read_cohort
    from greenrfm.evaluation import as_text, evaluate_pairs, match, stated_thresholds, thresholds_from_validation
    from greenrfm.evaluation.report import notes_of_scores

    if thresholds is not None and validation is not None:
        raise typer.BadParameter("give --thresholds or --validation, not both", param_hint="'--validation'")
    operating = stated_thresholds(thresholds) if thresholds is not None else None
    if validation is not None:
        operating = thresholds_from_validation(*validation, specificity, apart_from=scores)
    pairs = match(scores, labels, per, read_cohort(cohort) if cohort is not None else None)
    with display() as show:
        progress = show if pairs.states.size >= LONG else silent
        result = evaluate_pairs(
            pairs, thresholds=operating, specificity=specificity, sensitivity=sensitivity, progress=progress
        )
    page = None
    if out is not None:
        from greenrfm.evaluation.page import write_scores_page

        page = write_scores_page(out, result, pairs.scores, pairs.states)
    if as_json:
        print_json(result)
        return
    measures = ("auroc", "average_precision", "f1", "sensitivity_at_specificity", "brier", "ece")
    print(as_text(result, measures, ("n", "positives")))
    for note in notes_of_scores(result):
        print(note)
    if page is not None:
        print(f"The page: {page}")


@app.command(epilog="Example: greenrfm evaluate retrieval run/bundle run/cohort.csv --labels labels.csv --split test")
def retrieval(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle", show_default=False)],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    split: Annotated[
        Literal["train", "validation", "test", "all"], typer.Option(help="Which part of the cohort.")
    ] = "test",
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="labels.csv, to measure image -> image by common findings.")
    ] = None,
    alike: Annotated[
        float,
        typer.Option(min=0, max=1, help="Image -> image: which share of their findings two volumes have in common."),
    ] = 0.5,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure recall@k and MAP@k, text -> image, image -> text and image -> image, beside chance.

    In the honest definition and in that of public scripts, each named. A study whose image cannot be read is said on
    stderr and left out on both sides; the exit code is then 1.
    """
    from greenrfm.cohort import read_cohort

    table = read_cohort(cohort)
    studies = {study.study_id: study for study in (table if split == "all" else table.by_split(split))}
    if not studies:
        raise UserError(f"cohort {cohort} has no study in split '{split}'; name another with --split, or all")
    states = None
    if labels is not None:
        from greenrfm.findings import LabelTable

        states = dict(zip(studies, LabelTable.read(labels).rows(studies), strict=True))
    latents, texts, misses = _encoded(bundle, studies, cohort, threads, needs_text=states is None)

    import numpy as np

    from greenrfm.evaluation import evaluate_retrieval, volumes_of
    from greenrfm.evaluation.report import retrieval_as_text

    found = evaluate_retrieval(
        np.stack(list(latents.values())),
        None if texts is None else np.stack(list(texts.values())),
        volumes_of([studies[study] for study in latents]),
        None if states is None else np.stack([states[study] for study in latents]),
        alike=alike,
    )
    # On top, what this command has always said: the honest text -> image.
    result = {**(found["honest"]["text_to_image"] or {}), **found, "split": split}
    if out is not None:
        from greenrfm.evaluation.page import write_retrieval_page

        page = write_retrieval_page(out, result)
    if as_json:
        print_json(result)
    else:
        print(f"split {split}: {retrieval_as_text(result)}")
        if out is not None:
            print(f"The page: {page}")
    misses.finish()


def _encoded(
    folder: Path, studies: dict[str, Study], cohort: Path, threads: int | None, needs_text: bool
) -> tuple[dict[str, Any], dict[str, Any] | None, Misses]:
    """Return the latents of the volumes and of their reports by study id, and what could not be read."""
    from greenrfm.bundle import TextEncoder
    from greenrfm.commands.scan import open_reader, read_each, scans_of

    reader, misses = open_reader(folder, threads), Misses()
    if needs_text and not reader.bundle.has_text:
        raise UserError(f"bundle {folder} has no text encoder; give --labels to measure image -> image")
    without = [study.study_id for study in studies.values() if not study.report]
    if without and reader.bundle.has_text:
        raise UserError(f"cohort {cohort}: {len(without)} studies have no report, first {without[0]}; leave them out")
    encoder = TextEncoder(reader.bundle, threads) if reader.bundle.manifest.has_text else None
    with display() as show:
        latents = {
            scan.study_id: reading.latent
            for scan, _, reading in read_each(reader, scans_of(studies.values()), show, misses)
        }
        texts: dict[str, Any] = {}
        for number, study in enumerate(latents if encoder is not None else (), start=1):
            assert encoder is not None
            texts[study] = encoder.encode([studies[study].report])[0]
            show("encode reports", number, len(latents))
    if not latents:
        raise UserError(f"no image of cohort {cohort} could be read; there is nothing to find")
    return latents, texts if encoder is not None else None, misses

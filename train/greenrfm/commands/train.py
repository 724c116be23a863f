"""`greenrfm train`: cohort and labels to a bundle."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from greenrfm.commands.answer import print_json
from greenrfm.commands.show import display
from greenrfm.errors import UserError
from greenrfm.progress import silent

EXAMPLE = "Example: greenrfm train cohort.csv --labels labels.csv --recipe lite --out run"
CANCEL_EXAMPLE = "Example: greenrfm cancel run"


def train(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="cohort.csv", show_default=False)],
    labels: Annotated[Path, typer.Option(metavar="LABELS", help="labels.csv, from greenrfm distill.")],
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="lite, performant, … or your own .yaml file.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run; the bundle is RUN/bundle.")],
    findings: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Finding set: its name or your own .yaml file; if not given, the one with the columns of LABELS.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of splits, initial weights, crops and batches.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Of prepared volumes; if not given, $GREENRFM_CACHE or your own.",
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="List studies whose image cannot be read, and go on without.")
    ] = False,
    vram: Annotated[
        str, typer.Option(metavar="6GB", help="Measure which micro-batch and checkpointing fit this memory.")
    ] = "",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Save so often inside a stage.")] = 10.0,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Save after so many steps too.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Train a model: vision and text by the labels, then both aligned, then calibrated and exported as a bundle.

    A recipe without text, such as adrenal, needs no reports: its bundle reads volumes and searches by image only.
    The test part of the cohort is never opened. Ctrl-C and `greenrfm cancel RUN` save first; --resume goes on inside
    the stage.
    """
    from greenrfm.cache import default_folder
    from greenrfm.cohort import read_cohort
    from greenrfm.findings import FindingSet, LabelTable, load_finding_set, packaged_sets

    def finding_set(columns: tuple[str, ...]) -> FindingSet:
        fitting = [found for name in packaged_sets() if set((found := load_finding_set(name)).keys) == set(columns)]
        if not fitting:
            raise UserError(f"the columns of {labels} are no packaged finding set; name yours with --findings")
        return fitting[0]

    studies = read_cohort(cohort)
    if findings:
        chosen = load_finding_set(findings)
        table = LabelTable.read(labels, chosen.keys)
    else:
        table = LabelTable.read(labels)
        chosen = finding_set(table.keys)

    from greenrfm.training.recipe import load_recipe

    plan = load_recipe(recipe)  # before torch is imported, which takes seconds

    import torch

    from greenrfm.training import run
    from greenrfm.training.session import CANCEL
    from greenrfm.training.vram import parse_bytes

    # Under torchrun one process speaks for all.
    speaks = os.environ.get("RANK", "0") == "0"
    wish = out / CANCEL
    with display() as show, ExitStack() as stack:
        if speaks:
            wish.unlink(missing_ok=True)  # of a run that was killed before it could listen
            stack.callback(wish.unlink, missing_ok=True)
        result = run.train(
            studies,
            table,
            chosen,
            plan,
            out,
            seed=seed,
            resume=resume,
            progress=show if speaks else silent,
            cache=cache or default_folder(),
            skip_unreadable=skip_unreadable,
            checkpoint_minutes=checkpoint_minutes,
            checkpoint_steps=checkpoint_steps,
            vram=parse_bytes(vram) if vram else None,
            say=partial(print, file=sys.stderr) if speaks else lambda sentence: None,
            cancel=wish.exists,
        )
    if torch.distributed.is_initialized():
        # A process that ends while gloo's threads still listen to the others is aborted.
        torch.distributed.destroy_process_group()
    if not speaks:
        return
    folder = result.bundle.folder
    if as_json:
        print_json(
            {
                "bundle": str(folder),
                "hash": result.bundle.hash,
                "findings": list(result.bundle.findings.keys),
                "left_out": list(result.left_out),
                "unreadable": list(result.unreadable),
            }
        )
        return
    print(f"curves: {out / 'index.html'}")
    print(f"bundle: {folder}")
    print(f"read a scan with it: greenrfm read {folder} VOLUME")


def cancel(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run", show_default=False)],
) -> None:
    """Ask a training that runs elsewhere on this machine to save and end; --resume goes on with it later."""
    from greenrfm.locks import Lock
    from greenrfm.training.session import CANCEL, LOCK

    if not (run / LOCK).is_file():
        raise UserError(f"{run} holds no run; give the folder that training writes to")
    try:
        Lock(run / LOCK, f"run {run}", "").release()
    except UserError:
        (run / CANCEL).touch()
        print(f"asked: the training in {run} saves after its step and ends")
    else:
        raise UserError(f"no training runs in {run} now; there is nothing to cancel")

"""`greenrfm bundle import`, `half` and `tune`: bundles from other people's checkpoints, and faster ones."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from greenrfm.commands.answer import print_json
from greenrfm.errors import UserError

Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class AxesOption(StrEnum):
    """Which axes of the patient the checkpoint's (D, H, W) are."""

    zyx = "zyx"
    zxy = "zxy"


def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt file.", show_default=False)],
    findings: Annotated[str, typer.Option(metavar="NAME|FILE", help="Finding set that it was trained on.")],
    preprocessing: Annotated[str, typer.Option(metavar="PRESET", help="chest-ct, abdomen-ct, knee-mr or spine-mr.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder to write.")],
    text_encoder: Annotated[
        str,
        typer.Option(metavar="minilm|FOLDER", help="The BERT it was trained with: its config.json and tokenizer.json."),
    ] = "",
    sequences: Annotated[
        str, typer.Option(metavar="A,B", help="MR: names of the input channels, in order.", show_default=False)
    ] = "",
    axes: Annotated[
        AxesOption, typer.Option(help="Its volumes' axes: slices, rows, columns (zyx), or slices, columns, rows.")
    ] = AxesOption.zyx,
    max_tokens: Annotated[int, typer.Option(min=8, max=512, help="Of a chunk of text; 128 in the public code.")] = 128,
    as_json: Json = False,
) -> None:
    """Make a bundle of a checkpoint of the public GreenRFM code; its scores are not calibrated.

    The file is read without running any code in it. Every tensor must find its place. Weights of a video network
    (Kinetics) are no bundle: train with them, network: {vision_weights: {kinetics: FILE}} in a recipe.
    """
    from greenrfm.bundle import NOT_CALIBRATED_BUNDLE
    from greenrfm.findings import load_finding_set
    from greenrfm.findings.sets import nearest
    from greenrfm.training.public_checkpoint import import_checkpoint
    from greenrfm.volumes import PRESETS

    if preprocessing not in PRESETS:
        raise UserError(
            f"there is no preprocessing '{preprocessing}'{nearest(preprocessing, tuple(PRESETS))}; "
            f"choose {', '.join(PRESETS)}"
        )
    done = import_checkpoint(
        checkpoint,
        out,
        load_finding_set(findings),
        PRESETS[preprocessing],
        text_encoder=text_encoder,
        sequences=[name for name in sequences.split(",") if name],
        axes=axes.value,
        max_tokens=max_tokens,
    )
    if as_json:
        print_json({"bundle": str(out), "hash": done.bundle.hash, "ignored": list(done.ignored)})
        return
    print(f"wrote {out}, hash {done.bundle.hash}")
    if done.ignored:
        print(f"not used: {', '.join(done.ignored)}")
    print(NOT_CALIBRATED_BUNDLE)


def half(
    bundle: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Folder to write; else the bundle itself.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Add the vision networks in half precision, checked by the stored test vector.

    The bundle's hash changes, so that its case libraries have to be made again. Whether half precision is faster
    depends on the machine: measure with greenrfm bundle tune.
    """
    from greenrfm.bundle import Bundle
    from greenrfm.training.half import add_half

    written = add_half(Bundle.load(bundle), out or bundle)
    sizes = {
        name: written.path(name).stat().st_size
        for network in written.manifest.networks
        for name in (network.file, network.half)
        if name
    }
    if as_json:
        print_json({"bundle": str(written.folder), "hash": written.hash, "bytes": sizes})
        return
    for name, size in sizes.items():
        print(f"{size / 1e6:8.1f} MB  {name}")
    print(f"wrote {written.folder}, hash {written.hash}")


def tune(bundle: Folder, as_json: Json = False) -> None:
    """Measure which precision and how many threads read fastest on this machine, and keep the answer for reading."""
    from greenrfm.bundle import Bundle
    from greenrfm.reading.speed import tune as measure

    setting = measure(Bundle.load(bundle))
    chosen = {"threads": setting.threads, "half": setting.half, "seconds": setting.seconds}
    rows = [{"threads": row.threads, "half": row.half, "seconds": row.seconds} for row in setting.tried]
    if as_json:
        print_json({**chosen, "tried": rows})
        return
    for row in rows:
        mark = "  <- chosen" if (row["threads"], row["half"]) == (setting.threads, setting.half) else ""
        precision = "half" if row["half"] else "full"
        threads = "a thread per core" if row["threads"] is None else f"{row['threads']} threads"
        print(f"{row['seconds']:8.3f} s  {precision} precision, {threads}{mark}")

"""`greenrfm bundle`: what a model is, and whether it computes what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from greenrfm.commands import bundle_make
from greenrfm.commands.answer import print_json
from greenrfm.commands.show import display
from greenrfm.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Model bundles.")
app.command(
    "import",
    epilog="Example: greenrfm bundle import checkpoint_epoch_5.pt --findings chest-ct-18 --preprocessing chest-ct "
    "--text-encoder cxr-bert --out bundle",
)(bundle_make.import_)
app.command("half", epilog="Example: greenrfm bundle half run/bundle --out faster")(bundle_make.half)
app.command("tune", epilog="Example: greenrfm bundle tune run/bundle")(bundle_make.tune)

Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command(epilog="Example: greenrfm bundle check run/bundle")
def check(bundle: Folder, as_json: Json = False) -> None:
    """Prove that a bundle is whole and computes what it says: hashes, networks, test vectors, heat map, prompts."""
    from greenrfm.bundle import Bundle
    from greenrfm.bundle import check as run_checks

    results = run_checks(Bundle.load(bundle, verify=False))  # the hashes are the first of the checks
    if as_json:
        print_json([{"name": result.name, "ok": result.ok, "detail": result.detail} for result in results])
    else:
        for result in results:
            print(f"{'ok    ' if result.ok else 'FAILED'}  {result.name}: {result.detail}")
    failed = [result.name for result in results if not result.ok]
    if failed:
        raise UserError(f"bundle {bundle} fails {', '.join(failed)}; copy or export it again")


@app.command(epilog="Example: greenrfm bundle info run/bundle")
def info(bundle: Folder, as_json: Json = False) -> None:
    """Say what a bundle is: intended use, findings, input, thresholds, metrics, how it was trained.

    JSON is the whole manifest.
    """
    from greenrfm.bundle import NOT_CALIBRATED_BUNDLE, Bundle

    loaded = Bundle.load(bundle, verify=False)
    manifest = loaded.manifest
    content = json.loads(manifest.to_json())
    if as_json:
        print_json({"folder": str(bundle), "hash": loaded.hash, **content})
        return
    from rich.table import Table

    from greenrfm.reading.reading import notice

    preprocessing = manifest.preprocessing
    spacing = preprocessing.spacing and " × ".join(f"{step:g}" for step in preprocessing.spacing)
    size = " × ".join(map(str, preprocessing.size))
    findings = Table("finding", "key", "absent below", "present from")
    thresholds = manifest.thresholds
    for finding, absent, present in zip(
        manifest.finding_set.findings, thresholds.absent, thresholds.present, strict=True
    ):
        findings.add_row(finding.name, finding.key, f"{absent:.3f}", f"{present:.3f}")
    with display() as show:
        show.print(
            f"{manifest.name}, {manifest.intended_use}, made {manifest.created}, licence {manifest.licence}",
            notice(manifest.intended_use),
            *(() if manifest.calibrated else (NOT_CALIBRATED_BUNDLE,)),
            f"hash: {loaded.hash}",
            f"input: {manifest.finding_set.modality} {manifest.finding_set.body_part}, {size} voxels"
            + (f" of {spacing} mm" if spacing else ""),
            *(() if loaded.has_text else ("text: none; the model was trained on images and labels alone",)),
            f"training: {_brief(content['training'])}",
            f"metrics: {_brief(content['metrics'])}",
            findings,
        )


def _brief(values: dict[str, Any]) -> str:
    """Return the plain values, the recipe's name, and the macro means with their intervals."""
    plain = {key: value for key, value in values.items() if isinstance(value, str | int | float)}
    if isinstance(values.get("recipe"), dict):
        plain["recipe"] = values["recipe"].get("name", "")
    macro = values["macro"] if isinstance(values.get("macro"), dict) else {}
    for key, interval in macro.get("intervals", {}).items():
        if interval and macro.get(key) is not None:
            plain[f"macro {key}"] = f"{macro[key]:.3f} ({interval[0]:.3f}…{interval[1]:.3f})"
    return ", ".join(f"{key} {value}" for key, value in plain.items()) or "-"

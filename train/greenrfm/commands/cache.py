"""`greenrfm cache`: the prepared volumes that trainings share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenrfm.commands.answer import Misses, print_json
from greenrfm.commands.show import display

if TYPE_CHECKING:
    from greenrfm.cache import VolumeCache

app = typer.Typer(no_args_is_help=True, help="The volume cache: volumes prepared once, shared by trainings.")

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", metavar="DIR", show_default=False, help="Its folder; $GREENRFM_CACHE or the user's own if not given."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]


@app.command(epilog="Example: greenrfm cache info")
def info(cache: Cache = None, as_json: Json = False) -> None:
    """Say what the cache holds: files, bytes, last use, by preprocessing."""
    facts = _open(cache).info()
    if as_json:
        print_json(facts)
        return
    print(f"{facts['files']} volumes, {_size(facts['bytes'])} in {facts['folder']}")
    for kind in facts["preprocessings"]:
        print(f"{_described(kind)}: {kind['files']} volumes, {_size(kind['bytes'])}, "
              f"last used {kind['oldest_use'][:10]} to {kind['newest_use'][:10]}")  # fmt: skip


@app.command(epilog="Example: greenrfm cache verify --repair")
def verify(
    cache: Cache = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove broken ones; training prepares them anew.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Processes; one per core if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every volume and compare its checksums; exit with 1 if a broken one is left."""
    from greenrfm.cache import verify as verify_volumes

    chosen, misses = _open(cache), Misses()
    checked = len(chosen.entries())
    with display() as show:
        broken = verify_volumes(chosen, workers or os.cpu_count() or 1, show, repair=repair)
    if as_json:
        print_json({"checked": checked, "broken": {str(path): why for path, why in broken.items()}, "removed": repair})
    else:
        for path, why in broken.items():
            print(f"{path}: {why}" + (", removed" if repair else ""))
        print(f"{checked} volumes compared, {len(broken)} broken")
    if broken and not repair:
        misses.note(f"{len(broken)} volumes are broken; greenrfm cache verify --repair removes them")
    misses.finish()


@app.command(epilog="Example: greenrfm cache prune --max-size 50GB")
def prune(
    cache: Cache = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0, metavar="N", show_default=False, help="Remove what was not used for N days.")
    ] = None,
    max_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Remove the longest unused beyond SIZE, for example 50GB.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Remove all.")] = False,
    as_json: Json = False,
) -> None:
    """Remove volumes, but none that a running training holds."""
    if sum([keep_days is not None, bool(max_size), everything]) != 1:
        raise typer.BadParameter(
            "give one of --keep-days, --max-size and --all", param_hint="'--keep-days' / '--max-size' / '--all'"
        )
    most = _bytes(max_size) if max_size else None
    done = _open(cache).prune(keep_days=keep_days, max_bytes=most, everything=everything)
    if as_json:
        print_json(
            {
                "removed": done.removed,
                "removed_bytes": done.removed_bytes,
                "left": done.left,
                "left_bytes": done.left_bytes,
                "held": done.held,
            }
        )
        return
    print(f"{done.removed} volumes removed, {_size(done.removed_bytes)}; {done.left} left, {_size(done.left_bytes)}")
    if done.held:
        print(f"{done.held} more would go, but a running training holds them")


def _open(folder: Path | None) -> VolumeCache:
    from greenrfm.cache import VolumeCache, default_folder

    return VolumeCache(folder or default_folder())


def _bytes(size: str) -> int:
    """Return the bytes of "50GB"; raise BadParameter for anything that is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)?", size.strip().upper())
    unit = found[2] or "B" if found else ""
    if not found or unit not in UNITS:
        raise typer.BadParameter(f"'{size}' is no size; write for example 50GB", param_hint="'--max-size'")
    return int(float(found[1]) * UNITS[unit])


def _size(count: int) -> str:
    for unit in ("TB", "GB", "MB"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.1f} {unit}"
    return f"{count / UNITS['KB']:.1f} KB"


def _described(kind: dict[str, Any]) -> str:
    """Return a preprocessing in a few words, by the name of a preset where it is one."""
    from greenrfm.cache import preprocessing_digest
    from greenrfm.volumes import PRESETS

    names = [name for name, preset in PRESETS.items() if preprocessing_digest(preset) == kind["digest"]]
    facts = kind["preprocessing"]
    if names or not facts:
        return " or ".join(names) or f"preprocessing {kind['digest']}"
    spacing = " × ".join(f"{step:g}" for step in facts["spacing"]) + " mm" if facts["spacing"] else "own spacing"
    return f"{' × '.join(map(str, facts['size']))} voxels, {spacing}"

"""An earlier run as the place to begin: fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greenrfm.errors import UserError

RECORD = "run.json"


def earlier_run(path: str | Path) -> Path:
    """Return the folder of the run that `path` names: its own, or that of its bundle.

    A bundle alone cannot be trained on: its export has folded the batch normalisation into the convolutions.
    Raises UserError if there is no run.
    """
    folder = Path(path).expanduser()
    if (folder / RECORD).is_file():
        return folder
    if (folder / "manifest.json").is_file():
        if (folder.parent / RECORD).is_file():
            return folder.parent
        raise UserError(
            f"bundle {folder} is not in the run that made it; its networks are exported for reading and cannot be "
            "trained on, so name the run's folder"
        )
    hint = "; did you mean 'random'?" if len(folder.parts) == 1 and not folder.exists() else ""
    raise UserError(f"there is no run or bundle in {folder}; name the folder that greenrfm train wrote{hint}")


def earlier_text_encoder(run: Path) -> str:
    """Return which BERT the run's recipe names; raise UserError if the run trained vision alone."""
    recipe = earlier_recipe(run)
    encoder = recipe["network"].get("text_encoder") if isinstance(recipe.get("network"), dict) else None
    if not isinstance(encoder, str) or recipe.get("stage2") is None:
        raise UserError(f"run {run} trained vision alone and has no text encoder; name minilm or a folder with a BERT")
    return encoder


def earlier_recipe(run: Path) -> dict[str, Any]:
    """Return the recipe in a run's record; raise UserError if it cannot be read."""
    try:
        recipe = json.loads((run / RECORD).read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / RECORD} is not the record of a run; name another") from error
    if not isinstance(recipe, dict):
        raise UserError(f"{run / RECORD} is not the record of a run; name another")
    return recipe

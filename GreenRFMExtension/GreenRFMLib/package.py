"""Where the `greenrfm` package lies: beside the installed module, or in the checkout that the module is part of."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[1]


def provide_greenrfm(module_folder: Path = MODULE_FOLDER) -> None:
    """Put the folder that holds `greenrfm` first on sys.path.

    First, because the panel and the package belong to one version: another greenrfm that pip
    installed into the same Python may be older.

    Raises
    ------
    ImportError
        If the package is at neither place and is not installed otherwise: the extension is incomplete.
    """
    for folder in (module_folder / "GreenRFMTrain", module_folder.parent / "train"):
        if (folder / "greenrfm" / "__init__.py").is_file():
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return
    if importlib.util.find_spec("greenrfm") is None:
        raise ImportError("The GreenRFM extension is incomplete: its Python package is missing. Install it again.")

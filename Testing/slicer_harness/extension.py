"""Which copy of the extension the tests drive: the checkout's, or an unpacked package."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2] / "GreenRFMExtension"


def extension_folder() -> Path:
    """Return the folder that holds GreenRFM.py: the one GREENRFM_EXTENSION names, else the checkout's."""
    return Path(os.environ.get("GREENRFM_EXTENSION") or CHECKOUT)

"""An error that nobody foresaw: one sentence for the user, where it was for the log, and nothing of its message."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from slicer.i18n import tr as _


def sentence_for(error: Exception) -> str:
    """Return the sentence to show; the log gets the places in the code. The message may quote names or paths."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    logging.error("GreenRFM: %s at %s", type(error).__name__, " > ".join(places))
    return _("The analysis failed unexpectedly ({kind}). Try again; if it fails again, report it with the log.").format(
        kind=type(error).__name__
    )

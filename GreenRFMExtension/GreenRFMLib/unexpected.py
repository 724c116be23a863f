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
    package = _not_loaded(error)
    if package:
        # Raised before any volume was touched: it names libraries of this installation, which is what helps.
        logging.error("GreenRFM: %s cannot be loaded: %s", package, error)
        return _(
            "The package {package} cannot be loaded on this computer. Restart Slicer; if it fails again, "
            "install {package} again in Slicer's Python (the log says what is wrong with it)."
        ).format(package=package)
    return _("The analysis failed unexpectedly ({kind}). Try again; if it fails again, report it with the log.").format(
        kind=type(error).__name__
    )


def _not_loaded(error: Exception) -> str:
    """Return the package that could not be imported, or "" if the error came from anything but an import."""
    if not isinstance(error, (ImportError, OSError)):
        return ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return error.name.partition(".")[0]
    # Code of a module's own level runs while it is imported, and only then: the innermost is the one that failed.
    importing = [
        str(frame.f_globals.get("__name__", ""))
        for frame, _line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"
    ]
    name = importing[-1] if importing else getattr(error, "name", None) or ""
    return name.partition(".")[0]

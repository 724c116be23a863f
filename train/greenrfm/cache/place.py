"""Where the volume cache lies unless the user names a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GREENRFM_CACHE"


def default_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return $GREENRFM_CACHE, or greenrfm/volumes in the platform's folder for caches.

    That is $XDG_CACHE_HOME or ~/.cache on Linux, ~/Library/Caches on macOS, %LOCALAPPDATA% on Windows.
    """
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).expanduser().absolute()
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():  # the XDG specification: relative values are to be ignored
            base = Path.home() / ".cache"
    return base / "greenrfm" / "volumes"

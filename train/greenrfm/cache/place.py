"""Where the volume cache lies unless the user names a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from greenrfm.files import user_cache

VARIABLE = "GREENRFM_CACHE"


def default_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return $GREENRFM_CACHE, or volumes in the user's folder for our caches."""
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).expanduser().absolute()
    return user_cache(environ, platform) / "volumes"

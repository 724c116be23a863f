"""What reading needs beside what Slicer brings along, and installing it when the user asks for it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import subprocess
from pathlib import Path

import slicer
from packaging.requirements import Requirement
from slicer.i18n import tr as _

from greenrfm.errors import UserError

# Distributions whose module has another name.
_MODULES = {"pyyaml": "yaml", "qdrant-edge-py": "qdrant_edge"}


class Requirements:
    """The lines of a requirements.txt, and which of them are not met in this Python."""

    def __init__(self, path: Path) -> None:
        """Read the requirements at `path`; nothing is imported or installed."""
        self.path = path

    def missing(self) -> list[Requirement]:
        """Return what is not installed, or too old, without importing any of it."""
        lines = (line.partition("#")[0].strip() for line in self.path.read_text(encoding="utf-8").splitlines())
        return [requirement for requirement in map(Requirement, filter(None, lines)) if not _met(requirement)]

    def install(self) -> None:
        """Install what is missing; blocks, with Slicer's own question and progress dialog.

        Raises
        ------
        UserError
            If the user declines, the installation cannot start or fails, or something is still missing after it.
        """
        missing = self.missing()
        try:
            if missing:
                _install(missing)
        except RuntimeError as error:
            # slicer.packaging raises it when the user declines, which only its message tells, but also for an
            # installation that it cannot start.
            if "declined" in str(error):
                raise UserError(_("Nothing was installed, and this does not work without it.")) from error
            logging.error("GreenRFM: the installation did not start: %s", error)
            raise UserError(
                _("The installation could not start; another one may be running. Try again later (see the log).")
            ) from error
        except (subprocess.CalledProcessError, OSError) as error:
            logging.error("GreenRFM: pip ended with %s", type(error).__name__)
            raise UserError(
                _("The installation failed: check the network connection or proxy, then try again (see the log).")
            ) from error
        importlib.invalidate_caches()
        left = self.missing()
        if left:
            raise UserError(_("Still not installed: {names}.").format(names=names(left)))


def names(requirements: list[Requirement]) -> str:
    """Return the distributions' names, separated by commas."""
    return ", ".join(requirement.name for requirement in requirements)


def _met(requirement: Requirement) -> bool:
    name = requirement.name.lower()
    if importlib.util.find_spec(_MODULES.get(name, name.replace("-", "_"))) is None:
        return False
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True  # another distribution of the same module, such as onnxruntime-gpu
    return requirement.specifier.contains(version, prereleases=True)


def _install(missing: list[Requirement]) -> None:
    # Only what is missing: pip never sees numpy, scipy or SimpleITK, which are Slicer's own.
    packaging = getattr(slicer, "packaging", None)
    if packaging is None:
        try:
            packaging = importlib.import_module("slicer.packaging")
        except ImportError:  # Slicer 5.10 and older, which ask nothing: the click was the consent
            slicer.util.pip_install([str(requirement) for requirement in missing])
            return
    packaging.pip_ensure(missing, requester="GreenRFM")

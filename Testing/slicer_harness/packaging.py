"""`slicer.packaging` and `slicer.util.pip_install`, scripted: nothing is ever installed."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from packaging.requirements import Requirement


class Packaging:
    """What is installed, and what becomes of an install.

    Attributes
    ----------
    installed : list of str
        The requirements that were installed since the test began.
    answers : list of str
        What the next installs do, in order: `installs` or `fails`. An install without an answer fails the test.
    """

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.answers: list[str] = []
        self._hidden: dict[str, dict[str, ModuleType | None]] = {}

    def hide(self, *distributions: str) -> None:
        """Make distributions (`onnxruntime`, `qdrant-edge-py`) look as if they were not installed.

        `importlib.util.find_spec` finds nothing, an import fails, `pip_check` says no.
        """
        for distribution in distributions:
            modules = _import_names(distribution)
            self._hidden[_canonical(distribution)] = {name: sys.modules.get(name) for name in modules}
            for name in modules:
                sys.modules[name] = None  # type: ignore[assignment]

    def is_hidden(self, distribution: str) -> bool:
        """Return whether the distribution was hidden."""
        return _canonical(distribution) in self._hidden

    def reset(self) -> None:
        """Show what was hidden, forget installs and answers, and offer `slicer.packaging` again."""
        for distribution in list(self._hidden):
            self._show(distribution)
        self.installed.clear()
        self.answers.clear()
        _offer(self)

    def withdraw(self) -> None:
        """Take `slicer.packaging` away, as in Slicer 5.10."""
        sys.modules.pop("slicer.packaging", None)
        if hasattr(slicer, "packaging"):
            del slicer.packaging

    def install(self, requirements: str | list[str]) -> None:
        """Play an install of pip."""
        wanted = requirements.split() if isinstance(requirements, str) else [str(item) for item in requirements]
        wanted = [item for item in wanted if not item.startswith("-")]
        if not self.answers:
            raise AssertionError(f"an install of {wanted} that the test did not expect")
        outcome = self.answers.pop(0)
        if outcome == "fails":
            raise subprocess.CalledProcessError(1, ["pip", "install", *wanted])
        if outcome != "installs":
            raise ValueError(f"an install either installs or fails, not {outcome}")
        self.installed += wanted
        for item in wanted:
            self._show(_canonical(Requirement(item).name))

    def _show(self, distribution: str) -> None:
        for name, module in self._hidden.pop(distribution, {}).items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


packaging = Packaging()


def install() -> None:
    """Put the scripted functions into `slicer`. Called once, by `boot`."""
    packaging.reset()
    slicer.util.pip_install = _pip_install


def _offer(state: Packaging) -> None:
    module = ModuleType("slicer.packaging", __doc__)
    for function in (_load_requirements, _pip_check, _pip_ensure, _pip_install):
        setattr(module, function.__name__.removeprefix("_"), function)
    sys.modules["slicer.packaging"] = module
    slicer.packaging = module


def _load_requirements(path: str | Path) -> list[Requirement]:
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def _as_requirements(requirements: Any) -> list[Requirement]:
    if isinstance(requirements, str):
        requirements = requirements.split()
    elif isinstance(requirements, Requirement):
        requirements = [requirements]
    elif not isinstance(requirements, list):
        raise TypeError(f"Expected str, Requirement, or list, got {type(requirements).__name__}")
    return [Requirement(item) if isinstance(item, str) else item for item in requirements]


def _pip_check(req: Any) -> bool:
    return all(_is_satisfied(requirement) for requirement in _as_requirements(req))


def _is_satisfied(requirement: Requirement) -> bool:
    if packaging.is_hidden(requirement.name):
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _pip_ensure(
    requirements: Any,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    _refuse_other_threads()
    missing = [requirement for requirement in _as_requirements(requirements) if not _is_satisfied(requirement)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return None
    if prompt_install:
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        message = f"{len(missing)} Python packages need to be installed."
        if not slicer.util.confirmOkCancelDisplay(message, title, detailedText="\n".join(map(str, missing))):
            raise RuntimeError("User declined package installation")
    packaging.install([str(requirement) for requirement in missing])
    return None


def _pip_install(
    requirements: str | list[str],
    constraints: str | Path | None = None,
    no_deps_requirements: str | list[str] | None = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    parent: Any = None,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> list[str] | None:
    _refuse_other_threads()
    packaging.install(requirements)
    return None


def _refuse_other_threads() -> None:
    import threading

    if threading.current_thread() is not threading.main_thread():
        caller = inspect.stack()[1].function.removeprefix("_")
        raise AssertionError(f"{caller} belongs on the main thread")


def _canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def _import_names(distribution: str) -> list[str]:
    wanted = _canonical(distribution)
    return [
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if any(_canonical(owner) == wanted for owner in owners)
    ]

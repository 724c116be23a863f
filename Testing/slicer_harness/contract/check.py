"""The whole check, file by file."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

from .house_rules import check_house_rules
from .inference import Inference
from .problem import Problem
from .python_files import check_python
from .source import Source
from .standin_check import check_standin
from .ui_document import UiDocument
from .ui_files import check_ui


def check_extension(folder: str | Path) -> list[Problem]:
    """Return what the `.ui` and Python files of an extension get wrong about Qt, CTK and Slicer.

    Parameters
    ----------
    folder
        The extension's folder, searched with all its subfolders. `FileNotFoundError` is raised when it has no Python.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    documents, sources = [], []
    for path in sorted(folder.rglob("*.ui")):
        try:
            documents.append(UiDocument(path))
        except expat.ExpatError as error:
            problems.append(Problem(path, error.lineno, "this is no well-formed XML"))
    for path in sorted(folder.rglob("*.py")):
        try:
            sources.append(Source(path, ".".join(path.relative_to(folder).with_suffix("").parts)))
        except SyntaxError as error:
            problems.append(Problem(path, error.lineno or 0, f"this is no Python: {error.msg}"))
    if not sources and not problems:
        raise FileNotFoundError(f"There is no Python file in {folder}: name the folder of the extension.")
    inference = Inference(sources, documents)
    for document in documents:
        problems += check_ui(document)
    for source in sources:
        problems += check_python(source, inference)
        problems += check_house_rules(source)
    return sorted(set(problems))


def check_standins(standins: dict[str, object] | None = None) -> list[Problem]:
    """Return where the harness's stand-ins show something that the real classes do not, or show it otherwise.

    Parameters
    ----------
    standins
        Stand-ins by class name; the harness's own when left out.
    """
    if standins is None:
        from slicer_harness.standins import STANDINS as standins
    return sorted({problem for name, standin in standins.items() for problem in check_standin(name, standin)})

"""The contract check of the extension: it keeps to the real classes, and planted faults are found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from contract_faults import PANEL, PYTHON_FAULTS, SILENT, UI, UI_FAULTS, extension

from slicer_harness.contract import Problem, check_extension
from slicer_harness.contract.declarations import normalized, signatures_of
from slicer_harness.contract.extract_facts import CLASSES
from slicer_harness.contract.surface import facts, surface
from slicer_harness.standins import STANDINS

EXTENSION = Path(__file__).resolve().parents[2] / "GreenRFMExtension"


def listed(problems: list[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)


def test_extension_keeps_to_the_real_classes():
    problems = check_extension(EXTENSION)
    assert not problems, listed(problems)


def test_every_widget_access_of_the_extension_is_judged(tmp_path):
    """No access through `ui` escapes: a typo planted in each is found in each."""
    folder = Path(shutil.copytree(EXTENSION, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))
    planted = set()
    for path in folder.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            lines[number - 1] = re.sub(r"(\bui\.\w+\.|\bconnect\(\")(\w+)", r"\1\2Typo", line)
            if lines[number - 1] != line:
                planted.add((path, number))
        path.write_text("\n".join(lines), encoding="utf-8")
    found = {(problem.file, problem.line) for problem in check_extension(folder)}
    assert len(planted) > 20
    assert not planted - found


def test_small_extension_is_silent(tmp_path):
    assert check_extension(extension(tmp_path / "x")) == []


@pytest.mark.parametrize("plant", SILENT.values(), ids=SILENT.keys())
def test_right_use_is_silent(plant, tmp_path):
    problems = check_extension(extension(tmp_path / "x", plant))
    assert not problems, listed(problems)


@pytest.mark.parametrize(("plant", "word"), PYTHON_FAULTS.values(), ids=PYTHON_FAULTS.keys())
def test_fault_in_python_is_found_on_its_line(plant, word, tmp_path):
    problems = check_extension(extension(tmp_path / "x", plant))
    assert word in listed(problems)
    first = PANEL.split("PLANT")[0].count("\n") + 1
    assert {problem.file.name for problem in problems} == {"panel.py"}
    assert all(first <= problem.line <= first + plant.count("\n") for problem in problems)


@pytest.mark.parametrize(("old", "new", "word"), UI_FAULTS.values(), ids=UI_FAULTS.keys())
def test_fault_in_a_ui_file_is_found(old, new, word, tmp_path):
    assert UI.count(old) == 1
    problems = check_extension(extension(tmp_path / "x", ui=UI.replace(old, new)))
    assert any(word in problem.sentence for problem in problems if problem.file.name == "Demo.ui"), listed(problems)


@pytest.mark.parametrize("package", ["onnxruntime", "torch", "pandas", "transformers", "imp"])
def test_import_at_module_level_is_found(package, tmp_path):
    folder = extension(tmp_path / "x")
    (folder / "DemoLib/reader.py").write_text(f"try:\n    import {package}\nexcept ImportError:\n    pass\n")
    assert [problem.line for problem in check_extension(folder)] == [2]


@pytest.mark.parametrize(("right", "wrong"), [("setRowCount", "setRowCoun"), ("clear()", "clera()")])
def test_parameter_is_followed_by_what_calls_pass_or_its_annotation_says(right, wrong, tmp_path):
    panel = extension(tmp_path / "x") / "DemoLib/panel.py"
    panel.write_text(panel.read_text().replace(right, wrong))
    assert f"did you mean {right.strip('()')}" in listed(check_extension(tmp_path / "x"))


def test_folder_without_python_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="name the folder of the extension"):
        check_extension(tmp_path)


# The facts


def test_facts_hold_no_more_than_the_stand_ins_the_extension_and_the_application_need():
    text = "\n".join(path.read_text(encoding="utf-8") for path in EXTENSION.rglob("*") if path.suffix in (".py", ".ui"))
    application = {"qSlicerApplication", "qSlicerLayoutManager"}  # slicer.app and slicer.app.layoutManager()
    assert not [cls for cls in CLASSES if cls not in text and cls not in STANDINS and cls not in application]


def test_facts_agree_with_the_list_they_were_copied_from():
    """Only where the project's shared folder is at hand."""
    from slicer_harness.contract.extract_facts import FACTS, extract

    path = EXTENSION.parents[1] / "shared/slicer_api/slicer_qt_api.json"
    if not path.exists():
        pytest.skip("the list of Slicer's classes is not here")
    assert json.loads(FACTS.read_text(encoding="utf-8")) == extract(json.loads(path.read_text(encoding="utf-8")))


def test_every_base_of_the_facts_leads_to_a_qt_class():
    assert all(surface(name).qt_base.__module__.startswith("PySide6") for name in facts())


def test_signature_in_qt_normal_form():
    assert normalized("f( const QString & , vtkMRMLNode * )") == "f(QString,vtkMRMLNode*)"
    assert signatures_of("void f(const QString& a, int b = g(1, 2), bool)") == ["f(QString,int,bool)", "f(QString,int)"]
    assert signatures_of("void f(unsigned int)") == ["f(uint)"]
    assert signatures_of("QList<int> f()") == ["f()"]

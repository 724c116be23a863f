"""A dialog gets the answer that a test wrote for it; without one the test fails."""

from __future__ import annotations

import pytest

from slicer_harness.dialogs import UnexpectedDialog

pytest_plugins = ["pytester"]


def test_a_static_dialog_gets_its_answer(qt, dialogs):
    dialogs.answer("QMessageBox.question", qt.QMessageBox.Yes)
    dialogs.answer("QFileDialog.getOpenFileName", "/data/Ünï cödé 胸部/bundle")
    assert qt.QMessageBox.question(None, "GreenRFM", "Analyze again?") == qt.QMessageBox.Yes
    assert qt.QFileDialog.getOpenFileName(None, "Bundle") == "/data/Ünï cödé 胸部/bundle"
    assert [dialog.key for dialog in dialogs.shown] == ["QMessageBox.question", "QFileDialog.getOpenFileName"]
    assert dialogs.shown[0].texts == ["GreenRFM", "Analyze again?"]


def test_an_answer_may_be_a_function_of_the_dialog(qt, dialogs):
    dialogs.answer("QInputDialog.getText", lambda parent, title, label: f"{title}: {label}")
    assert qt.QInputDialog.getText(None, "Name", "of the bundle") == "Name: of the bundle"


def test_the_displays_of_slicer_util_get_their_answer(slicer, dialogs):
    dialogs.answer("slicer.util.confirmOkCancelDisplay", True)
    dialogs.answer("slicer.util.errorDisplay", None)
    assert slicer.util.confirmOkCancelDisplay("Install?") is True
    with pytest.raises(ValueError, match="reason"), slicer.util.tryWithErrorDisplay("The analysis failed."):
        raise ValueError("reason")
    assert dialogs.shown[1].key == "slicer.util.errorDisplay"
    assert "The analysis failed." in dialogs.shown[1].texts[0]


def test_a_dialog_that_is_executed_is_shown_and_answered(qt, ctk, dialogs):
    seen = []

    def accept(box):
        seen.append((box.text, box.visible))
        return qt.QMessageBox.Ok

    dialogs.answer("ctkMessageBox.exec", accept)
    box = ctk.ctkMessageBox()
    box.text = "Replace the result?"
    assert box.exec_() == qt.QMessageBox.Ok
    assert seen == [("Replace the result?", True)]
    assert not box.visible


def test_browsing_for_a_path_asks_the_file_dialog(qt, ctk, dialogs):
    edit = ctk.ctkPathLineEdit()
    edit.filters = ctk.ctkPathLineEdit.Dirs
    dialogs.answer("QFileDialog.getExistingDirectory", "/bundles/chest")
    edit.browse()
    assert edit.currentPath == "/bundles/chest"


def test_a_file_dialog_returns_a_string_as_in_pythonqt(qt, dialogs):
    dialogs.answer("QFileDialog.getOpenFileName", ("/bundle", "All files (*)"))
    with pytest.raises(TypeError, match=r"QFileDialog\.getOpenFileName returns a str"):
        qt.QFileDialog.getOpenFileName(None, "Bundle")


def test_an_unknown_key_is_refused(dialogs):
    with pytest.raises(ValueError, match=r"no dialog is called QMessageBox\.ask"):
        dialogs.answer("QMessageBox.ask", 1)


def test_an_unanswered_dialog_raises(qt, dialogs):
    with pytest.raises(UnexpectedDialog, match=r"QMessageBox\.warning came up without an answer"):
        qt.QMessageBox.warning(None, "GreenRFM", "No bundle")
    dialog = qt.QDialog()
    with pytest.raises(UnexpectedDialog, match=r"QDialog\.exec"):
        dialog.exec()
    assert len(dialogs.unanswered) == 2
    dialogs.unanswered.clear()


FAILING = """
def test_dialog(qt):
    button = qt.QPushButton()
    def ask():
        try:
            qt.QMessageBox.question(None, "GreenRFM", "Really?")
        except BaseException:
            pass
    button.connect("clicked()", ask)
    button.click()

def test_slot(qt):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()

def test_expected(qt, slot_errors):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    slot_errors.clear()
"""


def test_an_unexpected_dialog_or_slot_exception_fails_a_test_that_does_not_look(pytester, request):
    pytester.makeconftest(
        (request.path.parent / "conftest.py")
        .read_text()
        .replace("Path(__file__).resolve().parents[1]", repr(str(request.path.parents[1])))
        .replace("from analyze_panel import", "# the panel's fixtures are not needed:")
    )
    pytester.makepyfile(FAILING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)  # the tests pass, and their ends find what they did not look at
    result.stdout.fnmatch_lines(["*dialogs without an answer*QMessageBox.question*"])
    result.stdout.fnmatch_lines(["*exceptions left slots*ZeroDivisionError*"])

"""Installing what reading needs: when it is clicked, and never otherwise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analyze_panel import Hand, panel, phantom_file

from make_tiny_bundle import make_tiny_bundle
from slicer_harness.environment import packaging
from slicer_harness.events import click


@pytest.fixture
def hand(slicer: Any) -> Iterator[Hand]:
    """Open a panel in a Slicer that lacks two of the packages."""
    packaging.hide("onnxruntime", "pyyaml")
    with panel() as one:
        yield one


def accept(dialogs: Any, accepted: bool = True) -> None:
    dialogs.answer("slicer.util.confirmOkCancelDisplay", accepted)


def test_nothing_is_installed_before_the_click(hand: Hand) -> None:
    assert "Reading needs onnxruntime, pyyaml: press Install" in hand.status
    assert hand.ui.installButton.visible
    assert not hand.ui.analyzeButton.enabled
    assert packaging.installed == []


def test_a_click_installs_only_what_is_missing(hand: Hand, dialogs: Any) -> None:
    packaging.answers.append("installs")
    accept(dialogs)
    click(hand.ui.installButton)
    assert sorted(packaging.installed) == ["onnxruntime>=1.20", "pyyaml>=6"]
    assert not hand.ui.installButton.visible
    assert hand.status == "Choose a volume and the folder of a model bundle."


def test_declining_is_a_sentence(hand: Hand, dialogs: Any) -> None:
    accept(dialogs, False)
    click(hand.ui.installButton)
    assert "Nothing was installed" in hand.status
    assert hand.ui.installButton.enabled
    assert packaging.installed == []


def test_an_installation_that_cannot_start_is_not_taken_for_a_refusal(
    slicer: Any, hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(*_requirements: Any, **_options: Any) -> None:
        raise RuntimeError("A non-blocking pip_install is already in progress. Wait for it to complete.")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", busy)
    with caplog.at_level(logging.ERROR):
        click(hand.ui.installButton)
    assert "another one may be running" in hand.status
    assert "already in progress" in caplog.text
    assert hand.ui.installButton.enabled


def test_a_failed_installation_is_a_sentence_and_can_be_tried_again(hand: Hand, dialogs: Any) -> None:
    packaging.answers.extend(["fails", "installs"])
    accept(dialogs)
    click(hand.ui.installButton)
    assert "installation failed" in hand.status
    accept(dialogs)
    click(hand.ui.installButton)
    assert not hand.ui.installButton.visible


def test_slicer_in_testing_mode_installs_nothing_and_the_panel_says_what_is_still_missing(
    slicer: Any, hand: Hand
) -> None:
    slicer.app.testing = True
    click(hand.ui.installButton)
    assert hand.status == "Still not installed: onnxruntime, pyyaml."


def test_an_older_slicer_without_packaging_uses_pip_install(hand: Hand) -> None:
    packaging.withdraw()
    packaging.answers.append("installs")
    click(hand.ui.installButton)
    assert sorted(packaging.installed) == ["onnxruntime>=1.20", "pyyaml>=6"]
    assert not hand.ui.installButton.visible


def test_what_was_installed_meanwhile_is_seen_when_the_panel_is_entered_again(hand: Hand) -> None:
    packaging.reset()
    hand.module.widget.enter()
    assert not hand.ui.installButton.visible


def test_too_old_a_package_counts_as_missing(slicer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from slicer_harness.extension import extension_folder

    monkeypatch.syspath_prepend(extension_folder())
    from GreenRFMLib.requirements import Requirements

    path = tmp_path / "requirements.txt"
    path.write_text("numpy>=1\nnumpy>=99  # not yet\nno-such-package-at-all\n", encoding="utf-8")
    assert [str(requirement) for requirement in Requirements(path).missing()] == [
        "numpy>=99",
        "no-such-package-at-all",
    ]


@pytest.mark.parametrize("fault", ["ImportError", "OSError"])
def test_a_package_that_is_installed_but_cannot_be_loaded_is_named(
    fault: str,
    slicer: Any,
    load_volume: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = tmp_path / "packages" / "onnxruntime" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text(f"raise {fault}('libonnx.so: cannot open shared object file')\n", encoding="utf-8")
    bundle, volume = make_tiny_bundle(tmp_path / "bundle").folder, load_volume(phantom_file(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(broken.parents[1])
    with panel() as hand, caplog.at_level(logging.ERROR):
        hand.choose(volume, bundle)
        hand.analyze()
        assert hand.status.startswith("The package onnxruntime cannot be loaded on this computer.")
        assert hand.ui.analyzeButton.enabled
    assert "libonnx.so: cannot open shared object file" in caplog.text


def test_a_file_that_cannot_be_read_is_not_taken_for_a_package(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from slicer_harness.extension import extension_folder

    monkeypatch.syspath_prepend(extension_folder())
    from GreenRFMLib.unexpected import sentence_for

    with pytest.raises(OSError, match="nowhere") as caught:
        Path("/nowhere/at/all").read_bytes()
    assert "failed unexpectedly (FileNotFoundError)" in sentence_for(caught.value)

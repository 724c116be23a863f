"""Installing what reading needs: when it is clicked, and never otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from analyze_panel import Hand, panel

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

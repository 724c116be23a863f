"""One reading in the background: its outcome, its failures, its end when cancelled."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import UNICODE, Networks, turned_volume, workers

from greenrfm.bundle import Bundle
from greenrfm.reading import Reader
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import wait_until
from slicer_harness.extension import extension_folder


@pytest.fixture(autouse=True)
def extension(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(extension_folder())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("analysis") / UNICODE)


@pytest.fixture
def node(slicer: Any) -> Any:
    volume = turned_volume("LPS")
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    return slicer.util.addVolumeFromArray(volume.array.transpose(2, 1, 0), ijkToRAS=affine, name="scan")


class Run:
    """An analysis with what it told: its stages and its outcomes."""

    def __init__(self) -> None:
        from GreenRFMLib.analysis import Analysis

        self.analysis = Analysis()
        self.stages: list[str] = []
        self.outcomes: list[Any] = []

    def start(self, voxels: Any, folder: Path) -> None:
        self.analysis.start({("", ""): voxels}, folder, self.outcomes.append, self.stages.append)

    def outcome(self, voxels: Any, folder: Path) -> Any:
        self.start(voxels, folder)
        wait_until(lambda: bool(self.outcomes), 60)
        return self.outcomes.pop()


@pytest.fixture
def run(slicer: Any) -> Iterator[Run]:
    made = Run()
    yield made
    made.analysis.close()
    assert not workers()


def voxels_of(node: Any) -> Any:
    from GreenRFMLib import scene

    return scene.voxels_of(node)


class Held:
    """Voxels that are copied only when the test says so: preprocessing that takes as long as the test needs."""

    def __init__(self, voxels: Any) -> None:
        self.voxels, self.begun, self.go_on = voxels, threading.Event(), threading.Event()

    def copy(self) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return self.voxels.copy()


def test_the_outcome_is_greenrfms_reading_with_the_logits_of_the_thresholds(run: Run, node: Any, tiny: Bundle) -> None:
    outcome = run.outcome(voxels_of(node), tiny.folder)
    expected = Reader(tiny, threads=1).read(voxels_of(node).copy())
    assert [score.key for score in outcome.reading.scores] == list(tiny.findings.keys)
    for score, wanted in zip(outcome.reading.scores, expected.scores, strict=True):
        assert score.probability == pytest.approx(wanted.probability, abs=1e-5)
    at_threshold = tiny.manifest.calibration.probability(outcome.decision_logits)
    np.testing.assert_allclose(at_threshold, tiny.manifest.thresholds.present, atol=1e-6)
    assert not run.analysis.running


def test_a_bundle_of_images_alone_is_read_as_one_with_text(run: Run, node: Any, tiny: Bundle, tmp_path: Path) -> None:
    alone = make_tiny_bundle(tmp_path / "alone", text=False)
    with_text, outcome = (run.outcome(voxels_of(node), bundle.folder) for bundle in (tiny, alone))
    assert outcome.reading.latent.shape == (4,)
    for score, wanted in zip(outcome.reading.scores, with_text.reading.scores, strict=True):
        assert score.logit == pytest.approx(wanted.logit, abs=1e-3)
        np.testing.assert_allclose(
            outcome.reading.heatmaps[score.key], with_text.reading.heatmaps[score.key], atol=1e-3
        )
    np.testing.assert_allclose(outcome.decision_logits, with_text.decision_logits, atol=1e-6)


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _not_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def _newer(folder: Path) -> None:
    _rewrite(folder, lambda manifest: manifest.update(format_version=99))


def _cut_off(folder: Path) -> None:
    path = folder / "vision.onnx"
    path.write_bytes(path.read_bytes()[:-10])


def _altered(folder: Path) -> None:
    path = folder / "vision.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _lacking(folder: Path) -> None:
    (folder / "heads.npz").unlink()


def _no_network(folder: Path) -> None:
    content = b"this is no ONNX file"
    (folder / "vision.onnx").write_bytes(content)
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _rewrite(folder, lambda manifest: manifest["files"].update({"vision.onnx": record}))


def _rewrite(folder: Path, change: Callable[[Any], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


BROKEN = {
    "no folder": (_no_folder, "there is no bundle"),
    "a file": (_file, "there is no bundle"),
    "an empty folder": (_empty, "there is no bundle"),
    "no JSON": (_not_json, "not valid JSON"),
    "a newer format": (_newer, "update the GreenRFM extension"),
    "a cut-off network": (_cut_off, "copy the bundle again"),
    "an altered network": (_altered, "SHA-256 differs"),
    "no heads": (_lacking, "lacks heads.npz"),
    "no network": (_no_network, "not a readable ONNX file"),
}


@pytest.mark.parametrize(("damage", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_bundle_is_one_sentence(
    run: Run, node: Any, tiny: Bundle, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    folder = tmp_path / "broken 胸部"
    shutil.copytree(tiny.folder, folder)
    damage(folder)
    outcome = run.outcome(voxels_of(node), folder)
    assert words in outcome.sentence
    assert "\n" not in outcome.sentence
    # The analysis is usable right after.
    assert run.outcome(voxels_of(node), tiny.folder).reading.bundle_hash == tiny.hash


def test_a_bundle_changed_between_two_readings_is_verified_again(
    run: Run, node: Any, tiny: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny.folder, folder)
    first = run.outcome(voxels_of(node), folder)
    _rewrite(folder, lambda manifest: manifest.update(intended_use="demonstration"))
    second = run.outcome(voxels_of(node), folder)
    assert second.reading.bundle_hash != first.reading.bundle_hash
    assert "generated phantoms" in second.reading.notice
    _lacking(folder)
    _rewrite(folder, lambda manifest: manifest.update(intended_use="research"))
    assert "lacks heads.npz" in run.outcome(voxels_of(node), folder).sentence


def test_an_unforeseen_error_is_one_sentence_and_the_log_names_no_patient(
    run: Run, tiny: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        def copy(self) -> Any:
            raise KeyError("Müller^Hans in /home/clinic/report.txt")

    with caplog.at_level(logging.DEBUG):
        outcome = run.outcome(Odd(), tiny.folder)
    assert "KeyError" in outcome.sentence
    assert "\n" not in outcome.sentence
    assert "KeyError at analysis.py" in caplog.text
    for text in (outcome.sentence, caplog.text):
        assert "Müller" not in text
        assert "/home" not in text


def test_nothing_of_a_normal_reading_is_logged(
    run: Run, node: Any, tiny: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    node.SetName("Müller^Hans")
    with caplog.at_level(logging.DEBUG):
        run.outcome(voxels_of(node), tiny.folder)
        run.outcome(voxels_of(node), tiny.folder / "nowhere")
    assert not caplog.records


def test_too_little_memory_is_a_sentence(run: Run, tiny: Bundle) -> None:
    class Huge:
        def copy(self) -> Any:
            raise MemoryError

    assert "not enough memory" in run.outcome(Huge(), tiny.folder).sentence


def test_cancelling_the_network_ends_its_thread_at_once(run: Run, node: Any, slow: Bundle, networks: Networks) -> None:
    run.start(voxels_of(node), slow.folder)
    networks.wait_until_at_work()
    assert run.analysis.running
    run.analysis.cancel()
    assert not run.analysis.running
    networks.assert_cancelled_at_once()
    assert run.outcomes == []


def test_cancelled_while_preprocessing_the_next_one_starts_at_once_and_only_it_has_an_outcome(
    run: Run, node: Any, tiny: Bundle
) -> None:
    held = Held(voxels_of(node))
    run.start(held, tiny.folder)
    wait_until(held.begun.is_set, 30)
    run.analysis.cancel()
    run.start(voxels_of(node), tiny.folder)
    assert run.analysis.running
    held.go_on.set()
    wait_until(lambda: bool(run.outcomes) and not workers(), 30)
    assert len(run.outcomes) == 1
    assert run.outcomes[0].reading.scores


def test_closing_ends_the_network_and_waits_for_its_thread(node: Any, slow: Bundle, networks: Networks) -> None:
    run = Run()
    run.start(voxels_of(node), slow.folder)
    networks.wait_until_at_work()
    run.analysis.close()
    assert not workers()
    networks.assert_cancelled_at_once()


def test_a_second_start_while_running_is_refused(run: Run, node: Any, tiny: Bundle) -> None:
    held = Held(voxels_of(node))
    run.start(held, tiny.folder)
    with pytest.raises(RuntimeError, match="is running"):
        run.start(voxels_of(node), tiny.folder)
    held.go_on.set()
    wait_until(lambda: bool(run.outcomes), 30)

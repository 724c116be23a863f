"""The phantom among Slicer's sample data: drawn on this machine, and readable by the panel."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from analyze_panel import panel, responsive, tries_the_gap_again

from greenrfm.phantoms.study import draw_study
from make_tiny_bundle import make_tiny_bundle

README = Path(__file__).resolve().parents[2] / "README.md"


class Source:
    """Stands in for SampleDataSource of 5.12 and 5.13: the same arguments, and the same check of their lengths."""

    def __init__(
        self,
        sampleName: Any = None,
        sampleDescription: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileTypes: Any = None,
        loadFileProperties: Any = None,
    ) -> None:
        if isinstance(uris, str):
            uris, fileNames, nodeNames, checksums = [uris], [fileNames], [nodeNames], [checksums]
            loadFiles, loadFileTypes = [loadFiles], [loadFileTypes]
        elif isinstance(uris, (list, tuple)):
            missing = [None] * len(uris)
            loadFileTypes = [loadFileTypes] * len(uris) if isinstance(loadFileTypes, str) else loadFileTypes or missing
            nodeNames, loadFiles, checksums = nodeNames or missing, loadFiles or missing, checksums or missing
        fields = (uris, fileNames, nodeNames, loadFiles, loadFileTypes, checksums)
        if len({len(field) for field in fields}) != 1:
            raise ValueError("All fields of sample data source must have the same length")
        # What the button shows, and what a click on it calls.
        self.text, self.draw, self.thumbnail = sampleDescription or sampleName, customDownloader, thumbnailFileName


class SampleData(ModuleType):
    """Stands in for the Sample Data module, which slicer-core lacks, and collects what is registered."""

    def __init__(self) -> None:
        super().__init__("SampleData")
        self.sources: dict[str, list[Source]] = {}
        self.SampleDataLogic = self

    def registerCustomSampleDataSource(
        self,
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        source = Source(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            checksums=checksums,
            loadFiles=loadFiles,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            loadFileProperties=loadFileProperties,
        )
        self.sources.setdefault(category, []).append(source)


@pytest.fixture
def startup(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Collect what waits for Slicer's start to be completed."""
    waiting: list[Callable[[], None]] = []

    def connect(signal: str, slot: Callable[[], None]) -> bool:
        assert signal == "startupCompleted()"
        assert not inspect.signature(slot).parameters
        waiting.append(slot)
        return True

    monkeypatch.setattr(slicer.app, "connect", connect, raising=False)
    return waiting


@pytest.fixture
def sample_data(monkeypatch: pytest.MonkeyPatch) -> SampleData:
    module = SampleData()
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return module


def started(startup: list[Callable[[], None]]) -> None:
    (slot,) = startup
    slot()


def test_the_phantom_is_offered_drawn_and_read(
    slicer: Any, startup: list[Callable[[], None]], sample_data: SampleData, tmp_path: Path
) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with panel() as hand:
        assert not sample_data.sources  # Sample Data itself may not be loaded yet
        started(startup)
        ((category, (source,)),) = sample_data.sources.items()
        assert Path(source.thumbnail).is_file()
        assert f"*Sample Data → {category} → {source.text}*" in README.read_text(encoding="utf-8")
        node = source.draw(source)
        assert node.GetName() == source.text
        volume = draw_study(1, 1).volume
        from GreenRFMLib.scene import voxels_of

        drawn = voxels_of(node)
        np.testing.assert_array_equal(drawn.array, volume.array)
        np.testing.assert_allclose(drawn.affine, volume.affine, atol=1e-9)
        hand.choose(node, bundle.folder)
        hand.analyze()
        assert len(hand.rows) == 3


@tries_the_gap_again
def test_drawing_does_not_freeze_the_window(startup: list[Callable[[], None]], sample_data: SampleData) -> None:
    with panel():
        started(startup)
        ((source,),) = sample_data.sources.values()
        with responsive():
            assert source.draw(source) is not None


def test_without_the_packages_drawing_is_a_sentence(
    startup: list[Callable[[], None]], sample_data: SampleData, dialogs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with panel():
        started(startup)
        ((source,),) = sample_data.sources.values()
        monkeypatch.setitem(sys.modules, "greenrfm.phantoms.study", None)
        dialogs.answer("slicer.util.errorDisplay", None)
        assert source.draw(source) is None
    assert "press Install" in str(dialogs.shown[-1])


@pytest.mark.parametrize("fault", [TypeError("another Slicer"), ValueError("not the same length"), None])
def test_a_sample_data_module_that_refuses_or_lacks_is_logged_and_stops_nothing(
    fault: Exception | None,
    startup: list[Callable[[], None]],
    sample_data: SampleData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(**fields: Any) -> None:
        raise fault  # type: ignore[misc]

    if fault is None:
        monkeypatch.setitem(sys.modules, "SampleData", None)
    else:
        monkeypatch.setattr(sample_data, "registerCustomSampleDataSource", refuse)
    with panel() as hand, caplog.at_level(logging.ERROR):
        started(startup)
        assert hand.ui.analyzeButton is not None
    assert "the phantom is not among the sample data" in caplog.text


def test_a_slicer_whose_start_cannot_be_awaited_still_loads_the_module(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise ValueError("no such signal")

    monkeypatch.setattr(slicer.app, "connect", refuse, raising=False)
    with caplog.at_level(logging.ERROR), panel() as hand:
        assert hand.ui.analyzeButton is not None
    assert "the phantom is not among the sample data (ValueError: no such signal)" in caplog.text


def test_the_stand_in_refuses_what_slicer_refuses() -> None:
    with pytest.raises(TypeError):
        SampleData().registerCustomSampleDataSource(sampleName="x", nodeNames="x", customDownloader=print)
    with pytest.raises(ValueError, match="same length"):
        SampleData().registerCustomSampleDataSource(sampleName="x", uris=["", ""], fileNames=[""], nodeNames=["x"])

"""The phantom among Slicer's sample data: drawn on this machine, and readable by the panel."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from analyze_panel import panel

from greenrfm.phantoms.study import draw_study
from make_tiny_bundle import make_tiny_bundle


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the Sample Data module, which slicer-core lacks, and collect what is registered."""
    registered: list[dict[str, Any]] = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(
            category: str,
            sampleName: str,
            nodeNames: str,
            customDownloader: Any,
            thumbnailFileName: str,
        ) -> None:
            registered.append({"category": category, "name": sampleName, "draw": customDownloader})

    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return registered


def test_the_phantom_is_registered_drawn_and_read(slicer: Any, sources: list[dict[str, Any]], tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with panel() as hand:
        ((source,),) = (sources,)
        assert source["category"] == "GreenRFM"
        node = source["draw"](None)
        volume = draw_study(1, 1).volume
        from GreenRFMLib.scene import voxels_of

        drawn = voxels_of(node)
        np.testing.assert_array_equal(drawn.array, volume.array)
        np.testing.assert_allclose(drawn.affine, volume.affine, atol=1e-9)
        hand.choose(node, bundle.folder)
        hand.analyze()
        assert len(hand.rows) == 3


def test_without_the_packages_drawing_is_a_sentence(
    slicer: Any, sources: list[dict[str, Any]], dialogs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with panel():
        monkeypatch.setitem(sys.modules, "greenrfm.phantoms.study", None)
        dialogs.answer("slicer.util.errorDisplay", None)
        assert sources[0]["draw"](None) is None
    assert "press Install" in str(dialogs.shown[-1])

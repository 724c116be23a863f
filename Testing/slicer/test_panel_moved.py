"""A volume that is moved or changed: its heat map goes with it, or is not shown; never at the wrong place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import Hand, Networks, scan, shown_heat_map, with_heat_map

from greenrfm.bundle import Bundle
from slicer_harness.events import click, process_events, wait_until


def _remove(slicer: Any, node: Any) -> None:
    slicer.mrmlScene.RemoveNode(node)


def _change(slicer: Any, node: Any) -> None:
    node.GetImageData().GetPointData().GetScalars().Modified()


def _move(slicer: Any, node: Any) -> None:
    node.SetOrigin(50.0, 60.0, 70.0)


def _transform(slicer: Any, node: Any) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], (30.0, -20.0, 10.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def _bend(slicer: Any, node: Any) -> None:
    node.SetAndObserveTransformNodeID(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode").GetID())


def _paint(slicer: Any, node: Any) -> None:
    slicer.util.arrayFromVolume(node)[20:30] = 700
    slicer.util.arrayFromVolumeModified(node)


def _transform_and_harden(slicer: Any, node: Any) -> None:
    _transform(slicer, node)
    node.HardenTransform()


@pytest.mark.parametrize("change", [_remove, _change, _move, _transform, _bend])
def test_a_volume_removed_changed_or_moved_while_it_is_read_gives_no_result(
    slicer: Any, hand: Hand, unhurried: Bundle, networks: Networks, change: Any
) -> None:
    node = scan(slicer)
    hand.choose(node, unhurried.folder)
    hand.start()
    wait_until(networks.at_work.is_set, 30)
    change(slicer, node)
    wait_until(lambda: not hand.running, 60)
    assert networks.endings == [None]
    assert "changed, moved or removed" in hand.status
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")


def peak_of(slicer: Any) -> np.ndarray:
    """Return where the shown heat map is highest, in the world."""
    heat_map = shown_heat_map(slicer)
    values = slicer.util.arrayFromVolume(heat_map)
    index = np.unravel_index(values.argmax(), values.shape)[::-1]
    world = [0.0, 0.0, 0.0]
    heat_map.TransformPointToWorld(list((ijk_to_ras(slicer, heat_map) @ [*index, 1.0])[:3]), world)
    return np.array(world)


def ijk_to_ras(slicer: Any, node: Any) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix))


@pytest.mark.parametrize("shown", [True, False], ids=["while the map is shown", "before the map is shown"])
def test_the_heat_map_goes_under_a_transform_set_on_the_scan_after_the_analysis(
    slicer: Any, hand: Hand, bundle: Bundle, shown: bool
) -> None:
    node = with_heat_map(slicer, hand, bundle)
    before = peak_of(slicer)
    if not shown:
        click(hand.ui.heatMapCheckBox)
    _transform(slicer, node)
    if not shown:
        click(hand.ui.heatMapCheckBox)
    matrix = slicer.util.arrayFromTransformMatrix(node.GetParentTransformNode())
    np.testing.assert_allclose(peak_of(slicer), (matrix @ [*before, 1.0])[:3], atol=1e-6)
    node.SetAndObserveTransformNodeID(None)
    np.testing.assert_allclose(peak_of(slicer), before, atol=1e-6)


@pytest.mark.parametrize("shown", [True, False], ids=["while the map is shown", "before the map is shown"])
@pytest.mark.parametrize("change", [_move, _transform_and_harden, _paint])
def test_a_scan_moved_or_changed_after_the_analysis_shows_no_heat_map(
    slicer: Any, hand: Hand, bundle: Bundle, change: Any, shown: bool
) -> None:
    node = with_heat_map(slicer, hand, bundle)
    if not shown:
        click(hand.ui.heatMapCheckBox)
    change(slicer, node)
    if not shown:
        click(hand.ui.heatMapCheckBox)
    process_events()
    assert shown_heat_map(slicer) is None
    assert str(hand.ui.cellSizeLabel.text) == "The volume was moved or changed since; analyze it again."
    hand.select("Effusion")
    assert shown_heat_map(slicer) is None
    hand.analyze()
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"
    assert "mm" in str(hand.ui.cellSizeLabel.text)


def test_a_scan_that_is_moved_back_shows_its_heat_map_again(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    node = with_heat_map(slicer, hand, bundle)
    before, origin = peak_of(slicer), node.GetOrigin()
    _move(slicer, node)
    assert shown_heat_map(slicer) is None
    node.SetOrigin(origin)
    np.testing.assert_allclose(peak_of(slicer), before, atol=1e-6)


def test_a_scan_moved_before_its_scene_is_saved_shows_no_heat_map_after_it_is_loaded(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    _transform_and_harden(slicer, with_heat_map(slicer, hand, bundle))
    assert slicer.util.saveScene(str(tmp_path / "moved.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "moved.mrb"))
    process_events()
    assert len(hand.rows) == 3
    assert shown_heat_map(slicer) is None
    assert "moved or changed" in str(hand.ui.cellSizeLabel.text)

"""A bundle of several planes and sequences: which volumes it reads, and the heat map of each plane where it belongs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import Hand, node_names, shown_heat_map, with_heat_map
from planes_bundle import BALL, make_planes_bundle, stack

from greenrfm.bundle import Bundle
from greenrfm.reading import Reader, Reading
from greenrfm.volumes import plane_of
from slicer_harness.events import click, process_events, wait_until
from slicer_harness.pythonqt import unwrap

KEYS = [(sequence, plane) for plane in ("sagittal", "coronal", "axial") for sequence in ("pd", "t2")]


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_planes_bundle(tmp_path_factory.mktemp("planes") / "bundle")


@pytest.fixture
def study(slicer: Any) -> dict[tuple[str, str], Any]:
    """Return a study of three planes, one of them in two sequences."""
    keys = [("pd", "sagittal"), ("t2", "sagittal"), ("pd", "coronal"), ("t2", "axial")]
    return {key: stack(slicer, key[1], " ".join(key)) for key in keys}


def images(hand: Hand) -> dict[str, tuple[list[str], str]]:
    """Return what the list of images offers for each volume, and what is chosen."""
    table, rows = hand.ui.imagesTable, {}
    for row in range(table.rowCount):
        choice = unwrap(table.cellWidget(row, 1))
        offered = [choice.itemText(index) for index in range(choice.count())]
        rows[str(table.item(row, 0).text())] = (offered, choice.currentText())
    return rows


def choose(widget: Any, text: str) -> None:
    """Choose an entry of a list as a user does."""
    choice = unwrap(widget)
    assert choice.isVisible()
    assert choice.isEnabled()
    index = choice.findText(text)
    assert index >= 0, [choice.itemText(at) for at in range(choice.count())]
    choice.setCurrentIndex(index)
    choice.activated.emit(index)
    process_events()


def say(hand: Hand, name: str, what: str) -> None:
    """Say in the list of images what the volume `name` is."""
    row = list(images(hand)).index(name)
    choose(hand.ui.imagesTable.cellWidget(row, 1), what)


def read_all(hand: Hand, study: dict[tuple[str, str], Any], bundle: Bundle) -> Reading:
    """Read the study through the panel and return greenrfm's own reading of the same volumes."""
    from GreenRFMLib.scene import voxels_of

    first = next(iter(study.values()))
    hand.choose(first, bundle.folder)
    for key, node in study.items():
        say(hand, node.GetName(), " ".join(key))
    hand.analyze()
    volumes = {key: voxels_of(node).copy() for key, node in study.items()}
    return Reader(bundle, threads=1).read(volumes, heatmaps=True, features=True)


def background(slicer: Any) -> str:
    (shown,) = {one.GetBackgroundVolumeID() for one in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    return str(slicer.mrmlScene.GetNodeByID(shown).GetName())


def highest(slicer: Any) -> np.ndarray:
    """Return where the shown heat map is highest, in RAS mm."""
    import vtk

    node, matrix = shown_heat_map(slicer), vtk.vtkMatrix4x4()
    values = slicer.util.arrayFromVolume(node)
    node.GetIJKToRASMatrix(matrix)
    index = np.unravel_index(values.argmax(), values.shape)[::-1]
    return np.array(matrix.MultiplyPoint([*index, 1.0]))[:3]


def test_a_bundle_of_planes_asks_what_the_volumes_are(slicer: Any, hand: Hand, study: Any, planes: Bundle) -> None:
    assert not hand.ui.imagesTable.visible
    hand.choose(study["pd", "sagittal"], planes.folder)
    assert hand.ui.imagesTable.visible
    assert images(hand) == {
        "pd sagittal": (["choose", "pd sagittal", "t2 sagittal"], "choose"),
        "t2 sagittal": (["not read", "pd sagittal", "t2 sagittal"], "not read"),
        "pd coronal": (["not read", "pd coronal", "t2 coronal"], "not read"),
        "t2 axial": (["not read", "pd axial", "t2 axial"], "not read"),
    }
    assert hand.status == "Say in the list of images what this volume is; then add the others of its study."
    assert not hand.ui.analyzeButton.enabled
    # The others count beside the chosen volume only.
    assert not unwrap(hand.ui.imagesTable.cellWidget(2, 1)).isEnabled()
    say(hand, "pd sagittal", "pd sagittal")
    assert hand.ui.analyzeButton.enabled
    # No image twice: what the chosen volume is, no other can be; of two others the last has it.
    assert images(hand)["t2 sagittal"][0] == ["not read", "t2 sagittal"]
    stack(slicer, "axial", "again")
    wait_until(lambda: "again" in images(hand), 5)
    say(hand, "t2 axial", "t2 axial")
    say(hand, "again", "t2 axial")
    assert (images(hand)["t2 axial"][1], images(hand)["again"][1]) == ("not read", "t2 axial")
    slicer.mrmlScene.RemoveNode(study["pd", "coronal"])
    wait_until(lambda: "pd coronal" not in images(hand), 5)


def test_a_bundle_of_one_volume_asks_nothing(slicer: Any, hand: Hand, bundle: Bundle, planes: Bundle) -> None:
    node = stack(slicer, "axial", "scan")
    hand.choose(node, planes.folder)
    assert hand.ui.imagesTable.visible
    hand.choose(node, bundle.folder)
    assert not hand.ui.imagesTable.visible
    assert not hand.ui.imagesLabel.visible
    assert hand.ui.analyzeButton.enabled


def test_scores_and_every_planes_map_are_those_of_greenrfm(slicer: Any, hand: Hand, study: Any, planes: Bundle) -> None:
    expected = read_all(hand, study, planes)
    assert {name: bar for name, bar, _ in hand.rows} == {
        score.name: f"{100 * score.probability:.0f} %" for score in expected.scores
    }
    assert "taken for" not in str(hand.ui.warningsLabel.text)
    assert "These sequences are missing" not in str(hand.ui.warningsLabel.text)
    assert "t2 coronal" in str(hand.ui.warningsLabel.text)
    hand.select("Lung nodule")
    click(hand.ui.heatMapCheckBox)
    assert hand.ui.planeComboBox.visible
    wanted = {"sagittal": "pd sagittal", "coronal": "pd coronal", "axial": "t2 axial"}
    for plane, volume in wanted.items():
        choose(hand.ui.planeComboBox, plane)
        assert shown_heat_map(slicer).GetName() == f"GreenRFM {plane} heat map of {volume}"
        assert background(slicer) == volume
        maps = expected.plane_heatmaps[plane]
        inner = np.sort(maps["lung_nodule"][maps.inner])
        values = slicer.util.arrayFromVolume(shown_heat_map(slicer))
        np.testing.assert_allclose(np.sort(values.ravel())[-len(inner) :], inner, atol=1e-3)
        # It is highest at the ball, within a cell of 16 × 16 × 16 mm, in every plane.
        assert np.abs(highest(slicer) - BALL).max() < 12, plane
    click(hand.ui.heatMapCheckBox)
    assert shown_heat_map(slicer) is None


def test_a_saved_scene_brings_back_every_planes_map(
    slicer: Any, hand: Hand, study: Any, planes: Bundle, tmp_path: Path
) -> None:
    read_all(hand, study, planes)
    hand.select("Lung nodule")
    click(hand.ui.heatMapCheckBox)
    choose(hand.ui.planeComboBox, "coronal")
    rows = hand.rows
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    process_events()
    assert not hand.ui.planeComboBox.visible
    assert not hand.ui.imagesTable.visible
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert hand.rows == rows
    assert {name: chosen for name, (_, chosen) in images(hand).items()} == {name: name for name in images(hand)}
    assert str(hand.ui.planeComboBox.currentText) == "coronal"
    for plane, volume in (("coronal", "pd coronal"), ("sagittal", "pd sagittal"), ("axial", "t2 axial")):
        choose(hand.ui.planeComboBox, plane)
        assert shown_heat_map(slicer).GetName() == f"GreenRFM {plane} heat map of {volume}"
        assert background(slicer) == volume
        assert np.abs(highest(slicer) - BALL).max() < 12, plane
    assert hand.ui.analyzeButton.enabled
    hand.analyze()
    assert hand.rows == rows
    # The second analysis took the place of the first.
    assert len([name for name in node_names(slicer) if "heat map" in name]) == 3


def test_the_text_is_shown_in_the_chosen_plane_too(slicer: Any, hand: Hand, study: Any, planes: Bundle) -> None:
    expected = read_all(hand, study, planes)
    hand.ui.textLineEdit.text = "lung nodule"
    click(hand.ui.textButton)
    wait_until(lambda: not hand.running, 60)
    for plane, volume in (("sagittal", "pd sagittal"), ("axial", "t2 axial"), ("coronal", "pd coronal")):
        choose(hand.ui.planeComboBox, plane)
        assert shown_heat_map(slicer).GetName() == f"GreenRFM text map of {volume}"
        assert background(slicer) == volume
        maps = Reader(planes, threads=1).text_heatmap("lung nodule", expected.plane_features[plane])
        inner = np.sort(maps["text"][maps.inner])
        values = slicer.util.arrayFromVolume(shown_heat_map(slicer))
        np.testing.assert_allclose(np.sort(values.ravel())[-len(inner) :], inner, atol=1e-3)
        assert "“lung nodule”" in str(hand.ui.cellSizeLabel.text)
    assert sum("text map" in name for name in node_names(slicer)) == 1
    click(hand.ui.hideTextButton)
    assert shown_heat_map(slicer) is None
    assert not any("text map" in name for name in node_names(slicer))
    choose(hand.ui.planeComboBox, "axial")
    assert shown_heat_map(slicer) is None


def test_one_plane_alone_is_read_with_a_warning_and_offers_no_other(
    slicer: Any, hand: Hand, study: Any, planes: Bundle
) -> None:
    read_all(hand, {("pd", "coronal"): study["pd", "coronal"]}, planes)
    assert "the study has no sagittal or axial images" in str(hand.ui.warningsLabel.text)
    click(hand.ui.heatMapCheckBox)
    assert not hand.ui.planeComboBox.visible
    assert shown_heat_map(slicer).GetName() == "GreenRFM coronal heat map of pd coronal"


def test_a_plane_that_was_moved_shows_no_map_and_the_others_do(
    slicer: Any, hand: Hand, study: Any, planes: Bundle
) -> None:
    read_all(hand, study, planes)
    click(hand.ui.heatMapCheckBox)
    choose(hand.ui.planeComboBox, "coronal")
    study["pd", "coronal"].SetOrigin(0, 0, 0)
    process_events()
    assert shown_heat_map(slicer) is None
    assert "moved or changed" in str(hand.ui.cellSizeLabel.text)
    choose(hand.ui.planeComboBox, "axial")
    assert shown_heat_map(slicer).GetName() == "GreenRFM axial heat map of t2 axial"
    choose(hand.ui.planeComboBox, "coronal")
    assert shown_heat_map(slicer) is None
    slicer.mrmlScene.RemoveNode(study["pd", "coronal"])
    process_events()
    assert shown_heat_map(slicer) is None
    assert len(hand.rows) == 3


def test_any_volume_of_the_study_that_changes_while_it_is_read_ends_the_reading(
    slicer: Any, hand: Hand, study: Any, planes: Bundle
) -> None:
    nodes = list(study.values())
    hand.choose(nodes[0], planes.folder)
    for key, node in study.items():
        say(hand, node.GetName(), " ".join(key))
    click(hand.ui.analyzeButton)
    nodes[-1].GetImageData().GetPointData().GetScalars().Modified()
    wait_until(lambda: not hand.running, 60)
    assert "changed, moved or removed" in hand.status
    assert hand.rows == []


def test_another_patients_study_begins_with_nothing_said(slicer: Any, hand: Hand, study: Any, planes: Bundle) -> None:
    read_all(hand, study, planes)
    other = stack(slicer, "sagittal", "other patient")
    hand.choose(other, planes.folder)
    assert {chosen for _, chosen in images(hand).values()} == {"choose", "not read"}
    hand.choose(study["pd", "sagittal"], planes.folder)
    assert {chosen for _, chosen in images(hand).values()} == {"choose", "not read"}
    assert len(hand.rows) == 3  # its result is still there


def test_volumes_that_dicom_filed_under_another_patient_are_not_offered(
    slicer: Any, hand: Hand, study: Any, planes: Bundle
) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    for name, keys in (("one", [("pd", "sagittal"), ("pd", "coronal")]), ("two", [("t2", "axial")])):
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), name)
        within = hierarchy.CreateStudyItem(patient, "study")
        for key in keys:
            hierarchy.CreateItem(within, study[key])
    hand.choose(study["pd", "sagittal"], planes.folder)
    assert list(images(hand)) == ["pd sagittal", "t2 sagittal", "pd coronal"]


def test_a_volume_of_thin_slices_may_be_any_plane(slicer: Any, hand: Hand, planes: Bundle) -> None:
    hand.choose(stack(slicer, "axial", "3D", thin=True), planes.folder)
    assert images(hand)["3D"][0] == ["choose", *(" ".join(key) for key in KEYS)]
    say(hand, "3D", "t2 coronal")
    hand.analyze()
    click(hand.ui.heatMapCheckBox)
    hand.select("Lung nodule")
    assert shown_heat_map(slicer).GetName() == "GreenRFM coronal heat map of 3D"
    assert np.abs(highest(slicer) - BALL).max() < 12


def test_a_plane_that_the_bundle_does_not_read_is_a_sentence(
    slicer: Any, hand: Hand, planes: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "coronal"
    folder.mkdir()
    manifest = json.loads((planes.folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["vision"] = manifest["vision"][1:2]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    hand.choose(stack(slicer, "axial", "scan"), folder)
    assert hand.status == ("The slices of this volume are axial, the model reads coronal ones. Choose another volume.")
    assert not hand.ui.analyzeButton.enabled


@pytest.mark.parametrize(
    "vision",
    [None, 7, "x", [7], [{}], [{"plane": "oblique", "sequences": ["pd"]}], [{"plane": "axial", "sequences": [1]}],
     [{"plane": "axial", "sequences": ["a b"]}]],
)  # fmt: skip
def test_a_manifest_of_wrong_types_asks_nothing_and_reading_says_what_is_wrong(
    slicer: Any, hand: Hand, planes: Bundle, tmp_path: Path, vision: Any
) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    manifest = json.loads((planes.folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"vision": vision}), encoding="utf-8")
    hand.choose(stack(slicer, "axial", "scan"), folder)
    assert not hand.ui.imagesTable.visible
    hand.analyze()
    assert "'vision" in hand.status
    assert "unexpectedly" not in hand.status


def test_the_plane_of_a_volume_is_the_one_that_greenrfm_finds(slicer: Any, hand: Hand) -> None:
    from GreenRFMLib import study
    from GreenRFMLib.scene import voxels_of

    random = np.random.default_rng(5)
    for number in range(60):
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = turn * random.choice([1.0, 1.1, 3.0], size=3)
        node = slicer.util.addVolumeFromArray(
            random.normal(size=(4, 5, 6)).astype(np.float32), ijkToRAS=affine, name=f"{number}"
        )
        assert study.plane_of(node) == plane_of(voxels_of(node).copy()), affine


def test_a_scene_from_before_there_were_planes_still_shows_its_map(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    with_heat_map(slicer, hand, bundle)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    table.RemoveAttribute("GreenRFM.planes")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    for wrong in ("7", "{", "[7]", '["coronal"]', "[]", "null"):
        table.SetAttribute("GreenRFM.planes", wrong)
        hand.module.widget.enter()
        assert hand.rows == [], wrong

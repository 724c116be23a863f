"""What the tests of the Analyze panel share: volumes, bundles, and a hand that uses the panel by mouse and keyboard."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from greenrfm.bundle import Bundle
from greenrfm.phantoms.study import draw_study
from greenrfm.reading import Cancelled, Reader, Reading
from greenrfm.volumes import Volume, read_volume, write_volume
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import Heartbeat, choose_node, click, click_cell, process_events, wait_until
from slicer_harness.extension import extension_folder
from slicer_harness.module import load_module

VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
UNICODE = "Ünï cödé 胸部"
# A busy machine stops us now and then, our own blocking every time. Nothing but the gap is tried again.
tries_the_gap_again = pytest.mark.flaky(reruns=3, only_rerun="the UI stood still")
REAL_CT = Path("ct_chest_LIDC-IDRI-0314/lidc0314_1.5x1.5x3.nii.gz")


def endless_bundle(folder: Path) -> Bundle:
    """Write a bundle whose network takes minutes: 100 000 layers, of which a machine does a thousand in a second."""
    return make_tiny_bundle(folder, layers=100, rounds=1000)


class Networks:
    """Follows the reading: whether a network is at work now, and how each read ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_work = threading.Event()
        self.endings: list[type | None] = []  # the exception's type, or None for a reading
        run, read = onnxruntime.InferenceSession.run, Reader.read

        def followed_run(*arguments: Any, **named: Any) -> Any:
            self.at_work.set()
            try:
                return run(*arguments, **named)
            finally:
                self.at_work.clear()

        def followed_read(*arguments: Any, **named: Any) -> Any:
            try:
                reading = read(*arguments, **named)
            except BaseException as error:
                self.endings.append(type(error))
                raise
            self.endings.append(None)
            return reading

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", followed_run)
        monkeypatch.setattr(Reader, "read", followed_read)

    def wait_until_at_work(self) -> None:
        """Wait until the network is well under way."""
        wait_until(self.at_work.is_set, 30)
        process_events(200)
        assert self.at_work.is_set()
        assert self.endings == []

    def assert_cancelled_at_once(self) -> None:
        """Assert that the network gave up by itself, within two seconds from now, and no thread is left."""
        began = time.monotonic()
        wait_until(lambda: not workers(), 5)
        assert time.monotonic() - began < 2
        assert self.endings == [Cancelled]


def workers() -> list[threading.Thread]:
    """Return the threads of analyses that did not end yet."""
    return [thread for thread in threading.enumerate() if thread.name == "GreenRFM analysis"]


def phantom_file(folder: Path, matrix: int = 64) -> Path:
    """Write a generated chest CT to `folder`, whose scanner stored it sagittally upside down, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "phantom.nrrd"
    write_volume(draw_study(1, 1, matrix).volume, path)
    return path


def own_reading(bundle: Bundle, path: Path) -> Reading:
    """Return greenrfm's own reading of the file."""
    return Reader(bundle, threads=1).read(read_volume(path), heatmaps=True, overrule=True)


def turned_volume(codes: str, degrees: float = 0.0) -> Volume:
    """Return a small scan stored along `codes` and turned about all axes, with one dense spot off its middle."""
    directions = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    axes = np.array([directions[code] for code in codes], float).T
    one, two = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_s = np.array([[one, -two, 0], [two, one, 0], [0, 0, 1]])
    about_l = np.array([[1, 0, 0], [0, one, -two], [0, two, one]])
    affine = np.eye(4)
    affine[:3, :3] = about_s @ about_l @ axes @ np.diag([2.5, 3.0, 4.0])
    affine[:3, 3] = 11.0, -23.0, 37.0
    array = np.random.default_rng(3).integers(-1000, -800, (40, 36, 30)).astype(np.int16)
    array[5:14, 20:30, 18:25] = 900
    return Volume(array, affine)


class Hand:
    """Uses the panel as a person does: real clicks on real widgets, and waits for what comes of them."""

    def __init__(self, module: Any) -> None:
        self.module, self.ui = module, module.widget.ui

    def choose(self, volume: Any, bundle: Path | str) -> None:
        """Choose a volume node and a bundle folder."""
        choose_node(self.ui.volumeSelector, volume)
        # As the Browse button sets it: QTest cannot type what is not Latin.
        self.ui.bundlePathLineEdit.currentPath = str(bundle)
        process_events()

    def start(self) -> None:
        """Click Analyze and return while it runs; for bundles slow enough to be caught at it."""
        click(self.ui.analyzeButton)
        assert self.running, self.status

    def analyze(self) -> None:
        """Click Analyze and wait for the outcome."""
        click(self.ui.analyzeButton)
        wait_until(lambda: not self.running, 60)

    @property
    def running(self) -> bool:
        """Return whether Cancel can be clicked."""
        return bool(self.ui.cancelButton.enabled)

    @property
    def status(self) -> str:
        """Return the sentence under the buttons."""
        return str(self.ui.statusLabel.text)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Return (finding, percentage, call) of each row as shown."""
        table = self.ui.findingsTable
        return [
            (table.item(row, 0).text(), table.cellWidget(row, 1).text, table.item(row, 2).text()[2:])
            for row in range(table.rowCount)
        ]

    @property
    def selected(self) -> str:
        """Return the name of the selected finding."""
        items = self.ui.findingsTable.selectedItems()
        return str(items[0].text()) if items else ""

    def select(self, finding: str) -> None:
        """Click on the row of a finding, on its bar: nothing in the row may swallow the click."""
        row = [name for name, _, _ in self.rows].index(finding)
        click_cell(self.ui.findingsTable, row, 1)


@contextmanager
def panel() -> Iterator[Hand]:
    """Load the module as Slicer does, and unload it at the end."""
    module = load_module(extension_folder() / "GreenRFM.py")
    try:
        yield Hand(module)
    finally:
        module.close()


@contextmanager
def slice_views() -> Iterator[None]:
    """Make three slice views, without which there is nothing to lay a heat map over."""
    from slicer_harness.views import SliceView  # VTK and MRML, once the environment stands

    made = [SliceView(*names) for names in VIEWS.items()]
    try:
        yield
    finally:
        for view in made:
            view.close()


@contextmanager
def responsive(limit_s: float = 0.2) -> Iterator[Heartbeat]:
    """Assert that the UI thread was never blocked for longer than `limit_s`."""
    with Heartbeat() as heartbeat:
        yield heartbeat
    print(f"longest gap {1000 * heartbeat.longest_gap_s:.0f} ms")
    assert heartbeat.longest_gap_s <= limit_s, f"the UI stood still for {1000 * heartbeat.longest_gap_s:.0f} ms"


def shown_heat_map(slicer: Any) -> Any:
    """Return the volume node that lies over the slice views, or None."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert composites, "this test needs slice views"
    (shown,) = {composite.GetForegroundVolumeID() for composite in composites}
    return slicer.mrmlScene.GetNodeByID(shown) if shown else None


def scan(slicer: Any, name: str = "scan") -> Any:
    """Return a small scan of a trunk with two lungs and one dense block, fit to be read by a chest model."""
    array = np.full((40, 60, 60), -1000, np.int16)
    array[:, 8:52, 4:56] = 40
    array[:, 14:46, 9:26] = array[:, 14:46, 34:51] = -900
    array[10:20, 20:35, 30:45] = 400
    return slicer.util.addVolumeFromArray(array, ijkToRAS=np.diag([-2.5, -2.5, 4.0, 1.0]), name=name)


def with_heat_map(slicer: Any, hand: Hand, bundle: Bundle) -> Any:
    """Return a scan that was analyzed, with its heat map over the views."""
    node = scan(slicer)
    hand.choose(node, bundle.folder)
    hand.analyze()
    click(hand.ui.heatMapCheckBox)
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"
    return node


def fusion(slicer: Any) -> list[tuple[str, float]]:
    """Return what lies over each slice view, and how opaque."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return [(one.GetForegroundVolumeID() or "", round(one.GetForegroundOpacity(), 6)) for one in composites]


def node_names(slicer: Any) -> list[str]:
    """Return the names of the tables and volumes in the scene."""
    nodes = slicer.util.getNodesByClass("vtkMRMLTableNode") + slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    return sorted(node.GetName() for node in nodes)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle; a file of tests that needs another defines its own."""
    return make_tiny_bundle(tmp_path_factory.mktemp("panel") / "tiny")


@pytest.fixture(scope="session")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle whose network can be caught at work."""
    return make_tiny_bundle(tmp_path_factory.mktemp("panel") / "unhurried", layers=300)


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle whose network takes minutes."""
    return endless_bundle(tmp_path_factory.mktemp("panel") / "slow")


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    """Follow the networks of this test."""
    return Networks(monkeypatch)


@pytest.fixture
def hand(slicer: Any) -> Iterator[Hand]:
    """Return a hand at the panel, with three slice views beside it."""
    with slice_views(), panel() as one:
        yield one

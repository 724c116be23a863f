"""Take the pictures of Resources/screenshots: the panel after a real analysis, and what it shows in Slicer's views.

    python Testing/screenshots.py --bundle demo/run/bundle --library demo/library --out Resources/screenshots

The scan is a generated phantom: no patient's data comes near these pictures. They show a finding that is there,
and whose heat map is highest where it is; without one no picture is taken. The window around them is not Slicer's:
the panel stands alone, and the views are drawn by Slicer's logic and displayable managers off screen.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import Bundle
from greenrfm.evaluation.localisation import coverage, localise
from greenrfm.phantoms.study import PhantomStudy, draw_study
from greenrfm.reading import HeatMaps, Reader, Reading
from greenrfm.volumes import Volume
from slicer_harness import boot
from slicer_harness.events import click, click_cell, process_events, wait_until
from slicer_harness.extension import extension_folder
from slicer_harness.module import load_module

# Generated patients that are in no demo's cohort, whose numbers begin at a million times the seed.
PATIENTS = range(5_500_000, 5_500_040)
MATRIX = 192
# A random cell of the body must seldom meet the finding, or a hit would say nothing.
CHANCE = 0.2
# The views jump to the middle of the highest cell, which is several centimetres wide: the finding must be seen there.
NEAR_MM = 12.0
# Of the highest cell: a reader of the README should see at once what it points at.
SHARE = 0.25
LUNG_WINDOW = (-1150.0, 350.0)
OPACITY = 0.55
PANEL_SIZE = (460, 760)
VIEW_SIZE = (640, 560)
# CT in the 3D view: skin as a veil, contrast-filled heart and bone stronger. (HU, opacity) and (HU, colour).
CT_OPACITY = ((-700, 0.0), (-300, 0.012), (-100, 0.0), (120, 0.0), (220, 0.05), (500, 0.14))
CT_COLOURS = ((-300, (0.75, 0.62, 0.52)), (150, (0.75, 0.35, 0.28)), (300, (0.95, 0.90, 0.80)))


@dataclass(frozen=True)
class Shot:
    """A phantom, and the finding that is really there where its heat map is highest."""

    study: PhantomStudy
    finding: str


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="the model to read with, as `make demo` leaves it")
    parser.add_argument("--library", type=Path, required=True, help="its case library, as `make demo` leaves it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    shot = first_hit(Bundle.load(options.bundle))
    options.out.mkdir(parents=True, exist_ok=True)
    take(boot(), shot, options.bundle.resolve(), options.library.resolve(), options.out.resolve())


def first_hit(bundle: Bundle) -> Shot:
    """Return the first phantom with a finding that is called and located; stop if there is none."""
    reader = Reader(bundle)
    for patient in PATIENTS:
        study = draw_study(patient, 0, matrix=MATRIX)
        located = located_findings(study, reader.read(study.volume, heatmaps=True))
        if located:
            finding = max(located, key=lambda key: located[key])
            print(f"patient {patient}: {finding}; {len(located)} of {len(study.masks)} present findings are located")
            return Shot(study, finding)
    raise SystemExit("this model locates no finding of these phantoms: pictures of it would say something untrue")


def located_findings(study: PhantomStudy, reading: Reading) -> dict[str, float]:
    """Return the findings that are there, called, located and large, and the share of the highest cell they fill."""
    maps, volume, located = reading.heatmaps, study.volume, {}
    assert maps is not None
    if reading.withheld:
        return {}
    for score in reading.scores:
        mask = study.masks.get(score.key)
        if mask is None or score.call != "present":
            continue
        heat = maps.shown(score.key)
        place = localise(heat, maps.affine, mask, volume.affine, study.body)
        if place.hit == 1 and place.chance < CHANCE and distance_from_peak(heat, maps, mask, volume) < NEAR_MM:
            share = coverage(heat.shape, maps.affine, mask, volume.affine)[np.unravel_index(heat.argmax(), heat.shape)]
            if share >= SHARE:
                located[score.key] = float(share)
    return located


def distance_from_peak(heat: NDArray[Any], maps: HeatMaps, mask: NDArray[np.bool_], volume: Volume) -> float:
    """Return how far, in mm, the middle of the highest cell lies from the nearest voxel of the finding."""
    peak = maps.affine @ [*np.unravel_index(heat.argmax(), heat.shape), 1.0]
    voxels = np.argwhere(mask) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return float(np.linalg.norm(voxels - peak[:3], axis=1).min())


def take(slicer: Any, shot: Shot, bundle: Path, library: Path, out: Path) -> None:
    """Analyze the phantom through the panel and take the pictures of what it then shows."""
    from slicer_harness.views import SliceView, opengl_missing

    volume = show_phantom(slicer, shot.study.volume)
    views = [SliceView("Red", "Axial", VIEW_SIZE), SliceView("Green", "Coronal", VIEW_SIZE)]
    for view in views:
        view.show(volume)
    module = load_module(extension_folder() / "GreenRFM.py")
    ui = module.widget.ui
    ui.volumeSelector.setCurrentNode(volume)
    # By its name alone: where the bundle lies on this machine says nothing to a reader of the README.
    os.chdir(bundle.parent)
    ui.bundlePathLineEdit.currentPath = bundle.name
    click(ui.analyzeButton)
    wait_until(lambda: ui.findingsTable.rowCount > 0 and ui.analyzeButton.enabled, seconds=120)
    if not ui.heatMapCheckBox.checked:
        click(ui.heatMapCheckBox)
    ui.opacitySlider.value = OPACITY
    row = row_of(shot.finding, ui.findingsTable)
    click_cell(ui.findingsTable, row, 0)
    process_events()
    save_widget(module.widget.parent, out / "panel.png")

    caption = f"Generated phantom · {ui.findingsTable.item(row, 0).text()} · not for diagnostic use"
    for view, file in zip(views, ("axial.png", "coronal.png"), strict=True):
        save(annotated(view.picture(), caption), out / file)
    if opengl_missing():
        print(f"three_d.png was not taken: {opengl_missing()}")
    else:
        save(annotated(three_d(volume, views), caption), out / "three_d.png")
    similar = module.widget.similar_ui
    for section in (ui.inputsCollapsibleButton, ui.findingsCollapsibleButton):
        section.collapsed = True
    similar.similarCollapsibleButton.collapsed = False
    similar.libraryPathLineEdit.currentPath = os.path.relpath(library)
    process_events()
    click(similar.findButton)
    wait_until(lambda: similar.casesTable.rowCount > 0, seconds=60)
    process_events()
    save_widget(module.widget.parent, out / "similar.png")
    module.close()


def show_phantom(slicer: Any, phantom: Volume) -> Any:
    """Put the phantom into the scene with a window that shows lung and soft tissue."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.affine
    voxels = np.ascontiguousarray(phantom.array.transpose(2, 1, 0))
    node = slicer.util.addVolumeFromArray(voxels, ijkToRAS=to_ras, name="Chest phantom")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(*LUNG_WINDOW)
    return node


def row_of(finding: str, table: Any) -> int:
    """Return the row of a finding, by the key that its first item carries."""
    import qt

    return next(row for row in range(table.rowCount) if table.item(row, 0).data(qt.Qt.UserRole) == finding)


def three_d(volume: Any, views: list[Any]) -> NDArray[np.uint8]:
    """Return the slices with their overlay in space, under a transparent volume rendering of the scan."""
    from slicer_harness.views import ThreeDView

    view = ThreeDView(size=VIEW_SIZE)
    for slice_view in views:
        view.show_slice(slice_view)
    view.render_volume(
        volume,
        lambda opacity: [opacity.AddPoint(value, strength) for value, strength in CT_OPACITY],
        lambda colours: [colours.AddRGBPoint(value, *colour) for value, colour in CT_COLOURS],
    )
    view.look("anterior", azimuth=-28, elevation=22, zoom=1.35)
    return view.picture()


def annotated(picture: NDArray[np.uint8], caption: str) -> Any:
    """Return the picture as a QImage with the patient's sides and a line below."""
    from PySide6.QtCore import QRectF, Qt
    from PySide6.QtGui import QColor, QFont, QImage, QPainter

    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture).tobytes()
    image = QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.TextAntialiasing)
    font = QFont("DejaVu Sans")
    font.setPixelSize(22)
    font.setBold(True)
    painter.setFont(font)
    painter.setPen(QColor("#f5d76e"))
    for letter, side in (("R", Qt.AlignmentFlag.AlignLeft), ("L", Qt.AlignmentFlag.AlignRight)):
        painter.drawText(QRectF(10, 0, width - 20, height), side | Qt.AlignmentFlag.AlignVCenter, letter)
    font.setPixelSize(15)
    font.setBold(False)
    painter.setFont(font)
    band = QRectF(0, height - 26, width, 26)
    painter.fillRect(band, QColor(0, 0, 0, 170))
    painter.setPen(QColor("#f0f0f0"))
    painter.drawText(band.adjusted(10, 0, -10, 0), Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, caption)
    painter.end()
    return image


def save_widget(widget: Any, file: Path) -> None:
    """Write what a widget shows."""
    from slicer_harness.pythonqt import unwrap

    plain = unwrap(widget)
    plain.resize(*PANEL_SIZE)
    plain.show()
    process_events()
    save(plain.grab(), file)


def save(image: Any, file: Path) -> None:
    """Write a QImage or QPixmap."""
    if not image.save(str(file)):
        raise OSError(f"{file} could not be written")
    print(file)


if __name__ == "__main__":
    main()

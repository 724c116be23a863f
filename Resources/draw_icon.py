"""Draw the extension's icon: two lungs, and the cells of a heat map over one of them. Run with a folder to write to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QLinearGradient, QPainter, QPainterPath, QPen

SIZE = 128
# Cells of the heat map, in steps of CELL from its corner, and how warm each is.
CELL, CORNER = 13.0, (73.0, 58.0)
CELLS = {(1, 0): 0.25, (0, 1): 0.35, (1, 1): 1.0, (2, 1): 0.6, (1, 2): 0.65, (2, 2): 0.3}


def lung() -> QPainterPath:
    """Return the outline of the lung on the picture's right, which is the patient's left."""
    path = QPainterPath(QPointF(70, 50))
    path.cubicTo(72, 30, 82, 22, 90, 28)
    path.cubicTo(104, 40, 112, 70, 111, 94)
    path.cubicTo(110, 106, 98, 104, 88, 100)
    path.cubicTo(78, 97, 71, 95, 70, 84)
    path.closeSubpath()
    return path


def draw() -> QImage:
    """Return the icon."""
    image = QImage(SIZE, SIZE, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    ground = QLinearGradient(0, 0, 0, SIZE)
    ground.setColorAt(0, QColor("#2f8f5b"))
    ground.setColorAt(1, QColor("#14532d"))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(QRectF(2, 2, SIZE - 4, SIZE - 4), 22, 22)

    painter.setPen(QPen(QColor("#e8f5ec"), 6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    painter.drawLine(QPointF(64, 20), QPointF(64, 46))
    painter.drawLine(QPointF(64, 46), QPointF(73, 54))
    painter.drawLine(QPointF(64, 46), QPointF(55, 54))

    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("#cfead9"))
    painter.drawPath(lung())
    painter.save()
    painter.translate(SIZE, 0)
    painter.scale(-1, 1)
    painter.drawPath(lung())
    painter.restore()

    painter.setClipPath(lung())
    for (column, row), warmth in CELLS.items():
        colour = QColor.fromRgbF(0.95, 0.72 - 0.45 * warmth, 0.12, 0.45 + 0.55 * warmth)
        corner = QPointF(CORNER[0] + column * CELL, CORNER[1] + row * CELL)
        painter.fillRect(QRectF(corner.x(), corner.y(), CELL - 1, CELL - 1), colour)
    painter.end()
    return image


if __name__ == "__main__":
    application = QGuiApplication(sys.argv[:1])
    draw().save(str(Path(sys.argv[1]) / "GreenRFM.png"))

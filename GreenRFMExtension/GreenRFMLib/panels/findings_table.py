"""The table of findings: name, probability as a bar with its percentage, call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from GreenRFMLib.record import Call, Score

# Orange, light yellow and grey-blue differ in hue or lightness for colour-blind eyes too; the call is also a sign and a
# word, and present rows are bold.
_COLOURS: dict[Call, str] = {"present": "#d9822b", "indeterminate": "#e9cf6a", "absent": "#8a9ba8"}
_SIGNS: dict[Call, str] = {"present": "●", "indeterminate": "◐", "absent": "○"}
_BAR = (
    "QProgressBar {{ border: 1px solid {colour}; border-radius: 2px; background: transparent; text-align: center; }}"
    "QProgressBar::chunk {{ background-color: {colour}; }}"
)


def prepare(table: Any) -> None:
    """Set up an empty table; done here because .ui files cannot say it in a way that all Qt versions load."""
    table.setColumnCount(3)
    table.setHorizontalHeaderLabels([_("Finding"), _("Probability"), _("Call")])
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    header.setSectionResizeMode(1, qt.QHeaderView.Interactive)
    header.setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
    table.verticalHeader().hide()


def fill(table: Any, scores: Sequence[Score]) -> None:
    """Show `scores`, a row each, in the given order; the first item of a row carries the finding's key."""
    table.clearContents()
    table.setRowCount(len(scores))
    for row, score in enumerate(scores):
        tip = _("{name}: {probability}; present from {present} up, absent below {absent}").format(
            name=score.name,
            probability=percent(score.probability),
            present=percent(score.threshold),
            absent=percent(score.absent_below),
        )
        texts = (score.name, "", f"{_SIGNS[score.call]} {_word(score.call)}")
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tip)
            if score.call == "present":
                font = item.font()
                font.setBold(True)
                item.setFont(font)
            item.setData(qt.Qt.UserRole, score.key)
            table.setItem(row, column, item)
        table.setCellWidget(row, 1, _bar(score, tip))


def selected_key(table: Any) -> str:
    """Return the key of the selected finding, or ""."""
    items = table.selectedItems()
    return str(items[0].data(qt.Qt.UserRole)) if items else ""


def select(table: Any, key: str) -> None:
    """Select the row of finding `key`, if there is one."""
    for row in range(table.rowCount):
        if table.item(row, 0).data(qt.Qt.UserRole) == key:
            table.selectRow(row)
            return


def percent(probability: float) -> str:
    """Return a probability as a percentage without false precision at its ends."""
    if 0 < probability < 0.01:
        return "< 1 %"
    if 0.99 < probability < 1:
        return "> 99 %"
    return f"{100 * probability:.0f} %"


def _word(call: Call) -> str:
    return {"present": _("present"), "indeterminate": _("indeterminate"), "absent": _("absent")}[call]


def _bar(score: Score, tip: str) -> Any:
    bar = qt.QProgressBar()
    bar.setRange(0, 1000)
    bar.setValue(round(1000 * score.probability))
    bar.setFormat(percent(score.probability))
    bar.setStyleSheet(_BAR.format(colour=_COLOURS[score.call]))
    bar.setToolTip(tip)
    return bar

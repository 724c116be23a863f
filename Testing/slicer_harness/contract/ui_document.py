"""A Qt Designer file: its XML with line numbers, and the names that `childWidgetVariables` makes of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

NAMED = ("widget", "layout", "action", "actiongroup", "buttongroup")


class UiDocument:
    """One `.ui` file.

    Parameters
    ----------
    path
        The file. `expat.ExpatError` is raised when it is no XML.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: dict[ET.Element, int] = {}
        self.root = self._parse()
        top = self.root.find("widget")
        self.top_class = top.get("class", "") if top is not None else ""
        self.classes = {element.get("name", ""): self.class_of(element) for element in self.named()}

    def line(self, element: ET.Element) -> int:
        """Return the line on which an element starts."""
        return self._lines[element]

    def named(self) -> Iterator[ET.Element]:
        """Yield every element that becomes a QObject with a name."""
        return (element for element in self.root.iter() if element.tag in NAMED and element.get("name"))

    @staticmethod
    def class_of(element: ET.Element) -> str:
        """Return the Qt class that a named element becomes."""
        fixed = {"action": "QAction", "actiongroup": "QActionGroup", "buttongroup": "QButtonGroup"}
        cls = fixed.get(element.tag) or element.get("class", "")
        return "QFrame" if cls == "Line" else cls  # Designer's name for a frame that is a line

    def _parse(self) -> ET.Element:
        builder, parser = ET.TreeBuilder(), expat.ParserCreate()

        def start(tag: str, attributes: dict[str, str]) -> None:
            self._lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

        parser.StartElementHandler = start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(self.path.read_bytes(), True)
        return builder.close()

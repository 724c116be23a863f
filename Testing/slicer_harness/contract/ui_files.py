"""The check of Qt Designer files: classes, properties and their values, connections, custom widget headers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator

from .declarations import arguments_of, normalized
from .problem import Problem
from .surface import HOW_TO_ADD, Property, Surface, facts, surface
from .ui_document import UiDocument

# Elements that Qt's form builder converts without loss to a property of that type.
_VALUES = {
    "bool": {"bool"},
    "int": {"number"},
    "uint": {"number", "UInt"},
    "double": {"double", "number", "float"},
    "qreal": {"double", "number", "float"},
    "QString": {"string"},
    "QStringList": {"stringlist"},
    "QByteArray": {"cstring"},
    "QColor": {"color"},
    "QCursor": {"cursor", "cursorShape"},
    "QFont": {"font"},
    "QIcon": {"iconset"},
    "QPalette": {"palette"},
    "QPixmap": {"pixmap"},
    "QRect": {"rect"},
    "QSize": {"size"},
    "QSizePolicy": {"sizepolicy"},
}
# Designer writes these although they are no properties; Qt's form builder knows them.
_EXTRAS = {
    "layout": {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "horizontalSpacing", "verticalSpacing"},
    "Line": {"orientation"},
    "QLabel": {"buddy"},
}
_SPACER = {
    "orientation": {"Qt::Horizontal", "Qt::Vertical"},
    "sizeHint": None,
    "sizeType": {f"QSizePolicy::{policy}" for policy in ("Fixed", "Minimum", "Maximum", "Preferred", "Expanding")}
    | {"QSizePolicy::MinimumExpanding", "QSizePolicy::Ignored"},
}
# Dynamic properties that Slicer itself reads.
_DYNAMIC = {"SlicerParameterName"}
_HEADER_ATTRIBUTE = re.compile(r"(horizontalHeader|verticalHeader|header)([A-Z]\w*)")


def check_ui(document: UiDocument) -> list[Problem]:
    """Return what Slicer would not load, or would load differently, of a `.ui` file."""
    return [Problem(document.path, document.line(element), sentence) for element, sentence in _findings(document)]


def _findings(document: UiDocument) -> Iterator[tuple[ET.Element, str]]:
    counts = Counter(element.get("name") for element in document.named())
    customs = {custom.findtext("class", ""): custom for custom in document.root.iter("customwidget")}
    for element in document.named():
        name, cls = element.get("name"), document.class_of(element)
        if counts[name] > 1:
            yield element, f"the name {name} is given {counts[name]} times: self.ui.{name} finds only one of them"
        seen = surface(cls)
        if seen is None:
            yield element, _unknown_class(cls)
            continue
        if cls in facts() and cls not in customs:
            yield element, f"{cls} is not listed under <customwidgets>: the loader does not know how to make it"
        yield from _properties(element, seen)
    for spacer in document.root.iter("spacer"):
        yield from _spacer(spacer)
    for custom in customs.values():
        yield from _custom_widget(custom)
    for connection in document.root.iter("connection"):
        yield from _connection(connection, document)


def _unknown_class(cls: str) -> str:
    if cls.startswith("Q"):
        return f"{cls} is no class of Qt 6"
    return f"the contract has no facts about {cls}: {HOW_TO_ADD}"


def _properties(element: ET.Element, seen: Surface) -> Iterator[tuple[ET.Element, str]]:
    for item in element.findall("property"):
        name = item.get("name", "")
        found = seen.property(name)
        if name in _EXTRAS.get(element.get("class", "") if element.tag == "widget" else element.tag, ()):
            continue
        if found is None:
            if not (item.get("stdset") == "0" and name in _DYNAMIC):
                yield item, f"{element.get('name')}: {_no_property(seen, name)}"
        elif not found.writable:
            yield item, f"{element.get('name')}: the property {name} of {seen.name} cannot be set"
        else:
            yield from ((item, f"{element.get('name')}.{name}: {text}") for text in _value(item, found))
    header = surface("QHeaderView")
    for item in element.findall("attribute"):
        match = _HEADER_ATTRIBUTE.fullmatch(item.get("name", ""))
        if match and header and not header.property(match[2][0].lower() + match[2][1:]):
            yield item, f"{element.get('name')}: QHeaderView has no property for {item.get('name')}"


def _no_property(seen: Surface, name: str) -> str:
    if seen.sees(name):
        return f"{name} of {seen.name} is no property, so a .ui file cannot set it"
    return seen.why_not(name)


def _value(item: ET.Element, found: Property) -> Iterator[str]:
    value = item[0] if len(item) else None
    if value is None:
        yield "the property has no value"
        return
    expected = _VALUES.get(found.type)
    if expected and value.tag not in expected:
        yield f"a {found.type} is written as <{'> or <'.join(sorted(expected))}>, not as <{value.tag}>"
    if value.tag not in ("enum", "set"):
        return
    for key in (value.text or "").split("|"):
        if key.count("::") > 1:
            yield f"Qt 5.15 cannot read {key}: write {'::'.join([key.split('::')[0], key.split('::')[-1]])}"
        elif found.enumeration and not found.enumeration.keyToValue(key.strip())[1]:
            yield f"{key} is no {found.type}"
        elif not found.enumeration and not _known_enumerator(key.strip()):
            yield f"{key.strip().split('::')[0]} has no {key.strip().split('::')[-1]}"


def _known_enumerator(key: str) -> bool:
    """Return whether the facts know an enumerator such as `ctkPathLineEdit::Dirs`, or none of its class at all."""
    cls, _colons, name = key.rpartition("::")
    known = facts()[cls]["enumerators"] if cls in facts() else []
    return not known or name in known


def _spacer(spacer: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    for item in spacer.findall("property"):
        name, value = item.get("name", ""), item.findtext("enum")
        if name not in _SPACER:
            yield item, f"a spacer has no property {name}"
        elif value and value not in (_SPACER[name] or ()):
            yield item, f"a spacer's {name} is {' or '.join(sorted(_SPACER[name] or ()))}, not {value}"


def _custom_widget(custom: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    cls, extends, header = (custom.findtext(tag, "") for tag in ("class", "extends", "header"))
    seen = surface(cls)
    if seen is None:
        yield custom, _unknown_class(cls)
        return
    if not seen.is_a(extends):
        yield custom, f"{cls} does not extend {extends}: write <extends>{seen.qt_base.__name__}</extends>"
    if cls in facts():
        real = facts()[cls]["header"].rsplit("/", 1)[-1]
        if header.rsplit("/", 1)[-1] != real:
            yield custom, f"the header of {cls} is {real}, not {header or 'empty'}"


def _connection(connection: ET.Element, document: UiDocument) -> Iterator[tuple[ET.Element, str]]:
    sender, signal, receiver, slot = (connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot"))
    unknown = [name for name in (sender, receiver) if name not in document.classes]
    for name in unknown:
        yield connection, f"the connection names {name}, which this file does not define"
    if unknown:
        return
    source, target = surface(document.classes[sender]), surface(document.classes[receiver])
    try:
        normalized(signal), normalized(slot)
    except ValueError as error:
        yield connection, str(error)
        return
    if source and not source.has_signal(signal):
        yield connection, source.why_no_signal(signal)
    if target and not target.has_slot(slot):
        yield connection, f"{receiver}: {target.name} has no slot {normalized(slot)}"
    given, taken = arguments_of(signal), arguments_of(slot)
    if taken != given[: len(taken)]:
        yield connection, f"{sender}.{signal} does not give what {receiver}.{slot} takes"

"""How a generated report is worded: templates, and their filling with what is true of a study.

The templates' grammar (`data/chest_*.yaml`): `{slot}` is filled from the study, `<a|b>` is a choice, `[x]` may be
left out, `a/an` becomes the article. A choice or template whose slot the study cannot fill (no size, no side) is
not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import numpy as np
import yaml

from greenrfm.findings import load_finding_set


@dataclass(frozen=True)
class Body:
    """Where the wording for a part of the body lies: its finding set, files of findings, files of the frame."""

    finding_set: str
    findings: tuple[str, ...]
    frame: tuple[str, ...]


BODIES = {
    "chest": Body(
        "chest-ct-18",
        ("chest_lungs.yaml", "chest_airways.yaml", "chest_heart.yaml", "chest_mediastinum.yaml"),
        ("chest_places.yaml", "chest_frame.yaml"),
    ),
    "knee": Body("knee-mr-14", ("knee_findings.yaml",), ("knee_places.yaml", "knee_frame.yaml")),
}
CHOICE = re.compile(r"<([^<>\[\]]*)>|\[([^<>\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
# Words long enough that a slip of the keyboard leaves them readable; headings and abbreviations stay whole.
WORD = re.compile(r"\b[a-z]{5,}\b")
LETTERS = {"right": "R", "left": "L"}
OPPOSITE = {"right": "left", "left": "right"}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Instance:
    """One finding at one place: a chest-ct-18 key, a side ("right", "left", "bilateral", ""), a place, its extent.

    `place` is a lobe, station, vessel or device ("upper lobe", "subcarinal", "LAD", "pacemaker", "").
    `size_mm` is the longest diameter (of fluid: the depth), 0 = not applicable; `severity` runs from 0
    (subtle) to 1 (marked). With `count` > 1 place and size are the largest one's; several on both sides
    are "bilateral", and their place is not written.
    """

    finding: str
    side: str = ""
    place: str = ""
    size_mm: float = 0.0
    severity: float = 0.5
    count: int = 1


@dataclass(frozen=True)
class StudyFacts:
    """What is true of a study; `history` names findings that the indication mentions, present or not."""

    instances: tuple[Instance, ...]
    age: int
    sex: str
    contrast: bool
    arms_up: bool = True
    history: tuple[str, ...] = ()
    slice_mm: float = 1.5


@cache
def wording(body: str = "chest") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how the findings are worded, by key, and the frame around them; both are shared, do not change them."""
    files = BODIES[body]
    folder = resources.files("greenrfm.phantoms") / "data"

    def merged(names: Iterable[str], macros: Mapping[str, str]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name in names:
            text = (folder / name).read_text(encoding="utf-8")
            for macro, choices in macros.items():
                text = text.replace("{" + macro + "}", choices)
            content |= yaml.safe_load(text)
        return content

    macros = merged(files.frame[:1], {})["macros"]
    findings = merged(files.findings, macros)
    keys = [key for key in load_finding_set(files.finding_set).keys if key in findings]
    return {key: findings[key] for key in keys}, merged(files.frame, macros)


class Phrases:
    """Random choices and the filling of templates, for one study."""

    def __init__(self, facts: StudyFacts, rng: np.random.Generator, body: str = "chest") -> None:
        self.facts, self.rng = facts, rng
        self.findings, self.frame = wording(body)
        # What templates may use whatever they describe.
        self.always = {
            "date": f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(2012, 2024)}",
            "slice": f"{facts.slice_mm:g}",
            "trunk": str(rng.integers(22, 29)),
            "aorta": str(rng.integers(29, 39)),
            "rib": self.choose(("third", "fourth", "6th", "seventh", "8th")),
            "vertebra": str(rng.integers(4, 13)),
        }

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    def choose(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[int(self.rng.integers(len(items)))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in random order."""
        return [items[int(index)] for index in self.rng.permutation(len(items))]

    def pick(self, templates: Sequence[str], slots: Mapping[str, str] | None = None) -> str:
        """Fill one of the templates that the slots fit."""
        filled = (self.fill(template, slots or {}) for template in self.shuffled(templates))
        return next((text for text in filled if text is not None), "")

    def fill(self, template: str, slots: Mapping[str, str]) -> str | None:
        """Fill a template, or return None if a slot it cannot do without is missing."""
        known = {**self.always, **slots}

        def fillable(text: str) -> bool:
            return all(name in known for name in SLOT.findall(text))

        def resolve(match: re.Match[str]) -> str:
            if match[1] is None:
                # Radiologists seldom leave out where and how large; asides they do.
                likely = 0.7 if SLOT.search(match[2]) else 0.4
                return str(match[2]) if fillable(match[2]) and self.chance(likely) else ""
            options: list[str] = match[1].split("|")
            return self.choose([option for option in options if fillable(option)] or options)

        changed = 1
        while changed:
            template, changed = CHOICE.subn(resolve, template)
        return _tidy(SLOT.sub(lambda match: known[match[1]], template)) if fillable(template) else None

    def slots(self, instance: Instance) -> dict[str, str]:
        """Return what templates may say of this instance; what does not apply is missing."""
        entry = self.findings[instance.finding]
        grade = min(int(instance.severity * 4), 3)
        slots = {
            "noun": self.choose(entry["nouns"]),
            "degree": self.choose(entry["degree"][grade]),
            "adverb": self.choose(self.frame["adverb"][grade]),
        }
        if instance.place:
            slots["place"] = instance.place
        if instance.side:
            slots["side"] = instance.side
        if instance.side in OPPOSITE:
            slots |= {"flank": instance.side, "letter": LETTERS[instance.side], "opposite": OPPOSITE[instance.side]}
        # Several on both sides are in no one place; what is said of the largest is then its size only.
        spread = instance.count > 1 and instance.side == "bilateral" and "many" in entry
        place = "" if spread else instance.place
        name = place or ("lung" if entry["region"] == "lungs" else "")
        phrases = self.frame["places"].get(name, self.frame["places"]["other"])
        phrase = phrases.get({"": "any", "bilateral": "both"}.get(instance.side, "side"))
        if phrase and "kinds" not in entry:
            slots |= {"attr": self.pick([phrase["attr"]], slots), "in_place": self.pick([phrase["in"]], slots)}
            if place:
                slots["in_lobe"] = slots["in_place"]
        if instance.size_mm > 0:
            slots |= {"size": self.length(instance.size_mm, axes=True), "depth": self.length(instance.size_mm)}
        if instance.count > 1:
            slots["count"] = str(self.choose(self.frame["counts"][min(instance.count, 6)]))
        if spread:
            slots["spread"] = slots["in_place"]
        return slots

    def length(self, millimetres: float, *, axes: bool = False) -> str:
        """Write a length in mm or cm, or two axes of which it is the longer."""
        lengths = [max(round(millimetres), 1)]
        if axes and self.chance(0.35):
            lengths.append(max(round(millimetres * self.rng.uniform(0.65, 0.95)), 1))
        between = self.choose((" x ", "x", " × "))
        if self.chance(0.7 if lengths[0] > 25 else 0.2):
            return between.join(f"{value / 10:.1f}" for value in lengths) + " cm"
        return between.join(str(value) for value in lengths) + self.choose((" mm", " mm", " mm", "mm"))

    def spell(self, text: str) -> str:
        """Turn American spelling into British in every other report."""
        if not self.chance(0.5):
            return text
        for american, british in self.frame["british"].items():
            text = re.sub(rf"\b{american}\b", british, text)
            text = re.sub(rf"\b{american.capitalize()}\b", british.capitalize(), text)
        return text

    def slip(self, text: str) -> str:
        """Swap, drop or double a letter inside one word of every fourth report."""
        words = list(WORD.finditer(text))
        if not words or not self.chance(0.25):
            return text
        word = self.choose(words)
        at = word.start() + int(self.rng.integers(1, len(word[0]) - 1))
        kind = self.choose(("swap", "drop", "double"))
        if kind == "swap" and text[at] != text[at + 1]:
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return text[:at] + text[at + 1 :] if kind == "drop" else text[:at] + text[at] + text[at:]


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" (?=[,.;])", "", text)
    # "an 8 mm", "an 11 mm", "an RUL", "an LAD": by sound, not by letter.
    text = re.sub(r"a/an(?= (?:[aeio]|8|11\b|18\b|[RLFMNSX][A-Z]))", "an", text)
    return text.replace("a/an", "a")

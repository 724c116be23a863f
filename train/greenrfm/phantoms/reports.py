"""Radiology reports for generated chest CT and knee MR studies, with what each of them says.

A report is put together from pieces (`phrases.py`) that carry their meaning, so `Report.said` is known and never
parsed back from the text.

What counts as said (METHOD.md, "Distillation"): a statement in findings or impression. A mention in the
indication alone is NOT_MENTIONED. "The lungs are clear" rules out consolidation and lung opacity, and is
written only where no lung finding is present. A free side ("no effusion on the left") changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from greenrfm.findings import State
from greenrfm.phantoms.phrases import Instance, Phrases, StudyFacts, wording

STYLES = ("paragraph", "positives first", "headings", "headings", "organs", "semicolons")
SUSPECTED = (State.PRESENT, State.UNCERTAIN)
LOCATED = re.compile(r"\{(in_place|attr|side|flank|spread)\}")


@dataclass(frozen=True)
class Report:
    """A report; `said` has a state for every key of the finding set, `omitted` the present findings it passes over."""

    text: str
    said: dict[str, State]
    omitted: tuple[str, ...]


def write_report(facts: StudyFacts, rng: np.random.Generator, body: str = "chest") -> Report:
    """Write a report of the study; the same facts and generator state give the same report.

    `body` is "chest" or "knee". A knee's report also says `normal`: present where it finds nothing and says so,
    absent where it states or suspects a finding.
    Raises ValueError for a finding outside the body's finding set and for a sex other than "M" and "F".
    """
    unknown = {each.finding for each in facts.instances} | set(facts.history)
    unknown -= set(wording(body)[0])
    if unknown:
        raise ValueError(f"no wording for {', '.join(sorted(unknown))}")
    if facts.sex not in ("M", "F"):
        raise ValueError(f"sex {facts.sex!r} is neither 'M' nor 'F'")
    return _Writer(facts, rng, body).report()


class _Writer(Phrases):
    """One report in the making: the states said so far, and sentences by region of the body."""

    def __init__(self, facts: StudyFacts, rng: np.random.Generator, body: str) -> None:
        super().__init__(facts, rng, body)
        self.said = dict.fromkeys(self.findings, State.NOT_MENTIONED)
        self.groups: dict[str, list[Instance]] = {}
        for instance in facts.instances:
            self.groups.setdefault(instance.finding, []).append(instance)
        self.sentences: list[tuple[str, bool, str]] = []  # region, positive, text
        self.impression: list[tuple[float, str]] = []  # severity, text
        self.compared = self.chance(0.3)
        self.says_normal = False

    def report(self) -> Report:
        subtle = {key: 1 - max(each.severity for each in group) for key, group in self.groups.items()}
        # Together about 4 % left out and 8 % hedged when severities are spread evenly.
        omitted = tuple(key for key in subtle if self.chance(0.003 + 0.15 * subtle[key] ** 3))
        told = [key for key in self.groups if key not in omitted]
        hedged = [key for key in told if self.chance(0.025 + 0.17 * subtle[key] ** 2)]
        self.describe_together([key for key in told if key not in hedged])
        for key in told:
            if key in hedged:
                self.hedge(key, _merged(self.groups[key]))
            elif self.said[key] is not State.PRESENT:
                self.describe(key)
        self.rule_out()
        if self.normal() and not any(state in SUSPECTED for state in self.said.values()) and self.chance(0.7):
            self.sentences.append(("general", False, _sentence(self.pick(self.frame["normal_sentences"]))))
            self.says_normal = True
        text = self.slip(self.spell(self.layout()))
        return Report(text, self.said | self.normal(), omitted)

    def normal(self) -> dict[str, State]:
        """Return the state of `normal`, of a body whose findings have it: whether the report says that all is well."""
        if "normal_sentences" not in self.frame:
            return {}
        if any(state in SUSPECTED for state in self.said.values()):
            return {"normal": State.ABSENT}
        return {"normal": State.PRESENT if self.says_normal else State.NOT_MENTIONED}

    def add(self, key: str, text: str, *, positive: bool = False) -> None:
        self.sentences.append((self.findings[key]["region"], positive, text))

    def describe_together(self, keys: list[str]) -> None:
        """Put two findings of one side into one sentence now and then."""
        for joint in self.shuffled(self.frame["joint_present"]):
            fits = all(key in keys and self.said[key] is not State.PRESENT for key in joint["says"])
            if not fits or not self.chance(0.3):
                continue
            first, second = (_merged(self.groups[key]) for key in joint["says"])
            text = self.pick(joint["texts"], self.slots(first))
            if text and first.side == second.side:
                self.said |= dict.fromkeys(joint["says"], State.PRESENT)
                self.add(first.finding, _sentence(text), positive=True)
                self.impression.append((max(first.severity, second.severity), text))

    def describe(self, key: str) -> None:
        """State a finding: one sentence for all its places, or one for each."""
        group, entry = self.groups[key], self.findings[key]
        kinds = entry.get("kinds", {})
        several = len(group) > 1 and not any(each.place in kinds for each in group)
        together = several and (len(group) > 3 or self.chance(0.6))
        stated = [_summed(group) if "many" in entry else _merged(group)] if together else group
        for instance in stated:
            slots = self.slots(instance)
            if instance.place in kinds:
                templates = kinds[instance.place]
            elif instance.count > 1 and "many" in entry:
                templates = entry["many"]
                if "spread" in slots:
                    del slots["in_place"], slots["attr"]
            elif instance.side == "bilateral" and "bilateral" in entry:
                templates = entry["bilateral"]
            else:
                templates = entry["one"]
                if together:
                    places = dict.fromkeys(self.slots(each).get("in_place", "") for each in group)
                    slots["in_place"] = " and ".join(place for place in places if place)
                    slots.pop("attr", None)
            located = [text for text in templates if LOCATED.search(text)]
            text = self.pick(located if self.chance(0.85) and slots.keys() & {"side", "in_place"} else [], slots)
            text = text or self.pick(templates, slots)
            if self.compared and self.chance(0.35):
                text += self.pick(self.frame["change"])
            if "contra" in entry and len(stated) == 1 and self.chance(0.2):
                text = f"{_sentence(text)} {_sentence(self.pick(entry['contra'], slots))}"
            self.add(key, _sentence(text.strip()), positive=True)
        self.said[key] = State.PRESENT
        main, total = max(group, key=lambda each: each.severity), _summed(group)
        brief = ("short_many", total) if total.count > 1 and "short_many" in entry else ("short", main)
        self.impression.append((main.severity, self.pick(entry[brief[0]], self.slots(brief[1]))))

    def hedge(self, key: str, instance: Instance) -> None:
        """State a finding as uncertain; a template that names a second one leaves that uncertain too."""
        slots = self.slots(instance)
        for item in self.shuffled([*self.findings[key]["hedged"], *self.frame["hedged"]]):
            template, others = (item["text"], item.get("says", {})) if isinstance(item, dict) else (item, {})
            free = all(other not in self.groups and self.said[other] is State.NOT_MENTIONED for other in others)
            text = self.fill(template, slots) if free else None
            if text:
                self.add(key, _sentence(text), positive=key in self.groups)
                self.said |= {key: State.UNCERTAIN} | {name: State[state.upper()] for name, state in others.items()}
                break
        if self.chance(0.3):
            self.impression.append((0.1, self.pick(["possible {noun}"], slots)))

    def rule_out(self) -> None:
        """Mention part of the absent findings: alone, in lists, or by a statement that all is normal."""

        def untold(key: str) -> bool:
            return self.said[key] is State.NOT_MENTIONED and key not in self.groups

        for key in self.shuffled(list(self.said)):
            if untold(key) and self.chance(0.02):
                self.hedge(key, Instance(key, severity=0.1))
        left = [key for key in self.said if untold(key) and self.chance(self.findings[key]["mention"])]
        for joint in self.shuffled(self.frame["joint_absent"]):
            needed = joint.get("needs", ())
            calm = all(key not in self.groups and self.said[key] is not State.UNCERTAIN for key in needed)
            if calm and set(joint["says"]) <= set(left) and self.chance(0.3):
                self.deny(joint["says"], self.choose(joint["texts"]), left)
        for cluster in self.shuffled(self.frame["clusters"]):
            keys = self.shuffled([key for key in cluster if key in left])[: int(self.rng.integers(2, 5))]
            if len(keys) > 1 and self.chance(0.5):
                self.deny(keys, self.choose(self.frame["absent_lists"]), left)
        for key in self.shuffled(left):
            entry = self.findings[key]
            if key in self.facts.history and entry.get("resolves") and self.chance(0.4):
                templates = self.frame["resolved"]
            else:
                templates = entry["absent"] if self.chance(0.7) else self.frame["absent_single"]
            self.deny([key], self.choose(templates), left)

    def deny(self, keys: Sequence[str], template: str, left: list[str]) -> None:
        nouns = [self.choose(self.findings[key]["nouns"]) for key in keys]
        listed = " or ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]]))
        self.add(keys[0], _sentence(self.pick([template], {"noun": nouns[0], "list": listed})))
        for key in keys:
            self.said[key] = State.ABSENT
            left.remove(key)

    def layout(self) -> str:
        """Join indication, technique, findings and impression in one of the styles reports have."""
        style = self.choose(STYLES)
        before = {"indication": self.indication(), "technique": self.technique()}
        impression = self.conclude()
        self.fill_up(sum(len(text.split()) for text in [*before.values(), *impression]))
        sentences = self.shuffled(self.sentences)
        order = self.choose(self.frame["orders"])
        by_region = {region: [text for where, _, text in sentences if where == region] for region in order}
        by_region = {region: texts for region, texts in by_region.items() if texts}
        gap = self.choose(("\n", "\n\n", " ")) if style in ("headings", "organs") else " "
        if style == "positives first":
            body = " ".join(text for _, _, text in sorted(sentences, key=lambda item: not item[1]))
        elif style == "organs":
            labels = {region: self.choose(self.frame["labels"][region]) for region in by_region}
            body = gap[:1].join(f"{labels[region]}: {' '.join(texts)}" for region, texts in by_region.items())
        elif style == "semicolons":
            body = " ".join(_semicolons(texts) for texts in by_region.values())
        else:
            body = " ".join(text for texts in by_region.values() for text in texts)
        upper = self.chance(0.5)

        def headed(part: str, text: str) -> str:
            heading = self.choose(self.frame["headings"][part])
            return f"{heading.upper() if upper else heading}: {text}"

        parts = [headed("indication", before["indication"])] if before["indication"] else []
        if before["technique"]:
            parts.append(headed("technique", before["technique"]) if style == "headings" else before["technique"])
        parts.append(headed("findings", body) if style == "headings" else body)
        if impression:
            numbered = len(impression) > 1 and self.chance(0.4)
            lines = [f"{number}. {text}" for number, text in enumerate(impression, 1)] if numbered else impression
            parts.append(headed("impression", " ".join(lines)))
        return gap.join(parts)

    def indication(self) -> str:
        reasons = [
            self.pick(self.frame["known"], {"history": self.pick(self.findings[key]["history"])})
            for key in self.facts.history
        ]
        if self.chance(0.2 if reasons else 0.6):
            reasons.insert(0, self.pick(self.frame["reasons"]))
        if self.chance(0.5):
            person = self.choose(self.frame["persons"][self.facts.sex])
            reasons.insert(0, self.pick(self.frame["who"], {"age": str(self.facts.age), "person": person}))
        return _sentence(", ".join(reasons))

    def technique(self) -> str:
        kinds, texts = self.frame["technique"], []
        if self.chance(0.75):
            texts.append(self.pick(kinds["contrast" if self.facts.contrast else "plain"]))
            if "arms_up" in kinds and self.chance(0.3):
                texts[0] += ", " + self.pick(kinds["arms_up" if self.facts.arms_up else "arms_down"])
        if self.compared:
            texts.append(self.pick(self.frame["comparison"]))
        elif self.chance(0.15):
            texts.append(self.pick(self.frame["no_comparison"]))
        return " ".join(_sentence(text) for text in texts)

    def conclude(self) -> list[str]:
        """Return the impression: the most marked findings again, perhaps advice; in a third of reports nothing."""
        if not self.chance(0.65):
            return []
        ranked = [text for _, text in sorted(self.impression, key=lambda item: -item[0])]
        texts = ranked[: int(self.rng.integers(1, 5))] or [self.pick(self.frame["normal_impression"])]
        self.says_normal |= not ranked
        if ranked and self.chance(0.3):
            texts.append(self.pick(self.frame["recommend"]))
        return [_sentence(text) for text in texts]

    def fill_up(self, words: int) -> None:
        """Add sentences about things outside the finding set until the report, now `words` longer, has its length."""
        words += sum(len(text.split()) for _, _, text in self.sentences)
        aim = self.rng.integers(60, 135)
        others = [(region, text) for region, texts in self.frame["distractors"].items() for text in texts]
        if not self.facts.contrast and "contrast_caveat" in self.frame:
            others.append(("mediastinum", self.choose(self.frame["contrast_caveat"])))
        for region, template in self.shuffled(others)[:10]:
            if words >= aim:
                break
            text = _sentence(self.pick([template]))
            self.sentences.append((region, False, text))
            words += len(text.split())


def _merged(group: Sequence[Instance]) -> Instance:
    """Return one instance for all: the largest's extent, and the side and place they share."""
    largest = max(group, key=lambda each: (each.size_mm, each.severity))
    sides, places = {each.side for each in group}, {each.place for each in group}
    side = largest.side if len(sides) == 1 else "bilateral" if sides - {""} else ""
    severity = max(each.severity for each in group)
    return replace(largest, side=side, place=largest.place if len(places) == 1 else "", severity=severity)


def _summed(group: Sequence[Instance]) -> Instance:
    """Return the largest instance with the number of all."""
    largest = max(group, key=lambda each: (each.size_mm, each.severity))
    return replace(largest, count=sum(max(each.count, 1) for each in group))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "." if text else ""


def _semicolons(texts: Sequence[str]) -> str:
    """Join sentences by semicolons, keeping abbreviations in capitals."""
    rest = [text if text[1:2].isupper() else text[:1].lower() + text[1:] for text in texts[1:]]
    return "; ".join([text.removesuffix(".") for text in [texts[0], *rest]]) + "."

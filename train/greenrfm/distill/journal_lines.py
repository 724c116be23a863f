"""The lines of labels.journal.jsonl: the first says what labels, each other one is a study."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from greenrfm.distill.evidence import Evidence, Labeler, Usage
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet, State

VERSION = 1
_SAID = {
    "journal": "format of the journal",
    "labeler": "labeler",
    "model": "model",
    "version": "version of the labeler",
    "findings": "finding set",
    "settings": "settings",
}


@dataclass(frozen=True)
class Header:
    """What must stay the same for labels to stand in one table; `form`, of the answers of a server, may differ.

    `settings` are the labeler's own, in words, if it has any: how a model is asked, and whether it sees
    reports as they are.
    """

    labeler: str
    model: str
    version: str
    findings: str
    form: str = ""
    journal: int = VERSION
    settings: str = ""

    @classmethod
    def of(cls, labeler: Labeler, form: str = "") -> Header:
        """Return the header of what `labeler` writes."""
        settings = getattr(labeler, "settings", "")
        return cls(labeler.name, labeler.model, labeler.version, _digest(labeler.finding_set), form, settings=settings)

    def line(self) -> bytes:
        """Return the header as a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Header:
        """Return the header of a line; raise ValueError if it is none of this version."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError("no header of a journal") from error

    def check(self, other: Header, path: Path) -> None:
        """Raise UserError naming what differs if the journal at `path`, begun with `other`, is not this one's."""
        mine, theirs = asdict(self), asdict(other)
        differing = [name for name in _SAID if mine[name] != theirs[name]]
        if differing:
            changes = ", ".join(
                f"{_SAID[name]} {theirs[name] or 'none'} → {mine[name] or 'none'}" for name in differing
            )
            raise UserError(
                f"{path} was begun otherwise ({changes}); label as before, name another --out, "
                "or throw those labels away with --fresh"
            )


@dataclass(frozen=True)
class Entry:
    """One study's labels, or why it has none.

    `report` is the digest of the report that was read, `findings` holds those that it mentions, `date` is
    ISO in UTC, `failed` the reason or "".
    """

    study_id: str
    report: str
    date: str
    findings: dict[str, Evidence] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    failed: str = ""

    def line(self) -> bytes:
        """Return the entry as a line of JSON."""
        value: dict[str, Any] = {"study_id": self.study_id, "report": self.report, "date": self.date}
        if self.failed:
            value["failed"] = self.failed
        else:
            value["findings"] = {key: _packed(evidence) for key, evidence in self.findings.items()}
        if self.usage != Usage():
            value["usage"] = [self.usage.prompt_tokens, self.usage.completion_tokens, self.usage.requests]
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Return the entry of a line; raise ValueError if it is none, as of a line that was cut off."""
        try:
            value = json.loads(line)
            return cls(
                str(value["study_id"]),
                str(value["report"]),
                str(value["date"]),
                {} if "failed" in value else {key: _unpacked(each) for key, each in value["findings"].items()},
                Usage(*map(int, value.get("usage", ()))),
                str(value.get("failed", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("no entry of a journal") from error


def _packed(evidence: Evidence) -> list[Any]:
    packed = [evidence.state.name.lower(), evidence.start, evidence.end, evidence.rule]
    return [*packed, [[name, state.name.lower()] for name, state in evidence.votes]] if evidence.votes else packed


def _unpacked(packed: list[Any]) -> Evidence:
    state, start, end, rule, *votes = packed
    named = tuple((str(name), State[vote.upper()]) for name, vote in (votes[0] if votes else ()))
    return Evidence(State[state.upper()], int(start), int(end), str(rule), named)


def _digest(findings: FindingSet) -> str:
    """Return the set's name with a digest of what a labeler sees of it: keys, names and synonyms."""
    seen = repr([(each.key, each.name, each.synonyms) for each in findings.findings])
    return f"{findings.name} {hashlib.sha256(seen.encode()).hexdigest()[:8]}"

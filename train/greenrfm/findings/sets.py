"""Finding sets as data: one YAML file each, packaged in `data/` or the user's own."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from greenrfm.errors import UserError

# GreenRFM, zero-shot evaluation: five pairs of a positive and a negative prompt.
DEFAULT_PROMPTS = (
    ("{x}.", "not {x}."),
    ("{x}.", ""),
    ("There is {x}.", "There is no {x}."),
    ("{x} is present.", "{x} is not present."),
    ("Findings are compatible with {x}.", "Findings are not compatible with {x}."),
)
_CODE = ("scheme", "value", "meaning")
KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Code:
    """A finding's code in a terminology, as DICOM SR wants it (scheme designator, value, meaning)."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class PromptPair:
    """A positive and a negative sentence for zero-shot scoring; `{x}` stands for the finding's name."""

    positive: str
    negative: str

    def fill(self, name: str) -> tuple[str, str]:
        """Return both sentences for the finding called `name`."""
        return self.positive.replace("{x}", name), self.negative.replace("{x}", name)


@dataclass(frozen=True)
class Finding:
    """One abnormality a model scores.

    `key` is the name in lower case with underscores and heads its column in labels.csv; `name` is
    what the user sees; `synonyms` are other phrasings in reports (lower case, singular).
    """

    key: str
    name: str
    synonyms: tuple[str, ...] = ()
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True)
class FindingSet:
    """An ordered set of findings for one modality and body part."""

    name: str
    title: str
    modality: str
    body_part: str
    findings: tuple[Finding, ...]
    prompts: tuple[PromptPair, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the findings' keys in order."""
        return tuple(finding.key for finding in self.findings)

    def __getitem__(self, key: str) -> Finding:
        """Return the finding with this key; raise UserError naming the nearest one if there is none."""
        for finding in self.findings:
            if finding.key == key:
                return finding
        raise UserError(f"finding set {self.name} has no finding '{key}'{nearest(key, self.keys)}")

    def subset(self, keys: tuple[str, ...]) -> FindingSet:
        """Return the set reduced to `keys`, in the order of this set."""
        for key in keys:
            self[key]
        kept = tuple(finding for finding in self.findings if finding.key in keys)
        return FindingSet(self.name, self.title, self.modality, self.body_part, kept, self.prompts)


def nearest(word: str, choices: tuple[str, ...]) -> str:
    """Return `; did you mean 'x'?` for the closest choice, or an empty string."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def packaged_sets() -> tuple[str, ...]:
    """Return the names of the finding sets that ship with the package."""
    folder = resources.files("greenrfm.findings") / "data"
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_finding_set(name_or_path: str | Path) -> FindingSet:
    """Return a packaged finding set by name, or the user's own from a YAML file.

    Raises UserError if there is no such set or file, or if the file's content does not fit.
    """
    text = str(name_or_path)
    if text in packaged_sets():
        resource = resources.files("greenrfm.findings") / "data" / f"{text}.yaml"
        return _parse(yaml.safe_load(resource.read_text(encoding="utf-8")), text)
    path = Path(text)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"there is no finding set '{text}'{nearest(text, packaged_sets())}; "
            f"packaged are {', '.join(packaged_sets())}, your own is a .yaml file"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"finding set {path} cannot be read as YAML ({type(error).__name__})") from error
    return _parse(content, str(path))


def _parse(content: Any, source: str) -> FindingSet:
    if not isinstance(content, dict) or not isinstance(content.get("findings"), list):
        raise UserError(f"finding set {source} needs a list under 'findings'")
    _no_unknown(content, ("name", "title", "modality", "body_part", "findings", "prompts"), source)
    for required in ("name", "modality"):
        if not isinstance(content.get(required), str):
            raise UserError(f"finding set {source} needs a text under '{required}'")
    findings = tuple(_parse_finding(item, source) for item in content["findings"])
    keys = [finding.key for finding in findings]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice or not keys:
        raise UserError(f"finding set {source} " + (f"names '{twice[0]}' twice" if twice else "is empty"))
    pairs = content.get("prompts") or DEFAULT_PROMPTS
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise UserError(f"finding set {source}: each prompt must be a pair [positive, negative]")
    return FindingSet(
        name=content["name"],
        title=str(content.get("title", content["name"])),
        modality=content["modality"],
        body_part=str(content.get("body_part", "")),
        findings=findings,
        prompts=tuple(PromptPair(str(positive), str(negative)) for positive, negative in pairs),
    )


def _parse_finding(item: Any, source: str) -> Finding:
    if not isinstance(item, dict) or not isinstance(item.get("key"), str):
        raise UserError(f"finding set {source}: every finding needs a 'key'")
    key = item["key"]
    if not KEY.fullmatch(key):
        raise UserError(f"finding set {source}: key '{key}' must be lower case letters, digits and underscores")
    _no_unknown(item, ("key", "name", "synonyms", "codes"), f"{source}, finding '{key}'")
    synonyms, codes = item.get("synonyms") or [], item.get("codes") or []
    if not isinstance(synonyms, list):
        raise UserError(f"finding set {source}, finding '{key}': synonyms must be a list of phrases")
    if not isinstance(codes, list) or not all(isinstance(c, dict) and set(c) == set(_CODE) for c in codes):
        raise UserError(f"finding set {source}, finding '{key}': each code needs {', '.join(_CODE)}")
    return Finding(
        key,
        str(item.get("name", key.replace("_", " ").capitalize())),
        tuple(str(text).lower() for text in synonyms),
        tuple(Code(*(str(code[name]) for name in _CODE)) for code in codes),
    )


def _no_unknown(mapping: dict[str, Any], known: tuple[str, ...], source: str) -> None:
    for key in mapping:
        if key not in known:
            raise UserError(f"finding set {source} has an unknown key '{key}'{nearest(str(key), known)}")

"""The words sent to the model, from prompt.yaml or the department's own file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from greenrfm.distill.llm.forms import Form
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet

NEEDED = {"system": ("{findings}", "{answer}"), "user": ("{report}", "{fence}"), "retry": ("{reason}",)}
Message = dict[str, str]


@dataclass(frozen=True)
class Prompt:
    """What the model is told; `version` changes with every letter of it.

    `answer` and `reminder` have the texts "json" and "comma"; `definitions` a line for findings whose
    name alone is not clear, by key.
    """

    system: str
    user: str
    retry: str
    answer: Mapping[str, str]
    reminder: Mapping[str, str]
    definitions: Mapping[str, str]
    version: str

    @staticmethod
    def read(path: Path) -> Prompt:
        """Return the department's own prompt: a YAML file with any of the texts of prompt.yaml.

        Texts it lacks are the packaged ones; its definitions are added to the packaged ones. Raises
        UserError if the file cannot be read or a text lacks a place that must be filled in.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"prompt {path} cannot be read as YAML ({type(error).__name__})") from error
        base = _packaged()
        if not isinstance(content, dict) or not content or not content.keys() <= base.keys():
            raise UserError(f"prompt {path} needs some of the texts {', '.join(base)} and nothing else")
        for name, text in content.items():
            parts, packaged = (text, base[name]) if isinstance(base[name], dict) else ({"": text}, {"": ""})
            if not isinstance(parts, dict) or not all(isinstance(each, str) for each in parts.values()):
                raise UserError(f"prompt {path}: '{name}' is not of the kind it has in the packaged prompt")
            if name in ("answer", "reminder") and parts.keys() != packaged.keys():
                raise UserError(f"prompt {path}: '{name}' needs the texts json and comma")
            for place in NEEDED.get(name, ()):
                if place not in str(text):
                    raise UserError(f"prompt {path}: '{name}' must hold {place}")
        merged = {**base, **content, "definitions": {**base["definitions"], **content.get("definitions", {})}}
        return _prompt(merged, "own")

    def instructions(self, finding_set: FindingSet, form: Form) -> str:
        """Return the system message for `form`, the fence still open."""
        lines = []
        for finding in finding_set.findings:
            words = "; ".join(filter(None, [", ".join(finding.synonyms), self.definitions.get(finding.key, "")]))
            lines.append(f"- {finding.key}: {finding.name}" + (f" ({words})" if words else ""))
        text = self.system.replace("{answer}", self.answer[_kind(form)].strip())
        # Names and synonyms last: they are the user's own words and may hold braces.
        return text.replace("{count}", str(len(lines))).replace("{findings}", "\n".join(lines)).strip()

    def messages(self, instructions: str, form: Form, report: str, fence: str, reason: str = "") -> list[Message]:
        """Return the messages of one request.

        Parameters
        ----------
        instructions
            As `instructions` returned them.
        form
            The form of the answer.
        report
            A report or a piece of one; with numbered sentences for the comma form.
        fence
            Marks where the report begins and ends; its writer cannot know it.
        reason
            Why the last answer could not be used, if there was one.

        """
        user = self.user.replace("{reminder}", self.reminder[_kind(form)].strip()).replace("{fence}", fence)
        user = user.replace("{report}", report).strip()
        if reason:
            user += "\n" + self.retry.replace("{reason}", reason).strip()
        return [
            {"role": "system", "content": instructions.replace("{fence}", fence)},
            {"role": "user", "content": user},
        ]


def number_sentences(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the sentences `spans` of `text`, each on a line of its own behind its number, from 1."""
    return "\n".join(f"[{n}] {' '.join(text[start:end].split())}" for n, (start, end) in enumerate(spans, 1))


@cache
def packaged_prompt() -> Prompt:
    """Return the prompt that ships with the package."""
    content = _packaged()
    return _prompt(content, content["number"])


def _kind(form: Form) -> str:
    return "comma" if form is Form.COMMA else "json"


def _packaged() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((resources.files(__package__) / "prompt.yaml").read_text(encoding="utf-8"))
    return content


def _prompt(content: Mapping[str, Any], prefix: str) -> Prompt:
    texts = {name: content[name] for name in sorted(content) if name != "number"}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
    return Prompt(**texts, version=f"{prefix}-{digest[:8]}")

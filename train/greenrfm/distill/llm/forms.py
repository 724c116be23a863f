"""In which form the server is asked to answer, from the strictest to the plainest."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

# A small model would quote on and on; OpenAI takes no such limit in a strict schema.
MOST_LETTERS = 400
STATES = ("present", "absent", "uncertain", "not_mentioned")


class Form(StrEnum):
    """A way to ask for structured output; the order is the order in which they are tried.

    The server holds the model to the first three; the last two are only asked for in words. Every
    answer in every form is checked alike.
    """

    JSON_SCHEMA = "json_schema"  # OpenAI, vLLM, LM Studio, Ollama, llama.cpp
    JSON_OBJECT = "json_object"  # with a schema beside it: llama-cpp-python, older llama.cpp
    GRAMMAR = "grammar"  # GBNF: llama.cpp
    JSON = "json"
    COMMA = "comma"  # one line: 1@4, 0@7, -1@2, ?

    def fields(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what the request says beside the messages for an answer about the findings `keys`."""
        if self is Form.JSON_SCHEMA:
            named = {"name": "findings", "strict": True, "schema": schema(keys)}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        if self is Form.JSON_OBJECT:
            return {"response_format": {"type": "json_object", "schema": schema(keys, MOST_LETTERS)}}
        if self is Form.GRAMMAR:
            return {"grammar": grammar(keys)}
        return {}


def schema(keys: Sequence[str], most_letters: int | None = None) -> dict[str, Any]:
    """Return the JSON schema of an answer: for every key a state and the (at most so many) letters that say so."""
    evidence = {"type": "string"} if most_letters is None else {"type": "string", "maxLength": most_letters}
    finding = {
        "type": "object",
        "properties": {"state": {"type": "string", "enum": list(STATES)}, "evidence": evidence},
        "required": ["state", "evidence"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": dict.fromkeys(keys, finding),
        "required": list(keys),
        "additionalProperties": False,
    }


def grammar(keys: Sequence[str]) -> str:
    """Return the same in GBNF; keys are lower-case letters, digits and underscores (`findings.sets`)."""
    pairs = ' "," '.join(f'ws "\\"{key}\\":" ws finding' for key in keys)
    states = " | ".join(f'"\\"{state}\\""' for state in STATES)
    return "\n".join(
        [
            f'root ::= "{{" {pairs} ws "}}"',
            'finding ::= "{" ws "\\"state\\":" ws state "," ws "\\"evidence\\":" ws string ws "}"',
            f"state ::= {states}",
            rf'string ::= "\"" letter{{0,{MOST_LETTERS}}} "\""',
            r'letter ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex)',
            "hex ::= [0-9a-fA-F]",
            'ws ::= " "? | "\\n" " "?',
        ]
    )

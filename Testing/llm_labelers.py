"""What the tests of the LLM labeler share: a made-up report, and a labeler for a test server."""

from __future__ import annotations

from greenrfm.distill import Evidence
from greenrfm.distill.llm import Endpoint, Form, LlmLabeler
from greenrfm.findings import State, load_finding_set
from llm_server import Server

CHEST = load_finding_set("chest-ct-18")
REPORT = (
    "Findings: The heart is of normal size. There is a small pleural effusion on the left.\n"
    "No pericardial effusion. Possible bronchiectasis in the lingula."
)
EFFUSION = "There is a small pleural effusion on the left."


def make(
    server: Server, *, key=None, model="tiny", attempts=3, timeout_s=5.0, form=Form.JSON_SCHEMA, **options
) -> LlmLabeler:
    endpoint = Endpoint(server.url, model, key, timeout_s=timeout_s, attempts=attempts, backoff_s=0.01)
    return LlmLabeler(CHEST, endpoint, form=form, **options)


def stated(report: str, found: dict[str, Evidence]) -> dict[str, tuple[str, str]]:
    return {
        key: (each.state.name, report[each.start : each.end])
        for key, each in found.items()
        if each.state is not State.NOT_MENTIONED
    }

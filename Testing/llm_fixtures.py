"""The LLM labeler's test server as fixtures: one process for a test module, new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import llm_server


@pytest.fixture(scope="module")
def running() -> Iterator[llm_server.Server]:
    with llm_server.start() as server:
        yield server


@pytest.fixture
def server(running: llm_server.Server) -> llm_server.Server:
    running.forget()
    return running

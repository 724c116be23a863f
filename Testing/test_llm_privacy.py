"""Neither the key nor a word of a report stands in what a run says: messages, reprs, tracebacks, logs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest

import llm_server
from greenrfm.distill import Unlabelled
from greenrfm.distill.llm import OPENAI_KEY, OWN_KEY, Endpoint, Form, LlmLabeler, key_for
from greenrfm.distill.llm.transport import retry_after
from greenrfm.errors import UserError
from greenrfm.findings import load_finding_set

CHEST = load_finding_set("chest-ct-18")
KEY = "sk-VERYSECRET"
REPORT = "Frau Zyxwvut has a pleural effusion. Quxquux was seen \ud800 by Dr. Plugh."
WORDS = ("Zyxwvut", "Quxquux", "Plugh", "VERYSECRET")
SCRIPTS = [
    {"status": 401},
    {"status": 403},
    {"status": 400},
    {"status": 404},
    {"status": 429},
    {"status": 500},
    {"status": 302, "headers": {"Location": "http://127.0.0.1:9/?Quxquux"}},
    {"status": 200, "raw": f"<html>{REPORT[:30]} {KEY}</html>"},
    {"raw": f'{{"error": "Zyxwvut {KEY}"}}'},
    {"content": f"{REPORT[:30]} {KEY}"},
    {"add": {"Quxquux": {"state": "Plugh", "evidence": "Zyxwvut"}}},
    {"states": {"emphysema": ["present", "Quxquux Zyxwvut"]}},
    {"states": {"emphysema": ["Plugh", "Zyxwvut"]}},
    {"truncate": 500, "before": "Zyxwvut"},
    {"finish_reason": "Plugh", "content": "Zyxwvut"},
    {"error": "reset"},
    {"error": "half"},
    {"delay": 1.0},
]


@pytest.fixture(scope="module")
def server() -> Iterator[llm_server.Server]:
    with llm_server.start() as running:
        yield running


@pytest.mark.parametrize("form", [Form.JSON_SCHEMA, None], ids=["known form", "new server"])
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_no_failure_tells_the_key_or_the_report(server, script, form, caplog, capfd):
    server.forget()
    caplog.set_level(logging.DEBUG)
    endpoint = Endpoint(server.url, "tiny", KEY, timeout_s=0.4, attempts=2, backoff_s=0.01)
    labeler = LlmLabeler(CHEST, endpoint, form=form)
    if form is None:
        labeler.find_form()
    server.then(script, script)
    with pytest.raises((Unlabelled, UserError)) as failure:
        labeler.label(REPORT)
    said = [str(failure.value), repr(failure.value), repr(labeler), repr(endpoint), str(endpoint), caplog.text]
    said += [str(record.__dict__) for record in caplog.records]
    said += list(chain(failure.value))
    said += list(capfd.readouterr())
    assert not [word for word in WORDS for text in said if word in text]
    assert REPORT.split(".")[0] not in "".join(said)


def chain(error: BaseException) -> Iterator[str]:
    """Yield all that hangs on an exception: its chain, even if suppressed, and the printed traceback."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is not None and each not in seen:
            seen.append(each)
            yield f"{each} {each!r} {vars(each)}"
            queue += [each.__cause__, each.__context__]


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it():
    for key in ("sk-VERY\nSECRET", "sk VERYSECRET", "sk-VERYSECRETü", "\x00VERYSECRET"):
        with pytest.raises(UserError, match="API key has characters") as refusal:
            Endpoint("http://127.0.0.1/v1", "m", key)
        assert "SECRET" not in str(refusal.value)


def test_the_key_comes_from_the_environment_for_the_server_it_is_for():
    both = {OWN_KEY: "own", OPENAI_KEY: "openai"}
    assert key_for("https://host/v1", both) == "own"
    assert key_for("https://api.openai.com/v1", {OPENAI_KEY: "openai"}) == "openai"
    for other in ("https://host/v1", "http://127.0.0.1:11434/v1", "https://api.openai.com.evil.com/v1", "http://[::1"):
        assert key_for(other, {OPENAI_KEY: "openai"}) is None
    assert key_for("https://host/v1", {OWN_KEY: ""}) is None


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:11434/v1", "ftp://host/v1", "http://", "http://a:b@host/v1", "http://host\\@evil/v1", 
     "http://ho st/v1", "http://host/v1?x=1", "http://host/v1#x", "http://host:99999/v1", "http://host\n/v1", "http://[::1/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UserError):
        Endpoint(url)


def test_an_address_is_brought_into_one_form():
    for url in ("http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions", " http://h:1/v1// "):
        assert Endpoint(url).url == "http://h:1/v1"
    assert Endpoint("http://h:1/v1").host == "h:1"


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("3", 3, 3), ("0.5", 0.5, 0.5), ("-4", 0, 0), ("100000", 120, 120), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
     ("Wed, 21 Oct 2199 07:28:00 GMT", 120, 120), ("Wed, 21 Oct 2199 07:28:00 -0000", 120, 120), ("inf", 120, 120)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_never_long(value, low, high):
    seconds = retry_after(value)
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["", "soon", "nan", "Wed, 99 Oct"])
def test_a_retry_after_that_says_nothing_is_none(value):
    assert retry_after(value) is None

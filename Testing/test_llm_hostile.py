"""The LLM labeler against broken and hostile servers over real HTTP: never a silent label."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import llm_server
from greenrfm.distill import Unlabelled
from greenrfm.distill.llm import Endpoint, Form, LlmLabeler
from greenrfm.distill.llm.answer import Invalid, parse_comma, parse_json
from greenrfm.errors import UserError
from greenrfm.findings import State
from llm_labelers import CHEST, EFFUSION, REPORT, make

# ---- broken and hostile servers

GONE_WRONG = {
    "truncated JSON": ({"truncate": 200}, "not one JSON object"),
    "stopped at the limit": ({"finish_reason": "length"}, "cut off"),
    "prose without JSON": ({"content": "I am sorry, I cannot help with that."}, "not one JSON object"),
    "two objects": ({"after": ' or {"a": 1}'}, "not one JSON object"),
    "17 of 18": ({"drop": ["emphysema"]}, "lacks 1 of 18"),
    "wrong keys": ({"drop": ["emphysema"], "add": {"emfysema": {"state": "absent", "evidence": "x"}}}, "not asked for"),
    "more keys": ({"add": {"comment": "none"}}, "not asked for"),
    "state of its own": ({"states": {"emphysema": ["probable", EFFUSION]}}, "not offered"),
    "number for a state": ({"add": {"emphysema": 1}}, "not exactly a state"),
    "invented evidence": (
        {"states": {"emphysema": ["present", "Severe emphysema on the left."]}},
        "not in the report",
    ),
    "evidence of two words of many": ({"states": {"emphysema": ["present", "effusion"]}}, "more than one sentence"),
    "a dot as evidence": ({"states": {"emphysema": ["present", "."]}}, "not in the report"),
    "half a word": ({"states": {"emphysema": ["present", "bronchiect"]}}, "not in the report"),
    "present without evidence": ({"states": {"emphysema": ["present", ""]}}, "no evidence"),
    "not mentioned with evidence": ({"states": {"emphysema": ["not_mentioned", EFFUSION]}}, "has evidence"),
    "present everywhere": ({"states": {key: ["present", EFFUSION] for key in CHEST.keys}}, "every finding"),
    "half from one sentence": (
        {"states": {key: ["present", EFFUSION] for key in CHEST.keys[:10]}},
        "for 10 findings|for 11",
    ),
    "empty message": ({"content": ""}, "holds no message"),
    "content filter": ({"finish_reason": "content_filter"}, "content filter"),
    "HTML": ({"raw": "<html><body>Welcome to the hotel WiFi</body></html>"}, "not JSON"),
    "JSON of another kind": ({"raw": '["choices"]'}, "no message"),
    "an error with 200": ({"raw": '{"error": {"message": "overloaded"}}'}, "no message"),
    "nesting without end": ({"content": '{"a":' * 30_000}, "not one JSON object"),
    "429": ({"status": 429}, "HTTP 429"),
    "500": ({"status": 500}, "HTTP 500"),
    "503": ({"status": 503, "raw": "<html>bad gateway</html>"}, "HTTP 503"),
    "reset": ({"error": "reset"}, "broke off"),
    "half an answer": ({"error": "half"}, "broke off|no answer within"),
    "time-out": ({"delay": 1.5}, "no answer within 0.5 s"),
    "a byte now and then": ({"error": "drip"}, "no answer within 0.5 s"),
    **{how: ({"error": how}, "no answer within 0.5 s") for how in llm_server.DRIPS},
}


@pytest.mark.parametrize(("script", "reason"), GONE_WRONG.values(), ids=GONE_WRONG)
def test_a_bad_answer_is_asked_for_again_and_labels_nothing(server, script, reason):
    labeler = make(server, attempts=2, timeout_s=0.5)
    server.then(script, script)
    with pytest.raises(Unlabelled, match=reason) as failure:
        labeler.label(REPORT)
    assert len(server.asked) == 2
    assert failure.value.usage.requests == 2
    server.then(script)
    assert labeler.label(REPORT).findings["pleural_effusion"].state is State.PRESENT
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "script",
    [
        {"before": "Here is the result:\n", "after": "\nLet me know if you need more."},
        {"before": "```json\n", "after": "\n```"},
        {"before": "<think>Is {this} it? {\"a\": 1}</think>\n"},
        {"before": "\ufeff"},
    ],
    ids=["prose", "fence", "thoughts", "byte order mark"],
)  # fmt: skip
def test_prose_around_one_right_object_is_passed_over(server, script):
    server.then(script)
    assert make(server).label(REPORT).usage.requests == 1


def test_the_second_attempt_is_told_what_was_wrong_and_may_be_longer(server):
    server.then({"finish_reason": "length"})
    make(server, context_tokens=8192).label(REPORT)
    first, second = (request["body"] for request in server.asked)
    assert "was cut off" in second["messages"][1]["content"]
    assert second["max_tokens"] == 2 * first["max_tokens"]


@pytest.mark.parametrize("line", ["?" * 18, ",".join(["?"] * 17), ", ".join(["?"] * 17 + ["1@9"]), "1@0" + ", ?" * 17])
def test_a_comma_line_of_another_length_or_sentence_labels_nothing(server, line):
    server.then(*[{"content": line}] * 3)
    with pytest.raises(Unlabelled):
        make(server, form=Form.COMMA).label(REPORT)


def test_a_form_broken_later_is_asked_for_again_in_the_same_form(server):
    labeler = make(server, form=None)
    labeler.find_form()
    server.then({"content": "1@1"}, {"status": 400})
    with pytest.raises(Unlabelled, match="HTTP 400"):
        labeler.label(REPORT)
    assert {request["form"] for request in server.asked} == {"json_schema"}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("key", [None, "sk-secret"])
def test_a_refused_key_ends_the_run(server, status, key):
    server.then({"status": status}, {"status": status})
    with pytest.raises(UserError, match=f"API key \\(HTTP {status}\\)"):
        make(server, key=key).label(REPORT)
    assert len(server.asked) == (1 if status == 401 else 2)  # 403 may be meant for the report


def test_a_key_is_sent_as_bearer_token(server):
    server.set(key="sk-secret")
    make(server, key="sk-secret\n").label(REPORT)
    assert server.asked[0]["headers"]["Authorization"] == "Bearer sk-secret"


def test_a_model_the_server_does_not_have_ends_the_run(server):
    with pytest.raises(UserError, match=f"{server.host} has no model 'other' there"):
        make(server, model="other").label(REPORT)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(server, status):
    with llm_server.start() as other:
        server.then({"status": status, "headers": {"Location": f"{other.url}/chat/completions"}})
        with pytest.raises(UserError, match="sends requests elsewhere"):
            make(server).label(REPORT)
        assert other.asked == []


@pytest.mark.parametrize("location", ["http://[::1", "http://a\xff", "//"])
def test_a_redirect_to_no_address_ends_the_run(server, location):
    server.then({"status": 302, "headers": {"Location": location}})
    with pytest.raises(UserError, match="sends requests elsewhere"):
        make(server).label(REPORT)


@pytest.mark.parametrize("status", [200, 302, 500])
def test_an_answer_that_unpacks_to_gigabytes_is_not_unpacked(server, status):
    headers = {"Location": "http://127.0.0.1/"} if status == 302 else {}
    server.then({"status": status, "raw": 300_000_000 * " ", "gzip": True, "headers": headers})
    tracemalloc.start()
    try:
        with pytest.raises((UserError, Unlabelled)):
            make(server, attempts=1).label(REPORT)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("blanks", [190_000 * " ", 190_000 * "\n", 95_000 * " \n"])
@pytest.mark.parametrize("frame", ["```json\n%s", "0@1%sx", "?%s,", "{%s", "%s```"])
def test_an_answer_of_blanks_does_not_hold_the_run_up(frame, blanks):
    began = time.process_time()
    for parse in (parse_json, parse_comma):
        with pytest.raises(Invalid):
            parse(frame % blanks, ("a", "b"))
    assert time.process_time() - began < 2


def test_a_number_of_too_many_digits_is_no_answer(server):
    server.then(*[{"content": '{"a": ' + 5000 * "1" + "}"}] * 2)
    with pytest.raises(Unlabelled, match="not one JSON object"):
        make(server, attempts=2).label(REPORT)


def test_a_models_name_that_is_no_name_is_not_taken(server):
    server.set(models=["evil\x1b]0;title"])
    with pytest.raises(UserError, match="without a proper name; say --model") as error:
        make(server, model="").find_form()
    assert str(error.value).isprintable()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_is_not_trusted_ends_the_run_and_the_departments_own_can_be(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True)
    with llm_server.start(certificate=certificate, key=key) as server:
        with pytest.raises(UserError, match="is not trusted"):
            make(server).label(REPORT)
        endpoint = Endpoint(server.url, "tiny", certificates=certificate)
        labeler = LlmLabeler(CHEST, endpoint, form=Form.JSON)
        assert labeler.label(REPORT).findings["pleural_effusion"].state is State.PRESENT


def test_no_proxy_netrc_or_cookie_is_used(server, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    labeler = make(server)
    server.then({"headers": {"Set-Cookie": "who=1"}})
    labeler.label(REPORT)
    labeler.label(REPORT)
    for request in server.asked:
        assert not {"Authorization", "Cookie"} & set(request["headers"])


@pytest.mark.parametrize("form", [None, Form.JSON])
def test_nobody_at_the_address_ends_the_run_at_once(form):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    labeler = LlmLabeler(CHEST, Endpoint(f"http://127.0.0.1:{port}/v1", "tiny"), form=form)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no server answers at 127.0.0.1:{port}"):
        labeler.label(REPORT)
    assert time.monotonic() - start < 0.9  # no back-off


def test_a_server_that_dies_fails_reports_and_then_the_run():
    with llm_server.start() as server:
        labeler = make(server)
        labeler.label(REPORT)
        server.stop()
        for _ in range(2):
            with pytest.raises(Unlabelled, match="nobody answers"):
                labeler.label(REPORT)
        with pytest.raises(UserError, match="is gone; start it and run the same command again"):
            labeler.label(REPORT)


def test_a_server_that_comes_back_goes_on_where_it_was():
    with llm_server.start() as server:
        labeler = make(server, attempts=8)
        labeler._talk.pacing._backoff_s = 0.3
        labeler.label(REPORT)
        server.stop()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(labeler.label, REPORT)
            time.sleep(0.2)
            with llm_server.start(port=server.port):
                assert waiting.result(30).usage.requests > 1


def test_ten_reports_in_a_row_without_an_answer_end_the_run(server):
    labeler = make(server, attempts=1)
    labeler.label(REPORT)
    server.then(*[{"status": 500}] * 10)
    for _ in range(9):
        with pytest.raises(Unlabelled, match="HTTP 500"):
            labeler.label(REPORT)
    with pytest.raises(UserError, match=r"answered none of the last 10 reports \(HTTP 500\)"):
        labeler.label(REPORT)


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_kept_to_by_every_thread(server, kind):
    # A date has whole seconds: 2.1 s ahead of now is at least 1.1 s.
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2.1), usegmt=True)
    server.then({"status": 429, "headers": {"Retry-After": "1.2" if kind == "seconds" else date}})
    labeler = make(server)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(labeler.label, REPORT)
        while not server.asked:
            time.sleep(0.01)
        time.sleep(0.2)
        rest = [pool.submit(labeler.label, REPORT) for _ in range(3)]
        for each in [first, *rest]:
            each.result(30)
    times = sorted(request["at"] for request in server.asked)
    assert len(times) == 5
    # The date was written before the server was even asked.
    assert times[1] - times[0] > (1.0 if kind == "seconds" else 0.6)


def test_many_threads_share_one_labeler(server):
    labeler = make(server, form=None, model="")
    reports = [f"{EFFUSION} Nodule of {number} mm in the right lung." for number in range(60)]
    with ThreadPoolExecutor(12) as pool:
        labelled = list(pool.map(labeler.label, reports))
    assert len(server.asked) == 61  # the form was found out once
    for number, each in enumerate(labelled):
        evidence = each.findings["lung_nodule"]
        assert reports[number][evidence.start : evidence.end] == f"Nodule of {number} mm in the right lung."


def test_a_handshake_that_drips_in_has_the_same_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 kB
                for _ in range(100):
                    connection.sendall(b"\0")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        endpoint = Endpoint(f"https://127.0.0.1:{listening.getsockname()[1]}/v1", "tiny", timeout_s=0.5, attempts=1)
        start = time.monotonic()
        with pytest.raises(Unlabelled, match="no answer within"):
            LlmLabeler(CHEST, endpoint, form=Form.JSON).label(REPORT)
        assert time.monotonic() - start < 5


def test_closing_wakes_threads_that_wait(server):
    server.then({"status": 429, "headers": {"Retry-After": "100"}})
    labeler = make(server)
    threading.Timer(0.3, labeler.close).start()
    start = time.monotonic()
    with pytest.raises(UserError, match="was stopped"):
        labeler.label(REPORT)
    assert time.monotonic() - start < 5

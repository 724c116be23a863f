"""An OpenAI-compatible server for tests, real HTTP in a process of its own, as good or as hostile as it is told.

`start()` runs this file. Its "model" is the lexicon labeler over the report it finds in the prompt, so
English reports get honest answers; what else it shall do is set over /control:

* `accepts`: the forms it knows (others are refused with `refusal`: an HTTP code, or 0 to ignore the
  form and answer in prose);
* `refuses`: the `word` of reports that are refused with `status`, always;
* `script`: what to do with the next chat requests, in order; each a dictionary of the keys that
  `Handler.chat` reads. After the script it answers honestly.

Everything it was asked is kept and can be read.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

FORMS = ("json_schema", "json_object", "grammar", "json", "comma")
REPORT = re.compile(r"<report (\w+)>\n(.*)\n</report \1>", re.DOTALL)
NUMBERED = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)


# Answers that never get to their end: what comes first, and what then comes again and again.
DRIPS = {
    "status drip": (b"HTTP/1.1 200 ", b"O"),
    "header drip": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk drip": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "closing drip": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
}


class Server:
    """The child process, seen from the test."""

    def __init__(self, process: subprocess.Popen[str], port: int, scheme: str) -> None:
        self.process, self.port = process, port
        self.host = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{self.host}/v1"
        self._control = requests.Session()
        self._control.trust_env = False  # tests set proxies that nobody may use
        self._control.verify = False

    def set(self, **settings: Any) -> None:
        """Change settings (`Settings`); a new script replaces the rest of the old one."""
        self._control.post(self.url[:-3] + "/control", json=settings, timeout=10).raise_for_status()

    def then(self, *script: Mapping[str, Any]) -> None:
        """Say what to do with the next chat requests."""
        self.set(script=list(script))

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Return the chat requests so far: headers, body, the report in it."""
        answer: list[dict[str, Any]] = self._control.get(self.url[:-3] + "/control", timeout=10).json()
        return answer

    def forget(self) -> None:
        """Forget requests and settings."""
        self._control.delete(self.url[:-3] + "/control", timeout=10).raise_for_status()

    def stop(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()


@contextmanager
def start(
    finding_set: str = "chest-ct-18", port: int = 0, certificate: Path | None = None, key: Path | None = None
) -> Iterator[Server]:
    """Run the server until the block ends; `port` 0 takes a free one, a certificate makes it speak TLS."""
    secret = [str(certificate), str(key)] if certificate else []
    command = [sys.executable, __file__, finding_set, str(port), *secret]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(process, int(process.stdout.readline()), "https" if secret else "http")
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


class Settings:
    """What the server was told."""

    def __init__(self) -> None:
        self.accepts: list[str] = list(FORMS)
        self.refusal = 400
        self.models = ["tiny"]
        self.key = ""
        self.delay = 0.0
        self.limit_field = "max_tokens"
        self.context_words = 0
        self.refuses: dict[str, Any] = {}
        self.script: list[dict[str, Any]] = []


class State:
    def __init__(self, finding_set: str) -> None:
        from greenrfm.distill import LexiconLabeler
        from greenrfm.findings import load_finding_set

        self.labeler = LexiconLabeler(load_finding_set(finding_set))
        self.lock = threading.Lock()
        self.settings = Settings()
        self.asked: list[dict[str, Any]] = []

    def honest(self, form: str, prompt: str) -> str:
        """Return what the lexicon says of the report in the prompt, in the form asked for.

        In another language than the lexicon's, the first finding is uncertain by the first sentence.
        """
        from greenrfm.distill import Unlabelled
        from greenrfm.distill.evidence import NOTHING, Evidence
        from greenrfm.distill.sentences import sentence_spans
        from greenrfm.findings import State as Finding

        report = REPORT.search(prompt)
        assert report
        text = report[2]
        sentences = [match[2] for match in NUMBERED.finditer(text)]
        if form == "comma":
            text = "\n".join(sentences)
        try:
            found = self.labeler.label(text).findings
        except Unlabelled:
            found = dict.fromkeys(self.labeler.finding_set.keys, NOTHING)
            found[self.labeler.finding_set.keys[0]] = Evidence(Finding.UNCERTAIN, *sentence_spans(text)[0])
        answer, values = {}, []
        for key, evidence in found.items():
            quotation = text[evidence.start : evidence.end]
            answer[key] = {"state": evidence.state.name.lower(), "evidence": quotation}
            number = next((n for n, each in enumerate(sentences, 1) if quotation and quotation in each), 0)
            values.append(f"{int(evidence.state)}@{number}" if number else "?")
        return ", ".join(values) if form == "comma" else json.dumps(answer, ensure_ascii=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    state: State

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        if self.path == "/control":
            return self.send(200, self.state.asked)
        if self.path == "/v1/models":
            models = self.state.settings.models
            return self.send(200, {"object": "list", "data": [{"id": name} for name in models]})
        return self.send(404, {"error": {"message": "no such path"}})

    def do_DELETE(self) -> None:
        self.state.settings, self.state.asked = Settings(), []
        self.send(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            for name, value in body.items():
                assert hasattr(self.state.settings, name), name
                setattr(self.state.settings, name, value)
            return self.send(200, {})
        if self.path != "/v1/chat/completions":
            return self.send(404, {"error": {"message": "no such path"}})
        return self.chat(body)

    def chat(self, body: dict[str, Any]) -> None:
        settings, prompt = self.state.settings, body["messages"][-1]["content"]
        form = form_of(body)
        report = REPORT.search(prompt)
        with self.state.lock:
            script = settings.script.pop(0) if settings.script else {}
            headers = dict(self.headers.items())
            self.state.asked.append(
                {
                    "headers": headers,
                    "body": body,
                    "form": form,
                    "report": report[2] if report else "",
                    "at": time.time(),
                }
            )
        time.sleep(script.get("delay", settings.delay))
        if "error" in script:  # of the connection
            return self.break_off(script["error"])
        if settings.key and self.headers.get("Authorization") != f"Bearer {settings.key}":
            return self.send(401, {"error": {"message": f"Incorrect key: {self.headers.get('Authorization')}"}})
        if body["model"] not in settings.models:
            return self.send(404, {"error": {"message": f"no model {body['model']}"}})
        if settings.limit_field not in body:
            wrong = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
            return self.send(400, {"error": {"code": "unsupported_parameter", "param": wrong, "message": prompt}})
        if settings.context_words and len(prompt.split()) > settings.context_words:
            error = {"code": 400, "type": "exceed_context_size_error", "message": "exceeds the available context size"}
            return self.send(400, {"error": error})
        if settings.refuses and settings.refuses["word"] in prompt:
            return self.send(settings.refuses["status"], {"error": {"message": f"not this: {prompt}"}})
        if script.get("status", 200) != 200 or "raw" in script:
            # A bad server quotes what it was sent.
            raw = script.get("raw", json.dumps({"error": {"message": f"{self.headers} {prompt}"}}))
            return self.send_bytes(script.get("status", 200), raw.encode("utf-8"), script.get("headers", {}), script)
        content = script.get("content")
        if content is None and form not in settings.accepts:
            if settings.refusal:
                return self.send(settings.refusal, {"error": {"message": f"unknown form in {prompt}"}})
            content = f"Certainly! Here is what I think: {report[2] if report else ''}"
        if content is None:
            content = self.state.honest(form, prompt)
        content = changed(content, script)
        words = len("".join(message["content"] for message in body["messages"]).split())
        answer: dict[str, Any] = {
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": script.get("finish_reason", "stop"),
                }
            ],
            "usage": {"prompt_tokens": script.get("prompt_tokens", 2 * words), "completion_tokens": 7},
        }
        if script.get("no_usage"):
            del answer["usage"]
        self.send_bytes(200, json.dumps(answer, ensure_ascii=False).encode("utf-8"), script.get("headers", {}), script)

    def break_off(self, how: str) -> None:
        self.close_connection = True
        if how == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
        elif how == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(200):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.05)
        elif how in DRIPS:
            first, again = DRIPS[how]
            self.connection.sendall(first)
            with suppress(OSError):
                for _ in range(200):
                    self.connection.sendall(again)
                    time.sleep(0.05)
        else:  # reset: a close that drops what is unsent sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()

    def send(self, status: int, value: Any) -> None:
        self.send_bytes(status, json.dumps(value).encode("utf-8"), {}, {})

    def send_bytes(self, status: int, data: bytes, headers: Mapping[str, str], script: Mapping[str, Any]) -> None:
        self.send_response(status)
        if script.get("gzip"):
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        # Without a charset, as many servers: requests would take it for Latin-1 in .text.
        self.send_header("Content-Type", "text/html" if "raw" in script else "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        if script.get("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for place in range(0, len(data), 100):
                piece = data[place : place + 100]
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def form_of(body: Mapping[str, Any]) -> str:
    """Return the form that a request asks for."""
    asked = body.get("response_format")
    if asked:
        form: str = asked["type"]
        assert "schema" in (asked["json_schema"] if form == "json_schema" else asked)
        return form
    if "grammar" in body:
        return "grammar"
    return "comma" if "1@n" in body["messages"][0]["content"] else "json"


def changed(content: str, script: Mapping[str, Any]) -> str:
    """Return the honest answer with the damage the script asks for."""
    if "states" in script or "drop" in script or "add" in script:
        answer = json.loads(content)
        for key, (state, quotation) in script.get("states", {}).items():
            answer[key] = {"state": state, "evidence": quotation}
        for key in script.get("drop", []):
            del answer[key]
        answer.update(script.get("add", {}))
        content = json.dumps(answer, ensure_ascii=False)
    content = script.get("before", "") + content + script.get("after", "")
    return content[: script.get("truncate", len(content))]


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that go away: tests kill them on purpose."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)


def main() -> None:
    Handler.state = State(sys.argv[1])
    server = Quiet(("127.0.0.1", int(sys.argv[2])), Handler)
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    # A test run that is killed closes our input: nothing of it stays behind.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""Requests to the server: no proxy, no redirect, no cookie; every failure in words that quote nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3

from greenrfm.distill.llm.deadline import Adapter, Deadline
from greenrfm.distill.llm.endpoint import Endpoint
from greenrfm.errors import UserError

MOST_BYTES = 8 << 20
LONGEST_WAIT_S = 120.0
# How servers say that the prompt is longer than the context (OpenAI, vLLM, llama.cpp, Ollama).
TOO_LONG = ("context_length", "context length", "exceed_context", "context size", "context window", "input length")


class Trouble(Exception):
    """A request without an answer: why, and what can be done about it.

    `status` is the HTTP code or 0; `retry` tells whether the same request may do better, after `wait`
    seconds if the server said so; `gone` that nobody listens; `field` names the field of the request
    that the server refuses; `too_long` that the prompt is longer than the model's context.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int = 0,
        retry: bool = False,
        wait: float | None = None,
        gone: bool = False,
        field: str = "",
        too_long: bool = False,
    ) -> None:
        """Keep what is known."""
        super().__init__(reason)
        self.status, self.retry, self.wait = status, retry, wait
        self.gone, self.field, self.too_long = gone, field, too_long


class Forbidden(UserError):
    """The server refuses a request (403): for its key, or for what this one report says."""


class Transport:
    """A connection pool to one endpoint; may be used by several threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open nothing yet."""
        self._endpoint = endpoint
        self._session = requests.Session()
        # Proxies, .netrc and certificate settings of the environment must not see or redirect reports.
        self._session.trust_env = False
        self._verify = str(endpoint.certificates) if endpoint.certificates else True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = Adapter(pool_connections=1, pool_maxsize=128, max_retries=0)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self._session.headers["Accept"] = "application/json"
        if endpoint.key:
            self._session.headers["Authorization"] = f"Bearer {endpoint.key}"

    def get(self, path: str) -> Any:
        """Return the JSON value at `path`; raise as `post` does."""
        return self._request("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send `body` as JSON and return the JSON value that comes back.

        Raises Trouble where another request may do better, and UserError where none will: a key that
        is refused (401; 403 as Forbidden), a redirect, a certificate that is not trusted.
        """
        return self._request("POST", path, body)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8")
        failure: Exception
        # Failures are raised behind the except clauses: the library's own exceptions hold the request.
        deadline = Deadline(self._endpoint.timeout_s)
        try:
            with deadline:
                status, headers, content = self._bytes(method, path, data)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failure = self._late() if deadline.passed else self._failure(error)
        else:
            if deadline.passed:  # what came may be cut off
                failure = self._late()
            elif 200 <= status < 300:
                value = _json(content)
                if value is not None:
                    return value
                failure = Trouble("the server answered with something that is not JSON", status=status, retry=True)
            else:
                failure = self._refusal(status, headers, content, body or {})
        raise failure

    def _bytes(self, method: str, path: str, data: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        within = self._endpoint.timeout_s
        headers = {"Content-Type": "application/json"} if data is not None else {}
        # Not `session.request`: merging the session's settings into each takes as long as sending it.
        request, url = requests.PreparedRequest(), self._endpoint.url + path
        request.prepare(method, url, {**self._session.headers, **headers}, data=data)
        # The adapter's `send`, for the session's reads whole what comes with a redirect, however large it unpacks.
        with self._session.get_adapter(url).send(
            request,
            stream=True,
            timeout=(min(self._endpoint.connect_s, within), within),
            verify=self._verify,
            proxies={},
        ) as response:
            content = bytearray()
            while piece := response.raw.read(1 << 16, decode_content=True):
                content += piece
                if len(content) > MOST_BYTES:
                    raise Trouble("the server's answer is larger than any answer can be", retry=True)
            return response.status_code, response.headers, bytes(content)

    def _late(self) -> Trouble:
        return Trouble(f"no answer within {self._endpoint.timeout_s:g} s", retry=True)

    def _failure(self, error: Exception) -> Exception:
        host, kinds = self._endpoint.host, requests.exceptions
        causes = _causes(error)
        if isinstance(error, kinds.SSLError):
            return UserError(f"the certificate of {host} is not trusted; name the authority it comes from")
        if isinstance(error, kinds.ConnectTimeout):
            return Trouble("no connection to the server in time", retry=True, gone=True)
        if isinstance(error, kinds.Timeout | urllib3.exceptions.ReadTimeoutError | TimeoutError) or any(
            isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in causes
        ):
            return self._late()
        if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
            return Trouble("nobody answers at the server's address", retry=True, gone=True)
        if isinstance(error, kinds.InvalidURL | kinds.InvalidSchema | kinds.InvalidHeader):
            return UserError(f"no request can be sent to {host}; check the endpoint's address")
        return Trouble("the connection broke off", retry=True)

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes, body: Mapping[str, Any]) -> Exception:
        host = self._endpoint.host
        if status in (401, 403):
            mend = "check it" if self._endpoint.key else "set GREENRFM_API_KEY"
            what = "refuses the API key" if self._endpoint.key else "wants an API key"
            kind = Forbidden if status == 403 else UserError
            return kind(f"the server at {host} {what} (HTTP {status}); {mend}")
        if 300 <= status < 400:
            return UserError(f"the server at {host} sends requests elsewhere (HTTP {status}); name that address itself")
        answer = _json(content)
        error = answer.get("error") if isinstance(answer, dict) else None
        parameter = error.get("param") if isinstance(error, dict) else None
        text = content[:4096].decode("utf-8", "replace").lower()
        return Trouble(
            f"HTTP {status}",
            status=status,
            retry=status in (408, 425, 429) or status >= 500,
            wait=retry_after(headers.get("Retry-After", "")),
            # Only a name of our own is taken over: what a server says may quote the report.
            field=parameter if isinstance(parameter, str) and parameter in body else "",
            too_long=any(sign in text for sign in TOO_LONG),
        )


def retry_after(value: str) -> float | None:
    """Return the seconds a Retry-After header asks for (seconds or an HTTP date), at most LONGEST_WAIT_S."""
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT_S) if seconds == seconds else None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return the exceptions inside `error`, however requests and urllib3 wrapped them."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(found) < 20:
        each = queue.pop()
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            queue += [*each.args, getattr(each, "reason", None), each.__cause__]
    return found

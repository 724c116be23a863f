"""Where the model is: an address, a model's name, a key that is never shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from greenrfm.errors import UserError

OWN_KEY, OPENAI_KEY = "GREENRFM_API_KEY", "OPENAI_API_KEY"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. Which hosts may be reached at all is decided before (`distill.hosts`).

    Parameters
    ----------
    url
        Up to and with the version: `http://127.0.0.1:11434/v1`.
    model
        The server's name of the model; empty: the only one it has.
    key
        Sent as a bearer token; in no repr, message or file.
    connect_s, timeout_s
        Seconds for the connection, and for one whole answer.
    attempts
        Requests per piece of a report before it is given up.
    backoff_s
        Seconds before the second attempt; doubled for each further one.
    certificates
        The department's own certificate authority (PEM), where the server's certificate comes from it.
        Variables of the environment are not read: a proxy named there would see the reports.

    Raises UserError if the address or the key cannot be one.

    """

    url: str
    model: str = ""
    key: str | None = field(default=None, repr=False, compare=False)
    connect_s: float = 10.0
    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    certificates: Path | None = None

    def __post_init__(self) -> None:
        """Bring the address into one form and check the key without showing it."""
        url = self.url.strip().rstrip("/").removesuffix("/chat/completions")
        if any(letter in "\\@?#" or letter.isspace() or not letter.isprintable() for letter in url):
            raise UserError("the endpoint's address must be plain, such as http://127.0.0.1:11434/v1")
        try:
            parts = urlsplit(url)
            host = parts.hostname if parts.port != 0 else None
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise UserError(f"the endpoint {url} is no http address; it looks like http://127.0.0.1:11434/v1")
        object.__setattr__(self, "url", url)
        key = (self.key or "").strip()
        # requests would quote a header it cannot send.
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError("the API key has characters that no key has; check how it was copied")
        object.__setattr__(self, "key", key or None)
        if self.attempts < 1 or min(self.connect_s, self.timeout_s) <= 0:
            raise UserError("an endpoint needs at least one attempt and time-outs above 0 s")

    @property
    def host(self) -> str:
        """Return host and port as they stand in the address: what messages name."""
        return urlsplit(self.url).netloc


def key_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the key for this address from the environment, or None.

    GREENRFM_API_KEY goes to the endpoint named; OPENAI_API_KEY to api.openai.com alone, because other
    programs set it and no other server has a use for it.
    """
    if environ.get(OWN_KEY):
        return environ[OWN_KEY]
    try:
        openai = urlsplit(url).hostname == "api.openai.com"
    except ValueError:
        return None
    return (environ.get(OPENAI_KEY) or None) if openai else None

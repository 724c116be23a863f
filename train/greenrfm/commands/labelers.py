"""The labeler that `greenrfm distill` was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import typer

from greenrfm.commands.answer import sentence
from greenrfm.distill import Labeler, LexiconLabeler
from greenrfm.findings import FindingSet

if TYPE_CHECKING:
    from greenrfm.distill.cost import Meter
    from greenrfm.distill.deidentify import Deidentifier
    from greenrfm.distill.llm import LlmLabeler

Name = Literal["lexicon", "llm", "consensus"]
LOCAL = "http://127.0.0.1:11434/v1"  # Ollama's
# Half of 800 real reports are longer than 550 tokens, one in twenty than 1,270.
FEW_TOKENS = 800
# Samples at temperature 0 would be the same one.
SAMPLING_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Server:
    """What the command line says of the LLM's server; `url` "" is the one on this machine."""

    url: str = ""
    model: str = ""
    allowed_hosts: Sequence[str] = ()
    plain_http: bool = False
    deidentify: Literal["auto", "on", "off"] = "auto"
    timeout_s: float = 120
    context_tokens: int = 4096
    samples: int = 1
    ask_key: bool = False

    def check_unused(self) -> None:
        """Raise an error of usage if anything is said: the lexicon asks no server."""
        unused = Server()
        for name, option in _OPTIONS.items():
            if getattr(self, name) != getattr(unused, name):
                raise typer.BadParameter("it needs --labeler llm or consensus", param_hint=f"'{option}'")


_OPTIONS = {
    "url": "--endpoint",
    "model": "--model",
    "allowed_hosts": "--allow-host",
    "plain_http": "--allow-plain-http",
    "deidentify": "--deidentify",
    "timeout_s": "--timeout",
    "context_tokens": "--context",
    "samples": "--samples",
    "ask_key": "--ask-key",
}


@dataclass(frozen=True)
class Made:
    """A labeler; `form` in which its server answers ("" without one), and what takes identifiers out, if anything."""

    labeler: Labeler
    form: str = ""
    deidentifier: Deidentifier | None = None
    models: tuple[LlmLabeler, ...] = ()

    @property
    def usage_is_estimated(self) -> bool:
        """Tell whether a server did not say how many tokens it took."""
        return any(each.usage_is_estimated for each in self.models)

    def close(self) -> None:
        """End waiting for the server; nothing happens the second time."""
        for each in self.models:
            each.close()


class Making:
    """Makes labelers for one server; whether it may be reached is checked at once, nothing is sent yet."""

    def __init__(self, name: Name, finding_set: FindingSet, server: Server) -> None:
        """Check the server's address; raises UserError if reports must not go there."""
        self._name, self._finding_set, self._server = name, finding_set, server
        self._url = ""
        self._deidentifier: Deidentifier | None = None
        self._key: str | None = None
        if name == "lexicon":
            return
        from greenrfm.distill.deidentify import Deidentifier
        from greenrfm.distill.hosts import check_endpoint
        from greenrfm.distill.llm import key_for

        host = check_endpoint(server.url or LOCAL, server.allowed_hosts, server.plain_http)
        self._url = host.url  # as it was checked: another library might read the user's spelling differently
        if server.deidentify == "on" or (server.deidentify == "auto" and host.remote):
            self._deidentifier = Deidentifier()
        if host.remote:
            how = "de-identified" if self._deidentifier else "as they are (--deidentify off)"
            sentence(f"reports go to {host.name}, {how}")
        if server.ask_key:
            self._key = typer.prompt("API key", hide_input=True, err=True)
        else:
            self._key = key_for(self._url, os.environ)

    def make(self, form: str, meter: Meter) -> Made:
        """Return the labeler; `form` is that of an earlier run, or "" to find out which the server takes.

        `meter` counts every request from the first on. Raises UserError if the server cannot be reached,
        refuses the key or the model, or takes no form, or if the budget is spent before that is known.
        """
        if self._name == "lexicon":
            return Made(LexiconLabeler(self._finding_set))
        from greenrfm.distill.consensus import Consensus

        count = self._server.samples
        first = self._llm(1, form, self._server.model, meter)
        form = first.find_form().value
        if first.room < FEW_TOKENS:
            better = first.context_for(FEW_TOKENS)
            sentence(
                f"{self._server.context_tokens} tokens of context leave {first.room} for a report, so many are read "
                f"in pieces, which costs time; better let the server give {better} (Ollama: "
                f"OLLAMA_CONTEXT_LENGTH={better}) and say --context {better}"
            )
        llms = (first, *(self._llm(number, form, first.model, meter) for number in range(2, count + 1)))
        members: list[tuple[str, Labeler]] = [("lexicon", LexiconLabeler(self._finding_set))]
        members = members if self._name == "consensus" else []
        members += [(f"llm{number}" if count > 1 else "llm", each) for number, each in enumerate(llms, start=1)]
        labeler = Consensus(members) if len(members) > 1 else first
        return Made(labeler, form, self._deidentifier, llms)

    def _llm(self, number: int, form: str, model: str, meter: Meter) -> LlmLabeler:
        from greenrfm.distill.deidentify import deidentify
        from greenrfm.distill.llm import Endpoint, LlmLabeler

        server, is_sample = self._server, self._server.samples > 1
        remove = deidentify if self._deidentifier else None
        return LlmLabeler(
            self._finding_set,
            Endpoint(self._url, model, self._key, timeout_s=server.timeout_s),
            form=form or None,
            context_tokens=server.context_tokens,
            temperature=SAMPLING_TEMPERATURE if is_sample else 0.0,
            seed=number if is_sample else None,
            # Of several samples of a report, only the first counts what is removed.
            deidentify=self._deidentifier if number == 1 else remove,
            meter=meter,
        )

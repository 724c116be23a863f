"""One exchange with the model: the request, its retries, and the answer's content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from greenrfm.distill.cost import Meter
from greenrfm.distill.evidence import Usage
from greenrfm.distill.llm.answer import Invalid
from greenrfm.distill.llm.chunks import least_tokens, most_tokens
from greenrfm.distill.llm.endpoint import Endpoint
from greenrfm.distill.llm.pacing import Pacing
from greenrfm.distill.llm.prompt import Message
from greenrfm.distill.llm.transport import Transport, Trouble
from greenrfm.errors import UserError

PATH = "/chat/completions"
# Two marks of sixteen digits stand in a prompt and differ in their tokens from report to report.
FENCE_TOKENS = 32
# No request takes so many tokens: a count above it is no count.
MOST_COUNTED = 10**9
# A model's name is shown, and stands in the evidence.
LONGEST_NAME = 200


@dataclass(frozen=True)
class Reply:
    """What the model said, and the tokens it took; `cut_off` if it was stopped before its end."""

    content: str
    usage: Usage
    cut_off: bool


class Useless(Invalid):
    """A reply without an answer in it; its tokens are paid for all the same.

    `too_long` tells that the model saw only a part of the prompt.
    """

    def __init__(self, reason: str, usage: Usage, too_long: bool = False) -> None:
        """Keep the reason and the tokens."""
        super().__init__(reason)
        self.usage, self.too_long = usage, too_long


class Conversation:
    """Sends messages to one model of one server; may be used by several threads.

    `estimated` becomes True once a server did not say how many tokens an answer took; `refused` are the
    settings it does not take (temperature, seed, max_tokens), which are left out from then on. `meter`
    counts every request and says whether another may be made.
    """

    def __init__(
        self, endpoint: Endpoint, temperature: float | None, seed: int | None, meter: Meter | None = None
    ) -> None:
        """Connect to nothing yet."""
        self.endpoint = endpoint
        self.model = endpoint.model
        self.pacing = Pacing(endpoint.host, endpoint.backoff_s)
        self.estimated = False
        self._meter = meter or Meter()
        self._transport = Transport(endpoint)
        self._sampling = {"temperature": temperature, "seed": seed}
        self.refused: set[str] = set()
        self._least: dict[int, int] = {}

    def find_model(self) -> str:
        """Return the model's name; where none was named, the only one the server has.

        Raises UserError if the server has none or several.
        """
        if not self.model:
            listing = self._patiently("/models", None)
            entries = listing.get("data") if isinstance(listing, dict) else None
            names = [entry.get("id") for entry in entries or [] if isinstance(entry, dict)]
            if len(names) != 1 or not isinstance(names[0], str) or not names[0]:
                count = f"has {len(names)} models" if names else "names no model"
                raise UserError(f"the server at {self.endpoint.host} {count}; say which one with --model")
            if len(names[0]) > LONGEST_NAME or not names[0].isprintable():
                raise UserError(f"the server at {self.endpoint.host} has a model without a proper name; say --model")
            self.model = names[0]
        return self.model

    def ask(self, messages: Sequence[Message], fields: dict[str, Any], tokens: int) -> Reply:
        """Send one request and return the reply.

        Parameters
        ----------
        messages
            System and user message.
        fields
            What else the request says: the form of the answer.
        tokens
            The most tokens the answer may take.

        Raises Trouble if there is no answer, Useless if there is none in it, UserError as `Transport.post`,
        and Spent once the budget is.

        """
        self.pacing.wait_turn()
        while True:
            body = {"model": self.model, "messages": list(messages), "stream": False, **fields}
            sampling = {name: value for name, value in self._sampling.items() if value is not None}
            body.update({name: value for name, value in sampling.items() if name not in self.refused})
            body["max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"] = tokens
            self._meter.check()
            try:
                value = self._transport.post(PATH, body)
                break
            except (Trouble, UserError) as trouble:
                self._meter.add(Usage(requests=1))
                if isinstance(trouble, UserError):
                    raise
                # OpenAI's reasoning models name the limit otherwise and have no temperature.
                if trouble.status != 400 or trouble.field not in {"max_tokens", *sampling}:
                    raise
                self.refused.add(trouble.field)
        self.pacing.good()
        return self._read(value, messages)

    def stop(self) -> None:
        """End all waiting; later requests raise UserError."""
        self.pacing.stop()
        self._transport.close()

    def _read(self, value: Any, messages: Sequence[Message]) -> Reply:
        prompt = "\n".join(message["content"] for message in messages)
        try:
            choice = value["choices"][0]
            content, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            content = reason = None
        counted = _counted(value)
        usage = counted or Usage(most_tokens(prompt), most_tokens(content) if isinstance(content, str) else 0, 1)
        self._meter.add(usage)
        self.estimated = self.estimated or not counted
        if reason == "content_filter":
            raise Useless("the server's content filter withheld the answer", usage)
        if not isinstance(content, str) or not content.strip():
            # A model may spend all its tokens on thoughts that the server keeps apart.
            if reason == "length":
                return Reply("", usage, cut_off=True)
            raise Useless("the server's answer holds no message", usage)
        if counted and not self._saw_all(counted.prompt_tokens, messages):
            raise Useless("the server read only a part of the prompt", usage, too_long=True)
        return Reply(content, usage, cut_off=reason == "length")

    def _saw_all(self, counted: int, messages: Sequence[Message]) -> bool:
        """Tell whether the tokens that the server counted can be the whole prompt.

        Ollama cuts a prompt that is longer than its context and answers all the same. The instructions
        are the same in every request, so what they took at least is known from the shorter ones.
        """
        system, user = (message["content"] for message in messages)
        least = self._least.get(len(system), least_tokens(system))
        if counted < least + least_tokens(user):
            return False
        took = counted - most_tokens(user) - FENCE_TOKENS
        # In some scripts a letter takes more tokens than `most_tokens` allows for; and one count that is
        # too high must not condemn all later reports.
        if user.isascii() and took <= most_tokens(system):
            self._least[len(system)] = max(least, took)
        return True

    def _patiently(self, path: str, body: dict[str, Any] | None) -> Any:
        """Return the JSON value at `path`, retried while it may do better; raise UserError if it does not."""
        for attempt in range(self.endpoint.attempts):
            try:
                return self._transport.get(path)
            except Trouble as trouble:
                last = trouble
            if last.gone or not last.retry:
                break
            self.pacing.back_off(attempt, last.wait)
        raise self.beginning(last)

    def beginning(self, trouble: Trouble) -> UserError:
        """Return what to tell the user if the run cannot even begin."""
        host, model = self.endpoint.host, f"model '{self.model}'" if self.model else "list of models"
        if trouble.gone:
            return UserError(f"no server answers at {host}; start it, or name another with --endpoint")
        if trouble.status == 404:
            return UserError(f"the server at {host} has no {model} there (HTTP 404); check --model and --endpoint")
        what = f"{trouble}, field '{trouble.field}'" if trouble.field else str(trouble)
        return UserError(f"the server at {host} does not serve {model} ({what}); check --model and --endpoint")


def _counted(value: Any) -> Usage | None:
    """Return the tokens as the server counted them, or None if it did not."""
    said = value.get("usage") if isinstance(value, dict) else None
    counts = [said.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(said, dict) else []
    known = [count for count in counts if type(count) is int and 0 < count < MOST_COUNTED]
    return Usage(known[0], known[1], 1) if len(known) == 2 else None

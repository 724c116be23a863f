"""The labeler that asks a language model, and believes nothing it cannot find in the report."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from greenrfm.distill.cost import Meter
from greenrfm.distill.evidence import NOTHING, RANK, Evidence, Labelled, Unlabelled, Usage, normal_beside
from greenrfm.distill.lexicon import LexiconLabeler
from greenrfm.distill.llm.answer import Invalid, check, from_numbers, from_quotations, parse_comma, parse_json
from greenrfm.distill.llm.asking import TooLong, ask_until_usable, find_form
from greenrfm.distill.llm.chunks import Span, cut, halves, most_tokens
from greenrfm.distill.llm.chunks import answer_tokens as most_for_answer
from greenrfm.distill.llm.conversation import Conversation, Reply
from greenrfm.distill.llm.crosscheck import CrossCheck
from greenrfm.distill.llm.endpoint import Endpoint
from greenrfm.distill.llm.forms import Form
from greenrfm.distill.llm.instructions import reads_like_instructions
from greenrfm.distill.llm.prompt import Prompt, number_sentences, packaged_prompt
from greenrfm.distill.llm.quotes import Quotes
from greenrfm.distill.llm.sendable import Redacted, moved, sendable
from greenrfm.distill.sentences import sentence_spans
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet

# What Ollama gives a model unless told otherwise; a longer prompt it cuts without a word.
CONTEXT_TOKENS = 4096
# Tokens for the chat's own marks and the note of a second attempt; the shortest piece worth sending.
MARGIN, LEAST_ROOM = 96, 128
CANNED = "The heart is of normal size. There is a small pleural effusion on the left. No fracture is seen."
INSTRUCTIONS = "the report contains what reads like instructions to a model; label it by hand"


class LlmLabeler:
    """Labels reports with a language model behind an OpenAI-compatible server; may be used by several threads.

    Every state it returns rests on a sentence that stands in the report. An answer that does not is
    asked for again, and in the end the report is given up (Unlabelled): there is no silent label.

    Parameters
    ----------
    finding_set
        The findings asked for.
    endpoint
        Server, model, key, time-outs, attempts.
    form
        The form of answer the server takes, if an earlier run found it.
    context_tokens
        The context the server gives the model; longer reports are cut between sentences.
    temperature, seed
        Of the sampling; None leaves them to the server.
    answer_tokens
        The most tokens of one answer, by default what the finding set needs; more for models that think first.
    prompt
        The words sent; by default `prompt.yaml`.
    deidentify
        Takes identifiers out of a report before it is sent.
    cross_check
        Refuse answers that pass over what the lexicon reads in English sentences (`CrossCheck.fault`).
    meter
        Counts every request, also those of other labelers, and ends asking (Spent) at the budget.

    Raises UserError if the context has no room for the prompt and an answer.

    """

    name = "llm"

    def __init__(
        self,
        finding_set: FindingSet,
        endpoint: Endpoint,
        *,
        form: Form | str | None = None,
        context_tokens: int = CONTEXT_TOKENS,
        temperature: float | None = 0.0,
        seed: int | None = None,
        answer_tokens: int | None = None,
        prompt: Prompt | None = None,
        deidentify: Callable[[str], Redacted] | None = None,
        cross_check: bool = True,
        meter: Meter | None = None,
    ) -> None:
        """Prepare the prompt; ask nothing yet."""
        self.finding_set = finding_set
        self.form = Form(form) if form else None
        self._prompt = prompt or packaged_prompt()
        self.version = self._prompt.version
        # For the journal: labels that were asked for otherwise do not mix.
        self.settings = f"temperature {temperature}, reports {'de-identified' if deidentify else 'as they are'}"
        # Empty until `find_form` if none was named.
        self.model = endpoint.model
        self._talk = Conversation(endpoint, temperature, seed, meter)
        self._deidentify = deidentify
        self._lexicon = LexiconLabeler(finding_set) if cross_check else None
        self._beside = ThreadPoolExecutor(1, "lexicon")
        self._context = context_tokens
        self._lock = threading.Lock()
        self._instructions = {each: self._prompt.instructions(finding_set, each) for each in Form}
        self._tokens = {each: answer_tokens or most_for_answer(finding_set.keys, each is Form.COMMA) for each in Form}
        self._rooms = {each: self._room(each) for each in Form}
        if (room := self._rooms[Form.JSON_SCHEMA]) < LEAST_ROOM:
            raise UserError(
                f"a context of {context_tokens} tokens is too small to ask for {len(finding_set.keys)} findings; "
                f"give the model at least {context_tokens + LEAST_ROOM - room} and say so"
            )

    @property
    def usage_is_estimated(self) -> bool:
        """Tell whether tokens were estimated because the server did not count them."""
        return self._talk.estimated

    @property
    def refused(self) -> frozenset[str]:
        """Return the settings that the server does not take and that are left out: temperature, seed, max_tokens."""
        return frozenset(self._talk.refused)

    def find_form(self) -> Form:
        """Return the strictest form of answer the server takes, found out once with a made-up report.

        Also finds the model where none was named. Raises UserError if the server cannot be reached,
        refuses the key or the model, or answers in no form.
        """
        with self._lock:
            self.model = self._talk.find_model()
            if self.form is None:
                self.form = find_form(
                    self._talk,
                    lambda form, unusable, longer: self._ask(CANNED, sentence_spans(CANNED), form, unusable, longer),
                    lambda form, content: (parse_comma if form is Form.COMMA else parse_json)(
                        content, self.finding_set.keys
                    ),
                )
            return self.form

    @property
    def room(self) -> int:
        """Return how many tokens of a report fit one request; `form` must be known."""
        assert self.form
        return self._rooms[self.form]

    def context_for(self, room: int) -> int:
        """Return the context, a power of two, in which so many tokens of a report fit one request."""
        more = (room - self.room) * (2 if self.form is Form.COMMA else 1)
        return 1 << (self._context + more - 1).bit_length()

    def close(self) -> None:
        """End waiting and connections: `label` raises UserError from now on."""
        self._talk.stop()

    def label(self, report: str) -> Labelled:
        """Return what the model reads in `report`, every sentence of evidence found there.

        Raises Unlabelled if the report speaks to models or gets no usable answer in the endpoint's
        number of attempts; UserError if no other report would do better.
        """
        if not any(letter.isalnum() for letter in report):
            return Labelled(dict.fromkeys(self.finding_set.keys, NOTHING))
        if reads_like_instructions(report):
            raise Unlabelled(INSTRUCTIONS)
        form = self.form if self.form and self.model else self.find_form()
        if self._deidentify is None:
            return Labelled(*self._read(sendable(report), form))
        redacted = self._deidentify(report)
        found, usage = self._read(sendable(redacted.text), form)
        return Labelled({key: moved(evidence, redacted) for key, evidence in found.items()}, usage)

    def _read(self, text: str, form: Form) -> tuple[dict[str, Evidence], Usage]:
        """Return the evidence in `text`, piece by piece if it is long, and what that cost."""
        sentences = sentence_spans(text)
        # The lexicon reads while the server does.
        known = self._beside.submit(CrossCheck, self._lexicon, text) if self._lexicon else None
        pieces = cut(text, (0, len(text)), sentences, self._rooms[form])[::-1]
        found, usage = dict.fromkeys(self.finding_set.keys, NOTHING), Usage()
        try:
            while pieces:
                piece = pieces.pop()
                if not any(letter.isalnum() for letter in text[slice(*piece)]):
                    continue
                try:
                    part, cost = self._read_piece(text, piece, sentences, form, known)
                except TooLong as too_long:
                    cost, part = too_long.usage, {}
                    if most_tokens(text[slice(*piece)]) < LEAST_ROOM:
                        raise Unlabelled("the report does not fit the model's context", cost) from None
                    pieces += halves(text, piece, sentences)[::-1]
                usage += cost
                for key, evidence in part.items():
                    if RANK[evidence.state] > RANK[found[key].state]:
                        found[key] = evidence
            found = _checked(check(found, text), known, (0, len(text)))
            if "normal" in found:
                found["normal"] = normal_beside(found) or found["normal"]
            return found, usage
        except Unlabelled as failed:
            raise Unlabelled(str(failed), usage + failed.usage) from None
        except Invalid as invalid:
            raise Unlabelled(str(invalid), usage) from None

    def _read_piece(
        self, text: str, piece: Span, sentences: Sequence[Span], form: Form, known: Future[CrossCheck] | None
    ) -> tuple[dict[str, Evidence], Usage]:
        start, stop = piece
        inside = [span for span in sentences if span[0] < stop and span[1] > start]
        seen = [(max(first, start) - start, min(last, stop) - start) for first, last in inside]
        quotes = Quotes(text, sentences, piece)
        keys = self.finding_set.keys

        def read(content: str) -> dict[str, Evidence]:
            if form is Form.COMMA:
                found = from_numbers(parse_comma(content, keys), inside, text)
            else:
                found = from_quotations(parse_json(content, keys), quotes)
            return _checked(found, known, piece)

        return ask_until_usable(
            self._talk,
            lambda unusable, longer: self._ask(text[start:stop], seen, form, unusable, longer),
            read,
            lambda: self._ask(CANNED, sentence_spans(CANNED), form, "", False),
        )

    def _ask(self, text: str, sentences: Sequence[Span], form: Form, unusable: str, longer: bool) -> Reply:
        report = number_sentences(text, sentences) if form is Form.COMMA else text.strip("\n")
        # Nobody can write a report that holds its own digest, and the same report gives the same prompt.
        fence = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
        messages = self._prompt.messages(self._instructions[form], form, report, fence, unusable)
        tokens = self._tokens[form]
        if longer:
            rest = self._context - MARGIN - sum(most_tokens(message["content"]) for message in messages)
            tokens = max(tokens, min(2 * tokens, rest))
        return self._talk.ask(messages, form.fields(self.finding_set.keys), tokens)

    def _room(self, form: Form) -> int:
        """Return the tokens left for a report; numbers before sentences may take as much as the sentences."""
        frame = self._prompt.messages(self._instructions[form], form, "", 16 * "0")
        used = sum(most_tokens(message["content"]) for message in frame) + self._tokens[form] + MARGIN
        return (self._context - used) // (2 if form is Form.COMMA else 1)


def _checked(found: dict[str, Evidence], known: Future[CrossCheck] | None, within: Span) -> dict[str, Evidence]:
    """Return `found`; raise Invalid if the lexicon shows that the report was not read."""
    if known and (fault := known.result().fault(found, within)):
        raise Invalid(fault)
    return found

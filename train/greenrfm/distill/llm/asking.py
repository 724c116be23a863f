"""Asking until an answer can be used, and finding out in which form a server answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from greenrfm.distill.evidence import Unlabelled, Usage
from greenrfm.distill.llm.answer import Invalid
from greenrfm.distill.llm.conversation import Conversation, Reply, Useless
from greenrfm.distill.llm.forms import Form
from greenrfm.distill.llm.transport import Forbidden, Trouble
from greenrfm.errors import UserError

Answer = TypeVar("Answer")
CUT_OFF = "the answer was cut off"
# What a server says that lacks the model, or does not let us have it; some say it of a report's content.
ALSO_OF_ONE_REPORT = (403, 404)
# Servers that break on a form they do not know say so with these.
NOT_THIS_FORM = (500, 501)
TRIES_PER_FORM = 2


class TooLong(Exception):
    """The prompt is longer than the model's context; `usage` is what finding out cost."""

    def __init__(self, usage: Usage) -> None:
        """Keep the cost."""
        super().__init__("the prompt is longer than the model's context")
        self.usage = usage


def ask_until_usable(
    talk: Conversation,
    ask: Callable[[str, bool], Reply],
    read: Callable[[str], Answer],
    probe: Callable[[], object],
) -> tuple[Answer, Usage]:
    """Return the first answer that can be used, and what all of them cost.

    Parameters
    ----------
    talk
        The conversation `ask` goes through.
    ask
        Sends one request; told why the last answer could not be used ("" for the first) and whether
        one was cut off, so that the next may be longer.
    read
        Returns what an answer says, or raises Invalid.
    probe
        Sends a made-up report; called where the server refuses this one and may refuse every other too.

    Raises
    ------
    Unlabelled after the endpoint's number of attempts, TooLong at once, and UserError where no other
    report would do better: nobody listens at the start or any more, the model is not there.
    The budget's Spent passes through.

    """
    usage, reason, unusable, longer = Usage(), "", "", False
    for attempt in range(talk.endpoint.attempts):
        try:
            reply = ask(unusable, longer)
            usage += reply.usage
            if not reply.cut_off:
                return read(reply.content), usage
            reason = unusable = CUT_OFF
            longer = True
        except Trouble as trouble:
            usage += Usage(requests=1)
            reason, last = str(trouble), trouble
        except Forbidden:
            usage += Usage(requests=1)
            last = Trouble("HTTP 403", status=403)
            reason = str(last)
        except Useless as useless:
            usage += useless.usage
            reason = unusable = str(useless)
            if useless.too_long:
                raise TooLong(usage) from None
        except Invalid as invalid:
            reason = unusable = str(invalid)
        if reason == unusable:  # The server is well: no need to wait.
            continue
        if last.too_long:
            raise TooLong(usage)
        if last.gone and not talk.pacing.answered:
            raise talk.beginning(last)
        if not last.retry:
            if last.status in ALSO_OF_ONE_REPORT or not talk.pacing.answered:
                _check_serves_others(talk, last, probe)
            break
        if attempt + 1 < talk.endpoint.attempts:
            talk.pacing.back_off(attempt, last.wait)
    if reason != unusable:
        talk.pacing.bad(reason, last.gone)
    raise Unlabelled(reason, usage)


def _check_serves_others(talk: Conversation, refusal: Trouble, probe: Callable[[], object]) -> None:
    """Raise UserError if the server refuses a made-up report as it refused this one."""
    try:
        probe()
    except Invalid:
        pass
    except Trouble as trouble:
        if trouble.gone or not trouble.retry:
            raise talk.beginning(refusal) from None


def find_form(talk: Conversation, ask: Callable[[Form, str, bool], Reply], read: Callable[[Form, str], object]) -> Form:
    """Return the first form, from the strictest on, in which the server answers with the right shape.

    `ask` and `read` are as in `ask_until_usable`, for a form. A server that is only busy (429, 503,
    time-out) is waited for and never taken for one that refuses a form. Raises UserError if no form
    works.
    """
    reason = ""
    for form in Form:
        unusable, longer, tries = "", False, 0
        for attempt in range(talk.endpoint.attempts):
            try:
                reply = ask(form, unusable, longer)
                if not reply.cut_off:
                    read(form, reply.content)
                    return form
                unusable, longer = CUT_OFF, True
            except Invalid as invalid:
                if isinstance(invalid, Useless) and invalid.too_long:
                    raise _no_room(talk) from None
                unusable = str(invalid)
            except Trouble as trouble:
                last = trouble
                if last.too_long:
                    raise _no_room(talk) from None
                if last.gone or last.status in (404, 413):
                    raise talk.beginning(last) from None
                if not last.retry or (attempt and last.status in NOT_THIS_FORM):
                    break
                if attempt + 1 < talk.endpoint.attempts:
                    talk.pacing.back_off(attempt, last.wait)
                elif last.status not in NOT_THIS_FORM:
                    raise talk.beginning(last) from None
                continue
            reason, tries = unusable, tries + 1
            if tries == TRIES_PER_FORM:
                break
    if reason:
        raise UserError(
            f"model '{talk.model}' at {talk.endpoint.host} answers in none of the forms ({reason}); use a larger model"
        )
    raise talk.beginning(last)


def _no_room(talk: Conversation) -> UserError:
    return UserError(
        f"the context that {talk.endpoint.host} gives model '{talk.model}' does not hold the prompt; "
        "give it a larger one"
    )

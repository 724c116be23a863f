"""What labelling may cost, and what it has cost so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock

from greenrfm.distill.evidence import Usage
from greenrfm.errors import UserError


@dataclass(frozen=True)
class Price:
    """The price of a million tokens sent to a model and of a million written by it, in the user's currency."""

    prompt: float
    completion: float

    def of(self, usage: Usage) -> float:
        """Return what `usage` costs."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6

    @classmethod
    def parse(cls, text: str) -> Price:
        """Read "PROMPT,COMPLETION"; raise ValueError for anything but two finite numbers, not negative, not both 0."""
        prompt, completion = map(float, text.split(","))
        numbers = (prompt, completion)
        if not all(math.isfinite(each) and each >= 0 for each in numbers) or not any(numbers):
            raise ValueError(text)
        return cls(prompt, completion)


class Spent(UserError):
    """The budget is spent: no request may be made any more."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the budget is spent; a larger --budget goes on")


class Meter:
    """Counts every request of a run, whichever labeler makes it, and ends asking at the budget; thread-safe."""

    def __init__(self, price: Price | None = None, budget: float | None = None, usage: Usage | None = None) -> None:
        """Begin with the `usage` of earlier runs.

        Raises ValueError for a budget without a price, or one that is no finite amount from 0 on.
        """
        if budget is not None and (price is None or not math.isfinite(budget) or budget < 0):
            raise ValueError(f"a budget needs a price and must be a finite amount, not {budget}")
        self.price, self._budget = price, budget
        self._usage, self._lock = usage or Usage(), Lock()

    @property
    def usage(self) -> Usage:
        """Return what was used so far."""
        return self._usage

    @property
    def cost(self) -> float | None:
        """Return what that costs; None without a price."""
        return None if self.price is None else self.price.of(self._usage)

    def add(self, usage: Usage) -> None:
        """Count what a request took."""
        with self._lock:
            self._usage += usage

    def at_least(self, usage: Usage) -> None:
        """Count what a labeler used that does not count its own requests: it is `usage` in all."""
        with self._lock:
            self._usage += lacking(self._usage, usage)

    def check(self) -> None:
        """Raise Spent if no request may be made any more; to be called before each."""
        if self._budget is not None and self.price is not None and self.price.of(self._usage) >= self._budget:
            raise Spent


def lacking(usage: Usage, whole: Usage) -> Usage:
    """Return what `usage` lacks of `whole`, nowhere less than 0."""
    return Usage(
        max(whole.prompt_tokens - usage.prompt_tokens, 0),
        max(whole.completion_tokens - usage.completion_tokens, 0),
        max(whole.requests - usage.requests, 0),
    )

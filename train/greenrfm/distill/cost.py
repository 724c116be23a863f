"""What labelling may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenrfm.distill.evidence import Usage


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

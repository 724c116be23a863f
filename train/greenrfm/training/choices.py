"""Values of a recipe that are written as a word, a path or a mapping of one key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Strict(BaseModel):
    """What all parts of a recipe are: unknown keys are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Policy(Strict):
    """What an uncertain finding, or one the report does not mention, is to the BCE.

    Written `mask` (left out), `{soft: p}` (a target between 0 and 1) or `{negative: w}` (absent, with weight w).
    """

    soft: float | None = Field(None, ge=0, le=1)
    negative: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if value == "mask":
            return {}
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or (len(value) != 1 and value):
            raise ValueError("must be 'mask', {soft: p} or {negative: w}")
        return value

    @property
    def target(self) -> float:
        """Return the target of the BCE, 0 to 1."""
        return self.soft or 0.0

    @property
    def weight(self) -> float:
        """Return the weight of the entry, 0 to 1; a present or absent one weighs 1."""
        if self.soft is not None:
            return 1.0
        return self.negative or 0.0

    @model_serializer
    def _written(self) -> str | dict[str, float]:
        if self.soft is not None:
            return {"soft": self.soft}
        return "mask" if self.negative is None else {"negative": self.negative}


class VisionWeights(Strict):
    """Where the vision encoder begins; there is no default, so that nobody trains from random weights unawares.

    Written `random`, `{kinetics: FILE}` (torchvision's r3d_18 state dict) or the path of an earlier run or bundle.
    """

    kinetics: str | None = None
    earlier: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if value == "random":
            return {}
        if value == "kinetics":
            raise ValueError("name the file of torchvision's r3d_18 weights: {kinetics: FILE}")
        if isinstance(value, str):
            return {"earlier": value}
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or not value or not all(isinstance(path, str) for path in value.values()):
            raise ValueError("must be random, {kinetics: FILE}, or the path of an earlier run or bundle")
        if "earlier" in value:
            raise ValueError("write an earlier run or bundle as its path alone")
        return value

    @property
    def name(self) -> str:
        """Return what they are without the folder, for a manifest that travels."""
        if self.kinetics is not None:
            return f"kinetics {Path(self.kinetics).name}"
        return "random" if self.earlier is None else f"earlier {Path(self.earlier).name}"

    def placed(self, place: Callable[[str], str]) -> VisionWeights:
        """Return the same with its path changed by `place`."""
        given = {"kinetics": self.kinetics, "earlier": self.earlier}
        return self.model_copy(update={key: place(path) for key, path in given.items() if path is not None})

    @model_serializer
    def _written(self) -> str | dict[str, str]:
        if self.kinetics is not None:
            return {"kinetics": self.kinetics}
        return self.earlier or "random"

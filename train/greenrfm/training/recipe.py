"""Recipes: a model and its training as one YAML file, packaged in `recipes/` or the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.volumes import PRESETS, Preprocessing


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Strict):
    """Width and stem of the vision encoder, and which BERT reads the reports.

    `dilated_export` exports the last stage without its stride and dilated instead: cells half as large.
    """

    width: PositiveInt = 64
    stem: tuple[PositiveInt, PositiveInt, PositiveInt]
    vision_weights: Literal["random"]
    dilated_export: bool = False
    text_encoder: str
    text_layers_frozen: int = Field(0, ge=0)
    max_tokens: int = Field(512, ge=16, le=512)


class Stage(_Strict):
    """One training stage: AdamW with a linear warm-up and a cosine to `final_rate`.

    `rate` is that of the heads and projections, and of the encoder unless `encoder_rate` names another.
    """

    epochs: PositiveInt
    batch: int = Field(ge=2)
    rate: PositiveFloat
    final_rate: float = Field(1e-6, ge=0)
    encoder_rate: PositiveFloat | None = None
    weight_decay: float = Field(1e-4, ge=0)
    warmup: float = Field(0.0, ge=0, lt=1)
    clip: PositiveFloat | None = None


class Alignment(Stage):
    """Stage 2; `freeze_text` keeps the text encoder of stage 1 and encodes each report once."""

    freeze_text: bool = False


class Labels(_Strict):
    """How states enter the loss: uncertain is masked, not mentioned is absent with this weight."""

    not_mentioned_weight: float = Field(ge=0, le=1)


class Augmentation(_Strict):
    """Random changes of a training crop: intensities in scaled units, and mirroring left to right.

    Crops are mirrored in stage 1 only: in stage 2 the report may name a side.
    """

    offset: float = Field(0.0, ge=0)
    gain: float = Field(0.0, ge=0)
    mirror: bool = False


class Recipe(_Strict):
    """A whole training, from preprocessing to alignment (METHOD.md, "Training")."""

    name: str
    description: str
    preprocessing: Preprocessing
    network: Network
    labels: Labels
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation.model_validate({}))
    stage1_vision: Stage
    stage1_text: Stage
    stage2: Alignment


def packaged_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that ship with the package."""
    folder = resources.files("greenrfm.training") / "recipes"
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_recipe(name_or_path: str) -> Recipe:
    """Return a packaged recipe by name, or the user's own from a YAML file; raise UserError if it does not fit."""
    if name_or_path in packaged_recipes():
        text = (resources.files("greenrfm.training") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    elif Path(name_or_path).suffix in (".yaml", ".yml"):
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"recipe {name_or_path} cannot be read ({type(error).__name__})") from error
    else:
        raise UserError(
            f"there is no recipe '{name_or_path}'{nearest(name_or_path, packaged_recipes())}; "
            f"packaged are {', '.join(packaged_recipes())}, your own is a .yaml file"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {name_or_path} is not YAML") from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {name_or_path} must be a mapping with the keys of docs/training.md")
    return parse_recipe(content, name_or_path)


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """Return the recipe of this mapping; `preprocessing` is a preset's name or a mapping."""
    chosen = content.get("preprocessing")
    if isinstance(chosen, str):
        if chosen not in PRESETS:
            raise UserError(f"recipe {source}: no preprocessing '{chosen}'{nearest(chosen, tuple(PRESETS))}")
        content = {**content, "preprocessing": PRESETS[chosen]}
    elif isinstance(chosen, dict):
        content = {**content, "preprocessing": Preprocessing.from_dict(chosen)}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = ""
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _keys_at(first["loc"]))
        raise UserError(f"recipe {source}: '{where}': {first['msg'].lower()}{hint}") from error


def _keys_at(location: tuple[int | str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = Recipe
    for part in location[:-1]:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    return tuple(model.model_fields)

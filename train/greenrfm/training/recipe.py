"""Recipes: a model and its training as one YAML file, packaged in `recipes/` or the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from greenrfm.cohort import Inputs
from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.training.choices import Policy, Strict, VisionWeights
from greenrfm.training.earlier import RECORD, earlier_run, earlier_text_encoder
from greenrfm.volumes import PRESETS, Preprocessing

Given = TypeVar("Given")


class Network(Strict):
    """Width and stem of the vision encoder, which BERT reads the reports, and where both begin.

    `vision_weights` has no default: `random`, `{kinetics: FILE}`, or an earlier run or bundle. `text_encoder` is
    `minilm`, a folder with a BERT, or an earlier run; the last becomes that run's BERT here, and its weights
    `text_weights`. Vision alone needs none. A report's latent is the [CLS] of the last layer, or with `text_pooling`
    `mean` the mean of its tokens. `dilated_export` exports the last stage without its stride and dilated
    instead: cells half as large.

    `planes` and `sequences` go together, for MR: a network of this width for each plane, with the sequences as
    channels, on the images in the columns `image_<sequence>_<plane>`. Without them one volume, in column `image`.
    """

    width: PositiveInt = 64
    stem: tuple[PositiveInt, PositiveInt, PositiveInt]
    planes: tuple[Literal["sagittal", "coronal", "axial"], ...] = ()
    sequences: tuple[Annotated[str, Field(pattern="^[a-z0-9]+$")], ...] = ()
    vision_weights: VisionWeights
    dilated_export: bool = False
    text_encoder: str | None = None
    text_weights: str | None = None
    text_pooling: Literal["cls", "mean"] = "cls"
    text_layers_frozen: int = Field(0, ge=0)
    max_tokens: int = Field(512, ge=16, le=512)

    @property
    def inputs(self) -> Inputs:
        """Return which images of a study the vision encoder takes."""
        return Inputs(self.planes, self.sequences)

    @model_validator(mode="after")
    def _planes_with_sequences(self) -> Network:
        if bool(self.planes) != bool(self.sequences):
            raise ValueError("give both planes and sequences, or neither for one volume in column image")
        for names in (self.planes, self.sequences):
            if len(set(names)) < len(names):
                raise ValueError(f"name each of {', '.join(names)} once")
        return self


class Stage(Strict):
    """One training stage: AdamW with a linear warm-up and a cosine to `final_rate`.

    `rate` is that of the heads and projections, and of the encoder unless `encoder_rate` names another.
    `micro_batch` is how many studies go through the network at once (None: the whole batch); `freeze` names
    modules that keep their weights; `patience` stops after so many epochs without a better validation AUC.
    """

    epochs: PositiveInt
    batch: int = Field(ge=2)
    micro_batch: PositiveInt | None = None
    rate: PositiveFloat
    final_rate: float = Field(1e-6, ge=0)
    encoder_rate: PositiveFloat | None = None
    weight_decay: float = Field(1e-4, ge=0)
    warmup: float = Field(0.0, ge=0, lt=1)
    clip: PositiveFloat | None = None
    patience: PositiveInt | None = None
    freeze: Annotated[
        tuple[str, ...], BeforeValidator(lambda names: (names,) if isinstance(names, str) else names)
    ] = ()
    checkpointing: bool = False  # of the vision encoder's activations: less memory, a third more time

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Stage:
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch {self.batch}")
        return self


class Alignment(Stage):
    """Stage 2; `batch` is the contrastive batch, `micro_batch` what memory holds of it.

    `freeze_text` keeps the text encoder of stage 1 and encodes each report once. `soft_targets` is the share of
    each contrastive target that studies with similar labels get. For ablations only: `normalise` divides the
    latents by their L2 norms, `shared_classifier` off leaves the contrastive loss alone.
    """

    freeze_text: bool = False
    soft_targets: float = Field(0.0, ge=0, lt=1)
    normalise: bool = False
    shared_classifier: bool = True


class Labels(Strict):
    """How states enter the loss (`Policy`), and what a rare finding weighs.

    `uncertain` and `not_mentioned` are `mask`, `{soft: p}` (a target between 0 and 1) or `{negative: w}` (absent,
    with weight w); `not_mentioned_weight: w` is short for `not_mentioned: {negative: w}`. With `pos_weight: c` a
    present entry weighs absent / present ones of the training part, within 1/c and c; without, 1.
    """

    uncertain: Policy = Field(default_factory=lambda: Policy.model_validate({}))
    not_mentioned: Policy
    pos_weight: float | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "not_mentioned_weight" not in values:
            return values
        if "not_mentioned" in values:
            raise ValueError("give either not_mentioned or not_mentioned_weight")
        rest = {key: value for key, value in values.items() if key != "not_mentioned_weight"}
        return {**rest, "not_mentioned": {"negative": values["not_mentioned_weight"]}}

    @property
    def not_mentioned_weight(self) -> float:
        """Return what an entry that the report does not mention weighs."""
        return self.not_mentioned.weight


class Augmentation(Strict):
    """Random changes of a training crop: intensities in scaled units, and mirroring left to right.

    Crops are mirrored in stage 1 only: in stage 2 the report may name a side.
    """

    offset: float = Field(0.0, ge=0)
    gain: float = Field(0.0, ge=0)
    mirror: bool = False


class Recipe(Strict):
    """A whole training, from preprocessing to alignment (METHOD.md, "Training").

    `stage1_text` and `stage2` are left out together where a cohort has labels but no reports; use `text_plan`,
    `alignment_plan` and `text_encoder` to read what belongs to the text.
    """

    name: str
    description: str
    preprocessing: Preprocessing
    network: Network
    labels: Labels
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation.model_validate({}))
    stage1_vision: Stage
    stage1_text: Stage | None = None
    stage2: Alignment | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Recipe:
        if (self.stage1_text is None) != (self.stage2 is None):
            raise ValueError("give both stage1_text and stage2, or neither to train vision alone")
        if self.stage2 is not None and self.network.text_encoder is None:
            raise ValueError("network lacks text_encoder; name one, or leave out stage1_text and stage2")
        return self

    @property
    def is_vision_only(self) -> bool:
        """Return whether the recipe trains the vision encoder alone, on a cohort without reports."""
        return self.stage2 is None

    @property
    def text_plan(self) -> Stage:
        """Return stage 1 text; raise UserError if the recipe trains vision alone."""
        return self._with_text(self.stage1_text)

    @property
    def alignment_plan(self) -> Alignment:
        """Return stage 2; raise UserError if the recipe trains vision alone."""
        return self._with_text(self.stage2)

    @property
    def text_encoder(self) -> str:
        """Return which BERT reads the reports; raise UserError if the recipe trains vision alone."""
        return self._with_text(self.network.text_encoder)

    def _with_text(self, given: Given | None) -> Given:
        if given is None or self.is_vision_only:
            raise UserError(f"recipe {self.name} trains vision alone; add stage1_text and stage2 for a model with text")
        return given

    def travelling(self) -> dict[str, Any]:
        """Return the recipe as JSON values for a bundle's manifest: preprocessing apart, files by name only."""
        content: dict[str, Any] = self.model_dump(mode="json", exclude={"preprocessing"})
        content["network"]["text_encoder"] = None if self.is_vision_only else Path(self.text_encoder).name
        content["network"]["vision_weights"] = self.network.vision_weights.name
        content["network"]["text_weights"] = self.network.text_weights and Path(self.network.text_weights).name
        return content


def packaged_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that ship with the package."""
    folder = resources.files("greenrfm.training") / "recipes"
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_recipe(name_or_path: str) -> Recipe:
    """Return a packaged recipe by name, or the user's own from a YAML file; raise UserError if it does not fit.

    Files and folders that a recipe of the user's names are relative to its own folder.
    """
    folder = Path()
    if name_or_path in packaged_recipes():
        text = (resources.files("greenrfm.training") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    elif Path(name_or_path).suffix in (".yaml", ".yml"):
        folder = Path(name_or_path).resolve().parent
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
    return parse_recipe(content, name_or_path, folder)


def parse_recipe(content: dict[str, Any], source: str, folder: Path = Path()) -> Recipe:
    """Return the recipe of this mapping; `preprocessing` is a preset's name or a mapping.

    Relative paths in it belong to `folder`. Raises UserError naming `source`, the key, and for an unknown key the
    nearest known one.
    """
    chosen = content.get("preprocessing")
    if isinstance(chosen, str):
        if chosen not in PRESETS:
            raise UserError(f"recipe {source}: no preprocessing '{chosen}'{nearest(chosen, tuple(PRESETS))}")
        content = {**content, "preprocessing": PRESETS[chosen]}
    elif isinstance(chosen, dict):
        try:
            content = {**content, "preprocessing": Preprocessing.from_dict(chosen)}
        except UserError as error:
            raise UserError(f"recipe {source}: {error}") from error
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        # A misspelt key is the cause where a required one is missing too.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        what = first["msg"].removeprefix("Value error, ")
        hint = ""
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _keys_at(first["loc"]))
        raise UserError(f"recipe {source}: '{where}': {what[:1].lower()}{what[1:]}{hint}") from error
    return recipe.model_copy(update={"network": _placed(recipe.network, folder)})


def _placed(network: Network, folder: Path) -> Network:
    """Return the network with its files found from `folder`, and an earlier run's text encoder resolved."""

    def placed(name: str) -> str:
        path = Path(name).expanduser()
        return str(folder / path) if path.is_absolute() or (folder / path).exists() else name

    text_encoder, text_weights = network.text_encoder, network.text_weights
    found = Path(placed(text_encoder or ""))
    if text_encoder and ((found / RECORD).is_file() or (found / "manifest.json").is_file()):
        run = earlier_run(found)
        text_encoder, text_weights = earlier_text_encoder(run), str(run)
    return network.model_copy(
        update={
            "text_encoder": text_encoder and placed(text_encoder),
            "text_weights": text_weights and placed(text_weights),
            "vision_weights": network.vision_weights.placed(placed),
        }
    )


def _keys_at(location: tuple[int | str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = Recipe
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        # A stage that may be left out is `Stage | None`.
        candidates = getattr(annotation, "__args__", (annotation,))
        model = next(found for found in candidates if isinstance(found, type) and issubclass(found, BaseModel))
    short = ("not_mentioned_weight",) if model is Labels else ()
    return (*model.model_fields, *short)

"""A step in trouble: memory that runs out is made up for once, and a number that is none finds its study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.training.align import train_alignment
from greenrfm.training.batches import TrainingSet, adamw
from greenrfm.training.choices import VisionWeights
from greenrfm.training.fit import fit
from greenrfm.training.initial import freeze
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Recipe, Stage
from greenrfm.training.session import Session
from greenrfm.training.stages import train_vision
from greenrfm.training.step import Training
from greenrfm.training.validation import AtATime
from small_alignment import small_bert, small_recipe, small_set, small_stage1
from test_training_loop import left_alone, same, training, weights

pytestmark = pytest.mark.usefixtures("one_thread")


def out_of_memory_once(made: Training, at_call: int) -> Training:
    """Let call number `at_call` of the gradients run out of memory once the whole pass is done."""
    gradients, calls = made.gradients, [0]

    def short(batch: Sequence[int], micro: int) -> Tensor:
        calls[0] += 1
        loss = gradients(batch, micro)
        if calls[0] == at_call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    made.gradients = short
    return made


class TestOutOfMemory:
    @pytest.mark.parametrize("at_call", [1, 7])
    def test_a_repeated_step_advances_statistics_and_random_states_once(self, at_call: int, capsys):
        # The small stage ignores `micro`, so a repeated step must leave no trace at all.
        expected, after = left_alone(), torch.rand(1)
        repeated = out_of_memory_once(training(), at_call)
        fit(repeated, Session())
        assert torch.equal(torch.rand(1), after)
        assert same(weights(repeated), expected)
        said = f"out of memory at step {at_call - 1} with 4 studies at a time; going on with 2"
        assert said in capsys.readouterr().err

    def test_an_optimiser_that_moved_some_weights_in_its_first_step_begins_again(self, capsys):
        expected, repeated = left_alone(), training()
        short_in_step(repeated, steps={1})
        fit(repeated, Session())
        assert same(weights(repeated), expected)
        assert "out of memory at step 0" in capsys.readouterr().err

    @pytest.mark.parametrize("steps", [{1, 2}, {6}])
    def test_an_optimiser_without_memory_ends_in_one_sentence_and_the_run_goes_on(self, steps: set[int], tmp_path):
        expected, stage = left_alone(), training()
        short_in_step(stage, steps)
        with pytest.raises(UserError, match=r"out of memory in the optimiser at step [05], .* go on with --resume"):
            fit(stage, Session(tmp_path, checkpoint_steps=1))
        again = training()
        fit(again, Session(tmp_path))
        assert same(weights(again), expected)

    def test_validation_takes_fewer_studies_at_a_time_and_remembers(self, capsys):
        sizes: list[int] = []

        def encode(studies: Sequence[int]) -> Tensor:
            sizes.append(len(studies))
            if len(studies) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return torch.tensor([[float(study)] for study in studies])

        at_once = AtATime(8)
        for _ in range(2):
            assert at_once.logits(encode, range(5)).ravel().tolist() == [0, 1, 2, 3, 4]
        assert sizes == [5, 3, 2, 2, 1, 2, 2, 1]
        assert "validation: out of memory with 5 studies at a time; going on with 3" in capsys.readouterr().err

    def test_validation_without_memory_for_one_study_says_so_and_the_run_goes_on(self, tmp_path: Path):
        def full(studies: Sequence[int]) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        def validate(model: nn.Module) -> float | None:
            AtATime(2).logits(full, range(3))
            return None

        expected = left_alone()
        with pytest.raises(UserError, match=r"validation: out of memory with one study; .* --resume"):
            fit(training(validate), Session(tmp_path, checkpoint_steps=2))
        again = training()
        fit(again, Session(tmp_path))
        assert same(weights(again), expected)


def short_in_step(stage: Training, steps: set[int]) -> None:
    """Let these calls of the optimiser's step move half of the weights and then run out of memory."""
    step, calls = stage.optimizer.step, [0]

    def short(*arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] not in steps:
            return step(*arguments, **named)
        step(*arguments, **named)
        with torch.no_grad():
            for parameter in list(stage.model.parameters())[::2]:
                parameter.add_(1.0)
        raise torch.OutOfMemoryError("CUDA out of memory")

    stage.optimizer.step = short  # type: ignore[method-assign, assignment]


class TestNotANumber:
    @pytest.fixture(scope="class")
    @staticmethod
    def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return small_bert(tmp_path_factory.mktemp("bert"))

    def train(self, stage: str, recipe: Recipe, data: TrainingSet, folder: Path) -> None:
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        if stage == "vision":
            train_vision(fabric, recipe, data, 0, Session())
        else:
            train_alignment(fabric, recipe, data, *small_stage1(recipe, folder), seed=0, session=Session())

    @pytest.mark.parametrize(("stage", "micro"), [("vision", 8), ("vision", 3), ("align", 8), ("align", 3)])
    def test_volumes_that_are_no_numbers_are_named_and_no_others(self, stage: str, micro: int, bert: Path, tmp_path):
        recipe = small_recipe(bert, micro_batch=micro)
        plan = recipe.stage1_vision.model_copy(update={"batch": 8, "micro_batch": micro, "epochs": 1})
        recipe = recipe.model_copy(update={"stage1_vision": plan})
        data = small_set(recipe)
        data.crops._volumes[2], data.crops._volumes[5, 0, 1] = np.nan, np.inf
        with pytest.raises(UserError, match=r"the loss is not a number at step 0; .*to blame: ") as caught:
            self.train(stage, recipe, data, tmp_path)
        named = str(caught.value).partition("to blame: ")[2].split(", ")
        assert sorted(named) == ["s2 (volume)", "s5 (volume)"]

    def test_a_study_whose_gradient_alone_is_no_number_is_named(self):
        fabric = make_fabric("32-true")
        model = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            model.weight.fill_(0.5)
        plan = Stage.model_validate({"epochs": 1, "batch": 4, "rate": 1e-2})
        wrapped, optimizer = fabric.setup(model, adamw([(model, plan.rate)], plan))
        inputs = torch.tensor([[1.0, 1.0], [2.0, 1.0], [1.0, -1.0], [3.0, 1.0]])

        def losses(batch: Sequence[int]) -> Tensor:
            return wrapped(inputs[list(batch)]).clamp(min=0).sqrt().sum()  # at 0 its value is finite, its slope is not

        def gradients(batch: Sequence[int], micro: int) -> Tensor:
            loss = losses(batch)
            fabric.backward(loss)
            return loss.detach()

        def alone(batch: Sequence[int], micro: int):
            for study in batch:
                yield study, {"loss": losses([study])}

        stage = Training("stage", fabric, wrapped, optimizer, plan, list("abcd"), 0, gradients, alone)
        before = model.weight.detach().clone()
        with pytest.raises(UserError, match=r"the gradient is not a number at step 0; .*to blame: c \(gradient\)$"):
            fit(stage, Session())
        assert torch.equal(model.weight, before)

    def test_weights_that_are_no_numbers_blame_no_study(self, bert: Path, tmp_path: Path):
        recipe = small_recipe(bert)
        files = small_stage1(recipe, tmp_path)
        content = torch.load(files[0], weights_only=True)
        content["encoder.net.layer4.1.conv2.weight"][0] = float("nan")
        torch.save(content, files[0])
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        with pytest.raises(UserError, match="no study alone is to blame, so lower the rates or") as caught:
            train_alignment(fabric, recipe, small_set(recipe), *files, seed=0, session=Session())
        assert all(f"s{index}" in str(caught.value) for index in range(8))


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on(tmp_path: Path):
    resource = pytest.importorskip("resource")  # a limit of the size of files stands in for the disk
    expected, limits = left_alone(), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(stage: str, done: int, total: int, metrics: object = None) -> None:
        if done == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))

    try:
        with pytest.raises(UserError, match=r"step-000000005\.pt cannot be written; make room .* --resume"):
            fit(training(), Session(tmp_path, progress=fill, checkpoint_steps=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again = training()
    fit(again, Session(tmp_path))
    assert same(weights(again), expected)


def test_a_stage_with_everything_frozen_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with pytest.raises(UserError, match=r"stage2\.freeze: nothing is left that learns"):
        freeze(model, ["0", "1"], "stage2")


def test_no_weights_named_are_not_random_ones():
    with pytest.raises(ValueError, match=r"must be random, \{kinetics: FILE\}, or the path"):
        VisionWeights.model_validate({})

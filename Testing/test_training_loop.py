"""The loop: nothing is lost by a kill, a cancel or Ctrl-C, and what it tells is true."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.training.batches import adamw
from greenrfm.training.checkpoints import random_states, set_random_states
from greenrfm.training.fit import fit
from greenrfm.training.metrics import Metrics, read_metrics
from greenrfm.training.page import write_page
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Stage
from greenrfm.training.schedule import Schedule
from greenrfm.training.session import Cancelled, Session
from greenrfm.training.stages import supervised_gradients
from greenrfm.training.step import Training
from greenrfm.training.supervision import Supervision
from greenrfm.training.validation import macro_auc, watched

ROOT = Path(__file__).resolve().parents[1]
STUDIES = 22
NAME = "stage 1 vision"
PLAN = {"epochs": 4, "batch": 4, "rate": 1e-2, "warmup": 0.2, "clip": 1.0}


def training(
    validate: Callable[[nn.Module], float | None] | None = None,
    loss: Callable[[Tensor, int], Tensor] = lambda loss, micro: loss,
    **plan: object,
) -> Training:
    """Return a small stage with all that a real one has: batch normalisation, dropout, a generator for crops."""
    torch.manual_seed(0)
    random.seed(0)
    fabric = make_fabric("32-true")
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
    stage = Stage.model_validate(PLAN | plan)
    wrapped, optimizer = fabric.setup(model, adamw([(model, stage.rate)], stage))
    data = torch.from_numpy(np.random.default_rng(1).normal(size=(STUDIES, 6)).astype(np.float32))
    crops = np.random.default_rng(2)

    def gradients(batch: Sequence[int], micro: int) -> Tensor:
        noise = torch.from_numpy(crops.normal(size=(len(batch), 6)).astype(np.float32))
        value = loss((wrapped(data[list(batch)] + 0.1 * noise + random.random()) ** 2).mean(), micro)
        fabric.backward(value)
        return value.detach()

    return Training(
        NAME, fabric, wrapped, optimizer, stage, [f"s{index}" for index in range(STUDIES)], 3, gradients,
        validate=None if validate is None else lambda: validate(model), generators={"crops": crops},
    )  # fmt: skip


def weights(stage: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in stage.model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def left_alone() -> dict[str, Tensor]:
    stage = training()
    fit(stage, Session())
    return weights(stage)


@pytest.mark.parametrize("stops", [(1,), (5,), (4, 7, 18), tuple(range(1, 20))])
def test_cancelled_at_any_steps_and_resumed_it_ends_with_the_same_weights(stops: tuple[int, ...], tmp_path: Path):
    seen: list[int] = []

    def cancel() -> bool:
        return bool(left) and seen[-1] == left[0]

    for number in range(len(stops)):
        left = stops[number:]
        session = Session(tmp_path, lambda stage, done, total, metrics=None: seen.append(done), cancel=cancel)
        with pytest.raises(Cancelled, match=f"saved after step {left[0]} of 20.*--resume"):
            fit(training(), session)
    stage = training()
    means = fit(stage, Session(tmp_path, lambda stage, done, total, metrics=None: seen.append(done)))
    assert seen == list(range(1, 21))  # every step is done once
    assert len(means) == 4
    assert same(weights(stage), left_alone())


CHILD = """
import os, sys
from pathlib import Path
import test_training_loop as loop
from greenrfm.training.metrics import Metrics
from greenrfm.training.session import Session

folder, death = Path(sys.argv[1]), int(sys.argv[2])

def step(stage, done, total, metrics=None):
    if done == death:
        os.kill(os.getpid(), 9)

loop.fit(loop.training(), Session(folder, step, Metrics(folder), metrics_steps=1, checkpoint_steps=3))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_at_a_random_step_and_resumed_it_ends_with_the_same_weights(tmp_path: Path):
    path = os.pathsep.join((str(ROOT / "train"), str(ROOT / "Testing")))
    death = random.Random().randrange(4, 20)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, str(death)], env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert child.returncode == -signal.SIGKILL
    stage = training()
    fit(stage, Session(tmp_path, metrics=Metrics(tmp_path), metrics_steps=1, checkpoint_steps=3))
    assert same(weights(stage), left_alone()), f"killed at {death}"
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 21))  # none lost, none twice
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3, 4]


def test_only_the_newest_checkpoints_are_kept_and_a_half_written_one_is_no_checkpoint(tmp_path: Path):
    session = Session(tmp_path, checkpoint_steps=2, keep=2)
    fit(training(), session)
    folder = session.checkpoints(NAME)
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000000016.pt", "step-000000018.pt"]
    (folder / ".77.step-000000019.pt").write_bytes(b"half")
    stage = training()
    fit(stage, session)
    assert same(weights(stage), left_alone())
    assert not (folder / ".77.step-000000019.pt").exists()


def test_a_damaged_checkpoint_is_named_and_not_skipped(tmp_path: Path):
    session = Session(tmp_path, checkpoint_steps=5)
    fit(training(), session)
    newest = max(session.checkpoints(NAME).iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"{newest.name} is damaged.*remove it"):
        fit(training(), session)


def test_ctrl_c_ends_after_the_step_and_saves(tmp_path: Path):
    def press(stage: str, done: int, total: int, metrics: object = None) -> None:
        if done == 6:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(training(), Session(tmp_path, press))
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in Session(tmp_path).checkpoints(NAME).iterdir()] == ["step-000000006.pt"]
    stage = training()
    fit(stage, Session(tmp_path))
    assert same(weights(stage), left_alone())


def test_a_thread_trains_without_touching_signals(tmp_path: Path):
    done: list[list[float]] = []
    thread = threading.Thread(target=lambda: done.append(fit(training(), Session(tmp_path))))
    thread.start()
    thread.join()
    assert [len(means) for means in done] == [4]


def test_a_loss_that_is_no_number_names_the_studies():
    steps: list[int] = []

    def broken(loss: Tensor, micro: int) -> Tensor:
        steps.append(1)
        return loss * (float("nan") if len(steps) == 3 else 1.0)

    batch = Schedule(Stage.model_validate(PLAN), STUDIES, 3).order(0)[8:12]
    with pytest.raises(UserError, match=rf"not a number at step 2; no study alone .* s{batch[0]}, s{batch[1]}, "):
        fit(training(loss=broken), Session())


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_that_is_no_number_ends_the_stage_before_it_reaches_weights_or_checkpoint(tmp_path: Path, clip):
    at: list[int] = []

    def infinite(loss: Tensor, micro: int) -> Tensor:
        at.append(micro)
        # Its value is finite, its gradient is not.
        return loss + (0 * loss).sqrt() if len(at) == 6 else loss

    stage = training(loss=infinite, clip=clip)
    with pytest.raises(UserError, match=r"the gradient is not a number at step 5; no study alone .* studies s"):
        fit(stage, Session(tmp_path, checkpoint_steps=1))
    assert all(torch.isfinite(value).all() for value in weights(stage).values())
    again = training(clip=clip)
    fit(again, Session(tmp_path))
    assert all(torch.isfinite(value).all() for value in weights(again).values())


def test_a_run_that_was_out_of_memory_twice_goes_on_with_a_smaller_micro_batch(tmp_path: Path):
    def stage(micro: int, most: int) -> Training:
        def full(loss: Tensor, now: int) -> Tensor:
            if now > most:
                raise torch.OutOfMemoryError
            return loss

        made = training(loss=full)
        made.micro = micro
        return made

    with pytest.raises(UserError, match="out of memory"):
        fit(stage(4, 1), Session(tmp_path, checkpoint_steps=1))
    kept = stage(4, 2)
    with pytest.raises(Cancelled):
        fit(kept, Session(tmp_path, checkpoint_steps=1, cancel=lambda: True))
    with pytest.raises(UserError, match="with 2 studies at a time"):
        fit(stage(4, 1), Session(tmp_path))  # it was halved before
    fit(stage(1, 1), Session(tmp_path))


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path):
    with Session(tmp_path).alone(True), pytest.raises(UserError, match=r"run .* is open elsewhere"):
        fit(training(), Session(tmp_path))
    fit(training(), Session(tmp_path))


def test_a_checkpoint_of_another_precision_is_refused(tmp_path: Path):
    with pytest.raises(Cancelled):
        fit(training(), Session(tmp_path, cancel=lambda: True))
    (path,) = (tmp_path / "checkpoints" / "stage_1_vision").iterdir()
    content = torch.load(path, weights_only=True)
    torch.save(content | {"precision": "bf16-mixed"}, path)
    with pytest.raises(UserError, match="was computed in bf16-mixed and this machine computes in 32-true"):
        fit(training(), Session(tmp_path))


def test_out_of_memory_halves_once_repeats_the_batch_and_then_gives_up(tmp_path: Path, capsys):
    micros: list[int] = []

    def short(loss: Tensor, micro: int) -> Tensor:
        micros.append(micro)
        if micro > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    fit(training(loss=short, epochs=1), Session())
    assert micros == [4, 2, 2, 2, 2, 2]
    assert "out of memory at step 0 with 4 studies at a time; going on with 2" in capsys.readouterr().err

    def shorter(loss: Tensor, micro: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"with 2 studies at a time.*micro_batch"):
        fit(training(loss=shorter), Session())


def test_early_stopping_keeps_the_best_epoch_also_across_a_resume(tmp_path: Path):
    areas = [0.6, 0.8, 0.7, 0.75, 0.9]
    kept: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> float:
        assert not model.training
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return areas[len(kept) - 1]

    session = Session(tmp_path, metrics=Metrics(tmp_path), cancel=lambda: len(kept) == 2)
    with pytest.raises(Cancelled):
        fit(training(validate, epochs=9, patience=2), session)
    stage = training(validate, epochs=9, patience=2)
    assert len(fit(stage, Session(tmp_path, metrics=Metrics(tmp_path)))) == 4  # 0.7 and 0.75 brought nothing
    assert same(weights(stage), kept[1])
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "epoch"]
    assert [line["val_auc"] for line in lines] == areas[:4]


def test_micro_batches_have_the_gradients_of_the_whole_batch():
    torch.manual_seed(0)
    fabric = make_fabric("32-true")
    states = np.random.default_rng(0).choice([-2, -1, 0, 1], size=(8, 3)).astype(np.int8)
    labels = make_labels()
    volumes, model = torch.randn(8, 5), nn.Linear(5, 3)
    wrapped = fabric.setup_module(model)
    gradients = supervised_gradients(
        fabric, wrapped, lambda part: wrapped(volumes[list(part)]), Supervision(states, labels, fabric.device)
    )
    found = []
    for micro in (8, 3, 1):
        model.zero_grad()
        loss = gradients(list(range(8)), micro)
        found.append((float(loss), model.weight.grad.clone()))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-6)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-6, rtol=1e-5)


def make_labels() -> object:
    from greenrfm.training.recipe import Labels

    return Labels.model_validate({"uncertain": "mask", "not_mentioned": {"negative": 0.5}})


def test_activations_computed_twice_change_no_gradient_and_no_statistic():
    from greenrfm.networks import VisionEncoder
    from greenrfm.training.memory import checkpoint_activations

    results = []
    for twice in (False, True):
        torch.manual_seed(0)
        encoder = VisionEncoder(4, 2)
        if twice:
            checkpoint_activations(encoder)
        encoder(torch.randn(2, 1, 32, 32, 16)).sum().backward()
        results.append(({name: p.grad for name, p in encoder.named_parameters()}, encoder.state_dict()))
    assert same(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


def test_random_states_survive_a_file_without_pickled_code(tmp_path: Path):
    generators = {"crops": np.random.default_rng(5)}
    torch.save(random_states(generators), tmp_path / "states.pt")
    expected = random.random(), torch.rand(2), generators["crops"].random()
    set_random_states(torch.load(tmp_path / "states.pt", weights_only=True), generators)
    found = random.random(), torch.rand(2), generators["crops"].random()
    assert (found[0], found[2]) == (expected[0], expected[2])
    assert torch.equal(found[1], expected[1])


def test_macro_auc_counts_stated_findings_with_both_classes():
    logits = np.array([[0.1, 1, 0], [0.9, 2, 0], [0.4, 3, 0], [0.0, 4, 0]])
    states = np.array([[0, 1, 1], [1, 1, 1], [-1, 0, 1], [-2, 0, 1]], np.int8)
    assert macro_auc(logits, states) == pytest.approx((1.0 + 0.0) / 2)
    assert macro_auc(logits[:, 2:], states[:, 2:]) is None


def test_a_curve_is_measured_on_a_part_and_early_stopping_on_all():
    plan = Stage.model_validate(PLAN)
    chosen = watched(240, 1120, plan)
    assert (len(chosen), len(set(chosen)), chosen[0], chosen[-1]) == (56, 56, 0, 239)
    assert watched(240, 1120, plan.model_copy(update={"patience": 2})) == list(range(240))
    assert watched(12, 60, plan) == list(range(12))


class TestWhatIsTold:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        areas = iter((0.5, 0.6, 0.7, 0.8))
        session = Session(tmp_path, metrics=Metrics(tmp_path), metrics_steps=5)
        fit(training(lambda model: next(areas)), session)
        return tmp_path

    def test_a_line_has_loss_rate_speed_time_left_and_memory(self, folder: Path):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        step = next(line for line in lines if line["kind"] == "step")
        named = {"stage", "step", "epoch", "loss", "lr", "volumes_per_s", "eta_s", "rss_mb"}
        assert named - {"rss_mb"} <= step.keys()
        assert [line["val_auc"] for line in lines if line["kind"] == "epoch"] == [0.5, 0.6, 0.7, 0.8]

    def test_tensorboard_gets_the_same_numbers(self, folder: Path):
        (events,) = (folder / "tensorboard").iterdir()
        found = scalars(events.read_bytes())
        lines = read_metrics(folder / "metrics.jsonl")
        areas = [(step, round(value, 6)) for tag, step, value in found if tag == "stage_1_vision/epoch_val_auc"]
        assert areas == [(line["step"], line["val_auc"]) for line in lines if line["kind"] == "epoch"]

    def test_the_page_is_one_file_with_curves(self, folder: Path):
        (folder / "environment.json").write_text(json.dumps({"cores": 2, "gpu": None, "software": {"torch": "2"}}))
        (folder / "recipe.yaml").write_text("name: tiny\ndescription: <b>not bold</b>\n")
        write_page(folder, "tiny")
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert page.count("<svg") == 1
        assert "0.800" in page
        assert "<b>" not in page
        assert "src=" not in page
        assert 'href="http' not in page


def scalars(data: bytes) -> list[tuple[str, int, float]]:
    """Return (tag, step, value) of the records of an event file: length, its checksum, an Event, its checksum."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found

"""Gradient replay: a batch in chunks has the gradients of the batch at once."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from greenrfm.networks import VisionEncoder
from greenrfm.training import align
from greenrfm.training.losses import contrastive, masked_bce
from greenrfm.training.replay import even_slices, replayed
from greenrfm.training.session import Session
from small_alignment import small_bert, small_recipe, small_set, small_stage1

STUDIES, SIDE, WORDS, LATENT, FINDINGS = 7, 16, 12, 10, 3


pytestmark = pytest.mark.usefixtures("one_thread")


class Pair(nn.Module):
    """A ResNet with batch normalisation and a text side with dropout: all that a replay must not disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = nn.Sequential(VisionEncoder(4, 4), nn.Dropout(0.2), nn.Linear(32, LATENT, bias=False))
        self.text = nn.Sequential(nn.Linear(WORDS, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, LATENT))
        self.classifier = nn.Linear(LATENT, FINDINGS)

    def forward(self, volumes, words):
        seen, read = self.vision(volumes), self.text(words)
        return seen, read, self.classifier(seen), self.classifier(read)


def inputs(dtype):
    torch.manual_seed(0)
    model = Pair().to(dtype).train()
    volumes, words = torch.randn(STUDIES, 1, SIDE, SIDE, SIDE, dtype=dtype), torch.randn(STUDIES, WORDS, dtype=dtype)
    targets = (torch.rand(STUDIES, FINDINGS, dtype=dtype) < 0.4).to(dtype)
    weights = (torch.rand(STUDIES, FINDINGS, dtype=dtype) < 0.7).to(dtype)

    def loss_of(seen, read, seen_logits, read_logits):
        bce = masked_bce(seen_logits, targets, weights) + masked_bce(read_logits, targets, weights)
        return contrastive(seen, read) + bce / 2

    return model, [(volumes[rows], words[rows]) for rows in even_slices(STUDIES, 3)], loss_of


def at_once(model, chunks):
    """Return the same outputs with every activation kept: each chunk with its own batch statistics."""
    return tuple(torch.cat(column) for column in zip(*(model(*chunk) for chunk in chunks), strict=True))


def replay(model, chunks, **more):
    return replayed(lambda chunk: model(*chunk), chunks, model, **more)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gradients_statistics_and_random_states_are_those_of_the_batch_at_once(dtype, tolerance):
    model, chunks, loss_of = inputs(dtype)
    twin = deepcopy(model)
    torch.manual_seed(5)
    expected = loss_of(*at_once(model, chunks))
    expected.backward()
    state = torch.get_rng_state()
    torch.manual_seed(5)
    loss = loss_of(*replay(twin, chunks))
    loss.backward()
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(loss, expected, rtol=0, atol=tolerance)
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert float((one.grad - other.grad).abs().max()) <= tolerance * max(1.0, float(one.grad.abs().max())), name
    for (name, one), other in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_running_statistics_advance_once_a_chunk_not_twice():
    model, chunks, loss_of = inputs(torch.float32)
    loss_of(*replay(model, chunks)).backward()
    counted = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counted == {len(chunks)}


def test_nothing_advances_before_the_backward_pass():
    model, chunks, _ = inputs(torch.float32)
    before = [buffer.clone() for buffer in model.buffers()]
    replay(model, chunks)
    assert all(torch.equal(one, other) for one, other in zip(before, model.buffers(), strict=True))


def test_a_training_of_two_steps_ends_where_the_one_at_once_does():
    model, chunks, loss_of = inputs(torch.float64)
    twin = deepcopy(model)
    for network, outputs_of in ((model, at_once), (twin, replay)):
        torch.manual_seed(6)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
        for _ in range(2):  # more, and rounding grows: so small a batch normalisation is ill-conditioned
            optimizer.zero_grad()
            loss_of(*outputs_of(network, chunks)).backward()
            optimizer.step()
    for one, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_going_forward_keeps_no_activation():
    model, chunks, _ = inputs(torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda packed: packed):
        replay(model, chunks)
    assert kept == []


def test_going_backward_keeps_those_of_one_chunk():
    model, chunks, loss_of = inputs(torch.float32)
    alive, most = [0], [0]

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor
            alive[0] += tensor.numel()
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= self.tensor.numel()

    def peak(outputs_of, parts):
        alive[0] = most[0] = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            loss = loss_of(*outputs_of(model, parts))
            loss.backward()
        return most[0]

    assert peak(replay, chunks) < 0.5 * peak(at_once, chunks)


def test_a_frozen_side_needs_no_gradient():
    model, chunks, loss_of = inputs(torch.float64)
    model.text.requires_grad_(False)
    twin = deepcopy(model)
    torch.manual_seed(7)
    loss_of(*at_once(model, chunks)).backward()
    torch.manual_seed(7)
    loss_of(*replay(twin, chunks)).backward()
    assert all(parameter.grad is None for parameter in twin.text.parameters())
    for one, other in zip(model.vision.parameters(), twin.vision.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_gradients_scaled_for_float16_are_scaled_once():
    model, chunks, loss_of = inputs(torch.float64)
    twin = deepcopy(model)
    for network, scale in ((model, 1.0), (twin, 1024.0)):
        torch.manual_seed(8)
        (scale * loss_of(*replay(network, chunks))).backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(1024 * one.grad, other.grad)


def test_processes_add_up_after_the_last_chunk_only():
    model, chunks, loss_of = inputs(torch.float32)
    asked = []
    loss_of(*replay(model, chunks, sync=lambda last: nullcontext(asked.append(last)))).backward()
    assert asked == [False] * (len(chunks) - 1) + [True]


def test_an_error_in_a_chunk_leaves_the_model_tracking():
    model, chunks, _ = inputs(torch.float32)
    with pytest.raises(RuntimeError):
        replay(model, [*chunks, (chunks[0][0], torch.zeros(1, 1))])
    assert all(module.track_running_stats for module in model.modules() if hasattr(module, "track_running_stats"))


@pytest.mark.parametrize(
    ("count", "most", "sizes"), [(10, None, [10]), (10, 4, [3, 3, 4]), (8, 4, [4, 4]), (3, 8, [3]), (5, 1, [1] * 5)]
)
def test_slices_are_as_equal_as_can_be(count, most, sizes):
    slices = even_slices(count, most)
    assert [part.stop - part.start for part in slices] == sizes
    assert [index for part in slices for index in range(count)[part]] == list(range(count))


class TestStage2:
    @pytest.fixture(scope="class")
    @staticmethod
    def bert(tmp_path_factory):
        return small_bert(tmp_path_factory.mktemp("bert"))

    def captured(self, monkeypatch, bert, folder, train, **stage2):
        """Return loss and gradients of the first batch of stage 2, in training or with statistics and dropout off."""
        recipe = small_recipe(bert, **stage2)
        kept = {}

        def one_batch(training, session):
            training.model.train(train)
            kept["loss"] = training.gradients(range(8), training.micro or 8)
            parameters = training.model.named_parameters()
            kept["gradients"] = {name.partition("module.model.")[2]: value.grad for name, value in parameters}
            kept["notes"] = dict(training.notes)

        monkeypatch.setattr(align, "fit", one_batch)
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        files = small_stage1(recipe, folder)
        align.train_alignment(fabric, recipe, small_set(recipe), *files, seed=0, session=Session())
        return kept

    def test_micro_batches_leave_loss_and_gradients_as_they_are(self, monkeypatch, bert, tmp_path):
        whole = self.captured(monkeypatch, bert, tmp_path, train=False)
        parts = self.captured(monkeypatch, bert, tmp_path, train=False, micro_batch=3)
        torch.testing.assert_close(parts["loss"], whole["loss"], rtol=0, atol=1e-5)
        assert sum(value is not None for value in whole["gradients"].values()) > 40
        for name, value in whole["gradients"].items():
            torch.testing.assert_close(parts["gradients"][name], value, rtol=1e-4, atol=1e-5, msg=name)

    def test_frozen_reports_go_through_in_chunks_too(self, monkeypatch, bert, tmp_path):
        whole = self.captured(monkeypatch, bert, tmp_path, train=False, freeze_text=True)
        parts = self.captured(monkeypatch, bert, tmp_path, train=False, freeze_text=True, micro_batch=2)
        torch.testing.assert_close(parts["loss"], whole["loss"], rtol=0, atol=1e-5)
        assert whole["gradients"]["text.bert.embeddings.word_embeddings.weight"] is None

    def test_latent_norms_are_reported(self, monkeypatch, bert, tmp_path):
        notes = self.captured(monkeypatch, bert, tmp_path, train=True)["notes"]
        assert set(notes) == {"norm_volumes", "norm_reports"}
        assert all(value > 0 for value in notes.values())

    def test_without_the_shared_classifier_only_the_contrastive_loss_is_left(self, monkeypatch, bert, tmp_path):
        alone = self.captured(monkeypatch, bert, tmp_path, train=False, shared_classifier=False)
        both = self.captured(monkeypatch, bert, tmp_path, train=False)
        assert alone["loss"] < both["loss"]
        assert alone["gradients"]["classifier.weight"] is None

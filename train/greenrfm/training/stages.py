"""Stage 1: vision and text, each on the labels with a head of its own (METHOD.md, "Training")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.networks import Supervised
from greenrfm.training.batches import TrainingSet, adamw, augmented, channels_last, seed_all
from greenrfm.training.distributed import check_batch, own_share, shareable
from greenrfm.training.encoders import text_encoder, vision_encoder
from greenrfm.training.fit import fit
from greenrfm.training.initial import begin_text, begin_vision, freeze
from greenrfm.training.memory import checkpoint_activations
from greenrfm.training.recipe import Recipe, Stage
from greenrfm.training.replay import even_slices
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.step import Gradients, Training
from greenrfm.training.supervision import Supervision
from greenrfm.training.validation import AtATime, at_a_time, fields_of, macro_auc, watched

VISION, TEXT = "stage 1 vision", "stage 1 text"


def train_vision(
    fabric: Fabric,
    recipe: Recipe,
    data: TrainingSet,
    seed: int,
    session: Session,
    validation: TrainingSet | None = None,
) -> Supervised:
    """Stage 1, vision: the 3D ResNet with its own head, BCE on the labels.

    With `validation` the AUC on its `watched` studies is measured after each epoch, on the whole padded fields, which
    is what a reader sees.
    """
    seed_all(seed)
    plan = recipe.stage1_vision
    check_batch(min(plan.batch, len(data.studies)), fabric, VISION)
    encoder = begin_vision(vision_encoder(recipe), recipe)
    model = Supervised(encoder, data.states.shape[1])
    model = shareable(model, fabric)
    freeze(model, plan.freeze, "stage1_vision")
    if plan.checkpointing:
        checkpoint_activations(encoder)
    wrapped, optimizer = fabric.setup(channels_last(model), adamw(_parts(model, plan), plan))
    rng = np.random.default_rng((seed + 1, fabric.global_rank))
    torch.manual_seed(seed + fabric.global_rank)

    def drawn(studies: Sequence[int]) -> Tensor:
        return fabric.to_device(augmented(data.crops, studies, recipe.augmentation, rng, recipe.augmentation.mirror))

    def logits(studies: Sequence[int]) -> Tensor:
        found: Tensor = wrapped(drawn(studies)).float()
        return found

    def by_itself(volumes: Tensor) -> Tensor:
        # Not `wrapped`: under DDP its forward waits for the other processes.
        with fabric.autocast():
            found: Tensor = model(volumes)
        return found.float()

    def fields(studies: Sequence[int]) -> Tensor:
        assert validation is not None
        return by_itself(fabric.to_device(fields_of(validation.crops, studies)))

    supervision = Supervision(data.states, recipe.labels, fabric.device)

    def alone(batch: Sequence[int], micro: int) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        for part in shares(batch, micro, fabric):
            for study, volume in zip(part, drawn(part), strict=True):
                one = by_itself(volume[None])
                yield study, {"volume": volume, "logits": one, "loss": supervision.bce(one, [study])}

    training = Training(
        VISION, fabric, wrapped, optimizer, plan, data.studies, seed + 2,
        gradients=supervised_gradients(fabric, wrapped, logits, supervision),
        alone=alone,
        validate=_validate(fields, validation, len(data.studies), plan),
        generators={"crops": rng},
        micro=plan.micro_batch,
    )  # fmt: skip
    fit(training, session)
    return model


def train_text(
    fabric: Fabric,
    recipe: Recipe,
    data: TrainingSet,
    seed: int,
    session: Session,
    validation: TrainingSet | None = None,
) -> Supervised:
    """Stage 1, text: the BERT with its own head, BCE on the labels; arguments as of `train_vision`."""
    seed_all(seed)
    plan = recipe.text_plan
    check_batch(min(plan.batch, len(data.studies)), fabric, TEXT)
    encoder = begin_text(text_encoder(recipe), recipe)
    model = shareable(Supervised(encoder, data.states.shape[1]), fabric)
    freeze(model, plan.freeze, "stage1_text")
    wrapped, optimizer = fabric.setup(model, adamw(_parts(model, plan), plan))
    data.reports.remember(encoder, fabric, session.progress)
    torch.manual_seed(seed + fabric.global_rank)  # dropout of its own in every process

    def logits(studies: Sequence[int]) -> Tensor:
        # The head is linear, so the mean of the chunks' logits is the logit of their mean latent.
        return data.reports.pooled(wrapped, studies, fabric)

    def by_itself(reports: Reports, studies: Sequence[int]) -> Tensor:
        with fabric.autocast():
            return reports.pooled(model, studies, fabric).float()

    def read(studies: Sequence[int]) -> Tensor:
        assert validation is not None
        return by_itself(validation.reports, studies)

    supervision = Supervision(data.states, recipe.labels, fabric.device)

    def alone(batch: Sequence[int], micro: int) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        for study in own_share(batch, fabric):
            one = by_itself(data.reports, [study])
            yield study, {"logits": one, "loss": supervision.bce(one, [study])}

    training = Training(
        TEXT, fabric, wrapped, optimizer, plan, data.studies, seed + 2,
        gradients=supervised_gradients(fabric, wrapped, logits, supervision),
        alone=alone,
        validate=_validate(read, validation and validation.with_reports(), len(data.studies), plan),
        micro=plan.micro_batch,
    )  # fmt: skip
    fit(training, session)
    return model


def supervised_gradients(
    fabric: Fabric, wrapped: nn.Module, logits: Callable[[Sequence[int]], Tensor], supervision: Supervision
) -> Gradients:
    """Return what `Training.gradients` asks for: the masked BCE of a batch, whatever the parts it is computed in.

    Each part's mean is weighed by its share of the batch's valid entries, so that the parts add up to the loss of
    the whole batch; only batch normalisation sees the parts.
    """

    def gradients(batch: Sequence[int], micro: int) -> Tensor:
        entries = supervision.of(batch)[1].sum().clamp(min=1e-6)
        parts = shares(batch, micro, fabric)
        loss = torch.zeros((), device=fabric.device)
        for number, part in enumerate(parts, 1):
            with fabric.no_backward_sync(wrapped, enabled=number < len(parts)):  # type: ignore[arg-type]
                one = supervision.bce(logits(part), part) * (supervision.of(part)[1].sum() / entries)
                fabric.backward(one * fabric.world_size)  # which DDP's mean over the processes takes back
            loss += one.detach()
        summed = fabric.all_reduce(loss, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    return gradients


def shares(batch: Sequence[int], micro: int, fabric: Fabric) -> list[Sequence[int]]:
    """Return this process's studies of a batch in the parts that are computed at a time, in order."""
    own = own_share(batch, fabric)
    return [own[rows] for rows in even_slices(len(own), micro)]


def _validate(
    encode: Callable[[Sequence[int]], Tensor], validation: TrainingSet | None, training: int, plan: Stage
) -> Callable[[], float | None] | None:
    if validation is None:
        return None
    chosen, states = watched(len(validation.studies), training, plan), validation.states
    at_once = AtATime(at_a_time(plan))
    return lambda: macro_auc(at_once.logits(encode, chosen), states[chosen])


def _parts(model: Supervised, plan: Stage) -> list[tuple[nn.Module, float]]:
    return [(model.encoder, plan.encoder_rate or plan.rate), (model.head, plan.rate)]

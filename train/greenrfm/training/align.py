"""Stage 2: both encoders aligned, from stage 1 (METHOD.md, "Training")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.networks import DualEncoder, PlaneEncoders, Supervised, TextEncoder, VisionEncoder
from greenrfm.progress import Progress
from greenrfm.training.batches import TrainingSet, adamw, augmented, channels_last, seed_all
from greenrfm.training.distributed import check_batch, gathered, own_share, shareable
from greenrfm.training.encoders import load_stage, text_encoder, vision_encoder
from greenrfm.training.fit import fit
from greenrfm.training.initial import freeze
from greenrfm.training.losses import contrastive, latent_norm, soft_targets
from greenrfm.training.memory import checkpoint_activations
from greenrfm.training.recipe import Alignment, Recipe
from greenrfm.training.replay import even_slices, replayed
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.step import Training
from greenrfm.training.supervision import Supervision

NAME = "stage 2 align"
Chunk = tuple[Tensor, Sequence[int]]


class Aligned(nn.Module):
    """Volumes and reports to latents and logits in one forward: what DDP watches and replay repeats.

    `encoded` are the frozen text encoder's [CLS] latents of all reports, if they are known.
    """

    def __init__(self, model: DualEncoder, reports: Reports, fabric: Fabric, encoded: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        # Neither modules nor buffers: nothing of theirs is saved or sent between processes.
        self._reports, self._fabric, self._encoded = reports, fabric, encoded

    def forward(self, volumes: Tensor, batch: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return latents (N, 768) and logits (N, C) of volumes, then of the same studies' reports."""
        # Only the encoders compute in fewer bits.
        with torch.autocast(volumes.device.type, enabled=False):
            with self._fabric.autocast():
                seen = self.model.encode_volumes(volumes)
            seen = seen.float()
            if self._encoded is None:
                read = self._reports.pooled(self._encode_texts, batch, self._fabric)
            else:
                read = self.model.text_projection(self._encoded[list(batch)])
            return seen, self.model.classifier(seen), read, self.model.classifier(read)

    def _encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        with self._fabric.autocast():
            return self.model.encode_texts(input_ids, attention_mask)


def train_alignment(
    fabric: Fabric,
    recipe: Recipe,
    data: TrainingSet,
    vision: Path,
    text: Path,
    seed: int,
    session: Session,
    validate: Callable[[DualEncoder], float | None] | None = None,
) -> DualEncoder:
    """Stage 2: contrastive on raw dot products + (BCE of both latents through the shared classifier) / 2.

    `vision` and `text` are the files of stage 1; both are required and must fit exactly (fault 1 of the
    public code: its stage 2 never loads them). `validate` returns the AUC of the model as it is.
    """
    seed_all(seed)
    plan = recipe.alignment_plan
    check_batch(min(plan.batch, len(data.studies)), fabric, NAME)
    model = shareable(_from_stage1(recipe, data.states.shape[1], vision, text), fabric)
    freeze(model, plan.freeze, "stage2")
    if plan.freeze_text:
        model.text.requires_grad_(False)
    if not plan.shared_classifier:
        model.classifier.requires_grad_(False)
    if plan.checkpointing:
        checkpoint_activations(model.vision)
    slow = plan.encoder_rate or plan.rate
    heads = nn.ModuleList([model.vision_projection, model.text_projection, model.classifier])
    optimizer = adamw([(model.vision, slow), (model.text, slow), (heads, plan.rate)], plan)
    fabric.to_device(channels_last(model))
    data.reports.remember(model.text, fabric, session.progress)
    encoded = _encode_once(model.text, data.reports, fabric, session.progress) if plan.freeze_text else None
    aligned = Aligned(model, data.reports, fabric, encoded)
    wrapped, optimizer = fabric.setup(aligned, optimizer)
    supervision = Supervision(data.states, recipe.labels, fabric.device)
    rng = np.random.default_rng((seed + 1, fabric.global_rank))
    torch.manual_seed(seed + fabric.global_rank)  # every process has its own dropout
    notes: dict[str, float] = {}

    def encode(chunk: Chunk) -> tuple[Tensor, ...]:
        volumes, studies = chunk
        outputs: tuple[Tensor, ...] = wrapped(fabric.to_device(volumes), studies)
        return outputs

    def sync(last: bool) -> AbstractContextManager[None]:
        return fabric.no_backward_sync(wrapped, enabled=not last)

    def gradients(batch: Sequence[int], micro: int) -> Tensor:
        own = own_share(batch, fabric)
        volumes = augmented(data.crops, own, recipe.augmentation, rng)
        chunks = [(volumes[rows], own[rows]) for rows in even_slices(len(own), micro)]
        outputs = encode(chunks[0]) if len(chunks) == 1 else replayed(encode, chunks, model, sync)
        seen, seen_logits, read, read_logits = (gathered(each, fabric) for each in outputs)
        notes.update(norm_volumes=latent_norm(seen), norm_reports=latent_norm(read))
        loss = alignment_loss((seen, read), (seen_logits, read_logits), batch, supervision, plan)
        fabric.backward(loss)
        return loss.detach()

    def alone(batch: Sequence[int], micro: int) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        own = own_share(batch, fabric)
        volumes = fabric.to_device(augmented(data.crops, own, recipe.augmentation, rng))
        for study, volume in zip(own, volumes, strict=True):
            seen, seen_logits, read, read_logits = aligned(volume[None], [study])
            # Of one study the contrastive loss is 0, and not a number where its product is too large.
            loss = alignment_loss((seen, read), (seen_logits, read_logits), [study], supervision, plan)
            yield study, {"volume": volume, "volume's latent": seen, "report's latent": read, "loss": loss}

    training = Training(
        name=NAME,
        fabric=fabric,
        model=wrapped,
        optimizer=optimizer,
        plan=plan,
        studies=data.studies,
        seed=seed + 2,
        gradients=gradients,
        alone=alone,
        validate=None if validate is None else partial(validate, model),
        generators={"crops": rng},
        micro=plan.micro_batch,
        notes=notes,
    )
    fit(training, session)
    return model


def alignment_loss(
    latents: tuple[Tensor, Tensor],
    logits: tuple[Tensor, Tensor],
    batch: Sequence[int],
    supervision: Supervision,
    plan: Alignment,
) -> Tensor:
    """Return contrastive + (BCE_image + BCE_text) / 2 of a batch's latents (N, 768) and logits (N, C).

    Both are of the volumes, then of the reports; the logits come from the shared classifier.
    """
    likeness = soft_targets(*supervision.of(batch), plan.soft_targets) if plan.soft_targets else None
    loss = contrastive(*latents, likeness, plan.normalise)
    if not plan.shared_classifier:
        return loss
    return loss + (supervision.bce(logits[0], batch) + supervision.bce(logits[1], batch)) / 2


def _from_stage1(recipe: Recipe, findings: int, vision: Path, text: Path) -> DualEncoder:
    """Return the aligned model with the encoders of stage 1, its projections and classifier new."""
    stage1_vision = load_stage(Supervised(vision_encoder(recipe), findings), vision)
    stage1_text = load_stage(Supervised(text_encoder(recipe, pretrained=False), findings), text)
    assert isinstance(stage1_vision.encoder, VisionEncoder | PlaneEncoders)
    assert isinstance(stage1_text.encoder, TextEncoder)
    return DualEncoder(stage1_vision.encoder, stage1_text.encoder, findings)


def _encode_once(text: TextEncoder, reports: Reports, fabric: Fabric, progress: Progress) -> Tensor:
    """Return the frozen encoder's [CLS] of every report (N, channels), without dropout."""
    text.eval()
    rows = []
    with torch.no_grad(), fabric.autocast():
        for start in range(0, len(reports), 16):
            batch = range(start, min(start + 16, len(reports)))
            rows.append(reports.pooled(text, batch, fabric).float())
            progress("encode reports", batch.stop, len(reports))
    return torch.cat(rows)

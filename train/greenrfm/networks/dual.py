"""Vision and text in one space, both supervised by one classifier (METHOD.md, "Networks")."""

from __future__ import annotations

from torch import Tensor, nn

from greenrfm.networks.planes import PlaneEncoders
from greenrfm.networks.text import TextEncoder
from greenrfm.networks.vision import VisionEncoder, densified, pool

LATENT = 768


class Supervised(nn.Module):
    """An encoder with its own classification head: stage 1, "semantic-enforcing" pre-training."""

    def __init__(self, encoder: VisionEncoder | PlaneEncoders | TextEncoder, findings: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.channels, findings)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits (N, findings)."""
        logits: Tensor = self.head(self.encoder(*inputs))
        return logits


class DualEncoder(nn.Module):
    """Stage 2: projections without bias into one 768-d space, and one shared classifier over both latents."""

    def __init__(self, vision: VisionEncoder | PlaneEncoders, text: TextEncoder, findings: int) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.vision_projection = nn.Linear(vision.channels, LATENT, bias=False)
        self.text_projection = nn.Linear(text.channels, LATENT, bias=False)
        self.classifier = nn.Linear(LATENT, findings)

    def encode_volumes(self, volume: Tensor) -> Tensor:
        """Return latents (N, 768) of volumes (N, inputs, H, W, D)."""
        latent: Tensor = self.vision_projection(self.vision(volume))
        return latent

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return latents (N, 768) of token ids and mask (N, T)."""
        latent: Tensor = self.text_projection(self.text(input_ids, attention_mask))
        return latent


class VisionAlone(nn.Module):
    """Stage 1 vision as the whole model, for a cohort without reports; it shares that stage's modules.

    There is no second space to project into: the latent is the pooled features themselves.
    """

    def __init__(self, stage1: Supervised) -> None:
        super().__init__()
        assert isinstance(stage1.encoder, VisionEncoder | PlaneEncoders)
        self.vision = stage1.encoder
        self.vision_projection = nn.Identity()
        self.classifier = stage1.head

    def encode_volumes(self, volume: Tensor) -> Tensor:
        """Return latents (N, 8·width) of volumes (N, inputs, H, W, D)."""
        latent: Tensor = self.vision(volume)
        return latent


class VisionExport(nn.Module):
    """What vision.onnx computes: volume (N, inputs, H, W, D) → latent (N, L) and feature map (N, F, h, w, d).

    L is 768, or F for vision alone. Of a model of several planes this is one of them: because the projection is linear
    and without bias, the mean of the planes' latents is the latent of the mean of their features.

    `dilated` gives a map with cells half as large; the latent is the same, for it pools every second cell, which
    are the cells of the strided network.
    """

    def __init__(self, model: DualEncoder | VisionAlone, dilated: bool = False, plane: str = "") -> None:
        super().__init__()
        self.step = 2 if dilated else 1
        encoder = model.vision.by_plane[plane]
        self.vision = densified(encoder) if dilated else encoder
        self.projection = model.vision_projection

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Return latent and feature map; a linear head's heat map averages to its logit, over the pooled cells."""
        features, step = self.vision.features(volume), self.step
        return self.projection(pool(features[:, :, ::step, ::step, ::step])), features


class TextExport(nn.Module):
    """What text.onnx computes: ids and mask (N, T) → latent (N, 768)."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the latent."""
        return self.model.encode_texts(input_ids, attention_mask)

"""MR: one vision encoder per plane, with the sequences as channels (METHOD.md, "Networks")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from greenrfm.networks.vision import VisionEncoder


class PlaneEncoders(nn.Module):
    """A 3D ResNet-18 per plane; the features of a study are the mean over the planes that it has.

    A study comes as (N, planes · sequences, H, W, D), plane by plane. A sequence that was not taken is zero in every
    voxel, and so is each sequence of a plane that was not: such a plane has no part in the mean, nor in the batch
    statistics of its network.
    """

    def __init__(
        self, planes: Sequence[str], sequences: int, width: int = 64, stem: int | tuple[int, int, int] = (2, 2, 1)
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({plane: VisionEncoder(width, stem, sequences) for plane in planes})
        self.inputs = len(planes) * sequences
        self.channels = 8 * width
        self.stride = self.by_plane[planes[0]].stride

    @property
    def by_plane(self) -> dict[str, VisionEncoder]:
        """Return the encoder of each plane, in the order of the channels."""
        return {plane: encoder for plane, encoder in self.encoders.items() if isinstance(encoder, VisionEncoder)}

    def forward(self, volume: Tensor) -> Tensor:
        """Return features (N, 8·width) of studies (N, planes · sequences, H, W, D)."""
        planes = volume.unflatten(1, (len(self.encoders), -1))  # (N, planes, sequences, H, W, D)
        taken = planes.detach().any(dim=(2, 3, 4, 5))
        summed = torch.zeros(len(volume), self.channels, device=volume.device)
        for number, encoder in enumerate(self.by_plane.values()):
            # Also for no rows at all: every process of several must meet every weight, with a gradient of zero.
            rows = taken[:, number].nonzero()[:, 0]
            chosen = planes[rows, number].contiguous(memory_format=torch.channels_last_3d)
            summed = summed.index_add(0, rows, encoder(chosen).float())
        mean: Tensor = summed / taken.sum(1, keepdim=True).clamp(min=1)
        return mean

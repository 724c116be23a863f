"""The vision encoder: a 3D ResNet-18 in the `r3d_18` topology (METHOD.md, "Networks")."""

from __future__ import annotations

import copy

import torch
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn


class VisionEncoder(nn.Module):
    """3D ResNet-18 with a strided stem and no pooling until the end.

    MONAI's ResNet with a downsampling convolution without bias, no max-pool, and a stem whose kernel
    equals its stride. At width 64 it has 33,138,560 parameters with stem 2 and 33,142,144 with stem 4.

    Parameters
    ----------
    width
        Channels of the first stage; 64 in the paper. The last stage has `8 * width`.
    stem
        Kernel and stride of the first convolution along (H, W, D); 2 performant, 4 lightweight.
    inputs
        Channels of the volume: 1, or the sequences of an MR plane.
    """

    def __init__(self, width: int = 64, stem: int | tuple[int, int, int] = 2, inputs: int = 1) -> None:
        super().__init__()
        stem = (stem, stem, stem) if isinstance(stem, int) else stem
        net = ResNet(
            "basic",
            [2, 2, 2, 2],
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=3,
            n_input_channels=inputs,
            no_max_pool=True,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        # As MONAI builds it, the stem pads by k // 2; the paper's has kernel = stride and no padding.
        net.conv1 = nn.Conv3d(inputs, width, stem, stem, bias=False)
        self.net = net
        self.inputs = inputs
        self.channels = 8 * width
        self.stride: tuple[int, ...] = (8 * stem[0], 8 * stem[1], 8 * stem[2])

    def features(self, volume: Tensor) -> Tensor:
        """Return features (N, 8·width, h, w, d) of volumes (N, inputs, H, W, D); one cell spans `stride` voxels."""
        net = self.net
        x: Tensor = net.act(net.bn1(net.conv1(volume)))
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = _through(layer, x)
        return x

    def forward(self, volume: Tensor) -> Tensor:
        """Return the average-pooled latent (N, 8·width) of volumes (N, inputs, H, W, D)."""
        return pool(self.features(volume))

    @property
    def by_plane(self) -> dict[str, VisionEncoder]:
        """Return itself: one volume in any plane."""
        return {"": self}


def _through(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the stage's map, computed in float32 where a CPU's bfloat16 gradients cannot be trusted.

    oneDNN gives weight gradients of a 3 × 3 × 3 convolution that are wrong by up to infinity where the first
    extent of the map is 2 (torch 2.13, AVX-512): the stages that see or make such maps. They are small.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and x.shape[2] <= 4:
        with torch.autocast("cpu", enabled=False):
            small: Tensor = layer(x.float())
        return small
    features: Tensor = layer(x)
    return features


def densified(encoder: VisionEncoder) -> VisionEncoder:
    """Return a copy whose last stage has no stride and dilated convolutions instead: cells half as large.

    The weights are the same, and every second cell along each axis is a cell of the original; those between
    are what the original would give for the volume moved by half a cell.
    """
    dense = copy.deepcopy(encoder)
    # The convolution that has the stride sees the finer grid as it is; all behind it skip every second cell.
    for module in dense.net.layer4.modules():
        if isinstance(module, nn.Conv3d) and module.stride == (2, 2, 2):
            module.stride = (1, 1, 1)
        elif isinstance(module, nn.Conv3d):
            module.dilation, module.padding = (2, 2, 2), (2, 2, 2)
    dense.stride = tuple(step // 2 for step in encoder.stride)
    return dense


def pool(features: Tensor) -> Tensor:
    """Return the global average (N, F) of a feature map (N, F, h, w, d): the paper's task-aligned pooling."""
    return torch.mean(features, dim=(2, 3, 4))

"""The public GreenRFM's model in its own names and axes, small: what its checkpoints are saved from.

Written after its models/clip.py and models/mr_model.py and torchvision's video/resnet.py; no line of them is copied.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from greenrfm.networks import text_encoder_folder, tokenizer_file


def convolution(into: int, out: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(into, out, 3, stride, 1, bias=False)


class Block(nn.Module):
    """A basic block with its convolution and normalisation in Sequentials."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(convolution(into, out, stride), nn.BatchNorm3d(out), nn.ReLU())
        self.conv2 = nn.Sequential(convolution(out, out, 1), nn.BatchNorm3d(out))
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv3d(into, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        rest = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv2(self.conv1(x)) + rest)


class VideoResNet(nn.Module):
    """r3d_18 with the public code's stem, pooling and no last layer; takes (N, C, D, H, W)."""

    def __init__(self, width: int, stem: tuple[int, int, int], inputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(inputs, width, stem, stem, bias=False), nn.BatchNorm3d(width), nn.ReLU())
        for stage in range(4):
            out = width << stage
            into = out if stage == 0 else out // 2
            stride = 1 if stage == 0 else 2
            self.add_module(f"layer{stage + 1}", nn.Sequential(Block(into, out, stride), Block(out, out, 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean(dim=(2, 3, 4))


class MultiPlaneNet(nn.Module):
    """A network per plane, whose features are averaged."""

    def __init__(self, width: int, inputs: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleDict(
            {plane: VideoResNet(width, (1, 2, 2), inputs) for plane in ("sag", "cor", "tra")}
        )

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.stack([net(batch[plane]) for plane, net in self.backbones.items()]).mean(dim=0)


class PublicModel(nn.Module):
    """Image and text encoder, projections without bias, shared classifier, a temperature that nothing uses."""

    def __init__(self, image: nn.Module, features: int, bert: BertModel, findings: int) -> None:
        super().__init__()
        self.text_encoder = bert
        self.image_encoder = image
        self.to_text_latent = nn.Linear(bert.config.hidden_size, 768, bias=False)
        self.to_visual_latent = nn.Linear(features, 768, bias=False)
        self.classifier = nn.Linear(768, findings)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def encode_image(self, image: Tensor | dict[str, Tensor]) -> Tensor:
        return self.to_visual_latent(self.image_encoder(image))

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.to_text_latent(self.text_encoder(input_ids=ids).last_hidden_state[:, 0])


def small_bert(folder: Path) -> BertModel:
    """Save a small BERT with MiniLM's tokenizer to `folder`, without weights, and return it with random ones."""
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_file(text_encoder_folder("minilm")).read_bytes())
    return BertModel(config)


def trained(model: nn.Module) -> nn.Module:
    """Return the model with batch statistics and biases of a trained one: neither 0 nor 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return model.eval()

"""Maps of two cells: their gradients in bfloat16 on a CPU."""

from __future__ import annotations

import pytest
import torch

from greenrfm.networks import VisionEncoder


@pytest.mark.parametrize("crop", [(24, 24, 24), (28, 28, 28)])
def test_gradients_in_bfloat16_are_those_in_float32_though_the_last_map_is_two_cells_high(crop):
    torch.manual_seed(0)
    encoder = VisionEncoder(4, 2).eval()  # no batch statistics: on few values they would amplify the rounding
    volumes = torch.randn(4, 1, *crop)

    def gradients(bfloat16: bool) -> dict[str, torch.Tensor]:
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            encoder(volumes).float().square().sum().backward()
        return {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}

    exact, rounded = gradients(False), gradients(True)
    for name, gradient in exact.items():
        assert torch.nn.functional.cosine_similarity(gradient.ravel(), rounded[name].ravel(), dim=0) > 0.95, name

"""The networks: exact topology, and ONNX files that agree with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from greenrfm.bundle import FeatureGrid
from greenrfm.errors import UserError
from greenrfm.networks import DualEncoder, Supervised, TextEncoder, VisionEncoder, VisionExport, text_encoder_folder
from greenrfm.networks.vision import densified
from greenrfm.training.export import export_text, export_vision
from greenrfm.training.initial import freeze


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    torch.manual_seed(0)
    dual = DualEncoder(VisionEncoder(8, (4, 4, 4)), TextEncoder(text_encoder_folder("minilm")), 3)
    # Running statistics away from 0 and 1, as training leaves them.
    dual.train()
    dual.vision(torch.randn(4, 1, 64, 64, 64))
    return dual.eval()


@pytest.mark.parametrize("frozen", [1, 4, 5, 6])
def test_going_on_from_the_frozen_layers_gives_the_same_latent(frozen):
    encoder = TextEncoder(text_encoder_folder("minilm")).eval()
    encoder.freeze(frozen)
    ids, mask = torch.randint(1000, 20000, (3, 20)), torch.ones(3, 20, dtype=torch.long)
    mask[1, 7:] = 0
    with torch.no_grad():
        torch.testing.assert_close(encoder(encoder.lower(ids, mask), mask), encoder(ids, mask), atol=1e-5, rtol=1e-5)


def test_more_frozen_layers_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"has 6 layers and network\.text_layers_frozen is 99"):
        TextEncoder(text_encoder_folder("minilm")).freeze(99)
    with pytest.raises(UserError, match="did you mean 'minilm'"):
        text_encoder_folder("minilmm")


def test_a_frozen_last_layer_drops_nothing_in_training():
    model = Supervised(TextEncoder(text_encoder_folder("minilm")), 2).train()
    encoder = model.encoder
    encoder.freeze(4)
    ids, mask = torch.randint(1000, 20000, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    with torch.no_grad():
        states = encoder.lower(ids, mask)
        assert not torch.equal(encoder(states, mask), encoder(states, mask))
        freeze(model, ("encoder.bert.encoder.layer.4", "encoder.bert.encoder.layer.5"), "stage1_text")
        torch.testing.assert_close(encoder(states, mask), encoder(states, mask), atol=0, rtol=0)


@pytest.mark.parametrize(("stem", "parameters"), [(2, 33_138_560), (4, 33_142_144)])
def test_the_full_width_encoder_has_the_published_number_of_parameters(stem, parameters):
    assert sum(p.numel() for p in VisionEncoder(64, stem).parameters()) == parameters


def test_the_stem_is_neither_padded_nor_biased():
    stem = VisionEncoder(64, 2).net.conv1
    assert stem.kernel_size == stem.stride == (2, 2, 2)
    assert stem.padding == (0, 0, 0)
    assert stem.bias is None


def test_the_latent_is_the_mean_of_the_feature_map(model):
    latent, features = VisionExport(model)(torch.randn(2, 1, 70, 64, 48))
    expected = features.mean(dim=(2, 3, 4)) @ model.vision_projection.weight.T
    torch.testing.assert_close(latent, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(70, 64, 48), (76, 100, 66), (130, 33, 97)])
def test_a_dilated_export_has_the_latent_of_the_network_as_trained(model, shape):
    volume = torch.randn(2, 1, *shape)
    with torch.no_grad():
        latent, features = VisionExport(model, dilated=True)(volume)
        torch.testing.assert_close(latent, model.encode_volumes(volume), atol=1e-5, rtol=1e-5)
        assert features.shape[2:] == tuple(-(-(extent // 4) // 4) for extent in shape)


def test_a_dilated_last_stage_keeps_every_second_cell_as_it_was(model):
    volume = torch.randn(1, 1, 132, 100, 68)
    sparse, dense = model.vision.features(volume), densified(model.vision).features(volume)
    assert dense.shape[2:] == (9, 7, 5)
    torch.testing.assert_close(dense[:, :, ::2, ::2, ::2], sparse, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 64, 64, 64), (3, 1, 100, 52, 36), (2, 1, 33, 34, 35)])
def test_vision_onnx_agrees_with_torch_at_any_batch_and_size(vision, shape):
    session, module = vision
    volume = torch.randn(shape)
    with torch.no_grad():
        expected = module(volume)
    for got, want in zip(session.run(["latent", "features"], {"volume": volume.numpy()}), expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4)


@pytest.mark.parametrize(("texts", "tokens"), [(1, 1), (2, 40), (3, 512)])
def test_text_onnx_agrees_with_torch_at_any_batch_and_length(model, text_onnx, texts, tokens):
    ids = torch.randint(1000, 20000, (texts, tokens))
    mask = torch.ones_like(ids)
    mask[-1, tokens // 2 + 1 :] = 0
    with torch.no_grad():
        expected = model.encode_texts(ids, mask).numpy()
    (got,) = text_onnx.run(["latent"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_mean_over_tokens_leaves_out_padding_also_in_onnx_and_behind_frozen_layers(tmp_path):
    encoder = TextEncoder(text_encoder_folder("minilm"), pooling="mean").eval()
    ids, mask = torch.randint(1000, 20000, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    mask[1, 5:] = 0
    padded = ids.clone()
    padded[1, 5:] = 0
    with torch.no_grad():
        states = encoder.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = torch.stack([states[0].mean(dim=0), states[1, :5].mean(dim=0)])
        torch.testing.assert_close(encoder(ids, mask), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder(padded, mask), expected, atol=1e-5, rtol=1e-5)
        encoder.freeze(5)
        torch.testing.assert_close(encoder(encoder.lower(ids, mask), mask), expected, atol=1e-5, rtol=1e-5)
        dual = DualEncoder(VisionEncoder(4, (4, 4, 4)), encoder, 3).eval()
        export_text(dual, tmp_path / "text.onnx")
        latent = dual.encode_texts(ids, mask).numpy()
    session = ort.InferenceSession(str(tmp_path / "text.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(["latent"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    np.testing.assert_allclose(got, latent, atol=1e-4)


@pytest.mark.parametrize("stem", [(2, 2, 2), (4, 4, 4)])
def test_each_cell_of_the_feature_map_looks_at_the_place_that_the_grid_says(stem):
    torch.manual_seed(0)
    encoder = VisionEncoder(8, stem).double().eval()
    size = 12 * encoder.stride[0]
    volume = torch.randn(1, 1, size, 40, 40, dtype=torch.float64, requires_grad=True)
    cell = 6
    encoder.features(volume)[0, :, cell, 0, 0].sum().backward()
    influence = volume.grad.abs().sum(dim=(0, 1, 3, 4))
    centre = float((influence * torch.arange(size)).sum() / influence.sum())
    grid = FeatureGrid.of_stem(stem)
    assert centre == pytest.approx(grid.offset[0] + grid.stride[0] * cell, abs=0.15 * grid.stride[0])


@pytest.fixture(scope="module", params=[False, True], ids=["strided", "dilated"])
def vision(request, model, tmp_path_factory) -> tuple[ort.InferenceSession, VisionExport]:
    path: Path = tmp_path_factory.mktemp("onnx") / "vision.onnx"
    network = VisionExport(model, request.param)
    export_vision(network, path)
    return ort.InferenceSession(str(path)), network


@pytest.fixture(scope="module")
def text_onnx(model, tmp_path_factory) -> ort.InferenceSession:
    path: Path = tmp_path_factory.mktemp("onnx") / "text.onnx"
    export_text(model, path)
    return ort.InferenceSession(str(path))

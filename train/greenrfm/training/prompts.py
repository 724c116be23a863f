"""The zero-shot prompts of a finding set, encoded by a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from greenrfm.findings import FindingSet
from greenrfm.networks import DualEncoder
from greenrfm.training.encoders import encode_reports


def encode_prompts(model: DualEncoder, tokenizer: Path, findings: FindingSet, max_tokens: int) -> dict[str, Any]:
    """Return what `write_bundle` takes of the prompts: latents (pairs, findings, 768), and their sentences."""
    filled = [[pair.fill(finding.name.lower()) for finding in findings.findings] for pair in findings.prompts]
    sentences = np.array(filled, np.str_)  # (pairs, findings, 2)
    texts = [str(text) for text in sentences.ravel()]
    latents = encode_reports(model, Tokenizer.from_file(str(tokenizer)), texts, max_tokens)
    latents = latents.reshape(*sentences.shape, -1)
    return {
        "prompts_positive": latents[:, :, 0],
        "prompts_negative": latents[:, :, 1],
        "prompt_texts": {"positive": sentences[:, :, 0], "negative": sentences[:, :, 1]},
    }

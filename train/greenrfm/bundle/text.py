"""Sentences and reports to latents, with the bundle's own tokenizer and text network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle.bundle import LATENT_SIZE, Bundle
from greenrfm.bundle.tokenizer import load_tokenizer
from greenrfm.bundle.tokens import Chunk, split_texts
from greenrfm.errors import UserError

_BATCH = 16


class TextEncoder:
    """Encodes texts of any length; a text longer than the network takes goes in as chunks.

    The latents of the chunks are averaged, weighted by their numbers of tokens, so that the end of
    a long report (its impression) counts as much as its beginning (METHOD.md, the public code's
    fault 7).
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Open the tokenizer and the text network of `bundle`; raise UserError if it has none or cannot be used."""
        self._session = bundle.text(threads)
        path = bundle.unchanged("tokenizer.json")
        self._tokenizer = load_tokenizer(path)
        assert bundle.manifest.max_tokens is not None
        self._max_tokens = bundle.manifest.max_tokens
        self._path = bundle.path("text.onnx")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 latents of shape (texts, 768); an empty text is the network's answer to no words."""
        latents = np.zeros((len(texts), LATENT_SIZE), np.float32)
        weights = np.zeros(len(texts), np.float32)
        try:
            chunks = split_texts(self._tokenizer, texts, self._max_tokens)
        except Exception as error:  # tokenizers raises nothing more special
            raise UserError(
                f"{self._path.with_name('tokenizer.json')} cannot split texts into chunks of {self._max_tokens} "
                "tokens; export the bundle again"
            ) from error
        # Neighbours of equal length waste no padding.
        chunks.sort(key=lambda chunk: len(chunk.ids))
        for start in range(0, len(chunks), _BATCH):
            batch = chunks[start : start + _BATCH]
            for chunk, latent in zip(batch, self._run(batch), strict=True):
                latents[chunk.text] += chunk.weight * latent
                weights[chunk.text] += chunk.weight
        return latents / weights[:, None] if len(texts) else latents

    def _run(self, chunks: list[Chunk]) -> NDArray[np.float32]:
        width = max(len(chunk.ids) for chunk in chunks)
        ids = np.zeros((len(chunks), width), np.int64)
        mask = np.zeros((len(chunks), width), np.int64)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk.ids)] = chunk.ids
            mask[row, : len(chunk.ids)] = 1
        try:
            (latents,) = self._session.run(["latent"], {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise UserError(f"{self._path} cannot encode texts of {width} tokens; export the bundle again") from error
        return np.asarray(latents, np.float32)

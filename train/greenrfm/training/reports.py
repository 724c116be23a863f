"""Training reports as token chunks, with what the frozen layers make of them computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning_fabric import Fabric
from tokenizers import Tokenizer
from torch import Tensor, nn

from greenrfm.bundle.tokens import Chunk, split_texts
from greenrfm.networks import TextEncoder, text_encoder_folder, tokenizer_file
from greenrfm.progress import Progress
from greenrfm.training.recipe import Recipe

# Above this the states of the frozen layers are computed anew for every batch instead of being kept.
MOST_REMEMBERED_BYTES = 2 << 30


class Reports:
    """Tokenized reports; a report longer than the encoder takes is the token-weighted mean of its chunks.

    Where the recipe trains vision alone nobody reads them, and nothing is tokenized.
    """

    def __init__(self, recipe: Recipe, reports: Sequence[str]) -> None:
        self._chunks: list[list[Chunk]] = [[] for _ in reports]
        self._states: dict[Chunk, Tensor] = {}
        self.given = tuple(bool(report.strip()) for report in reports)
        if recipe.is_vision_only:
            return
        tokenizer = Tokenizer.from_file(str(tokenizer_file(text_encoder_folder(recipe.text_encoder))))
        for chunk in split_texts(tokenizer, reports, recipe.network.max_tokens):
            self._chunks[chunk.text].append(chunk)

    def __len__(self) -> int:
        """Return the number of reports."""
        return len(self._chunks)

    def remember(self, encoder: TextEncoder, fabric: Fabric, progress: Progress) -> None:
        """Keep what the encoder's frozen layers make of every chunk, so that no epoch computes it again."""
        chunks = sorted((chunk for report in self._chunks for chunk in report), key=lambda chunk: len(chunk.ids))
        states_bytes = 2 * encoder.channels * sum(len(chunk.ids) for chunk in chunks)
        if self._states or not encoder.frozen_layers or states_bytes > MOST_REMEMBERED_BYTES:
            return
        training = encoder.training
        encoder.eval()
        with torch.no_grad(), fabric.autocast():
            for start in range(0, len(chunks), 16):
                batch = chunks[start : start + 16]
                ids, mask = _padded([chunk.ids for chunk in batch])
                rows = encoder.lower(fabric.to_device(ids), fabric.to_device(mask)).cpu()
                for chunk, row in zip(batch, rows, strict=True):
                    self._states[chunk] = row[: len(chunk.ids)].to(torch.bfloat16, copy=True)
                progress("read reports", start + len(batch), len(chunks))
        encoder.train(training)

    def pooled(self, encode: Callable[..., Tensor], batch: Sequence[int], fabric: Fabric) -> Tensor:
        """Return `encode` of each report of the batch (N, …), averaged over its chunks by tokens."""
        chunks = [(row, chunk) for row, index in enumerate(batch) for chunk in self._chunks[index]]
        ids, mask = _padded([chunk.ids for _, chunk in chunks])
        inputs = ids
        if self._states:
            inputs = nn.utils.rnn.pad_sequence([self._states[chunk] for _, chunk in chunks], batch_first=True).float()
        share = torch.zeros(len(batch), len(chunks))
        for column, (row, chunk) in enumerate(chunks):
            share[row, column] = chunk.weight
        share /= share.sum(dim=1, keepdim=True)
        encoded: Tensor = encode(fabric.to_device(inputs), fabric.to_device(mask))
        return fabric.to_device(share) @ encoded.float()


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids and mask (N, T) of rows of different length."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    return ids, mask

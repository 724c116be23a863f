"""How a text of any length becomes token chunks: the same for training and for reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer


@dataclass(frozen=True)
class Chunk:
    """A piece of text number `text`: token ids with special tokens; `weight` counts those of the text itself."""

    text: int
    ids: tuple[int, ...]
    weight: int


def split_texts(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[Chunk]:
    """Return the chunks of all texts, in order, each of at most `max_tokens` tokens.

    Nothing is cut off (METHOD.md, fault 7 of the public code): a longer text becomes several chunks,
    whose latents are averaged by `weight`, so that the impression counts as much as the beginning.
    An empty text is one chunk.
    """
    # The rest of a long text comes back as `Encoding.overflowing`.
    tokenizer.enable_truncation(max_tokens, stride=0)
    tokenizer.no_padding()
    chunks = []
    for text, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        for part in (encoding, *encoding.overflowing):
            # A tokenizer without special tokens gives nothing for an empty text; a network needs one position.
            weight = max(1, len(part.ids) - sum(part.special_tokens_mask))
            chunks.append(Chunk(text, tuple(part.ids) or (0,), weight))
    return chunks

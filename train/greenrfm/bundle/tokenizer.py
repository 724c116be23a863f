"""Opening tokenizer.json: only the kinds whose work grows no faster than the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from greenrfm.bundle.limits import most_bytes
from greenrfm.bundle.strict_json import parse_json, read_bounded
from greenrfm.errors import UserError

# What BERT's and its relatives' tokenizers are made of. Others (Replace, Split, Precompiled) take a pattern or a
# replacement from the file: a forged one can take hours for a sentence, or make gigabytes of it.
_ALLOWED = {
    "model": ("WordPiece", "WordLevel", "BPE", "Unigram"),
    "normalizer": ("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Strip", "StripAccents"),
    "pre_tokenizer": ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "ByteLevel"),
    "post_processor": ("BertProcessing", "RobertaProcessing", "TemplateProcessing", "ByteLevel"),
}
_PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors"}
# [CLS] and [SEP] are two.
_MOST_SPECIAL_TOKENS = 16


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in `path`; raise UserError if it is none, or made of parts that are not allowed."""
    try:
        text = read_bounded(path, most_bytes(path.name)).decode("utf-8")
        content = parse_json(text)
        found = content if isinstance(content, dict) else {}
        unknown = [kind for part, allowed in _ALLOWED.items() for kind in _kinds(found, part) if kind not in allowed]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a tokenizer; copy or export the bundle again") from error
    if unknown:
        raise UserError(
            f"{path} is made of '{unknown[0][:40]}', which is not part of a BERT's tokenizer; export with a BERT's"
        )
    try:
        tokenizer = Tokenizer.from_str(text)
        # The file may ask for padding to any length; chunks are made without (tokens.py).
        tokenizer.no_padding()
        tokenizer.no_truncation()
        special = len(tokenizer.encode("").ids)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its Rust code is no Exception
        raise UserError(f"{path} is not a tokenizer; copy or export the bundle again") from error
    if special > _MOST_SPECIAL_TOKENS:
        raise UserError(f"{path} adds {special} tokens to every text, a BERT's adds 2; export with a BERT's tokenizer")
    return tokenizer


def _kinds(content: dict[str, Any], part: str) -> list[str]:
    """Return the types that one part of the tokenizer is made of; a sequence is made of its members."""
    kinds, waiting = [], [content.get(part)]
    while waiting:
        item = waiting.pop()
        if item is None:
            continue
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str):
            raise ValueError(f"a {part} without type")
        if kind == "Sequence" and part in _PARTS and isinstance(item.get(_PARTS[part]), list):
            waiting.extend(item[_PARTS[part]])
        else:
            kinds.append(kind)
    return kinds

"""Sentences of the panel, as greenrfm's own begin small for the command line."""

from __future__ import annotations

from slicer.i18n import tr as _

from GreenRFMLib.advice import in_viewer
from GreenRFMLib.record import Remark


def sentence_case(text: str) -> str:
    """Return the sentence with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def remark(one: Remark) -> str:
    """Return a warning with a sign and a word that say how much it weighs: no colour is needed to tell."""
    signs = {
        "overruled": "✖ {sentence}",
        "withhold": _("✖ Not fit to read: {sentence}"),
        "doubt": _("⚠ Doubt: {sentence}"),
        "note": _("Note: {sentence}"),
    }
    sentence = in_viewer(one.sentence)
    plain = one.level == "overruled"
    return signs[one.level].format(sentence=sentence_case(sentence) if plain else sentence.strip(" .") + ".")

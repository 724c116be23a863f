"""The case library: past studies of one's own department, found by the latent of an image or of a text."""

from greenrfm.library.case import Case, Comparison, Hit, compare
from greenrfm.library.library import CaseLibrary

__all__ = ["Case", "CaseLibrary", "Comparison", "Hit", "compare"]

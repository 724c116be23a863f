"""Reports to states with evidence (METHOD.md, "Distillation")."""

from greenrfm.distill.evidence import Evidence, Labeler, Labelled, Unlabelled, Usage
from greenrfm.distill.in_memory import label_reports, write_evidence
from greenrfm.distill.lexicon import LexiconLabeler

__all__ = [
    "Evidence",
    "Labeler",
    "Labelled",
    "LexiconLabeler",
    "Unlabelled",
    "Usage",
    "label_reports",
    "write_evidence",
]

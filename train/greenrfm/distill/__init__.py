"""Reports to states with evidence (METHOD.md, "Distillation")."""

from greenrfm.distill.evidence import label_reports, write_evidence
from greenrfm.distill.lexicon import Evidence, LexiconLabeler

__all__ = ["Evidence", "LexiconLabeler", "label_reports", "write_evidence"]

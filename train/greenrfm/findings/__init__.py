"""Findings, finding sets and the table of their states (METHOD.md, "Distillation")."""

from greenrfm.findings.labels import LabelTable
from greenrfm.findings.sets import Code, Finding, FindingSet, PromptPair, load_finding_set, packaged_sets
from greenrfm.findings.state import State

__all__ = [
    "Code",
    "Finding",
    "FindingSet",
    "LabelTable",
    "PromptPair",
    "State",
    "load_finding_set",
    "packaged_sets",
]

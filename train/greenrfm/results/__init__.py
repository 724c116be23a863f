"""What leaves a reading: tables, JSON, pages, DICOM SR, and the record of who read what."""

from greenrfm.results.audit import AuditLog, read_audit
from greenrfm.results.folder import ResultFolder
from greenrfm.results.priors import Prior, find_priors
from greenrfm.results.result import Result, Score
from greenrfm.results.urgency import Urgency

__all__ = ["AuditLog", "Prior", "Result", "ResultFolder", "Score", "Urgency", "find_priors", "read_audit"]

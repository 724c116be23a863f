"""The study table: import, validate, split by patient."""

from greenrfm.cohort.inputs import Inputs, image_column
from greenrfm.cohort.split import split_by_patient
from greenrfm.cohort.table import SPLITS, Cohort, Study, check_cohort, read_cohort, write_cohort

__all__ = [
    "SPLITS",
    "Cohort",
    "Inputs",
    "Study",
    "check_cohort",
    "image_column",
    "read_cohort",
    "split_by_patient",
    "write_cohort",
]

"""What is measured, always with N and an interval that resamples patients."""

from greenrfm.evaluation.classification import auroc, evaluate_classification
from greenrfm.evaluation.curves import reliability_points, roc_points
from greenrfm.evaluation.labels import compare_labels
from greenrfm.evaluation.localisation import Localisation, hit_rate, localise
from greenrfm.evaluation.report import as_text
from greenrfm.evaluation.retrieval import mean_average_precision, recall_at_k, share_label_measures
from greenrfm.evaluation.scores import ScoreTable, evaluate_scores

__all__ = [
    "Localisation",
    "ScoreTable",
    "as_text",
    "auroc",
    "compare_labels",
    "evaluate_classification",
    "evaluate_scores",
    "hit_rate",
    "localise",
    "mean_average_precision",
    "recall_at_k",
    "reliability_points",
    "roc_points",
    "share_label_measures",
]

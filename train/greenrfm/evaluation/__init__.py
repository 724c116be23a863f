"""What is measured, always with N and an interval that resamples patients."""

from greenrfm.evaluation.calibration import perfect_ece, pooled_calibration
from greenrfm.evaluation.classification import evaluate_classification
from greenrfm.evaluation.curves import precision_recall_points, reliability_points, roc_points
from greenrfm.evaluation.labels import compare_labels
from greenrfm.evaluation.localisation import Localisation, hit_rate, localise
from greenrfm.evaluation.operating import Operating, stated_thresholds, thresholds_from_validation
from greenrfm.evaluation.ranking import auroc
from greenrfm.evaluation.reconstructions import Volumes, volumes_of
from greenrfm.evaluation.report import as_text
from greenrfm.evaluation.retrieval import mean_average_precision, recall_at_k, retrieval_measures
from greenrfm.evaluation.retrieval_report import evaluate_retrieval
from greenrfm.evaluation.score_table import ScoreTable
from greenrfm.evaluation.scores import evaluate_pairs, evaluate_scores, match
from greenrfm.evaluation.similar import share_label_measures

__all__ = [
    "Localisation",
    "Operating",
    "ScoreTable",
    "Volumes",
    "as_text",
    "auroc",
    "compare_labels",
    "evaluate_classification",
    "evaluate_pairs",
    "evaluate_retrieval",
    "evaluate_scores",
    "hit_rate",
    "localise",
    "match",
    "mean_average_precision",
    "perfect_ece",
    "pooled_calibration",
    "precision_recall_points",
    "recall_at_k",
    "reliability_points",
    "retrieval_measures",
    "roc_points",
    "share_label_measures",
    "stated_thresholds",
    "thresholds_from_validation",
    "volumes_of",
]

"""Everything the demo measured, and the part of it that summary.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenrfm.commands.demo.heldout import HeatMapHits
from greenrfm.commands.demo.label_quality import LabelQuality
from greenrfm.commands.demo.verdicts import Verdict, verdicts


@dataclass(frozen=True)
class Results:
    """The results of the evaluation room on the held-out patients; `labels` is on all studies."""

    model: dict[str, Any]
    histogram: dict[str, Any]
    shuffled: dict[str, Any]
    calibration: dict[str, Any]
    retrieval: dict[str, Any]
    similar: dict[str, Any]
    heatmaps: HeatMapHits
    labels: LabelQuality

    @property
    def recall(self) -> dict[str, Any]:
        """Return the search of each held-out report for its volume."""
        return dict(self.retrieval["honest"]["text_to_image"])

    @property
    def alike(self) -> dict[str, Any] | None:
        """Return the search of each held-out volume for alike ones, None if no two patients are alike."""
        found = self.retrieval["honest"]["image_to_image"]
        return None if found is None else dict(found)

    @property
    def verdicts(self) -> list[Verdict]:
        """Return the five promises, judged."""
        return verdicts(self.model, self.recall, self.heatmaps.overall, self.histogram, self.calibration)


def summary(results: Results, facts: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """Return the content of summary.json; a number that could not be measured is None."""
    model, recall, heat = results.model["macro"], results.recall, results.heatmaps.overall
    calibration, alike = results.calibration, results.alike
    labels = results.labels
    return {
        "macro_auc": model["auroc"],
        "recall_at_5": recall["recall_at_5"],
        "chance_recall_at_5": recall["chance_recall_at_5"],
        "heatmap_hit_rate": heat and heat["hit_rate"],
        "heatmap_chance": heat and heat["chance"],
        "heatmap_chance_inner": heat and heat["chance_inner"],
        "label_macro_f1": labels.labels["macro"]["f1"],
        "seconds": facts["seconds"],
        "peak_rss_mb": facts["peak_rss_mb"],
        **{name: str(paths[name]) for name in ("bundle", "library", "scores", "truth")},
        "criteria": [{"claim": item.claim, "measured": item.measured, "met": item.met} for item in results.verdicts],
        "intervals": {
            "macro_auc": model["intervals"]["auroc"],
            "recall_at_5": recall["intervals"]["recall_at_5"],
            "ece": calibration["intervals"]["ece"],
            "perfect_ece": calibration["perfect"]["interval"],
            "image_to_image_recall_at_5": alike and alike["intervals"]["recall_at_5"],
            "heatmap_hit_rate": heat and heat["intervals"]["hit_rate"],
            "heatmap_above_chance": heat and heat["intervals"]["above_chance"],
            "label_macro_f1": labels.labels["macro"]["intervals"]["f1"],
        },
        "n_test": results.model["n"],
        "n_test_patients": results.model["patients"],
        "n_heatmaps": heat["n"] if heat else 0,
        "auc": {key: values["auroc"] for key, values in results.model["findings"].items()},
        "left_out_of_macro_auc": results.model["macro"]["left_out"],
        "histogram_macro_auc": results.histogram["macro"]["auroc"],
        "shuffled_macro_auc": results.shuffled["macro"]["auroc"],
        "recall_at_1": recall["recall_at_1"],
        "recall_at_10": recall["recall_at_10"],
        "ece": calibration["ece"],
        "perfect_ece": calibration["perfect"]["ece"],
        "n_pairs": calibration["pairs"],
        "image_to_image_recall_at_5": alike and alike["recall_at_5"],
        "image_to_image_chance_recall_at_5": alike and alike["chance_recall_at_5"],
        "retrieval": results.retrieval,
        "labeler_macro_f1_against_reports": labels.labeler["macro"]["f1"],
        "reports_macro_f1_against_truth": labels.reports["macro"]["f1"],
        "label_policy": labels.labels["policy"],
        "seconds_and_memory_are": "of this run only, because it went on from an earlier one"
        if facts["resumed"]
        else "of the whole demo; peak_rss_mb is that of its largest single process",
        **{name: facts[name] for name in _FACTS},
        **{name: str(path) for name, path in paths.items() if name not in ("bundle", "library", "scores", "truth")},
    }


_FACTS = ("resumed", "seed", "recipe", "studies", "patients", "findings_left_out", "shuffled_epochs", "machine")

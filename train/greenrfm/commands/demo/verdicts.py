"""The five promises of the demo, each judged by a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MACRO_AUC = 0.90
RECALL_OVER_CHANCE = 5.0
# "Far more often": at least twice, and the interval of the difference lies above 0.
HITS_OVER_CHANCE = 2.0
HISTOGRAM_AUC = 0.75
# Below so many scores a perfectly calibrated model can miss the limit by chance.
ECE, ECE_PAIRS = 0.05, 1000


@dataclass(frozen=True)
class Verdict:
    """One promise in words, what was measured, and whether that keeps it."""

    claim: str
    measured: str
    met: bool

    @property
    def word(self) -> str:
        """Return "met" or "NOT met"."""
        return "met" if self.met else "NOT met"


def verdicts(
    model: Mapping[str, Any],
    recall: Mapping[str, Any],
    heatmaps: Mapping[str, Any] | None,
    histogram: Mapping[str, Any],
    calibration: Mapping[str, Any],
) -> list[Verdict]:
    """Judge what `evaluate_classification` (of the model and the baseline), `recall_at_k` (k = 5) and others return."""
    return [
        _ranking(model),
        _retrieval(recall),
        _localisation(heatmaps),
        _hardness(histogram),
        _meaning(calibration),
    ]


def between(interval: list[float] | None, digits: int = 2) -> str:
    """Return an interval as text, "no interval" where there is none."""
    if interval is None:
        return "no interval"
    low, high = (f"{bound:.{digits}f}" for bound in interval)
    return f"{low} to {high}" if interval[0] < 0 else f"{low}–{high}"


def _ranking(model: Mapping[str, Any]) -> Verdict:
    macro = model["macro"]
    claim = f"On held-out patients the macro-AUC against the true state is at least {MACRO_AUC:.2f}."
    if macro["auroc"] is None:
        return Verdict(claim, "it could not be computed: no finding is both present and absent there", False)
    measured = (
        f"{macro['auroc']:.3f} (95 % {between(macro['intervals']['auroc'])}) over {macro['findings']} findings, "
        f"{model['n']} studies of {model['patients']} patients"
    )
    return Verdict(claim, measured, macro["auroc"] >= MACRO_AUC)


def _hardness(histogram: Mapping[str, Any]) -> Verdict:
    area = histogram["macro"]["auroc"]
    claim = (
        f"The cohort is hard: the HU histogram and the volume's size reach a macro-AUC of at most {HISTOGRAM_AUC:.2f}."
    )
    if area is None:
        return Verdict(claim, "it could not be computed: no finding is both present and absent there", False)
    return Verdict(
        claim, f"{area:.3f} (95 % {between(histogram['macro']['intervals']['auroc'])})", area <= HISTOGRAM_AUC
    )


def _meaning(calibration: Mapping[str, Any]) -> Verdict:
    claim = (
        "Probabilities mean what they say: the expected calibration error over all findings together is at most "
        f"{ECE:.2f}, on at least {ECE_PAIRS:,} scores."
    )
    if calibration["ece"] is None:
        return Verdict(claim, "it could not be measured: no state is known", False)
    perfect, pairs = calibration["perfect"], calibration["pairs"]
    measured = (
        f"{calibration['ece']:.3f} (95 % {between(calibration['intervals']['ece'], 3)}) on {pairs:,} scores; "
        f"a perfectly calibrated model would show {perfect['ece']:.3f} ({between(perfect['interval'], 3)})"
    )
    return Verdict(claim, measured, pairs >= ECE_PAIRS and calibration["ece"] <= ECE)


def _retrieval(recall: Mapping[str, Any]) -> Verdict:
    found, chance = recall["recall_at_5"], recall["chance_recall_at_5"]
    return Verdict(
        f"A held-out report finds its own volume among the first 5 at least {RECALL_OVER_CHANCE:g} times as often "
        "as chance does.",
        f"recall@5 {found:.3f} (95 % {between(recall['intervals']['recall_at_5'])}), chance {chance:.3f}: "
        f"{found / chance:.1f} times, {recall['candidates']} volumes",
        found >= RECALL_OVER_CHANCE * chance,
    )


def _localisation(heatmaps: Mapping[str, Any] | None) -> Verdict:
    claim = (
        "The heat map's maximal cell meets the true finding far more often than a random body cell does: at least "
        f"{HITS_OVER_CHANCE:g} times as often, and the 95 % interval of the difference lies above 0."
    )
    if heatmaps is None:
        return Verdict(claim, "it could not be measured: no held-out study has a finding that the model scores", False)
    hits, chance, interval = heatmaps["hit_rate"], heatmaps["chance"], heatmaps["intervals"]["above_chance"]
    measured = (
        f"{hits:.3f} of {heatmaps['n']} maps hit, a random body cell would in {chance:.3f}; "
        f"difference {heatmaps['above_chance']:+.3f} (95 % {between(interval)})"
    )
    if chance > 0:
        measured += f", {hits / chance:.1f} times"
    if heatmaps.get("chance_inner"):
        measured += (
            f". The map shows inner cells only; a random one of those would hit in {heatmaps['chance_inner']:.3f}"
        )
    met = interval is not None and interval[0] > 0 and hits >= HITS_OVER_CHANCE * chance
    return Verdict(claim, measured, met)

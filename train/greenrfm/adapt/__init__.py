"""Fitting a model to its cohort without touching its weights: calibration, thresholds, and how far is too far."""

from greenrfm.adapt.calibration import Calibration, fit_calibration
from greenrfm.adapt.fitness import LatentFit, fit_latents
from greenrfm.adapt.thresholds import Thresholds, choose_thresholds
from greenrfm.adapt.validation import calibrate

__all__ = [
    "Calibration",
    "LatentFit",
    "Thresholds",
    "calibrate",
    "choose_thresholds",
    "fit_calibration",
    "fit_latents",
]

"""Fitting a model to its cohort without touching its weights: calibration and thresholds."""

from greenrfm.adapt.calibration import Calibration, fit_calibration
from greenrfm.adapt.thresholds import Thresholds, choose_thresholds
from greenrfm.adapt.validation import calibrate

__all__ = ["Calibration", "Thresholds", "calibrate", "choose_thresholds", "fit_calibration"]

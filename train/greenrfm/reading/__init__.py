"""Reading a volume with a bundle: calibrated scores, heat maps, latent and warnings, by onnxruntime alone."""

from greenrfm.reading.checks import Check, Level
from greenrfm.reading.features import Features
from greenrfm.reading.heatmap import coarse_volume, resample
from greenrfm.reading.maps import HeatMaps
from greenrfm.reading.planes import read_planes
from greenrfm.reading.reader import Cancelled, Field, Reader, calibrated_field
from greenrfm.reading.reading import FindingScore, Reading
from greenrfm.reading.zero_shot import NOT_CALIBRATED, ZeroShotScore

__all__ = [
    "NOT_CALIBRATED",
    "Cancelled",
    "Check",
    "Features",
    "Field",
    "FindingScore",
    "HeatMaps",
    "Level",
    "Reader",
    "Reading",
    "ZeroShotScore",
    "calibrated_field",
    "coarse_volume",
    "read_planes",
    "resample",
]

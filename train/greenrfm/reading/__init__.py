"""Reading a volume with a bundle: calibrated scores, heat maps, latent and warnings, by onnxruntime alone."""

from greenrfm.reading.heatmap import coarse_volume, resample
from greenrfm.reading.reader import Cancelled, Field, Reader
from greenrfm.reading.reading import FindingScore, HeatMaps, Reading

__all__ = ["Cancelled", "Field", "FindingScore", "HeatMaps", "Reader", "Reading", "coarse_volume", "resample"]

"""Volumes: reading, orienting and preprocessing, one implementation for training and for the viewer."""

from greenrfm.volumes.preprocessing import PLANES, PRESETS, Prepared, Preprocessing, plane_of
from greenrfm.volumes.read import VOLUME_SUFFIXES, read_volume
from greenrfm.volumes.volume import CANONICAL, Volume, orient, to_canonical
from greenrfm.volumes.write import write_volume

__all__ = [
    "CANONICAL",
    "PLANES",
    "PRESETS",
    "VOLUME_SUFFIXES",
    "Prepared",
    "Preprocessing",
    "Volume",
    "orient",
    "plane_of",
    "read_volume",
    "to_canonical",
    "write_volume",
]

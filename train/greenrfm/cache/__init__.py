"""The volume cache: preprocessed volumes on disk, compressed so that a training crop is cheap to take."""

from greenrfm.cache.cache import Entry, Pruned, VolumeCache, preprocessing_digest
from greenrfm.cache.field import BrokenVolume, Field, check_field, read_field, write_field
from greenrfm.cache.filling import Filled, Source, fill
from greenrfm.cache.holds import Hold
from greenrfm.cache.place import default_folder
from greenrfm.cache.verification import verify

__all__ = [
    "BrokenVolume",
    "Entry",
    "Field",
    "Filled",
    "Hold",
    "Pruned",
    "Source",
    "VolumeCache",
    "check_field",
    "default_folder",
    "fill",
    "preprocessing_digest",
    "read_field",
    "verify",
    "write_field",
]

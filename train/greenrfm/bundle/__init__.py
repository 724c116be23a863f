"""The model bundle on disk: written once, verified at every load, opened by onnxruntime (DESIGN.md, "The bundle")."""

from greenrfm.bundle.bundle import LATENT_SIZE, Bundle, Prompts
from greenrfm.bundle.check import Check, check
from greenrfm.bundle.manifest import (
    NOT_CALIBRATED_BUNDLE,
    NOT_CHOSEN,
    Calibration,
    FeatureGrid,
    FileRecord,
    Fitness,
    Manifest,
    Thresholds,
    VisionNetwork,
)
from greenrfm.bundle.text import TextEncoder
from greenrfm.bundle.write import BundleFields, write_bundle

__all__ = [
    "LATENT_SIZE",
    "NOT_CALIBRATED_BUNDLE",
    "NOT_CHOSEN",
    "Bundle",
    "BundleFields",
    "Calibration",
    "Check",
    "FeatureGrid",
    "FileRecord",
    "Fitness",
    "Manifest",
    "Prompts",
    "TextEncoder",
    "Thresholds",
    "VisionNetwork",
    "check",
    "write_bundle",
]

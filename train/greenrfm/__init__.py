"""GreenRFM for 3D Slicer: train, calibrate and read radiology foundation models on one's own machine."""

__version__ = "0.2.0"

"""Training: stage 1 vision and text, stage 2 alignment, export to a bundle (needs torch)."""

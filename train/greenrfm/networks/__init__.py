"""The networks of GreenRFM: a 3D ResNet-18 and a BERT, aligned in one space (needs torch)."""

from greenrfm.networks.dual import LATENT, DualEncoder, Supervised, TextExport, VisionAlone, VisionExport
from greenrfm.networks.planes import PlaneEncoders
from greenrfm.networks.text import TextEncoder, text_encoder_folder, tokenizer_file
from greenrfm.networks.vision import VisionEncoder, pool

__all__ = [
    "LATENT",
    "DualEncoder",
    "PlaneEncoders",
    "Supervised",
    "TextEncoder",
    "TextExport",
    "VisionAlone",
    "VisionEncoder",
    "VisionExport",
    "pool",
    "text_encoder_folder",
    "tokenizer_file",
]

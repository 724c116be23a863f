"""A generated chest CT among Slicer's sample data: for the tutorial, drawn on this machine, no patient's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from GreenRFMLib.scene import LPS

NAME = "GreenRFMPhantomChestCT"


def register(thumbnail: Path) -> None:
    """Offer the phantom in the Sample Data module; does nothing in a Slicer without that module."""
    try:
        import SampleData
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="GreenRFM",
        sampleName=NAME,
        nodeNames=NAME,
        customDownloader=draw,
        thumbnailFileName=str(thumbnail),
    )


def draw(source: Any = None) -> Any:
    """Draw the phantom and return its volume node, or None if a package is missing; nothing is downloaded."""
    try:
        from greenrfm.phantoms.study import draw_study
    except ImportError:
        slicer.util.errorDisplay(
            _("Drawing the phantom needs packages: open the GreenRFM module and press Install there.")
        )
        return None
    volume = draw_study(1, 1).volume
    voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0))
    node = slicer.util.addVolumeFromArray(voxels, ijkToRAS=LPS @ volume.affine, name=NAME)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node

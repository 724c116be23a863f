"""A generated chest CT among Slicer's sample data: for the tutorial, drawn on this machine, no patient's."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from GreenRFMLib.scene import LPS

# What users see in the Sample Data module: the heading, and the name under the picture.
CATEGORY = "GreenRFM"
NAME = "Chest CT phantom"
PATIENT, STUDY = 1, 1


def register(thumbnail: Path) -> None:
    """Offer the phantom in the Sample Data module once Slicer has started; whatever fails here is only logged.

    Not before, because modules are loaded in any order, and Sample Data may not be there yet.
    """
    try:
        slicer.app.connect("startupCompleted()", lambda: _offer(thumbnail))
    except Exception as error:  # the module itself must load, with or without its sample
        _log(error)


def draw(source: Any = None) -> Any:
    """Draw the phantom and return its volume node, or None if a package is missing; nothing is downloaded.

    Drawing takes a quarter of a second, longer the first time: it goes to a thread while Slicer handles its
    events here, so that the window does not freeze. The node is made in the main thread, as every node.
    """
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(_drawn)
        while not wait([drawing], 0.01).done:
            slicer.app.processEvents()
    try:
        volume = drawing.result()
    except ImportError:
        slicer.util.errorDisplay(
            _("Drawing the phantom needs packages: open the GreenRFM module and press Install there.")
        )
        return None
    voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0))
    node = slicer.util.addVolumeFromArray(voxels, ijkToRAS=LPS @ volume.affine, name=NAME)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def _offer(thumbnail: Path) -> None:
    try:
        import SampleData

        # One entry per field, although nothing is downloaded: Sample Data counts the URIs and compares.
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=NAME,
            uris=[""],
            fileNames=[""],
            nodeNames=[NAME],
            customDownloader=draw,
            thumbnailFileName=str(thumbnail),
        )
    except Exception as error:  # a Slicer without Sample Data, or with another one than we know
        _log(error)


def _log(error: Exception) -> None:
    logging.error("GreenRFM: the phantom is not among the sample data (%s: %s)", type(error).__name__, error)


def _drawn() -> Any:
    from greenrfm.phantoms.study import draw_study

    return draw_study(PATIENT, STUDY).volume

"""What greenrfm's sentences advise, said to somebody in the viewer: they are written for the command line."""

from __future__ import annotations

import re

from slicer.i18n import tr as _


def in_viewer(sentence: str) -> str:
    """Return the sentence with advice that can be followed in the viewer; a test looks at every one that can come."""
    for pattern, advice in (*_of_scans(), *_of_bundles(), *_of_libraries()):
        sentence = re.sub(pattern, advice, sentence)
    return sentence


def _of_scans() -> tuple[tuple[str, str], ...]:
    what_it_is = _("choose in the list of images what it is")
    return (
        (
            r"read the whole field, or cut the scan to the (\w+)",
            _("cut the scan to the {part}, with the module Crop Volume").format(part=r"\1"),
        ),
        (r"check the spacing in the file, or read the field 'padded'", _("cut it with the module Crop Volume")),
        (r"give the original scan", _("load the original scan")),
        (r"give the scan of a patient", _("choose the scan of a patient")),
        (
            r"save the volume again with rescale slope and intercept applied",
            _("load the DICOM series itself, or a file saved with rescale slope and intercept applied"),
        ),
        (r"name (?:it in a cohort's column, such as \w+|another with --sequence)", what_it_is),
        (r"give it as the \w+ plane", what_it_is),
        (
            r"read with the smaller field 'crop' or free some memory",
            _("close other volumes and programs to free some memory, then try again"),
        ),
    )


def _of_bundles() -> tuple[tuple[str, str], ...]:
    new_export = _("ask whoever made the bundle for a new export")
    return (
        (r"give (?:its folder|the folder of a bundle)", _("choose the folder that holds manifest.json")),
        (r"open the bundle again", _("press Analyze again")),
        (r"check it: greenrfm bundle check", _("choose another one, and tell whoever made it")),
        (r"update onnxruntime or", _("update the package onnxruntime in Slicer's Python, or")),
        (r"this greenrfm reads", _("this extension reads")),
        (r"update greenrfm", _("update the GreenRFM extension")),
        (r"copy or export (?:the bundle|it) again", _("copy its whole folder again, or") + " " + new_export),
        (r"export (?:the bundle|it) again", new_export),
        (r"export with one of these or", _("{ask} with one of these, or").format(ask=new_export)),
        (r"export with a BERT's(?: tokenizer)?", new_export),
        (r"adapt it with studies and labels of your own", _("have it adapted with studies and labels of your own")),
    )


def _of_libraries() -> tuple[tuple[str, str], ...]:
    return (
        (
            r"open it with its own bundle, or .* new library in another folder: greenrfm library rebuild .* NEW_FOLDER",
            _("analyze with the bundle it was made with, or choose another folder"),
        ),
        (r"close it in the other Slicer window or greenrfm command", _("close it in the other window or program")),
        (r"name it to allow the connection: --url .*", _("it can be used on the command line alone")),
    )

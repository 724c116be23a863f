"""Which volumes of the scene are read together: one, or for MR one for each plane and sequence of the bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from greenrfm.errors import UserError
from GreenRFMLib.scene import Voxels, problem_with, voxels_of, world_affine

# (sequence, plane), as greenrfm's readings take their images; ALONE is what a bundle of one volume reads.
Key = tuple[str, str]
ALONE: Key = ("", "")
# The volume node's attribute that says as what it is read.
_READ_AS = "GreenRFM.readAs"
_WORD = re.compile("[a-z0-9]+")
_MOST_BYTES = 8 << 20
# By the patient's axis that runs through the slices.
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, eq=False)
class Image:
    """One volume node of a study, and what it is read as."""

    node: Any
    voxels: Voxels
    key: Key = ALONE


@dataclass(frozen=True, eq=False)
class Study:
    """What is read together: `volume` is the chosen node, one of those of `images`, which lie in the bundle's order."""

    volume: Any
    images: tuple[Image, ...]

    @property
    def unchanged(self) -> bool:
        """Return whether every volume is in the scene as it was when its voxels were taken."""
        return all(image.voxels.still_in(image.node) for image in self.images)

    def voxels(self) -> dict[Key, Voxels]:
        """Return the voxels by what they are read as, for the worker, which touches no node."""
        return {image.key: image.voxels for image in self.images}

    def of_plane(self, plane: str) -> Image:
        """Return the image on which the heat maps of `plane` lie: the network's field is centred on its first one."""
        return next((image for image in self.images if image.key[1] == plane), self.images[0])


def gather(volume: Any, keys: Iterable[Key] = ()) -> Study:
    """Return the study of the chosen volume: itself, or all that is read as one of the bundle's images.

    Raises
    ------
    UserError
        If a volume is no grey-value volume of several slices, or is bent or sheared by its transforms.
    """
    if not keys:
        return Study(volume, (Image(volume, voxels_of(volume)),))
    nodes = {read_as(node): node for node in reversed(candidates(volume))}
    return Study(volume, tuple(Image(nodes[key], voxels_of(nodes[key]), key) for key in keys if key in nodes))


def candidates(volume: Any) -> list[Any]:
    """Return the chosen volume, and the scene's others that may be read with it: scans of no other patient."""
    others = (
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node is not volume and not node.GetHideFromEditors() and not problem_with(node)
    )
    return [volume, *(node for node in others if _same_patient(volume, node))]


def settle(volume: Any, keys: Iterable[Key]) -> None:
    """Let each of the bundle's images be one volume at most, and the chosen one what it alone can be.

    Of a chosen volume of which nobody said what it is, the others were another study's: nobody says so of them now.
    """
    taken: set[Key] = set()
    for node in candidates(volume):
        fitting, key = keys_for(node, keys), read_as(node)
        if node is volume and key not in fitting and len(fitting) == 1:
            key = fitting[0]
        if key not in fitting or key in taken or (node is not volume and not taken):
            key = ALONE
        else:
            taken.add(key)
        set_read_as(node, key)


def read_as(node: Any) -> Key:
    """Return what the user said that a volume is; ALONE if nothing."""
    sequence, _, plane = (node.GetAttribute(_READ_AS) or "").partition(" ")
    return sequence, plane


def set_read_as(node: Any, key: Key) -> None:
    """Say what a volume is; ALONE takes it back."""
    if read_as(node) != key:
        node.SetAttribute(_READ_AS, " ".join(key) if key != ALONE else None)


def keys_of(folder: Path | None) -> tuple[Key, ...]:
    """Return which images the bundle in `folder` reads; () for one volume, and for what is no bundle.

    A glance at its manifest, so that the panel can ask before anything is imported: reading checks it whole.
    """
    if folder is None:
        return ()
    try:
        with (folder / "manifest.json").open("rb") as stream:
            networks = json.loads(stream.read(_MOST_BYTES))["vision"]
        keys = [(sequence, network["plane"]) for network in networks for sequence in network["sequences"]]
        known = all(_WORD.fullmatch(sequence) and plane in _PLANES for sequence, plane in keys)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(keys) if known else ()


def keys_for(node: Any, keys: Iterable[Key]) -> tuple[Key, ...]:
    """Return which of the bundle's images this volume may be: those of the plane in which its slices lie."""
    plane = plane_of(node)
    return tuple(key for key in keys if plane in ("", key[1]))


def plane_of(node: Any) -> str:
    """Return the plane in which the node's thick slices lie in the world; "" if they are hardly thicker than pixels.

    As `greenrfm.volumes.plane_of`, which is not imported before something is read; a test compares the two.
    """
    try:
        affine = world_affine(node)
    except UserError:
        return ""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    thick = int(spacing.argmax())
    if spacing[thick] < 1.2 * np.sort(spacing)[1]:
        return ""
    # Each axis of the volume to one of the patient, the clearest first.
    directions = np.abs(affine[:3, :3] / spacing)
    while True:
        row, column = np.unravel_index(int(directions.argmax()), directions.shape)
        if column == thick:
            return _PLANES[row]
        directions[row, :] = directions[:, column] = -1.0


def _same_patient(one: Any, other: Any) -> bool:
    """Return whether two volumes may be of one patient: False if DICOM filed them under two."""
    return len({_patient(one), _patient(other)} - {0}) < 2


def _patient(node: Any) -> int:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return int(hierarchy.GetItemAncestorAtLevel(item, level)) if item else 0

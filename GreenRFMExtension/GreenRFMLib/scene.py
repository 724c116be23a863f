"""From a volume node of the scene to what greenrfm reads: voxels with their place in the patient.

Slicer's world is RAS mm, greenrfm's LPS mm; a node's own coordinates go through its parent transforms into
the world.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from greenrfm.errors import UserError

if TYPE_CHECKING:
    from greenrfm.volumes import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS mm to LPS mm, and back
# The attribute by which our own nodes are known: "findings", "maps", "heat map" or "colours".
ROLE = "GreenRFM.role"
_SAMPLES = 2**18


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels of a volume node and where they lie, taken in the main thread without copying.

    Parameters
    ----------
    array
        (i, j, k), a view of the node's own memory.
    affine
        4 × 4: voxel index to LPS mm of the world, with the parent transforms of that moment.
    own
        4 × 4: voxel index to the node's own RAS mm.
    world
        4 × 4: the node's own RAS mm to RAS mm of the world.
    modality
        "CT", "MR", … from the subject hierarchy, or "".
    changed
        The voxels' modification time, by which `still_in` sees that somebody changed them.
    file
        The file from which they were loaded, unless they were changed since; None otherwise.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    own: NDArray[np.float64]
    world: NDArray[np.float64]
    modality: str
    changed: int
    file: Path | None

    @property
    def to_node(self) -> NDArray[np.float64]:
        """LPS mm of the world to the node's own RAS mm, 4 × 4."""
        return np.linalg.inv(self.world) @ LPS

    def still_in(self, node: Any) -> bool:
        """Return whether `node` is in the scene and holds the same voxels, at the same place, as when taken."""
        if node.GetScene() is not slicer.mrmlScene or _scalars(node) is None or _changed(node) != self.changed:
            return False
        try:
            world = _world(node)
        except UserError:
            return False
        return np.array_equal(ijk_to_ras(node), self.own) and np.array_equal(world, self.world)

    def copy(self) -> Volume:
        """Return a copy of the voxels as greenrfm's volume; takes a second or two, so call it in the worker.

        A copy, because the viewer may change the voxels; in the canonical order, because SimpleITK
        copies an array in any other order with Python's lock held, half a second for a large CT.

        Raises
        ------
        UserError
            If the axes are not at right angles, or all voxels have the same value.
        """
        # Imported here: SimpleITK, pydicom and onnxruntime come with it.
        from greenrfm.volumes import CANONICAL, Volume, orient
        from greenrfm.volumes.nifti import not_numbers
        from greenrfm.volumes.read import checked
        from greenrfm.volumes.volume import narrow

        volume = orient(Volume(narrow(self.array), self.affine, self.modality), CANONICAL)
        array = np.array(volume.array.transpose(2, 1, 0), order="C").transpose(2, 1, 0)
        if not np.isfinite(array).any() or (array == array[0, 0, 0]).all():
            raise UserError(_("This volume is empty: all its voxels have one value, or none. Choose another one."))
        lost = not_numbers(self.file) if self.file is not None else 0
        sentence = _("{count} voxels of the file hold no number, and the viewer set them to 0").format(count=lost)
        return checked(Volume(array, volume.affine, self.modality, warnings=(sentence,) if lost else ()))


def problem_with(node: Any) -> str:
    """Return why this node cannot be read, as a sentence, or "" if it can."""
    try:
        _check_kind(node)
        world_affine(node)
    except UserError as error:
        return str(error)
    return ""


def voxels_of(node: Any) -> Voxels:
    """Return the voxels of a volume node with their place in the world.

    Raises
    ------
    UserError
        If the node is no grey-value volume of several slices, or is bent or sheared by its transforms.
    """
    _check_kind(node)
    world = _world(node)
    affine = _affine(node, world)
    shape = node.GetImageData().GetDimensions()[::-1]
    array = vtk_to_numpy(_scalars(node)).reshape(shape).transpose(2, 1, 0)
    return Voxels(array, affine, ijk_to_ras(node), world, _modality(node), _changed(node), _file(node))


def world_affine(node: Any) -> NDArray[np.float64]:
    """Return voxel index to LPS mm of the world, 4 × 4; raise UserError for a volume that is bent or sheared."""
    return _affine(node, _world(node))


def ijk_to_ras(node: Any) -> NDArray[np.float64]:
    """Return voxel index to the node's own RAS mm, 4 × 4, without its parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix))


def fingerprint(node: Any) -> str:
    """Return what tells the voxels of a volume node from others, also after the scene was saved and loaded.

    A sample of them, in a few milliseconds: a heat map's cell holds thousands of voxels, so no change that
    could matter to it is missed, but one of single voxels is.
    """
    scalars = _scalars(node)
    if scalars is None:
        return ""
    voxels = vtk_to_numpy(scalars).reshape(-1)
    step = max(1, len(voxels) // _SAMPLES) | 1  # odd: rows have even lengths, and no column may be left out
    checksum = zlib.crc32(np.ascontiguousarray(voxels[::step]))
    return f"{node.GetImageData().GetDimensions()} {voxels.dtype} {checksum:08x}"


def _check_kind(node: Any) -> None:
    if node is None:
        raise UserError(_("Choose a volume."))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UserError(_("This is a label map: its values are labels, not an image. Choose the scan."))
    if node.GetAttribute(ROLE):
        raise UserError(_("This is a heat map of an earlier analysis. Choose the scan."))
    scalars = _scalars(node)
    if scalars is None:
        raise UserError(_("This volume holds no voxels. Load it again or choose another one."))
    if node.IsA("vtkMRMLVectorVolumeNode") or scalars.GetNumberOfComponents() != 1:
        raise UserError(_("This volume holds colours or vectors. Choose one with a single grey value per voxel."))
    if min(node.GetImageData().GetDimensions()) < 2:
        raise UserError(_("This is a single slice. Choose a whole volume."))


def _affine(node: Any, world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return voxel index to LPS mm of the world; raise for axes not at right angles to 0.1 %, as greenrfm does."""
    affine = LPS @ world @ ijk_to_ras(node)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.isfinite(affine).all() and lengths.all():
        directions = affine[:3, :3] / lengths
        if np.abs(directions.T @ directions - np.eye(3)).max() < 1e-3:
            return affine
    raise UserError(_("The volume's axes are not at right angles. Resample it to a regular grid first."))


def _world(node: Any) -> NDArray[np.float64]:
    """Return the node's transform to the world, 4 × 4 in RAS mm; raise if it is not linear."""
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise UserError(_("A non-linear transform bends this volume. Harden it onto a copy and choose the copy."))
        parent.GetMatrixTransformToWorld(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix))


def _scalars(node: Any) -> Any:
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    return scalars if scalars is not None and scalars.GetNumberOfTuples() > 0 else None


def _changed(node: Any) -> int:
    return int(_scalars(node).GetMTime())


def _file(node: Any) -> Path | None:
    storage = node.GetStorageNode()
    name = storage.GetFullNameFromFileName() if storage is not None else ""
    return Path(name) if name and not node.GetModifiedSinceRead() else None


def _modality(node: Any) -> str:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    if not item:
        return ""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return str(hierarchy.GetItemAttribute(item, name) or "")

"""Reading MR: a network for each plane, the sequences as its channels, the latents averaged (METHOD.md, "Networks")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle import Bundle, VisionNetwork
from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.reading.reading import Reading
from greenrfm.volumes import Prepared, Preprocessing, Volume, plane_of

if TYPE_CHECKING:
    from greenrfm.reading.reader import Field, Reader

Images = Mapping[tuple[str, str], Volume]

# Sequences of one plane further apart than this, in voxels of the first one's field, do not show the same place.
_APART = 1.5


@dataclass(frozen=True, eq=False)
class PreparedPlane:
    """What a plane's network sees of a study: `array` float32 (sequences, H, W, D), zeros where one is missing.

    `affine` goes from the field's index to LPS mm, of the first sequence that the study has.
    """

    network: VisionNetwork
    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...]


def read_planes(
    reader: Reader,
    images: Images,
    *,
    heatmaps: bool = False,
    study_id: str = "",
    field: Field | None = None,
    cancel: onnxruntime.RunOptions | None = None,
) -> Reading:
    """Return scores, latent and warnings for the images of one MR study; arguments otherwise as of `Reader.read`.

    The latent is the mean of the latents of the planes that the study has. With `heatmaps`, `Reading.plane_heatmaps`
    has a map for each of them; the mean of the maps' means is the logit. Warnings name what is missing.

    Parameters
    ----------
    images
        (sequence, plane) to a volume stored in any orientation.

    Raises
    ------
    UserError
        As `prepare_planes`, and if a network cannot take its field or gives no finite scores.
    Cancelled
        If the read was cancelled.
    """
    return reader.read(images, heatmaps=heatmaps, study_id=study_id, field=field, cancel=cancel)


def prepare_planes(bundle: Bundle, images: Images, field: Field = "padded") -> tuple[PreparedPlane, ...]:
    """Return the field of each plane of which the study has an image, in the bundle's order.

    `images` maps (sequence, plane) to a volume stored in any orientation; each plane is brought into its own display
    orientation, slices last.

    Raises
    ------
    UserError
        If none of the images is one that the bundle reads, a name is unknown to it, or slices lie in another plane
        than their name says.
    """
    networks = {network.plane: network for network in bundle.manifest.networks}
    for sequence, plane in images:
        if plane not in networks:
            raise UserError(
                f"the bundle reads the planes {', '.join(networks)}, not '{plane}'{nearest(plane, tuple(networks))}"
            )
        known = networks[plane].sequences
        if sequence not in known:
            raise UserError(
                f"the bundle reads the sequences {', '.join(known)}, not '{sequence}'{nearest(sequence, known)}"
            )
    if not images:
        raise UserError(
            f"no image to read; the bundle takes {', '.join(bundle.manifest.networks[0].sequences)} in the planes "
            f"{', '.join(networks)}"
        )
    planes = []
    for network in bundle.manifest.networks:
        taken = {name: images[name, network.plane] for name in network.sequences if (name, network.plane) in images}
        if taken:
            planes.append(_prepared(bundle, network, taken, field))
    return tuple(planes)


def lacking(bundle: Bundle, images: Images) -> tuple[str, ...]:
    """Return a sentence on the planes that the study lacks, and one on the sequences missing in the others."""
    networks = bundle.manifest.networks
    absent = [network.plane for network in networks if not any(plane == network.plane for _, plane in images)]
    gaps = [
        f"{sequence} {network.plane}"
        for network in networks
        if network.plane not in absent
        for sequence in network.sequences
        if (sequence, network.plane) not in images
    ]
    sentences = []
    if absent:
        read = ", ".join(network.plane for network in networks if network.plane not in absent)
        sentences.append(f"the study has no {' or '.join(absent)} images: it was read from {read} alone")
    if gaps:
        sentences.append(f"these sequences are missing and were read as empty: {', '.join(gaps)}")
    return tuple(sentences)


def as_plane(
    bundle: Bundle, volume: Volume, sequence: str = ""
) -> tuple[dict[tuple[str, str], Volume], tuple[str, ...]]:
    """Return a single volume as the image of the plane in which its slices lie, with a warning on what was assumed.

    `sequence` is the bundle's first if it is not named. Raises UserError if its slices are not thick enough to lie in
    a plane and the bundle reads several, or the bundle has no network for that plane.
    """
    networks = bundle.manifest.networks
    plane = plane_of(volume) or (networks[0].plane if len(networks) == 1 else "")
    if not plane:
        raise UserError(
            "the volume's slices are as thin as its pixels, so that their plane is unknown; name it in a cohort's "
            f"column, such as image_{networks[0].sequences[0]}_{networks[0].plane}"
        )
    if sequence:
        return {(sequence, plane): volume}, ()
    chosen = networks[0].sequences[0]
    if len(networks[0].sequences) == 1:
        return {(chosen, plane): volume}, ()
    assumed = f"the volume was taken for {chosen}, the bundle's first sequence: name another with --sequence"
    return {(chosen, plane): volume}, (assumed,)


def _prepared(bundle: Bundle, network: VisionNetwork, taken: Mapping[str, Volume], field: Field) -> PreparedPlane:
    preprocessing = bundle.preprocessing.for_plane(network.plane)
    size = _size(preprocessing, taken, bundle.manifest.features.stride, field)
    array = np.zeros((len(network.sequences), *size), np.float32)
    warnings: list[str] = []
    first: Prepared | None = None
    for channel, name in enumerate(network.sequences):
        if name not in taken:
            continue
        try:
            prepared = preprocessing.apply(taken[name], size)
        except UserError as error:
            raise UserError(f"{name} {network.plane}: {error}") from error
        array[channel] = prepared.array
        warnings += [f"{name} {network.plane}: {sentence}" for sentence in prepared.warnings]
        first = first or prepared
        if not _same_place(first, prepared):
            warnings.append(
                f"{name} {network.plane} does not lie on the grid of the plane's other sequences: the network sees "
                "them shifted against each other"
            )
    assert first is not None
    return PreparedPlane(network, array, first.affine, tuple(warnings))


def _size(
    preprocessing: Preprocessing, taken: Mapping[str, Volume], stride: tuple[float, float, float], field: Field
) -> tuple[int, int, int]:
    if field == "padded":
        return preprocessing.size
    if field == "crop":
        return preprocessing.crop
    shapes = [preprocessing.apply(volume, "whole").array.shape for volume in taken.values()]
    height, width, depth = (max(*(shape[axis] for shape in shapes), int(np.ceil(stride[axis]))) for axis in range(3))
    return height, width, depth


def _same_place(one: Prepared, other: Prepared) -> bool:
    """Return whether both fields' middle and corners lie within a voxel or two of each other."""
    corners = np.array([[*np.multiply(place, one.array.shape), 1.0] for place in (0.25, 0.5, 0.75)])
    from_one = np.linalg.inv(one.affine) @ other.affine
    moved = corners @ from_one.T - corners
    return bool(np.abs(moved[:, :3]).max() < _APART)

"""Is this scan fit to read? All rules together, and the distance of its latent from those of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.reading.anatomy import check_body_part, check_cut, check_field, look
from greenrfm.reading.checks import Check, worst_first
from greenrfm.reading.hounsfield import check_hounsfield
from greenrfm.reading.sample import Sample, sample
from greenrfm.volumes import CANONICAL, Prepared, Volume, orient
from greenrfm.volumes.volume import NO_AIR

_DIRECTIONS = ("from front to back", "from right to left", "from foot to head")
_LEAST_SLICES = 10


def check_volume(volume: Volume, prepared: Prepared, bundle: Bundle) -> tuple[Check, ...]:
    """Return why a reading of `volume`, prepared for `bundle`, would be doubtful, the worst first."""
    found = _modality(volume, bundle)
    thinned = sample(volume)
    if bundle.preprocessing.intensity == "window":
        if not found:
            found += _computed_tomography(thinned, prepared, bundle)
    elif not volume.modality and float(np.quantile(thinned.array, 0.02)) < -800:
        found.append(
            Check("modality", "doubt", "values near -1000 look like CT in Hounsfield units, but the model reads MR")
        )
    found += _grid(volume, bundle)
    explained = any(check.code in ("hounsfield", "modality") for check in found)
    sentences = dict.fromkeys((*volume.warnings, *prepared.warnings))
    found += [Check("file", "doubt", sentence) for sentence in sentences if not (sentence == NO_AIR and explained)]
    return worst_first(found)


def _computed_tomography(thinned: Sample, prepared: Prepared, bundle: Bundle) -> list[Check]:
    found = check_hounsfield(thinned)
    if found and found[0].level == "withhold":
        return found  # densities that are none say nothing of the anatomy
    part = bundle.findings.body_part
    anatomy = look(thinned)
    found += check_body_part(anatomy, part)
    if not any(check.level == "withhold" for check in found):
        field_mm = np.linalg.norm(prepared.affine[:3, :3], axis=0) * prepared.array.shape
        found += check_cut(anatomy, part) + check_field(thinned, anatomy, part, field_mm)
    return found


def _modality(volume: Volume, bundle: Bundle) -> list[Check]:
    wanted = bundle.findings.modality
    if not volume.modality or volume.modality == wanted:
        return []
    return [
        Check(
            "modality",
            "withhold",
            f"the volume is {volume.modality}, the model was trained on {wanted}: its scores would mean nothing",
        )
    ]


def _grid(volume: Volume, bundle: Bundle) -> list[Check]:
    """Return what is odd of spacing and extent."""
    found = []
    placed = orient(volume, CANONICAL)
    thick = int(np.argmax(placed.spacing))
    if placed.shape[thick] < _LEAST_SLICES:
        found.append(Check("slices", "doubt", f"the scan has only {placed.shape[thick]} slices"))
    finer = sorted(placed.spacing)[:2]
    if finer[1] > 1.5 * finer[0]:
        found.append(Check("spacing", "note", f"the pixels are not square ({finer[0]:.2g} × {finer[1]:.2g} mm)"))
    grid = bundle.preprocessing.spacing
    if grid is None:
        return found  # sampled as acquired: the field has no size in mm
    axes = list(zip(_DIRECTIONS, placed.shape, placed.spacing, bundle.preprocessing.size, grid, strict=True))
    coarse = [
        f"{step:.2g} mm apart {direction} (training: {wanted:.2g} mm)"
        for direction, _, step, _, wanted in axes
        if step > 2.01 * wanted
    ]
    if coarse:
        found.append(
            Check("spacing", "doubt", f"voxels lie {' and '.join(coarse)}: small findings may be missed in this scan")
        )
    short = [
        f"{count * step:.0f} mm {direction} (the model expects about {size * wanted:.0f} mm)"
        for direction, count, step, size, wanted in axes
        if count * step < 0.5 * size * wanted
    ]
    if short:
        found.append(
            Check(
                "coverage",
                "doubt",
                f"the volume covers {' and '.join(short)}: findings outside cannot be seen and the scores may be off",
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class LatentRule:
    """The bundle's `Fitness` with its arrays: `center` (L,) and `whitening` (r, L)."""

    limit: float
    center: NDArray[np.float64]
    whitening: NDArray[np.float64]

    @classmethod
    def of(cls, bundle: Bundle) -> LatentRule | None:
        """Return the rule of a bundle, or None if it has none; raise UserError if its arrays are missing or odd."""
        fitness = bundle.manifest.fitness
        if fitness is None:
            return None
        bundle.unchanged("reference.npz")
        arrays = bundle.reference()
        center, whitening = (np.asarray(arrays.get(name, np.empty(0)), np.float64) for name in ("center", "whitening"))
        fits = center.shape == (bundle.latent_size,) and whitening.ndim == 2 and whitening.shape[1:] == center.shape
        if not (fits and np.isfinite(center).all() and np.isfinite(whitening).all()):
            raise UserError(
                f"{bundle.path('reference.npz')} lacks the arrays of the fitness check, or they do not fit the latent; "
                "export the bundle again"
            )
        return cls(fitness.limit, center, whitening)

    def distance(self, latent: NDArray[np.float32]) -> float:
        """Return how far a latent (L,) lies from those of training (Mahalanobis)."""
        return float(np.linalg.norm(self.whitening @ (latent.astype(np.float64) - self.center)))

    def check(self, latent: NDArray[np.float32]) -> tuple[Check, ...]:
        """Return whether the network sees this scan as unlike those it was trained on."""
        distance = self.distance(latent)
        if distance <= self.limit:
            return ()
        return (
            Check(
                "latent",
                "doubt",
                f"to the model this scan looks unlike those it was trained on (distance {distance:.0f}, all but a few "
                f"scans of validation stay below {self.limit:.0f}): protocol, anatomy or disease may be new to it",
            ),
        )

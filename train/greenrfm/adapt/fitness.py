"""How far from the training studies a latent lies, and from where on that is unusual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

Floats = NDArray[np.float64]
QUANTILE = 0.99
# Of fewer studies neither a covariance nor a quantile says anything.
LEAST = 20
# What the networks never spread over is not divided by: this share of the mean variance is added everywhere.
_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class LatentFit:
    """Distance of a latent = |whitening @ (latent - center)|; `limit` is the `quantile` of `n` validation distances.

    `center` is float32 (L,), `whitening` float32 (r, L), r at most the number of image features.
    """

    center: NDArray[np.float32]
    whitening: NDArray[np.float32]
    limit: float
    quantile: float
    n: int

    def distances(self, latents: NDArray[np.float32]) -> Floats:
        """Return the distances (N,) of latents (N, L)."""
        away = np.asarray(latents, np.float64) - self.center
        return np.asarray(np.linalg.norm(away @ self.whitening.T.astype(np.float64), axis=1))


def fit_latents(
    training: NDArray[np.float32],
    validation: NDArray[np.float32],
    projection: NDArray[np.float32],
    quantile: float = QUANTILE,
) -> LatentFit | None:
    """Return where the latents of training lie (Mahalanobis) and the limit that validation sets, or None if too few.

    Parameters
    ----------
    training, validation
        Latents (N, L), of what the reader would show the network.
    projection
        (L, features): latents lie in the space of its columns, and only there the covariance is estimated. It is
        shrunk towards a sphere (Ledoit and Wolf 2004), so that directions that few studies show still count.
    """
    if min(len(training), len(validation)) < LEAST:
        return None
    basis = np.linalg.qr(projection.astype(np.float64))[0]  # (L, features)
    center = training.mean(axis=0, dtype=np.float64)
    spread = (np.asarray(training, np.float64) - center) @ basis
    covariance = LedoitWolf(assume_centered=True).fit(spread).covariance_
    variance, axes = np.linalg.eigh(covariance)
    mean = float(variance.mean())
    if mean <= 0:
        return None  # a network that says the same of everything
    whitening = ((basis @ axes) / np.sqrt(variance + _FLOOR * mean)).T
    fit = LatentFit(center.astype(np.float32), whitening.astype(np.float32), 0.0, quantile, len(validation))
    limit = float(np.quantile(fit.distances(validation), quantile))
    return LatentFit(fit.center, fit.whitening, limit, quantile, len(validation))

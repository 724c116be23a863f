"""From a volume to a reading, with onnxruntime alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.errors import UserError
from greenrfm.reading.checks import Check, worst_first
from greenrfm.reading.features import Features, stitched, tiles
from greenrfm.reading.fitness import LatentRule, check_volume
from greenrfm.reading.maps import HeatMaps
from greenrfm.reading.planes import Images, PreparedPlane, as_plane, lacking, prepare_planes
from greenrfm.reading.reading import FindingScore, Reading, notice
from greenrfm.reading.speed import Setting, stored
from greenrfm.reading.zero_shot import prompts_of
from greenrfm.reading.zero_shot import zero_shot as zero_shot_scores
from greenrfm.volumes import Prepared, Volume

Field = Literal["tiles", "padded", "crop", "whole"]

Output = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class Cancelled(Exception):
    """The read was cancelled by another thread; there is no reading."""


class Reader:
    """Reads volumes with one bundle, one at a time; the network is opened at the first read and then kept."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Read with `bundle` on `threads` CPU threads.

        None takes what `greenrfm.reading.speed.tune` measured to be fastest on this machine, or else a thread per
        physical core.
        """
        self.bundle = bundle
        self._setting = stored(bundle) or Setting() if threads is None else Setting(threads)
        self._running: onnxruntime.RunOptions | None = None
        self._text: TextEncoder | None = None
        self._rule: LatentRule | None = None
        self._rule_known = False

    @property
    def half(self) -> bool:
        """Return whether it reads with the half-precision files, which `tune` may have found to be faster."""
        return self._setting.half

    def open(self) -> None:
        """Open the networks now rather than at the first read; raise UserError if one cannot be opened."""
        for network in self.bundle.manifest.networks:
            self._session(network.plane)

    def read(
        self,
        volume: Volume | Images,
        *,
        heatmaps: bool = False,
        study_id: str = "",
        field: Field | None = None,
        zero_shot: bool = False,
        features: bool = False,
        overrule: bool = False,
        cancel: onnxruntime.RunOptions | None = None,
    ) -> Reading:
        """Return scores, latent and warnings for `volume`, in any stored orientation.

        Parameters
        ----------
        volume
            In HU if the bundle reads CT. A bundle of several planes takes (sequence, plane) to a volume, and a single
            volume as the plane in which its slices lie and the bundle's first sequence, with a warning.
        heatmaps
            Also say where each logit comes from.
        field
            "tiles": the bundle's full field, centred on the volume, as the mean over crops that cover it (`tiles`),
            each as large as those of its training. "padded": the full field at once, which is faster.
            "crop": its middle, the fastest, and what lies outside is not seen. "whole": as large as the volume.
            None is the one with which the bundle was calibrated.
        zero_shot
            Also score by the bundle's prompts alone.
        features
            Keep the feature maps, for `text_heatmap`.
        overrule
            Show scores that would be withheld.
        cancel
            Setting its `terminate` in another thread, before or during the read, ends this read
            between two layers; `Reader.cancel` does so without it.

        Raises
        ------
        UserError
            If the network cannot take the field or gives no finite scores, or zero-shot is asked of a bundle of
            images alone.
        Cancelled
            If the read was cancelled.
        """
        if zero_shot:
            prompts_of(self.bundle)  # said before the seconds that a reading takes
        options = onnxruntime.RunOptions() if cancel is None else cancel
        self._running = options
        chosen = field or calibrated_field(self.bundle)
        try:
            seen, checks = self._fields(volume, chosen)
            outputs = [self._run(plane, options, heatmaps or features, chosen) for plane in seen]
        finally:
            self._running = None
        # The projection is linear and without bias: this is the latent of the planes' mean features.
        latent = np.asarray(np.mean([latent for latent, _ in outputs], axis=0), np.float32)
        logits = self.bundle.weight @ latent + self.bundle.bias
        if not all(np.isfinite(array).all() for array in (logits, *(maps for _, maps in outputs if maps is not None))):
            volumes = (volume,) if isinstance(volume, Volume) else volume.values()
            if not all(np.isfinite(each.array).all() for each in volumes):
                raise UserError("the volume holds voxels that are no number; set them to that of air or background")
            raise UserError(
                f"bundle {self.bundle.folder} gives scores that are not finite; check it: greenrfm bundle check"
            )
        kept = self._features(seen, outputs)
        maps = {plane: self._heatmaps(found) for plane, found in kept.items()} if heatmaps else {}
        manifest = self.bundle.manifest
        return Reading(
            study_id=study_id,
            scores=self._scores(logits),
            latent=latent,
            heatmaps=next(iter(maps.values())) if len(maps) == 1 else None,
            notice=notice(manifest.intended_use, manifest.calibrated),
            bundle_hash=self.bundle.hash,
            checks=worst_first((*checks, *self._latent_checks(latent))),
            plane_heatmaps={plane: found for plane, found in maps.items() if plane},
            features=next(iter(kept.values())) if features and len(kept) == 1 else None,
            plane_features={plane: found for plane, found in kept.items() if plane and features},
            zero_shot=zero_shot_scores(self.bundle, latent) if zero_shot else None,
            overruled=overrule,
        )

    def text_heatmap(self, text: str, features: Features) -> HeatMaps:
        """Return where a study resembles a free text: (text latent − that of all prompts) · projection · F(x).

        The mean of the bundle's positive prompts is taken away, because what all texts have in common lies in every map
        and points nowhere (measured: docs/benchmarks.md, "Reading"). The one key is "text". `features` come from
        `read(..., features=True)`. Raises UserError if the text is empty or the bundle has no text encoder.
        """
        if not text.strip():
            raise UserError("there is no text to look for; describe a finding")
        self._text = self._text or TextEncoder(self.bundle, self._setting.threads)
        common = prompts_of(self.bundle).positive.mean(axis=(0, 1))
        weight = (self._text.encode([text]) - common) @ self.bundle.projection
        return features.heatmaps(("text",), weight.astype(np.float32), np.zeros(1, np.float32))

    def cancel(self) -> None:
        """End the read that is running in another thread, if there is one: it raises Cancelled there."""
        running = self._running
        if running is not None:
            running.terminate = True

    def _fields(self, study: Volume | Images, field: Field) -> tuple[tuple[PreparedPlane, ...], list[Check]]:
        """Return what each network sees, and what speaks against it; raise UserError if it cannot be seen."""
        network = self.bundle.manifest.networks[0]
        if not network.plane:
            if not isinstance(study, Volume):
                raise UserError(f"bundle {self.bundle.folder} reads one volume, not planes and sequences; give it one")
            prepared = self._prepare(study, field)
            seen = (PreparedPlane(network, prepared.array[None], prepared.affine, prepared.warnings),)
            return seen, list(check_volume(study, prepared, self.bundle))
        images, assumed = as_plane(self.bundle, study) if isinstance(study, Volume) else (study, ())
        planes = prepare_planes(self.bundle, images, "padded" if field == "tiles" else field)
        found = [Check("coverage", "doubt", sentence) for sentence in (*assumed, *lacking(self.bundle, images))]
        for volume in images.values():
            found += check_volume(volume, Prepared(planes[0].array[0], planes[0].affine), self.bundle)
        found += [Check("file", "doubt", sentence) for plane in planes for sentence in plane.warnings]
        return planes, found

    def _prepare(self, volume: Volume, field: Field) -> Prepared:
        preprocessing = self.bundle.preprocessing
        if field == "crop":
            return preprocessing.apply(volume, preprocessing.crop)
        if field != "whole":
            return preprocessing.apply(volume)
        prepared = preprocessing.apply(volume, "whole")
        height, width, depth = (
            max(count, int(np.ceil(step)))
            for count, step in zip(prepared.array.shape, self.bundle.manifest.features.stride, strict=True)
        )
        if (height, width, depth) == prepared.array.shape:
            return prepared
        # A volume thinner than one cell gets air around it, as in the padded field.
        return preprocessing.apply(volume, (height, width, depth))

    def _run(
        self, plane: PreparedPlane, options: onnxruntime.RunOptions, features: bool, field: Field = "padded"
    ) -> Output:
        """Return the latent (L,) of what a plane's network sees, and its feature map if that is wanted."""
        if field != "tiles":
            return self._run_field(plane, plane.array, options, features)
        crop, size = self.bundle.preprocessing.crop, plane.array.shape[1:]
        latents, parts = [], []
        for top, left, low in tiles(size, crop):
            tile = plane.array[:, top : top + crop[0], left : left + crop[1], low : low + crop[2]]
            latent, values = self._run_field(plane, np.ascontiguousarray(tile), options, features)
            latents.append(latent)
            if values is not None:
                parts.append(((top, left, low), values))
        whole = stitched(parts, size, self.bundle.manifest.features) if parts else None
        return np.asarray(np.mean(latents, axis=0), np.float32), whole

    def _run_field(
        self, plane: PreparedPlane, array: NDArray[np.float32], options: onnxruntime.RunOptions, features: bool
    ) -> Output:
        session = self._session(plane.network.plane)
        names = ["latent", "features"] if features else ["latent"]
        try:
            latent, *maps = session.run(names, {"volume": array[None]}, options)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            if options.terminate:
                raise Cancelled from None
            raise UserError(
                f"bundle {self.bundle.folder} could not read a field of {array.shape[1:]} voxels "
                f"({type(error).__name__}); read with the smaller field 'crop' or free some memory"
            ) from error
        values = maps[0][0] if maps else None
        if values is not None and not self.bundle.manifest.features.fits(values.shape[1:], array.shape[1:]):
            raise UserError(
                f"bundle {self.bundle.folder} says another stride of its feature map than its network has, so heat "
                "maps would lie in the wrong place; export it again"
            )
        return latent[0], values

    def _session(self, plane: str) -> onnxruntime.InferenceSession:
        return self.bundle.vision(self._setting.threads, plane, self._setting.half)

    def _scores(self, logits: NDArray[np.float32]) -> tuple[FindingScore, ...]:
        manifest = self.bundle.manifest
        probabilities = manifest.calibration.probability(logits)
        return tuple(
            FindingScore(finding.key, finding.name, float(logit), float(probability), present, absent)
            for finding, logit, probability, present, absent in zip(
                self.bundle.findings.findings,
                logits,
                probabilities,
                manifest.thresholds.present,
                manifest.thresholds.absent,
                strict=True,
            )
        )

    def _features(self, seen: tuple[PreparedPlane, ...], outputs: list[Output]) -> Mapping[str, Features]:
        grid = self.bundle.manifest.features
        kept = {}
        for plane, (_, values) in zip(seen, outputs, strict=True):
            if values is not None:
                rows, columns, slices = plane.array.shape[1:]
                kept[plane.network.plane] = Features.of(values, plane.affine, (rows, columns, slices), grid)
        return kept

    def _heatmaps(self, features: Features) -> HeatMaps:
        weight = self.bundle.weight @ self.bundle.projection  # (findings, features)
        return features.heatmaps(self.bundle.findings.keys, weight, self.bundle.bias)

    def _latent_checks(self, latent: NDArray[np.float32]) -> tuple[Check, ...]:
        if not self._rule_known:
            self._rule, self._rule_known = LatentRule.of(self.bundle), True
        return () if self._rule is None else self._rule.check(latent)


def calibrated_field(bundle: Bundle) -> Field:
    """Return the field with which the bundle was calibrated; "padded" where its manifest does not say."""
    named = bundle.manifest.training.get("field")
    fields: tuple[Field, ...] = get_args(Field)
    return next((field for field in fields if field == named), "padded")

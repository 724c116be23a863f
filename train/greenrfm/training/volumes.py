"""Preprocessed volumes of studies, prepared once in parallel into a volume cache, and training crops from them."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from greenrfm.cache import Field, Filled, Hold, Source, VolumeCache, fill, read_field
from greenrfm.cohort import Study
from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.volumes import Preprocessing


def prepare(
    studies: Sequence[Study], preprocessing: Preprocessing, cache: Path, workers: int, progress: Progress
) -> list[Path]:
    """Preprocess every study's image into the folder `cache` and return one file per study, in order.

    What the cache holds already is not read again, whichever run, recipe or path it came from.
    `greenrfm.cache.default_folder()` is the one that runs share; `RUN / "prepared"` keeps volumes with their run.

    Raises
    ------
    UserError
        Naming the study whose image is missing or cannot be read (no study is ever replaced by another), or if the
        disk lacks the space.
    """
    files = prepare_readable(studies, preprocessing, cache, workers, progress, skip_unreadable=False).files
    return [files[study.study_id] for study in studies]


def prepare_readable(
    studies: Sequence[Study],
    preprocessing: Preprocessing,
    cache: Path,
    workers: int,
    progress: Progress,
    *,
    skip_unreadable: bool = True,
) -> Filled:
    """Do as `prepare` does, but list studies whose image is missing or cannot be read.

    Returns
    -------
    Filled
        `files`: study id → file, of the readable studies in order; `unreadable`: study id → a sentence. Leave those
        studies out of everything (labels, splits, reports) before training.
    """
    sources, unreadable = [], {}
    for study in studies:
        image = study.images.get("image")
        if image is not None:
            sources.append(Source(study.study_id, image, study.extra.get("series_uid", "")))
        elif skip_unreadable:
            unreadable[study.study_id] = "it has no image; training needs one in column 'image'"
        else:
            raise UserError(f"study {study.study_id} has no image; training needs one in column 'image'")
    filled = fill(VolumeCache(cache), sources, preprocessing, workers, progress, skip_unreadable=skip_unreadable)
    return Filled(filled.files, unreadable | filled.unreadable)


class Crops:
    """Training crops of prepared volumes, decompressed from the cache as they are asked for.

    As long as this object lives `greenrfm cache prune` leaves its files. Nothing of them is kept in memory.
    """

    def __init__(self, files: Sequence[Path], crop: tuple[int, int, int]) -> None:
        """Raise UserError if a file is gone."""
        self._files, self._crop = [Path(file) for file in files], crop
        self._compared: set[int] = set()
        for folder in {file.parents[1] for file in self._files}:
            hold = Hold(folder)
            hold.only(file.name for file in self._files if file.parents[1] == folder)
            weakref.finalize(self, hold.release)
        for file in self._files:
            if not file.is_file():
                raise UserError(f"prepared volume {file} is gone; start again, which prepares it anew")

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return crops (N, 1, H, W, D) of these volumes, each at a random place.

        Raises BrokenVolume, a UserError that names the file, if one is damaged.
        """
        out = np.empty((len(indices), 1, *self._crop), np.float32)
        for row, index in enumerate(indices):
            field = self._field(index)
            starts = [
                int(rng.integers(0, whole - part + 1)) for whole, part in zip(field.shape, self._crop, strict=True)
            ]
            top, left, low = (slice(a, a + part) for a, part in zip(starts, self._crop, strict=True))
            _widen(field[top, left, low], out[row, 0])
        return out

    def fields(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return the whole padded fields (N, 1, H, W, D): what the reader sees."""
        loaded = [self._field(index) for index in indices]
        out = np.empty((len(loaded), 1, *(loaded[0].shape if loaded else self._crop)), np.float32)
        for row, field in enumerate(loaded):
            _widen(field[:, :, :], out[row, 0])
        return out

    def _field(self, index: int) -> Field:
        # Comparing checksums costs a fraction of a crop: once per file and training is enough.
        field = read_field(self._files[index], compare=index not in self._compared)
        self._compared.add(index)
        return field


def _widen(half: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Copy half into single precision: ten times as fast as numpy, which would take longer than decompressing."""
    torch.from_numpy(out).copy_(torch.from_numpy(half))


def volume_key(study: Study, preprocessing: Preprocessing) -> str:
    """Return a name for the study's prepared volume: it changes with the image, the series and the preprocessing.

    It is cheap, of the files' sizes and times; the cache itself goes by what the files hold.
    Raises UserError if the study has no image or the image does not exist.
    """
    image = study.images.get("image")
    if image is None:
        raise UserError(f"study {study.study_id} has no image; training needs one in column 'image'")
    if not image.exists():
        raise UserError(f"study {study.study_id}: image {image} does not exist; mend the cohort")
    files = sorted(image.iterdir()) if image.is_dir() else [image]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = json.dumps([str(image), study.extra.get("series_uid", ""), facts, preprocessing.to_dict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""Preprocessed volumes on disk, prepared once in parallel, and random training crops from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.cohort import Study
from greenrfm.errors import UserError
from greenrfm.files import replacing
from greenrfm.progress import Progress
from greenrfm.volumes import Preprocessing, read_volume
from greenrfm.workers import make_pool


def prepare(
    studies: Sequence[Study], preprocessing: Preprocessing, folder: Path, workers: int, progress: Progress
) -> list[Path]:
    """Preprocess every study's image into `folder` and return one .npy file per study, in order.

    Files are float16 of shape `preprocessing.size`, named by the image's path, size and time and by the
    preprocessing; those already there are kept, so a killed run goes on where it was.

    Raises
    ------
    UserError
        Naming the study whose image is missing or cannot be read. No study is ever replaced by another.
    """
    targets = [folder / f"{volume_key(study, preprocessing)}.npy" for study in studies]
    missing = {target: study for study, target in zip(studies, targets, strict=True) if not target.is_file()}
    folder.mkdir(parents=True, exist_ok=True)
    done = len(targets) - len(missing)
    progress("prepare volumes", done, len(targets))
    with make_pool(workers) as pool:
        jobs = {
            pool.submit(_prepare_one, study, preprocessing, str(target)): study for target, study in missing.items()
        }
        try:
            for job in as_completed(jobs):
                try:
                    job.result()
                except UserError as error:
                    raise UserError(f"study {jobs[job].study_id}: {error}") from error
                done += 1
                progress("prepare volumes", done, len(targets))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return targets


class Crops:
    """Training crops of prepared volumes; holds memory maps, so a crop reads only what it needs."""

    def __init__(self, files: Sequence[Path], crop: tuple[int, int, int]) -> None:
        self._arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        self._crop = crop

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return crops (N, 1, H, W, D) of these volumes, each at a random place."""
        return self._stack(
            indices, [[int(rng.integers(0, room + 1)) for room in self._room(index)] for index in indices]
        )

    def fields(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return the whole padded fields (N, 1, H, W, D): what the reader sees."""
        return np.stack([self._arrays[index] for index in indices]).astype(np.float32)[:, None]

    def _room(self, index: int) -> list[int]:
        return [whole - part for whole, part in zip(self._arrays[index].shape, self._crop, strict=True)]

    def _stack(self, indices: Sequence[int], starts: list[list[int]]) -> NDArray[np.float32]:
        out = np.empty((len(indices), 1, *self._crop), np.float32)
        for row, (index, start) in enumerate(zip(indices, starts, strict=True)):
            out[row, 0] = self._arrays[index][
                tuple(slice(a, a + part) for a, part in zip(start, self._crop, strict=True))
            ]
        return out


def _prepare_one(study: Study, preprocessing: Preprocessing, target: str) -> None:
    volume = read_volume(study.images["image"], study.extra.get("series_uid") or None)
    array = preprocessing.apply(volume).array
    with replacing(Path(target)) as temporary, temporary.open("wb") as stream:
        np.save(stream, array.astype(np.float16), allow_pickle=False)


def volume_key(study: Study, preprocessing: Preprocessing) -> str:
    """Return a name for the study's prepared volume: it changes with the image, the series and the preprocessing.

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

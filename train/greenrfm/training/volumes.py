"""Preprocessed volumes of studies, prepared once in parallel into a volume cache, and training crops from them."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from greenrfm.cache import Field, Hold, Source, VolumeCache, fill, read_field
from greenrfm.cohort import Inputs, Study
from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.volumes import Preprocessing

# A study's prepared volume, or of MR one a channel (`Inputs.columns`), None for an image that it does not have.
StudyFiles = Path | tuple[Path | None, ...]
ONE_VOLUME = Inputs()


@dataclass(frozen=True)
class Prepared:
    """The files of each readable study, in order, and a sentence for each study that could not be read."""

    files: dict[str, StudyFiles]
    unreadable: dict[str, str]


def prepare(
    studies: Sequence[Study], preprocessing: Preprocessing, cache: Path, workers: int, progress: Progress
) -> list[StudyFiles]:
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
    inputs: Inputs = ONE_VOLUME,
) -> Prepared:
    """Do as `prepare` does, but list studies whose images are missing or cannot be read.

    `inputs` says which images a study has: each plane is prepared in its own display orientation. A study of which one
    image cannot be read is unreadable: it is never trained on as if that image had not been taken.
    Leave unreadable studies out of everything (labels, splits, reports) before training.
    """
    unreadable: dict[str, str] = {}
    for study in studies:
        try:
            inputs.check(study)
        except UserError as error:
            if not skip_unreadable:
                raise
            unreadable[study.study_id] = str(error).removeprefix(f"study {study.study_id} ")
    usable = [study for study in studies if study.study_id not in unreadable]
    work = partial(fill, VolumeCache(cache), workers=workers, progress=progress, skip_unreadable=skip_unreadable)
    if not inputs.planes:
        sources = [Source(s.study_id, s.images["image"], s.extra.get("series_uid", "")) for s in usable]
        filled = work(sources, preprocessing)
        return Prepared(dict(filled.files), unreadable | filled.unreadable)
    found: dict[str, Path] = {}
    for plane in inputs.planes:
        columns = inputs.of_plane(plane)
        images = {_source(s, column): s for s in usable for column in columns if column in s.images}
        filled = work(list(images), preprocessing.for_plane(plane))
        found |= filled.files
        of = {source.name: study.study_id for source, study in images.items()}
        unreadable |= {of[name]: f"{name.partition(', ')[2]}: {why}" for name, why in filled.unreadable.items()}
    files = {
        s.study_id: tuple(found.get(f"{s.study_id}, {column}") for column in inputs.columns)
        for s in usable
        if s.study_id not in unreadable
    }
    return Prepared(dict(files), unreadable)


def _source(study: Study, column: str) -> Source:
    return Source(f"{study.study_id}, {column}", study.images[column])


class Crops:
    """Training crops of prepared volumes, decompressed from the cache as they are asked for.

    As long as this object lives `greenrfm cache prune` leaves its files. Nothing of them is kept in memory.
    """

    def __init__(self, files: Sequence[StudyFiles], crop: tuple[int, int, int], inputs: Inputs = ONE_VOLUME) -> None:
        """Take the files of each study, whose channels are those of `inputs`.

        Raises UserError if a file is gone.
        """
        self._files = [file if isinstance(file, tuple) else (Path(file),) for file in files]
        self._crop, self._channels = crop, len(inputs.columns)
        self._planes = inputs.planes or ("",)
        self._compared: set[Path] = set()
        every = [file for channels in self._files for file in channels if file is not None]
        for folder in {file.parents[1] for file in every}:
            hold = Hold(folder)
            hold.only(file.name for file in every if file.parents[1] == folder)
            weakref.finalize(self, hold.release)
        for file in every:
            if not file.is_file():
                raise UserError(f"prepared volume {file} is gone; start again, which prepares it anew")

    def __len__(self) -> int:
        """Return the number of studies."""
        return len(self._files)

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return crops (N, channels, H, W, D) of these studies, each plane at a random place; what is missing is zero.

        Raises BrokenVolume, a UserError that names the file, if one is damaged.
        """
        out = np.zeros((len(indices), self._channels, *self._crop), np.float32)
        for row, index in enumerate(indices):
            for channels in self._by_plane():
                place: tuple[slice, slice, slice] | None = None  # the same for all sequences of a plane
                for channel in channels:
                    field = self._field(index, channel)
                    if field is not None:
                        place = place or self._place(field, rng)
                        _widen(field[place], out[row, channel])
        return out

    def mirrored(self, study: Tensor) -> Tensor:
        """Return a study (channels, H, W, D) flipped left to right, whichever axis that is in each plane."""
        flipped = torch.empty_like(study)
        for plane, channels in zip(self._planes, self._by_plane(), strict=True):
            part = slice(channels.start, channels.stop)
            flipped[part] = study[part].flip(3 if plane == "sagittal" else 2)
        return flipped

    def _by_plane(self) -> list[range]:
        """Return the channels of each plane."""
        each = self._channels // len(self._planes)
        return [range(first, first + each) for first in range(0, self._channels, each)]

    def _place(self, field: Field, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        starts = [int(rng.integers(0, whole - part + 1)) for whole, part in zip(field.shape, self._crop, strict=True)]
        top, left, low = (slice(start, start + part) for start, part in zip(starts, self._crop, strict=True))
        return top, left, low

    def fields(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return the whole padded fields (N, channels, H, W, D): what the reader sees. What is missing is zero."""
        loaded = [[self._field(index, channel) for channel in range(self._channels)] for index in indices]
        shape = next((field.shape for fields in loaded for field in fields if field is not None), self._crop)
        out = np.zeros((len(loaded), self._channels, *shape), np.float32)
        for row, fields in enumerate(loaded):
            for channel, field in enumerate(fields):
                if field is not None:
                    _widen(field[:, :, :], out[row, channel])
        return out

    def _field(self, index: int, channel: int) -> Field | None:
        file = self._files[index][channel]
        if file is None:
            return None
        # Comparing checksums costs a fraction of a crop: once per file and training is enough.
        field = read_field(file, compare=file not in self._compared)
        self._compared.add(file)
        return field


def _widen(half: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Copy half into single precision: ten times as fast as numpy, which would take longer than decompressing."""
    torch.from_numpy(out).copy_(torch.from_numpy(half))


def volume_key(study: Study, preprocessing: Preprocessing, inputs: Inputs = ONE_VOLUME) -> str:
    """Return a name for the study's prepared volumes: it changes with the images, the series and the preprocessing.

    It is cheap, of the files' sizes and times; the cache itself goes by what the files hold.
    Raises UserError if the study has no image or one does not exist.
    """
    inputs.check(study)
    keys = [
        _image_key(study, study.images[column], preprocessing) if column in study.images else ""
        for column in inputs.columns
    ]
    return keys[0] if len(keys) == 1 else hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]


def _image_key(study: Study, image: Path, preprocessing: Preprocessing) -> str:
    if not image.exists():
        raise UserError(f"study {study.study_id}: image {image} does not exist; mend the cohort")
    files = sorted(image.iterdir()) if image.is_dir() else [image]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = json.dumps([str(image), study.extra.get("series_uid", ""), facts, preprocessing.to_dict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]

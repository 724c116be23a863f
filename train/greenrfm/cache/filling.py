"""Filling the cache: each image is read, preprocessed and stored once, on all cores."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from greenrfm.cache.cache import VolumeCache, preprocessing_facts
from greenrfm.cache.content import content_digest
from greenrfm.cache.field import SUFFIX, write_field
from greenrfm.cache.holds import Hold
from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.volumes import Preprocessing, read_volume
from greenrfm.volumes.facts import ImageFacts, image_facts
from greenrfm.workers import make_pool

STAGE = "prepare volumes"
GB = 1e9
RESERVE = int(GB)  # left free for everything else
SAMPLE = 8
REMEMBER_EVERY = 64  # a killed process has to read no more finished images again than this


@dataclass(frozen=True)
class Source:
    """An image to prepare: the study's name for messages, the file or folder, the DICOM series or ""."""

    name: str
    image: Path
    series_uid: str = ""


@dataclass(frozen=True)
class Filled:
    """The volume's file of each source's name, in their order, and a sentence for each that could not be read."""

    files: dict[str, Path]
    unreadable: dict[str, str]


def fill(
    cache: VolumeCache,
    sources: Sequence[Source],
    preprocessing: Preprocessing,
    workers: int,
    progress: Progress,
    *,
    skip_unreadable: bool = False,
) -> Filled:
    """Prepare what the cache does not hold yet and return every source's file.

    Parameters
    ----------
    workers
        Processes, one core each.
    progress
        Gets stage "prepare volumes", with the gigabytes that will about be written while any are missing.
    skip_unreadable
        Note an image that cannot be read in `unreadable` instead of raising.

    Raises
    ------
    UserError
        If the disk lacks the space that the missing volumes need (before any is prepared, but for a sample to
        measure them), the cache cannot be written, or an image cannot be read: then with the study's name.
    """
    cache.create(preprocessing)
    hold = Hold(cache.folder)
    try:
        cache.create(preprocessing)  # again: before the hold, prune may have taken the empty folder
        with make_pool(workers) as pool:
            try:
                return _Filling(cache, preprocessing, pool, progress, skip_unreadable).run(sources)
            except BrokenProcessPool as error:
                raise UserError(
                    "a process that prepares volumes was ended from outside, perhaps for lack of memory; "
                    "free some and start again: finished volumes are kept"
                ) from error
    finally:
        hold.release()


class _Filling:
    """One call of `fill`: what is known of each source so far."""

    def __init__(
        self,
        cache: VolumeCache,
        preprocessing: Preprocessing,
        pool: ProcessPoolExecutor,
        progress: Progress,
        skip_unreadable: bool,
    ) -> None:
        self._cache, self._preprocessing, self._pool = cache, preprocessing, pool
        self._progress, self._skip = progress, skip_unreadable
        self._index = cache.digests()
        self._facts: dict[Source, ImageFacts] = {}
        self._digests: dict[Source, str] = {}
        self._unreadable: dict[str, str] = {}

    def run(self, sources: Sequence[Source]) -> Filled:
        """Prepare what is missing."""
        for source in sources:
            with self._named(source):
                self._facts[source] = image_facts(source.image)
        for source, facts in self._facts.items():
            if digest := self._index.get(facts):
                self._digests[source] = digest
        missing = []
        for source in self._facts:
            try:
                # "Last used" is the file's time of change: times of access are often switched off.
                os.utime(self._file(source))
            except (FileNotFoundError, KeyError):
                missing.append(source)
            except PermissionError:
                pass  # it is there, of another user
        need = self._bytes_each() * len(missing)
        if not self._fits(need):
            missing, need = self._measured(missing)
        if not self._fits(need):
            raise UserError(
                f"volume cache {self._cache.folder} needs about {need / GB:.1f} GB for {len(missing)} volumes and its "
                f"disk has {self._free() / GB:.1f} GB free; make room or name another folder with --cache"
            )
        self._prepare(missing, need)
        files = {source.name: self._file(source) for source in self._facts if source.name not in self._unreadable}
        return Filled(files, self._unreadable)

    def _prepare(self, missing: Sequence[Source], need: float) -> None:
        """Store these volumes, remembering what their images hold."""
        total = len(self._facts)
        done = total - len(missing)
        metrics = {"GB to write": need / GB} if missing else {}
        self._progress(STAGE, done, total, metrics)
        fresh: dict[ImageFacts, str] = {}
        jobs = {
            source: partial(
                _prepare_one, self._cache, source, self._facts[source], self._digests.get(source), self._preprocessing
            )
            for source in missing
        }
        try:
            for source, digest in self._each(jobs):
                if digest:
                    self._digests[source] = fresh[self._facts[source]] = digest
                done += 1
                self._progress(STAGE, done, total, metrics)
                if len(fresh) >= REMEMBER_EVERY:
                    self._index.add(fresh)
                    fresh.clear()
        finally:
            self._index.add(fresh)

    def _measured(self, missing: Sequence[Source]) -> tuple[list[Source], float]:
        """Return what is really missing and the bytes it needs, where the cheap guess does not fit on the disk.

        Images not read before may be known by their content: read them. Then the first few volumes, prepared, say
        how well such volumes compress.
        """
        unread = {source: partial(content_digest, source.image) for source in missing if source not in self._digests}
        for source, digest in self._each(unread):
            if digest:
                self._digests[source] = digest
        self._index.add({self._facts[source]: self._digests[source] for source in unread if source in self._digests})
        missing = [source for source in missing if source in self._digests and not self._is_there(source)]
        sample = missing[:: max(1, len(missing) // SAMPLE)][:SAMPLE]
        if self._free() < RESERVE or len(sample) < SAMPLE:
            return list(missing), self._bytes_each() * len(missing)
        self._prepare(sample, self._bytes_each() * len(sample))
        sizes = [self._file(source).stat().st_size for source in sample if self._is_there(source)]
        rest = [source for source in missing if source not in sample]
        return rest, (sum(sizes) / len(sizes) if sizes else self._bytes_each()) * len(rest)

    def _each(self, jobs: Mapping[Source, Callable[[], str]]) -> Iterator[tuple[Source, str]]:
        """Yield the sources with their job's result as they finish, "" for one that cannot be read."""
        futures = {self._pool.submit(job): source for source, job in jobs.items()}
        for future in as_completed(futures):
            result = ""
            with self._named(futures[future]):
                result = future.result()
            yield futures[future], result

    @contextlib.contextmanager
    def _named(self, source: Source) -> Iterator[None]:
        """Put the study's name before an error, or note it where unreadable images are skipped."""
        try:
            yield
        except UserError as error:
            if not self._skip:
                raise UserError(f"study {source.name}: {error}") from error
            self._unreadable[source.name] = str(error)

    def _file(self, source: Source) -> Path:
        return self._cache.file(self._digests[source], source.series_uid, self._preprocessing)

    def _is_there(self, source: Source) -> bool:
        return source in self._digests and self._file(source).is_file()

    def _bytes_each(self) -> float:
        """Return the mean size of such volumes in the cache, or what one takes uncompressed."""
        return self._cache.mean_bytes(self._preprocessing) or 2.0 * float(np.prod(self._preprocessing.size))

    def _free(self) -> int:
        return shutil.disk_usage(self._cache.folder).free

    def _fits(self, need: float) -> bool:
        return need == 0 or need + RESERVE <= self._free()


def _prepare_one(
    cache: VolumeCache, source: Source, facts: ImageFacts, digest: str | None, preprocessing: Preprocessing
) -> str:
    """Store one volume, unless an image with the same content has it stored, and return the content's digest.

    Raises UserError if the image cannot be read, or changes meanwhile.
    """
    digest = digest or content_digest(source.image)
    target = cache.file(digest, source.series_uid, preprocessing)
    if not target.is_file():
        array = preprocessing.apply(read_volume(source.image, source.series_uid or None)).array
        if image_facts(source.image) != facts:
            raise UserError(f"image {source.image} changed while it was read; start again when it is complete")
        write_field(
            target,
            array,
            {
                "key": target.name.removesuffix(SUFFIX),
                "content": digest,
                "preprocessing": preprocessing_facts(preprocessing),
            },
        )
    return digest

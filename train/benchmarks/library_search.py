"""What a search of the case library takes, and what it finds, against reading every latent as float32.

    python train/benchmarks/library_search.py fill /tmp/cases --cases 100000
    python train/benchmarks/library_search.py measure /tmp/cases

`fill` makes a library of generated cases with real folders (a report of 400 letters, a picture of 6 kB). Their latents
are random Gaussian, which no index can exploit, or with `--like LIBRARY` of the mean and covariance of that library's
latents, 30 % of them near-copies around five of them, as normal studies are. `measure` opens the library and searches
with 60 latents of the same kind that are not in it, with each filter, and prints a Markdown table. On a machine that is
busy with other work, run `measure` under `chrt -f 5` (as root), which leaves that work waiting.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.commands.demo.clock import processor
from greenrfm.findings import State
from greenrfm.library import Case, CaseLibrary
from greenrfm.library.index import CaseIndex
from greenrfm.library.store import BATCH

SIZE, QUERIES, K = 768, 60, 10
SEED = 0
KEYS = tuple(f"finding_{number}" for number in range(18))
# How often each finding is present: from rare to half of all.
RATES = np.linspace(0.02, 0.5, len(KEYS))


def main() -> None:
    """Fill a library, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("fill", "measure"))
    parser.add_argument("library", type=Path)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--index-only", action="store_true", help="no case folders: the index alone, sooner filled")
    parser.add_argument("--like", type=Path, help="library whose latents are imitated")
    parser.add_argument("--seed", type=int, default=0, help="of cases and queries; the same to fill and to measure")
    arguments = parser.parse_args()
    global SEED
    SEED = 4 * arguments.seed
    if arguments.action == "fill":
        fill(arguments.library, arguments.cases, arguments.like, arguments.index_only)
    else:
        measure(arguments.library)


def latents(count: int, like: Path | None) -> NDArray[np.float32]:
    """Return made latents, float32 (count, 768): Gaussian, or with the moments of the library `like`."""
    generator = np.random.default_rng(SEED)
    if like is None:
        return generator.standard_normal((count, SIZE), np.float32)
    real = np.stack([np.load(path, allow_pickle=False) for path in sorted(like.glob("cases/*/latent.npy"))])
    mean = real.mean(axis=0)
    spread = ((real - mean) / np.sqrt(len(real) - 1)).astype(np.float32)
    normal = generator.random(count) < 0.3
    weights = generator.standard_normal((count, len(real)), np.float32)
    centres = generator.standard_normal((5, len(real)), np.float32)
    weights[normal] = centres[generator.integers(0, 5, normal.sum())] + weights[normal] * np.float32(0.05)
    return np.asarray(mean + weights @ spread, np.float32)


def states_of(count: int) -> NDArray[np.int8]:
    """Return 1 (present), 0 (absent) or -2 (not mentioned), (count, findings)."""
    chance = np.random.default_rng(SEED + 1).random((count, len(KEYS)))
    absent = chance > 1 - (1 - RATES) * 0.6
    return np.where(chance < RATES, 1, np.where(absent, 0, -2)).astype(np.int8)


def days(count: int) -> NDArray[np.int64]:
    """Return the ordinals of days in ten years."""
    return np.random.default_rng(SEED + 2).integers(date(2014, 1, 1).toordinal(), date(2024, 1, 1).toordinal(), count)


def fill(folder: Path, count: int, like: Path | None, index_only: bool) -> None:
    """Make the library; queries are kept beside it."""
    made, states, when = latents(count + QUERIES, like), states_of(count), days(count)
    picture = np.random.default_rng(SEED + 3).bytes(6000)

    def cases() -> Iterator[tuple[Case, NDArray[np.float32]]]:
        for row in range(count):
            known = {key: State(int(value)) for key, value in zip(KEYS, states[row], strict=True) if value >= 0}
            yield (
                Case(
                    study_id=f"study-{row}",
                    patient_id=f"patient-{row // 3}",
                    states=known,
                    report=f"Study {row}. " + "The heart is of normal size. " * 13,
                    thumbnail=picture,
                    modality="MR" if row % 10 == 0 else "CT",
                    study_date=date.fromordinal(int(when[row])).isoformat(),
                    series_uid=f"1.2.3.{row}",
                ),
                made[row],
            )

    np.save(folder.with_name(folder.name + "-latents.npy"), made)
    begin = time.perf_counter()
    if index_only:
        index, pairs = CaseIndex.create(folder, SIZE), cases()
        while batch := list(islice(pairs, BATCH)):
            index.upsert(batch)
        index.tidy()
        index.close()
        print(f"index of {count} cases made in {time.perf_counter() - begin:.0f} s")
        return
    with CaseLibrary.create(folder, bundle_hash="b" * 64, dimension=SIZE, keys=KEYS) as library:
        library.add_many(cases())
        print(f"{count} cases added in {time.perf_counter() - begin:.0f} s")
        begin = time.perf_counter()
        library.rebuild_index()
        print(f"index built anew from the case folders in {time.perf_counter() - begin:.0f} s")


def measure(folder: Path) -> None:
    """Print the table of a filled library."""
    made = np.load(folder.with_name(folder.name + "-latents.npy"), mmap_mode="r")
    queries, stored = np.asarray(made[-QUERIES:]), np.asarray(made[:-QUERIES])
    before = resident()
    begin = time.perf_counter()
    library = CaseLibrary.open(folder) if (folder / "library.json").is_file() else None
    index = library._store.index if library else CaseIndex.load(folder)
    opened = time.perf_counter() - begin
    for query in queries:
        index.query(query, K)
    memory = resident() - before
    with library or closing(index):
        print(
            f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {len(index)} cases of {SIZE} "
            f"numbers, {QUERIES} queries, k = {K}\n"
        )
        print("| filter | fits | median | 95 % | recall@10 |\n|---|---|---|---|---|")
        every: list[float] = []
        # Before the searches and not between them: it needs both cores and all of the cache.
        products = queries @ stored.T
        for name, (wanted, mask) in filters(len(stored)).items():
            index.query(queries[0], K, **wanted)
            times, recalls = [], []
            for query, scores in zip(queries, products, strict=True):
                exact = np.where(mask, scores, -np.inf)
                best = np.argsort(-exact)[: min(K, int(mask.sum()))]
                begin = time.perf_counter()
                found = index.query(query, K, **wanted)
                times.append((time.perf_counter() - begin) * 1e3)
                # By score and not by name: of two cases with the same dot product either is right.
                floor = exact[best[-1]] - 1e-5 * abs(exact[best[-1]])
                recalls.append(sum(score >= floor for _, score in found) / len(best))
            every += times
            print(
                f"| {name} | {mask.mean():.1%} | {statistics.median(times):.1f} ms | "
                f"{np.quantile(times, 0.95):.1f} ms | {statistics.mean(recalls):.4f} |"
            )
        print(f"| all of these | | {statistics.median(every):.1f} ms | {np.quantile(every, 0.95):.1f} ms | |")
        times = []
        for query in queries if library else ():
            begin = time.perf_counter()
            library.search(query, K)
            times.append((time.perf_counter() - begin) * 1e3)
        if times:
            print(f"\nten whole cases with their reports and pictures: median {statistics.median(times):.1f} ms")
        print(f"opened in {opened:.2f} s; {memory} MB resident more than before, after {QUERIES} searches")
        places = {"index": index.folder, **({"cases": folder / "cases"} if library else {})}
        on_disk = {part: disk(place) for part, place in places.items()}
        print("on disk: " + ", ".join(f"{part} {size / 1e6:.0f} MB" for part, size in on_disk.items()))


def filters(count: int) -> dict[str, tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Return each filter as the search takes it, and which cases fit."""
    states, when, rows = states_of(count), days(count), np.arange(count)
    late = when >= date(2019, 1, 1).toordinal()
    other, ct = rows // 3 != 77, rows % 10 != 0
    return {
        "none": ({}, np.ones(count, bool)),
        "not the same patient": ({"exclude_patient": "patient-77"}, other),
        "modality": ({"modality": "CT"}, ct),
        "five years": ({"date_from": "2019-01-01"}, late),
        "frequent finding present": ({"present": KEYS[17:]}, states[:, 17] == 1),
        "finding absent, five years": ({"absent": KEYS[17:], "date_from": "2019-01-01"}, (states[:, 17] == 0) & late),
        "finding present, not the same patient": (
            {"present": KEYS[3:4], "exclude_patient": "patient-77"},
            (states[:, 3] == 1) & other,
        ),
        "rare finding present": ({"present": KEYS[:1]}, states[:, 0] == 1),
        "three findings, modality, not the same patient": (
            {"present": KEYS[3:5], "absent": KEYS[9:10], "modality": "CT", "exclude_patient": "patient-77"},
            (states[:, 3:5] == 1).all(axis=1) & (states[:, 9] == 0) & ct & other,
        ),
    }


def resident() -> int:
    """Return the resident memory of this process in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def disk(place: Path) -> int:
    """Return the bytes that the files below `place` take; holes take none (POSIX)."""
    return sum(
        os.stat(os.path.join(folder, name)).st_blocks * 512
        for folder, names, files in os.walk(place)
        for name in [*names, *files]
    )


if __name__ == "__main__":
    main()

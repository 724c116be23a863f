"""What a training crop costs: from the volume cache, from raw float16 files, and from the NIfTI files each epoch.

    python train/benchmarks/cache_crops.py ../shared/data/*/*/*1.5x1.5x3.nii.gz ../shared/data/*/*1.5x1.5x3.nii.gz

The images are chest or abdominal CTs, prepared with `--preset` (chest-ct: a field of 240 × 240 × 120, crops of
192 × 192 × 96). Files lie in the page cache, so this is the processor's part, without the disk's. Per round each way
gives one crop of each volume, in turn, so that a machine busy with other work slows all three alike; CPU times leave
that work out. With
`--fine SPACING` the images are first written anew with voxels of that many mm in each direction and 15 HU of noise, as
large as scanners give them. `--layouts` compares codecs and blocks on the first image instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from greenrfm.cache import field as layout
from greenrfm.cohort import Study
from greenrfm.commands.demo.clock import processor
from greenrfm.progress import silent
from greenrfm.training.volumes import Crops, prepare
from greenrfm.volumes import PRESETS, Preprocessing, read_volume

NIFTI, NPY, CACHE = "NIfTI, read and preprocessed each time", "float16 .npy, memory-mapped", "volume cache"
FEW = 5  # rounds of reading NIfTI, which takes long


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--preset", default="chest-ct", choices=sorted(PRESETS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--fine", type=float, default=0.0, metavar="MM")
    parser.add_argument("--layouts", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # one core for each way: what a data worker has
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one used")
    with tempfile.TemporaryDirectory() as folder:
        images = [finer(image, arguments.fine, Path(folder)) if arguments.fine else image for image in arguments.images]
        preprocessing = PRESETS[arguments.preset]
        if arguments.layouts:
            compare_layouts(preprocessing.apply(read_volume(images[0])).array.astype(np.float16), preprocessing.crop)
        else:
            compare_ways(images, preprocessing, arguments.rounds, Path(folder))


def compare_ways(images: list[Path], preprocessing: Preprocessing, rounds: int, folder: Path) -> None:
    """Time one crop of every image per round and way."""
    studies = [Study(str(number), str(number), {"image": image}) for number, image in enumerate(images)]
    began = time.perf_counter()
    files = prepare(studies, preprocessing, folder / "cache", os.cpu_count() or 1, silent)
    print(f"{len(images)} volumes prepared in {time.perf_counter() - began:.1f} s, {os.cpu_count()} processes")
    cached, maps = Crops(files, preprocessing.crop), []
    for number, field in enumerate(cached.fields(range(len(files)))):
        np.save(folder / f"{number}.npy", field[0].astype(np.float16))
        maps.append(np.load(folder / f"{number}.npy", mmap_mode="r"))

    def of(array: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
        start = [int(rng.integers(0, w - c + 1)) for w, c in zip(array.shape, preprocessing.crop, strict=True)]
        return array[tuple(slice(s, s + c) for s, c in zip(start, preprocessing.crop, strict=True))].astype(np.float32)

    ways: dict[str, Callable[[int, np.random.Generator], NDArray[np.float32]]] = {
        NIFTI: lambda i, rng: of(preprocessing.apply(read_volume(images[i])).array, rng),
        NPY: lambda i, rng: of(maps[i], rng),
        CACHE: lambda i, rng: cached.random([i], rng)[0, 0],
    }
    clock, cpu = {name: list[float]() for name in ways}, {name: list[float]() for name in ways}
    for number in range(rounds):
        for index in range(len(images)):
            crops = []
            for name, way in ways.items():
                if name == NIFTI and number >= FEW:
                    continue
                began = time.perf_counter(), time.process_time()
                crops.append(way(index, np.random.default_rng(number)))
                clock[name].append(time.perf_counter() - began[0])
                cpu[name].append(time.process_time() - began[1])
            assert all(np.abs(crop - crops[0]).max() < 1e-2 for crop in crops)  # the same voxels
    paths = {NIFTI: images, NPY: list(folder.glob("*.npy")), CACHE: files}
    first = {"wall": statistics.median(clock[NIFTI]), "CPU": statistics.median(cpu[NIFTI])}
    for name in ways:
        size = sum(path.stat().st_size for path in paths[name]) / 1e6 / len(images)
        wall, work = statistics.median(clock[name]), statistics.median(cpu[name])
        print(
            f"{name}: median {1e3 * wall:.1f} ms ({1e3 * work:.1f} ms CPU; n {len(clock[name])}), "
            f"{1 / wall:.1f} crops/s, "
            f"{first['wall'] / wall:.1f} times NIfTI's rate ({first['CPU'] / work:.1f} by CPU), {size:.1f} MB a volume"
        )


def compare_layouts(array: NDArray[np.float16], crop: tuple[int, int, int]) -> None:
    """Print size and time of crops for other codecs, filters, chunks and blocks than the cache's."""
    codecs, filters = blosc2.Codec, blosc2.Filter
    chosen = (layout.CODEC, layout.LEVEL, layout.FILTER, layout.CHUNK, layout.BLOCK)
    others = [(codec, level, one, *chosen[3:]) for codec, level in (
        (codecs.LZ4, 5), (codecs.LZ4HC, 5), (codecs.LZ4HC, 9), (codecs.ZSTD, 1), (codecs.ZSTD, 5),
    ) for one in (filters.SHUFFLE, filters.BITSHUFFLE)]  # fmt: skip
    others += [(*chosen[:3], chunk, block) for chunk, block in (
        ((64, 64, 64), (16, 16, 16)), ((64, 64, 64), (32, 32, 32)), ((48, 48, 48), (24, 24, 24)),
        ((96, 96, 64), (32, 32, 16)), (array.shape, (16, 16, 16)), (array.shape, (24, 24, 24)),
        (array.shape, (32, 32, 16)),
    )]  # fmt: skip
    for codec, level, one, chunk, block in [chosen, *others]:
        began = time.perf_counter()
        stored = blosc2.asarray(
            array,
            chunks=chunk,
            blocks=block,
            cparams=blosc2.CParams(codec=codec, clevel=level, filters=[one], nthreads=1),
        )
        wrote = time.perf_counter() - began
        frame, times, rng = stored.to_cframe(), [], np.random.default_rng(0)
        for _ in range(40):
            start = [int(rng.integers(0, w - c + 1)) for w, c in zip(array.shape, crop, strict=True)]
            began = time.perf_counter()
            blosc2.ndarray_from_cframe(frame, copy=False)[
                tuple(slice(s, s + c) for s, c in zip(start, crop, strict=True))
            ]
            times.append(time.perf_counter() - began)
        print(
            f"{codec.name} {level} {one.name}, chunks {chunk}, blocks {block}: {len(frame) / 1e6:.2f} MB, "
            f"written in {wrote:.2f} s, crop median {1e3 * statistics.median(times):.1f} ms, "
            f"least {1e3 * min(times):.1f} ms"
        )


def finer(image: Path, spacing: float, folder: Path) -> Path:
    """Write the image with `spacing` in each direction and noise to `folder` and return its path."""
    source = sitk.ReadImage(str(image), sitk.sitkFloat32)
    size = [round(count * step / spacing) for count, step in zip(source.GetSize(), source.GetSpacing(), strict=True)]
    fine = sitk.Resample(
        source,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        source.GetOrigin(),
        [spacing] * 3,
        source.GetDirection(),
        -1024.0,
    )
    noisy = sitk.AdditiveGaussianNoise(fine, 15.0, 0.0, 1)
    target = folder / f"{len(list(folder.glob('*.nii.gz')))}.nii.gz"
    sitk.WriteImage(sitk.Cast(noisy, sitk.sitkInt16), str(target))
    print(f"{image.name}: {' × '.join(map(str, size))} voxels of {spacing} mm")
    return target


if __name__ == "__main__":
    main()

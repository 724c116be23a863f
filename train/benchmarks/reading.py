"""What reading one chest CT costs beside the network: 512 × 512 × 300 voxels in memory, with a library of past cases.

    python train/benchmarks/library_search.py fill /tmp/cases --cases 100000
    python train/benchmarks/reading.py /tmp/random-lite               # makes the bundle
    python train/benchmarks/reading.py /tmp/random-lite --library /tmp/cases

The bundle has the vision network of a recipe with random weights: good for time, for nothing else. On a machine that
is busy with other work run it under `chrt -f 5` (as root), which leaves that work waiting.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from greenrfm.bundle import Bundle, BundleFields, Calibration, FeatureGrid, Fitness, Thresholds, write_bundle
from greenrfm.findings import load_finding_set
from greenrfm.library import CaseLibrary
from greenrfm.reading import Features, Reader
from greenrfm.reading.anatomy import look
from greenrfm.reading.features import stitched, tiles
from greenrfm.reading.fitness import check_volume
from greenrfm.reading.sample import sample
from greenrfm.volumes import Volume

RUNS = 5


def chest(shape: tuple[int, int, int] = (512, 512, 300)) -> Volume:
    """Return a noisy body with two lungs as a NIfTI or DICOM reader gives it: LPS axes, 0.7 × 0.7 × 1 mm, int16."""
    random = np.random.default_rng(0)
    array = np.full(shape[::-1], -1000, np.int16).transpose(2, 1, 0)  # as read: slices outermost in memory
    array[60:450, 120:400] = 40
    array[80:240, 150:370, 30:270] = array[270:430, 150:370, 30:270] = -850
    array[245:265, 350:390] = 400
    noise = random.integers(-20, 20, (512, 512), dtype=np.int16)
    for index in range(shape[2]):
        array[:, :, index] += np.roll(noise, index, axis=0)
    affine = np.diag([0.7, 0.7, 1.0, 1.0])
    return Volume(array, affine, "CT")


def random_bundle(folder: Path, recipe_name: str) -> Bundle:
    """Return a bundle of images alone with the recipe's vision network and random weights."""
    import torch

    from greenrfm.networks import VisionAlone, VisionExport
    from greenrfm.training.encoders import untrained_vision
    from greenrfm.training.export import export_vision
    from greenrfm.training.recipe import load_recipe

    torch.manual_seed(0)
    recipe, findings = load_recipe(recipe_name), load_finding_set("chest-ct-18")
    count = len(findings.keys)
    dilated = recipe.network.dilated_export
    vision = VisionExport(VisionAlone(untrained_vision(recipe, count)).eval(), dilated)
    folder.mkdir(parents=True, exist_ok=True)
    export_vision(vision, folder / "vision.onnx")
    field = np.random.default_rng(0).uniform(-1, 1, (1, 1, 64, 64, 32)).astype(np.float32)
    with torch.no_grad():
        latent = vision(torch.from_numpy(field))[0][0].numpy()
    size = len(latent)
    random = np.random.default_rng(1)
    return write_bundle(
        folder / "bundle",
        BundleFields(
            name="random",
            intended_use="research",
            licence="none",
            finding_set=findings,
            preprocessing=recipe.preprocessing,
            features=FeatureGrid.of_stem(recipe.network.stem, dilated),
            calibration=Calibration((1.0,) * count, (0.0,) * count),
            thresholds=Thresholds("for time only", (0.5,) * count, (0.5,) * count),
            max_tokens=None,
            fitness=Fitness(1e9, 0.99, 100),
        ),
        vision_onnx=folder / "vision.onnx",
        weight=random.normal(size=(count, size)),
        bias=np.zeros(count),
        projection=np.eye(size),
        reference={"input": field, "latent": latent, "center": np.zeros(size), "whitening": np.eye(size)},
    )


def seconds(work: Callable[[], Any], runs: int = RUNS) -> float:
    """Return the median time of several runs after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def alternating(*works: Callable[[], Any], runs: int) -> list[float]:
    """Return the median time of each of several works that take turns, so that a busy machine is busy for all."""
    times = [[once(work)[0] for work in works] for _ in range(runs + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def once(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of one run, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    """Print one JSON object: seconds by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder for the made bundle; used again if it is there")
    parser.add_argument("--recipe", default="lite")
    parser.add_argument("--field", default="tiles", choices=("tiles", "padded", "crop"))
    parser.add_argument("--library", type=Path, help="made by library_search.py fill")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    if not (arguments.bundle / "bundle").is_dir():
        random_bundle(arguments.bundle, arguments.recipe)
        print("bundle made; run again")  # so that torch is not in the memory measured
        return
    told: dict[str, Any] = {"onnxruntime": onnxruntime.__version__, "field": arguments.field}
    told["open bundle, hashes compared"], bundle = once(lambda: Bundle.load(arguments.bundle / "bundle"))
    told["open network"], session = once(lambda: bundle.vision(None))
    volume = chest()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = Reader(bundle)
    told["setting"] = [reader._setting.threads, reader._setting.half]
    prepared = bundle.preprocessing.apply(volume)
    told["parts"] = parts = {
        "reorient, average, resample, window": seconds(lambda: bundle.preprocessing.apply(volume), arguments.runs),
        "fitness rules": seconds(lambda: check_volume(volume, prepared, bundle), arguments.runs),
    }
    thinned = sample(volume)
    told["of the rules"] = {
        "sample": seconds(lambda: sample(volume), arguments.runs),
        "anatomy": seconds(lambda: look(thinned), arguments.runs),
    }
    starts = tiles(bundle.preprocessing.size, bundle.preprocessing.crop) if arguments.field == "tiles" else [(0, 0, 0)]
    size = bundle.preprocessing.size if arguments.field == "padded" else bundle.preprocessing.crop
    arrays = [
        np.ascontiguousarray(prepared.array[tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))])[None, None]
        for at in starts
    ]
    outputs = [session.run(["latent", "features"], {"volume": array}) for array in arrays]

    def heat() -> None:
        maps = [(at, features[0]) for at, (_, features) in zip(starts, outputs, strict=True)]
        whole = stitched(maps, bundle.preprocessing.size, bundle.manifest.features)
        reader._heatmaps(Features.of(whole, prepared.affine, prepared.array.shape, bundle.manifest.features))

    parts["heat maps of 18 findings"] = seconds(heat, arguments.runs)
    if arguments.library:
        told["open library"], library = once(lambda: CaseLibrary.open(arguments.library))
        queries = iter(np.random.default_rng(5).standard_normal((99, 768), np.float32))
        told["cases"] = len(library)
        parts["ten similar cases"] = seconds(lambda: library.search(next(queries), 10), arguments.runs)
        library.close()
    told["beside the network"] = sum(parts.values())
    (seen,), _ = reader._fields(volume, arguments.field)
    bare, within = alternating(
        lambda: [session.run(["latent", "features"], {"volume": array}) for array in arrays],
        lambda: reader._run(seen, onnxruntime.RunOptions(), True, arguments.field),
        runs=arguments.runs,
    )
    told["network, bare onnxruntime"], told["network, by the reader and cancellable"] = bare, within
    told["the reader's over bare"] = within / bare
    told["whole reading"] = seconds(lambda: reader.read(volume, heatmaps=True, field=arguments.field), arguments.runs)
    told["checks"] = reader.read(volume, field="crop").warnings
    told["peak memory above the volume, MB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

"""Own data through the public command line: AdrenalMNIST3D as a cohort of NIfTI files, recipe `adrenal`.

    python train/benchmarks/adrenal.py ../shared/data/labelled_AdrenalMNIST3D_trainval --out /tmp/adrenal

Writes cohort.csv, labels.csv and a NIfTI file per gland, then trains once per seed with `greenrfm train` and prints
the AUC on the official validation part (98 glands) that the finished bundle states of itself: measured with the
exported network, as a reader would. There are no reports, so vision is trained alone. One thread, so that CPU minutes
mean the same on a busy machine. AdrenalMNIST3D is CC BY 4.0 (MedMNIST v2); its official test part is not used here.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from greenrfm.commands.demo.clock import processor
from greenrfm.volumes import Volume, write_volume

HERE = Path(__file__).parent
EXTENT_MM = 64.0  # of the cube, which the archives hold as 28³ or 64³ voxels
ARCHIVES = {28: "adrenalmnist3d_trainval.npz", 64: "adrenalmnist3d_64_trainval.npz"}


def main() -> None:
    """Print a line per seed, and their mean and spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="scratch folder")
    parser.add_argument("--recipe", default="adrenal")
    parser.add_argument("--size", type=int, choices=sorted(ARCHIVES), default=28)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    write_own_cohort(arguments.data / ARCHIVES[arguments.size], arguments.out, EXTENT_MM / arguments.size)
    print(f"{processor()}, recipe {arguments.recipe}, {arguments.size}³ voxels, 1 thread", flush=True)
    areas = []
    for seed in arguments.seeds:
        run = arguments.out / f"run-{seed}"
        begun, before = time.monotonic(), cpu_seconds()
        train(arguments.out, arguments.recipe, run, seed)
        wall, cpu = time.monotonic() - begun, cpu_seconds() - before
        metrics = json.loads((run / "bundle" / "manifest.json").read_text(encoding="utf-8"))["metrics"]
        found = metrics["findings"]["hyperplasia"]
        low, high = found["intervals"]["auroc"]
        areas.append(found["auroc"])
        print(
            f"seed {seed}: validation AUC {found['auroc']:.3f} ({low:.3f} to {high:.3f}), n = {found['n']} with "
            f"{found['positives']} positives, {cpu / 60:.1f} CPU min, {wall / 60:.1f} min on the clock",
            flush=True,
        )
    spread = statistics.stdev(areas) if len(areas) > 1 else float("nan")
    print(f"mean {statistics.mean(areas):.3f}, standard deviation {spread:.3f}, {len(areas)} seeds")


def write_own_cohort(archive: Path, folder: Path, spacing: float) -> None:
    """Write the archive as files a user would have: cohort.csv, labels.csv, images/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (
        np.load(archive, allow_pickle=False) as arrays,
        (folder / "cohort.csv").open("w", encoding="utf-8", newline="") as cohort,
        (folder / "labels.csv").open("w", encoding="utf-8", newline="") as labels,
    ):
        studies, states = csv.writer(cohort), csv.writer(labels)
        studies.writerow(["study_id", "patient_id", "image", "split", "modality"])
        states.writerow(["study_id", "hyperplasia"])
        for split, prefix in (("train", "train"), ("validation", "val")):
            pairs = zip(arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"], strict=True)
            for number, (mask, label) in enumerate(pairs):
                study, present = f"{prefix}{number:04d}", int(label[0])
                image = folder / "images" / f"{study}.nii.gz"
                if not image.is_file():
                    affine = np.diag([spacing, spacing, spacing, 1.0])
                    write_volume(Volume((mask > 0).astype(np.int16), affine, "CT"), image)
                studies.writerow([study, study, image.relative_to(folder).as_posix(), split, "CT"])
                states.writerow([study, present])


def train(folder: Path, recipe: str, run: Path, seed: int) -> None:
    """Run the public command line; a finished run of the same seed is kept.

    All seeds share the prepared volumes, which the first one pays for.
    """
    command = [
        sys.executable, "-m", "greenrfm", "train", str(folder / "cohort.csv"), "--labels", str(folder / "labels.csv"),
        "--findings", str(HERE / "adrenal.yaml"), "--recipe", recipe, "--out", str(run), "--seed", str(seed),
        "--resume",
    ]  # fmt: skip
    environment = {**os.environ, "GREENRFM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def cpu_seconds() -> float:
    """Return the CPU time of the commands run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

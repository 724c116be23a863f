"""Does the dilated export point better? Heat maps of a demo's held-out phantoms, dilated and as the strided network's.

    python train/benchmarks/heatmap_cells.py demo

A dilated export pools every second cell of its map, and these are the cells of the strided network: both have the same
latent, so the same AUC, and the strided map is every second cell of the dilated one, in boxes twice as wide. Both are
compared with the same masks. Hits of a wider box come by chance more often, so look at what is above chance.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from greenrfm.bundle import Bundle
from greenrfm.cohort import read_cohort
from greenrfm.commands.demo.clock import machine
from greenrfm.commands.demo.heldout import HeldOut, heat_map_hits
from greenrfm.commands.show import display
from greenrfm.findings import LabelTable
from greenrfm.reading import Reader
from greenrfm.reading.maps import HeatMaps
from greenrfm.volumes import read_volume


def strided(maps: HeatMaps) -> HeatMaps:
    """Return the map that the network would give with its last stride in place."""
    height, width, depth = (2 * length for length in maps.cell_size_mm)
    wide = maps.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    return replace(maps, values=maps.values[:, ::2, ::2, ::2], affine=wide, cell_size_mm=(height, width, depth))


def main() -> None:
    """Print hits and chance of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of greenrfm demo")
    folder = parser.parse_args().demo
    bundle = Bundle.load(folder / "run" / "bundle")
    if bundle.manifest.features.pooled != 2:
        parser.error("the bundle's export is not dilated")
    studies = read_cohort(folder / "run" / "cohort.csv").by_split("test").studies
    truth = LabelTable.read(folder / "cohort" / "truth.csv").select(bundle.findings.keys)
    reader, readings = Reader(bundle), []
    with display() as show:
        for number, study in enumerate(studies, start=1):
            readings.append(reader.read(read_volume(study.images["image"]), heatmaps=True, field="padded"))
            show("read", number, len(studies))
        fine = HeldOut(bundle, studies, tuple(readings), truth.rows(study.study_id for study in studies))
        coarse = replace(
            fine, readings=tuple(replace(one, heatmaps=strided(one.heatmaps)) for one in readings if one.heatmaps)
        )
        found = {
            name: heat_map_hits(held_out, folder / "cohort", show).overall
            for name, held_out in (("dilated", fine), ("strided", coarse))
        }
    print(f"{machine()['processor']}; {len(studies)} held-out studies, padded field; 95 % intervals resample patients")
    print("| export | hits | random body cell | random inner cell | hits above chance (95 %) | maps |")
    print("|---|---|---|---|---|---|")
    for name, rate in found.items():
        assert rate is not None
        low, high = rate["intervals"]["above_chance"]
        print(
            f"| {name} | {rate['hit_rate']:.3f} | {rate['chance']:.3f} | {rate['chance_inner']:.3f} | "
            f"{rate['above_chance']:+.3f} ({low:+.3f} to {high:+.3f}) | {rate['n']} |"
        )


if __name__ == "__main__":
    main()

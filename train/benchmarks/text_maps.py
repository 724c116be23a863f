"""Do the heat maps of free texts point at what they name? A demo's held-out phantoms, beside the findings' own maps.

    python train/benchmarks/text_maps.py demo

For every finding X that is truly present: does the map's highest shown cell meet the mask? Asked of the finding's own
map and of text maps: X as the phantoms' reports call it, and the bundle's prompts. Differences of texts, which nobody
can type, say how much of a text's direction is no finding's: they take away what texts have in common.

Where the truth knows a side, the part of the mask on that side is held against the text with that side before it, and
against the text with the other side: if both do as well, a side in a text says nothing of a place. The difference of
the two texts says whether the network's features know a side at all.

Chance is how often a random body cell hits, a random one of those that the map shows (inner), and, strictest, the map
of another finding: one that the study does not have, drawn at random.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.cohort import read_cohort
from greenrfm.commands.demo.clock import machine
from greenrfm.commands.show import display
from greenrfm.evaluation import Localisation, hit_rate, localise
from greenrfm.evaluation.intervals import bootstrap, percentile_interval
from greenrfm.findings import LabelTable, State, load_finding_set
from greenrfm.phantoms.cohort import read_truth, truth_masks
from greenrfm.phantoms.phrases import OPPOSITE, wording
from greenrfm.reading import Reader, calibrated_field
from greenrfm.reading.zero_shot import prompts_of
from greenrfm.volumes import Volume, read_volume

# Whose mask lies on the sides that the truth names, but for a few per cent that cross the middle and are cut off.
SIDED = ("pleural_effusion", "consolidation", "atelectasis", "lung_opacity", "lung_nodule", "emphysema")
OWN, TEXT = "the finding's own map", "X"
OTHERS = "another finding's own map", "another finding's X"
LESS_MEAN = "X − mean of all prompts"
RIGHT_SIDE, WRONG_SIDE = "X with its side", "X with the other side"
# (which truth, which map) -> each map's outcome and its patient
Outcomes = dict[tuple[str, str], list[tuple[str, Localisation]]]


def latents(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Return what stands in the place of a head's weight: for each query (findings, latent), in the bundle's order."""
    encoder, prompts, words = TextEncoder(bundle), prompts_of(bundle), wording("chest")[0]
    names = [str(words[key]["nouns"][0]) for key in bundle.findings.keys]
    queries = {TEXT: encoder.encode(names)}
    pairs = [pair.fill("X")[0] for pair in load_finding_set(bundle.findings.name).prompts]
    queries |= dict(zip(pairs, prompts.positive, strict=True))
    there_is = pairs.index("There is X.")
    said, denied = prompts.positive[there_is], prompts.negative[there_is]
    left, right = (encoder.encode([f"{side} {name}" for name in names]) for side in ("left", "right"))
    return {
        **queries,
        LESS_MEAN: queries[TEXT] - prompts.positive.mean(axis=(0, 1)),
        "There is X. − mean over all X": said - said.mean(axis=0),
        "There is X. − There is no X.": said - denied,
        "left": left,
        "right": right,
        "left − right": left - right,
        "right − left": right - left,
    }


def side_of(mask: Volume, side: str) -> Volume:
    """Return the part of a phantom's mask on one side: the middle of the chest is at 0 mm, left above."""
    index = np.indices(mask.array.shape).reshape(3, -1)
    across = (mask.affine[0, :3] @ index + mask.affine[0, 3]).reshape(mask.array.shape)
    return Volume(np.where((across > 0) == (side == "left"), mask.array, 0), mask.affine)


def targets(key: str, mask: Volume, instances: list[dict[str, str]]) -> Iterator[tuple[str, str, Volume]]:
    """Yield what maps of a finding shall meet: which truth it is, its side, the mask."""
    yield "whole", "", mask
    sides = {one["side"] for one in instances if one["finding"] == key}
    sides = set(OPPOSITE) if "bilateral" in sides else sides & set(OPPOSITE)
    for side in sorted(sides) if key in SIDED else ():
        part = side_of(mask, side)
        if part.array.any():
            yield "one of both sides" if len(sides) == 2 else "the only side", side, part


def asked(queries: Iterable[str], key: str, absent: str, side: str) -> dict[str, tuple[str, str]]:
    """Return which maps are held against a truth, by what they are called: the query and the finding."""
    if not side:
        whole = {name: (name, key) for name in queries if "left" not in name and "right" not in name}
        return whole | {label: (name, absent) for label, name in zip(OTHERS, (OWN, TEXT), strict=True)}
    other = OPPOSITE[side]
    chosen = {OWN: OWN, TEXT: TEXT, RIGHT_SIDE: side, WRONG_SIDE: other}
    chosen[f"{RIGHT_SIDE} − {WRONG_SIDE}"] = f"{side} − {other}"
    return {label: (name, key) for label, name in chosen.items()}


def measured(bundle: Bundle, demo: Path) -> Outcomes:
    """Read the held-out studies as a user would, and compare every map with its truth."""
    studies = read_cohort(demo / "run" / "cohort.csv").by_split("test").studies
    truth = LabelTable.read(demo / "cohort" / "truth.csv").select(bundle.findings.keys)
    states = truth.rows(study.study_id for study in studies)
    queries = {name: latent @ bundle.projection for name, latent in latents(bundle).items()}
    reader, found, rng = Reader(bundle), defaultdict(list), np.random.default_rng(0)
    with display() as show:
        for number, (study, state) in enumerate(zip(studies, states, strict=True), start=1):
            reading = reader.read(read_volume(study.images["image"]), heatmaps=True, features=True)
            assert reading.heatmaps is not None
            assert reading.features is not None
            none = np.zeros(len(bundle.findings.keys), np.float32)
            maps = {OWN: reading.heatmaps} | {
                name: reading.features.heatmaps(bundle.findings.keys, weight, none) for name, weight in queries.items()
            }
            masks = truth_masks(demo / "cohort", study.study_id)
            body, instances = read_volume(masks["body"]), read_truth(demo / "cohort", study.study_id)["instances"]
            for column in np.flatnonzero(state == State.PRESENT):
                key = bundle.findings.keys[column]
                absent = bundle.findings.keys[rng.choice(np.flatnonzero(state == State.ABSENT))]
                for which, side, mask in targets(key, read_volume(masks[key]), instances):
                    for label, (query, finding) in asked(maps, key, absent, side).items():
                        heat = maps[query]
                        place = heat.affine, mask.array, mask.affine, body.array, body.affine
                        outcome = study.patient_id, localise(heat.shown(finding), *place, inner=heat.inner)
                        found[which, label].append(outcome)
                        if not side and label in (OWN, TEXT, *OTHERS):
                            found[key, label].append(outcome)
            show("compare maps", number, len(studies))
    return found


def table(found: Outcomes) -> Iterator[str]:
    """Yield the lines of the table: what was looked for in whole masks, then in sides, then by finding."""
    columns = "truth", "map", "hits (95 %)", "body cell", "inner", "above inner", "less its own map", "maps, patients"
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    first = ("whole", "the only side", "one of both sides")
    for which, name in sorted(found, key=lambda row: first.index(row[0]) if row[0] in first else len(first)):
        patients, results = zip(*found[which, name], strict=True)
        rate = hit_rate(results, patients)
        hits = np.array([result.hit for result in results])
        above = hits - [result.chance_inner for result in results]
        less = hits - [own.hit for _, own in found[which, OWN]]
        yield (
            f"| {which} | {name} | {interval(hits, patients)} | {rate['chance']:.3f} | {rate['chance_inner']:.3f} | "
            f"{interval(above, patients, '+.3f')} | {interval(less, patients, '+.3f')} | "
            f"{rate['n']}, {rate['patients']} |"
        )


def interval(values: NDArray[np.float64], patients: Sequence[str], form: str = ".3f") -> str:
    """Return the mean of values, one for each map, and its interval by resampling patients."""

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"mean": (weights @ values / weights.sum(axis=1))[:, None]}

    point, replicates = bootstrap(measure, patients)
    low, high = percentile_interval(replicates["mean"][:, 0]) or (np.nan, np.nan)
    return f"{point['mean'][0]:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    """Print hits and chance of every kind of map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of greenrfm demo")
    demo = parser.parse_args().demo
    bundle = Bundle.load(demo / "run" / "bundle")
    found = measured(bundle, demo)
    print(f"{machine()['processor']}; field: {calibrated_field(bundle)}; 95 % intervals resample patients")
    print(*table(found), sep="\n")
    for which, one, other in (
        ("the only side", RIGHT_SIDE, WRONG_SIDE),
        ("one of both sides", RIGHT_SIDE, WRONG_SIDE),
        ("whole", OWN, OTHERS[0]),
        ("whole", TEXT, OTHERS[1]),
        ("whole", LESS_MEAN, TEXT),
    ):
        patients = [patient for patient, _ in found[which, one]]
        hits = np.array([[result.hit for _, result in found[which, name]] for name in (one, other)])
        print(f"{which}, hits of {one} less those of {other}: {interval(hits[0] - hits[1], patients, '+.3f')}")
    alike = latents(bundle)
    for one, other, what in (("left", "right", "left X and right X"), (TEXT, "left", "X and left X")):
        print(f"mean cosine of the latents of {what}: {cosine(alike[one], alike[other]).mean():.3f}")
    names = alike[TEXT]
    between = [cosine(names[row], names[other]) for row in range(len(names)) for other in range(row)]
    print(f"mean cosine of the latents of two findings' names: {np.mean(between):.3f}")


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of the angle between latents (…, latent)."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(axis=-1) / lengths)


if __name__ == "__main__":
    main()

"""What each choice of the method brings, on phantoms whose truth is known: variants of one recipe, several seeds.

    python train/benchmarks/ablations.py --scratch /tmp/ablations --seeds 0 1 2

A seed is a cohort of its own, its split and its training. Reports are labelled by the lexicon; every variant learns
from those labels and is scored against what the volumes truly show, on patients that it never saw: the validation and
the test part together, for nothing is chosen on either. Variants are in ablations.yaml. Those with equal labels,
crops and rates share stage 1, and differences are taken within a seed. Four numbers a variant:

* AUC: macro-AUC of the shared classifier on the volumes' latents;
* zero-shot: macro-AUC of the volumes' latents against prompts, p(present) averaged over the pairs;
* probe: macro-AUC of a logistic regression fitted to the training volumes' latents and the base's labels;
* recall@5: the share of held-out reports whose own volume is among the 5 nearest held-out ones.

Without shared classifier the first does not exist: nothing ever taught that head. The method's own answer there is
zero-shot, which needs no head; the probe says whether the findings are in the latent at all. Both stand beside those of
the base. A finished variant leaves a JSON file, so that a killed run goes on with the next one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer
from torch import Tensor

from greenrfm.cohort import Cohort, Study
from greenrfm.commands.demo.clock import machine
from greenrfm.distill import LexiconLabeler, label_reports
from greenrfm.evaluation import recall_at_k
from greenrfm.files import write_text
from greenrfm.findings import FindingSet, LabelTable, State, load_finding_set
from greenrfm.networks import DualEncoder, Supervised, text_encoder_folder, tokenizer_file
from greenrfm.phantoms.cohort import FINDING_SET, write_chest_cohort
from greenrfm.phantoms.lesions import LESIONS
from greenrfm.progress import silent
from greenrfm.training.align import train_alignment
from greenrfm.training.batches import TrainingSet, seed_all
from greenrfm.training.encoders import encode_reports, save_stage, text_encoder, vision_encoder
from greenrfm.training.losses import COSINE_TEMPERATURE
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Recipe, parse_recipe
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_text, train_vision
from greenrfm.training.validation import macro_auc
from greenrfm.training.volumes import Crops, prepare

TABLE = Path(__file__).with_name("ablations.yaml")
STUDIES, MATRIX = 700, 80
MEASURES = {"auc": "AUC", "zero_shot": "zero-shot", "probe": "probe", "recall_at_5": "recall@5"}
BASE = "base"
PROBE_STRENGTH = 0.01
Floats = NDArray[np.float32]
States = NDArray[np.int8]


@dataclass(frozen=True)
class Variant:
    """One row of the table: a recipe, which encoders skip stage 1, and the part of the field that is scored."""

    name: str
    question: str
    recipe: Recipe
    from_scratch: tuple[str, ...] = ()
    evaluate: tuple[int, ...] | None = None

    @property
    def training(self) -> str:
        """Return a name for all that decides the weights but seed and data."""
        recipe = self.recipe
        return _digest(recipe.network, recipe.labels, recipe.augmentation, recipe.stage2, self.vision, self.text)

    @property
    def vision(self) -> str:
        """Return a name for all that decides stage 1 vision."""
        recipe = self.recipe
        learned = None if "vision" in self.from_scratch else [recipe.labels, recipe.stage1_vision, recipe.augmentation]
        return _digest([recipe.network.width, recipe.network.stem], recipe.preprocessing.to_dict(), learned)

    @property
    def text(self) -> str:
        """Return a name for all that decides stage 1 text."""
        recipe, network = self.recipe, self.recipe.network
        learned = None if "text" in self.from_scratch else [recipe.labels, recipe.stage1_text]
        return _digest([network.text_encoder, network.text_layers_frozen, network.max_tokens], learned)

    @property
    def digest(self) -> str:
        """Return a name for the row's result."""
        return _digest(self.training, self.evaluate)


def _digest(*content: Any) -> str:
    written = json.dumps(content, sort_keys=True, default=_written)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def _written(part: BaseModel) -> Any:
    # Without defaults, so that a new key of recipes makes no finished result another's.
    return part.model_dump(mode="json", exclude_defaults=True)


def variants(table: Path = TABLE) -> list[Variant]:
    """Return the rows of the table, the base first; raise UserError if a recipe does not fit."""
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    return [
        Variant(
            row["name"],
            row["question"],
            parse_recipe(changed(content["base"], row.get("change", {})), row["name"]),
            tuple(row.get("from_scratch", ())),
            tuple(row["evaluate"]) if "evaluate" in row else None,
        )
        for row in content["variants"]
    ]


def changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with `part.key` → value put in."""
    recipe = {part: dict(value) if isinstance(value, dict) else value for part, value in base.items()}
    for place, value in change.items():
        part, key = place.split(".")
        recipe[part][key] = value
    return recipe


@dataclass(frozen=True)
class Phantoms:
    """One seed's cohort, generated once: who learns, who is held out, what reports say and what is true."""

    folder: Path
    cohort: Cohort
    labels: LabelTable
    truth: LabelTable
    base: Recipe

    @classmethod
    def of(cls, folder: Path, seed: int, studies: int, base: Recipe) -> Phantoms:
        """Return the cohort below `folder`, generating what is missing of it."""
        cohort = write_chest_cohort(folder / "cohort", studies, seed=seed, matrix=MATRIX, workers=1, progress=silent)
        path = folder / "labels.csv"
        if not path.is_file():
            labeler = LexiconLabeler(load_finding_set(FINDING_SET))
            label_reports(labeler, [(study.study_id, study.report) for study in cohort])[0].write(path)
        labels = LabelTable.read(path).select(tuple(LESIONS))
        truth = LabelTable.read(folder / "cohort" / "truth.csv").select(tuple(LESIONS))
        return cls(folder, cohort, labels, truth, base)

    @cached_property
    def training(self) -> tuple[Study, ...]:
        """Return the studies that all variants learn from."""
        return self.cohort.by_split("train").studies

    @cached_property
    def held_out(self) -> tuple[Study, ...]:
        """Return the studies of all other patients."""
        return tuple(study for study in self.cohort if study.split != "train")

    @cached_property
    def learned(self) -> States:
        """Return the states (studies, findings) that the lexicon found in the training reports."""
        return self.labels.rows(study.study_id for study in self.training)

    @cached_property
    def true(self) -> States:
        """Return the true states of the held-out studies."""
        return self.truth.rows(study.study_id for study in self.held_out)

    @cached_property
    def findings(self) -> FindingSet:
        """Return the findings that occur in phantoms."""
        return load_finding_set(FINDING_SET).subset(self.labels.keys)

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Return the prepared volumes of both parts; a training crop changes nothing of them."""

        def prepared(studies: Sequence[Study]) -> list[Path]:
            return prepare(studies, self.base.preprocessing, self.folder / "prepared", 1, silent)

        return {"training": prepared(self.training), "held out": prepared(self.held_out)}

    @cached_property
    def reports(self) -> dict[str, Reports]:
        """Return the reports of both parts, whose frozen layers are computed once for all variants."""
        parts = {"training": self.training, "held out": self.held_out}
        return {name: Reports(self.base, [study.report for study in part]) for name, part in parts.items()}

    def set_for(self, recipe: Recipe) -> TrainingSet:
        """Return what a variant learns from."""
        crops = Crops(self.files["training"], recipe.preprocessing.crop)
        names = tuple(study.study_id for study in self.training)
        return TrainingSet(names, crops, self.reports["training"], self.learned)


def trained(fabric: Fabric, variant: Variant, phantoms: Phantoms, seed: int) -> DualEncoder:
    """Return the aligned model; stage 1 is taken from another variant that trained the same, or kept for one."""
    recipe, data = variant.recipe, phantoms.set_for(variant.recipe)
    vision = phantoms.folder / "stage1" / f"vision-{variant.vision}.pt"
    text = phantoms.folder / "stage1" / f"text-{variant.text}.pt"
    findings = len(phantoms.findings.keys)
    if not vision.is_file():
        if "vision" in variant.from_scratch:
            seed_all(seed)
            save_stage(Supervised(vision_encoder(recipe), findings), vision)
        else:
            save_stage(train_vision(fabric, recipe, data, seed, Session()), vision)
    if not text.is_file():
        if "text" in variant.from_scratch:
            save_stage(Supervised(text_encoder(recipe), findings), text)
        else:
            save_stage(train_text(fabric, recipe, data, seed, Session()), text)
    return train_alignment(fabric, recipe, data, vision, text, seed, Session()).eval()


def measured(fabric: Fabric, variant: Variant, model: DualEncoder, phantoms: Phantoms) -> dict[str, float | None]:
    """Return the four measures of the table, and the latents' mean lengths."""
    parts = {name: volume_latents(fabric, model, files, variant.evaluate) for name, files in phantoms.files.items()}
    seen, recipe, plan = parts["held out"], variant.recipe, variant.recipe.alignment_plan
    read = report_latents(fabric, model, phantoms.reports["held out"])
    weight, bias = model.classifier.weight.detach().numpy(), model.classifier.bias.detach().numpy()
    names = [study.study_id for study in phantoms.held_out]
    score = cosine if plan.normalise else np.asarray
    recall = recall_at_k((score(read) @ score(seen).T).astype(np.float64), names, names, (5,), bootstraps=1)
    return {
        "auc": macro_auc(seen @ weight.T + bias, phantoms.true) if plan.shared_classifier else None,
        "zero_shot": macro_auc(zero_shot(model, recipe, phantoms.findings, seen), phantoms.true),
        "probe": macro_auc(probe(parts["training"], phantoms.learned, seen), phantoms.true),
        "recall_at_5": recall["recall_at_5"],
        "chance_recall_at_5": recall["chance_recall_at_5"],
        "norm_volumes": float(np.linalg.norm(seen, axis=1).mean()),
        "norm_reports": float(np.linalg.norm(read, axis=1).mean()),
    }


def cosine(latents: Floats) -> Floats:
    """Return the latents (N, 768) so that their products are what a variant with L2 norm learned from."""
    lengths = np.linalg.norm(latents, axis=1, keepdims=True) * COSINE_TEMPERATURE**0.5
    return np.asarray(latents / lengths, np.float32)


@torch.no_grad()
def volume_latents(fabric: Fabric, model: DualEncoder, files: Sequence[Path], centre: tuple[int, ...] | None) -> Floats:
    """Return latents (N, 768) of whole fields, or of their `centre` of that many voxels (H, W, D)."""
    crops, rows = Crops(files, (1, 1, 1)), []
    for start in range(0, len(files), 16):
        fields = crops.fields(range(start, min(start + 16, len(files))))
        if centre is not None:
            first = [(whole - part) // 2 for whole, part in zip(fields.shape[2:], centre, strict=True)]
            cut = tuple(slice(begin, begin + part) for begin, part in zip(first, centre, strict=True))
            fields = np.ascontiguousarray(fields[:, :, cut[0], cut[1], cut[2]])
        volumes = torch.from_numpy(fields).contiguous(memory_format=torch.channels_last_3d)
        with fabric.autocast():
            rows.append(model.encode_volumes(volumes).float().numpy())
    return np.concatenate(rows)


@torch.no_grad()
def report_latents(fabric: Fabric, model: DualEncoder, reports: Reports) -> Floats:
    """Return latents (N, 768) of reports."""
    reports.remember(model.text, fabric, silent)

    def encode(inputs: Tensor, mask: Tensor) -> Tensor:
        with fabric.autocast():
            return model.encode_texts(inputs, mask)

    starts = range(0, len(reports), 16)
    batches = (range(start, min(start + 16, len(reports))) for start in starts)
    return np.concatenate([reports.pooled(encode, batch, fabric).numpy() for batch in batches])


def zero_shot(model: DualEncoder, recipe: Recipe, findings: FindingSet, seen: Floats) -> Floats:
    """Return p(present) (N, C) of volumes' latents: softmax over each pair's dot products, averaged over the pairs."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file(text_encoder_folder(recipe.text_encoder))))
    score = cosine if recipe.alignment_plan.normalise else np.asarray
    total = np.zeros((len(seen), len(findings.keys)), np.float32)
    for pair in findings.prompts:
        texts = [pair.fill(finding.name.lower()) for finding in findings.findings]
        positive, negative = (
            score(encode_reports(model, tokenizer, side, recipe.network.max_tokens))
            for side in zip(*texts, strict=True)
        )
        total += 1 / (1 + np.exp(-(score(seen) @ (positive - negative).T).clip(-80, 80)))
    return np.asarray(total / len(findings.prompts), np.float32)


def probe(latents: Floats, states: States, seen: Floats) -> Floats:
    """Return decision values (N, C) for `seen` of regressions on the training latents, uncertain entries left out."""
    columns = []
    for column in states.T:
        known = column != State.UNCERTAIN
        line = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_STRENGTH, max_iter=2000))
        columns.append(line.fit(latents[known], column[known] == State.PRESENT).decision_function(seen))
    return np.stack(columns, axis=1).astype(np.float32)


def cell(rows: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]], measure: str) -> str:
    """Return "mean ± spread (difference to the base ± its spread)" of one measure over the seeds both have."""
    values = [row[measure] for row in rows.values() if row[measure] is not None]
    if not values:
        return "–"
    pairs = [
        row[measure] - base[seed][measure]
        for seed, row in rows.items()
        if row is not base.get(seed) and seed in base and None not in (row[measure], base[seed][measure])
    ]
    text = f"{statistics.mean(values):.3f} ± {spread(values)}"
    return text + (f" ({statistics.mean(pairs):+.3f} ± {spread(pairs)})" if pairs else "")


def spread(values: Sequence[float]) -> str:
    """Return the standard deviation over seeds; a dash for one seed."""
    return f"{statistics.stdev(values):.3f}" if len(values) > 1 else "–"


def as_markdown(rows: Sequence[Variant], results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """Return the table of the variants with results: variant name → seed → measures."""
    lines = [f"| variant | {' | '.join(MEASURES.values())} | seeds |", f"|---|{'---|' * len(MEASURES)}---|"]
    question = ""
    for variant in rows:
        found = results.get(variant.name, {})
        if not found:
            continue
        if variant.question not in (question, BASE):
            lines.append(f"| **{variant.question}** |{' |' * (len(MEASURES) + 1)}")
        question = variant.question
        cells = [cell(found, results.get(BASE, {}), measure) for measure in MEASURES]
        lines.append(f"| {variant.name} | {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines)


def caption(results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """Return machine, N and what the cells are."""
    every = [row for found in results.values() for row in found.values()]
    base = list(results.get(BASE, {}).values()) or every
    here = machine()

    def ranged(key: str) -> str:
        values = sorted({row[key] for row in base})
        return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"

    return (
        f"{here['processor']}, 1 thread, torch {here['torch']}; a seed: {ranged('n_training')} training and "
        f"{ranged('n_held_out')} held-out studies of {ranged('n_patients')} other patients, "
        f"{len(LESIONS)} findings; of the training labels {statistics.mean(row['uncertain'] for row in base):.1%} are "
        f"uncertain and {statistics.mean(row['not_mentioned'] for row in base):.1%} not mentioned. "
        f"Chance of recall@5: {statistics.mean(row['chance_recall_at_5'] for row in base):.3f}. "
        f"All variants: {sum(row['cpu_seconds'] for row in every) / 60:.0f} CPU minutes. "
        "Cells: mean ± standard deviation over seeds (the same of the differences to the base within each seed)."
    )


def kept(path: Path, variant: Variant) -> dict[str, Any] | None:
    """Return a finished variant's result, None if there is none or it is of another recipe."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content if content["digest"] == variant.digest else None


def result_file(scratch: Path, seed: int, variant: Variant) -> Path:
    """Return where a variant's result is kept."""
    return scratch / "results" / f"{seed}-{variant.digest}.json"


def all_results(scratch: Path, seeds: Sequence[int], rows: Sequence[Variant]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return variant name → seed → measures of all that is finished."""
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for variant in rows:
        for seed in seeds:
            row = kept(result_file(scratch, seed, variant), variant)
            if row is not None:
                results.setdefault(variant.name, {})[seed] = row
    return results


def run_seed(scratch: Path, seed: int, studies: int, rows: Sequence[Variant]) -> None:
    """Train and measure the variants that have no result yet; a training serves all rows that only score otherwise."""
    fabric, phantoms = make_fabric(), Phantoms.of(scratch / f"seed-{seed}", seed, studies, rows[0].recipe)
    missing: dict[str, list[Variant]] = {}
    for variant in rows:
        if kept(result_file(scratch, seed, variant), variant) is None:
            missing.setdefault(variant.training, []).append(variant)
    for alike in missing.values():
        begun = time.process_time()
        model = trained(fabric, alike[0], phantoms, seed)
        for variant in alike:
            row = measured(fabric, variant, model, phantoms)
            facts = {
                "variant": variant.name, "seed": seed, "digest": variant.digest, **row,
                "n_training": len(phantoms.training), "n_held_out": len(phantoms.held_out),
                "n_patients": len({study.patient_id for study in phantoms.held_out}),
                "uncertain": float((phantoms.learned == State.UNCERTAIN).mean()),
                "not_mentioned": float((phantoms.learned == State.NOT_MENTIONED).mean()),
                "cpu_seconds": time.process_time() - begun,
            }  # fmt: skip
            begun = time.process_time()
            write_text(result_file(scratch, seed, variant), json.dumps(facts, indent=1) + "\n")
            shown = ", ".join(f"{name} {row[key]:.3f}" for key, name in MEASURES.items() if row[key] is not None)
            print(f"seed {seed}, {variant.name}: {shown}, {facts['cpu_seconds']:.0f} CPU s", flush=True)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for phantoms, stage 1 and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--table", action="store_true", help="print what is finished and train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Another number of studies is another split.
    rows, scratch = variants(), arguments.scratch / f"{arguments.studies}-studies"
    if not arguments.table:
        for seed in arguments.seeds:
            run_seed(scratch, seed, arguments.studies, rows)
    results = all_results(scratch, arguments.seeds, rows)
    print(as_markdown(rows, results), caption(results), sep="\n\n")


if __name__ == "__main__":
    main()

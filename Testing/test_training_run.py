"""What a run refuses in one sentence, what it leaves out by name, and what it measures to fit memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from greenrfm.cohort import Cohort, Study
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, load_finding_set
from greenrfm.progress import silent
from greenrfm.training import run, vram
from greenrfm.training.checks import check_labels, learnable, parts_of
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import load_recipe, parse_recipe
from greenrfm.training.vram import Choice, choose, parse_bytes, remembered
from test_training import KEYS, cohort_of, small_recipe

HERE = Path("cohort.csv")


def studies(train: int, validation: int) -> Cohort:
    splits = ["train"] * train + ["validation"] * validation
    return Cohort(HERE, tuple(Study(f"s{i}", f"p{i}", {}, "", split) for i, split in enumerate(splits)))


def table(cohort: Cohort, states: np.ndarray) -> LabelTable:
    return LabelTable(tuple(study.study_id for study in cohort), KEYS, states.astype(np.int8))


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match="has no validation studies, training needs more; put studies into split"):
        parts_of(studies(10, 0))
    with pytest.raises(UserError, match="has 1 train study"):
        parts_of(studies(1, 5))


def test_labels_of_unknown_studies_are_named():
    with pytest.raises(UserError, match=r"2 studies that cohort cohort\.csv does not have, first s3; remove"):
        check_labels(table(studies(5, 0), np.zeros((5, 2))), studies(3, 0))


def test_a_finding_with_no_positive_is_left_out_with_a_sentence():
    cohort = studies(12, 6)
    states = np.tile([[0, 0], [1, 1]], (9, 1))
    states[12:, 1] = 0
    found = learnable(table(cohort, states), parts_of(cohort))
    assert found.keys == (KEYS[0],)
    assert found.left_out[KEYS[1]].startswith(f"{KEYS[1]} is left out: stated present in no validation studies, 2 are")


def test_an_unreadable_volume_is_listed_and_left_out_only_if_asked(tmp_path, monkeypatch):
    cohort, labels = cohort_of(tmp_path, 40, (12, 12, 12))
    (tmp_path / "s3.nii.gz").write_bytes(b"no volume")
    seen, said = [], []

    def stop(fabric, recipe, data, validation, *rest):
        seen.extend(data.studies)
        raise UserError("far enough")

    monkeypatch.setattr(run, "train_stages", stop)
    arguments = (cohort, labels, load_finding_set("chest-ct-18").subset(KEYS), small_recipe())
    options = {"seed": 0, "progress": silent, "workers": 1, "say": said.append}
    with pytest.raises(UserError, match="s3"):
        run.train(*arguments, tmp_path / "a", resume=False, **options)
    assert not seen
    for resume in (False, True):  # the same studies are left out when it goes on
        seen.clear()
        said.clear()
        with pytest.raises(UserError, match="far enough"):
            run.train(*arguments, tmp_path / "b", resume=resume, skip_unreadable=True, **options)
        assert len(said) == 1
        assert said[0].startswith("skipped: study s3: ")
        assert len(seen) == 31
        assert "s3" not in seen
    assert "s3," not in (tmp_path / "b" / "split.csv").read_text()
    assert parse_recipe(yaml.safe_load((tmp_path / "b" / "recipe.yaml").read_text()), "again") == small_recipe()
    environment = json.loads((tmp_path / "b" / "environment.json").read_text())
    assert environment["software"]["torch"] == torch.__version__
    assert environment["precision"]


@pytest.mark.parametrize(("text", "size"), [("6GB", 6e9), ("6 GiB", 6 * 2**30), ("500mb", 5e8), ("1.5gb", 1.5e9)])
def test_memory_is_written_with_its_unit(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["6", "GB", "0GB", "-1GB", "6 apples"])
def test_memory_without_a_unit_is_refused(text):
    with pytest.raises(UserError, match="write it like 6GB"):
        parse_bytes(text)


def test_the_fastest_way_that_fits_is_chosen_and_kept(tmp_path, monkeypatch):
    tried: list[tuple[int, bool]] = []

    def step(recipe, findings, micro, checkpointing, fabric):
        tried.append((micro, checkpointing))
        if micro == 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Choice(micro, checkpointing, micro * (5 if checkpointing else 10) * 10**8, 1.3 if checkpointing else 1.0)

    monkeypatch.setattr(vram, "_step", step)
    monkeypatch.setattr(vram.Path, "exists", lambda path: True)
    recipe, fabric = load_recipe("lite"), make_fabric("32-true")
    assert choose(recipe, 18, int(4e9), fabric) == Choice(5, True, 25 * 10**8, 1.3)  # 3 would be faster
    assert tried == [(10, False), (10, True), (5, False), (5, True), (3, False)]
    changed, said = remembered(tmp_path, recipe, 18, int(4e9), fabric)
    assert (changed.stage2.batch, changed.stage2.micro_batch, changed.stage2.checkpointing) == (10, 5, True)
    assert said == "memory: 5 studies at a time, activations computed twice: 2.50 of 4.00 GB, 0.8 studies/s"
    tried.clear()
    assert remembered(tmp_path, recipe, 18, None, fabric)[0] == changed
    assert not tried
    assert remembered(tmp_path, recipe, 18, int(7e9), fabric)[0].stage2.micro_batch == 5  # another limit, measured anew
    assert tried
    assert choose(recipe, 18, int(2e9), fabric).micro == 3  # and not 1, which is faster
    with pytest.raises(UserError, match=r"not even one study at a time fits in 0\.5 GB"):
        choose(recipe, 18, int(5e8), fabric)

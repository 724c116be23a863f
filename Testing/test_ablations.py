"""The ablation table: every row is a valid recipe, what is shared may be shared, differences are within seeds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def benchmark() -> ModuleType:
    path = ROOT / "train" / "benchmarks" / "ablations.py"
    spec = importlib.util.spec_from_file_location("ablations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


ablations = benchmark()
ROWS = {row.name: row for row in ablations.variants()}


def row(auc: float | None, recall: float = 0.1) -> dict[str, float | None]:
    return {"auc": auc, "zero_shot": 0.6, "probe": 0.7, "recall_at_5": recall}


def test_the_base_is_the_first_row_and_no_two_rows_are_the_same():
    assert next(iter(ROWS)) == ablations.BASE
    assert len({each.digest for each in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "base"])
def test_a_row_differs_from_the_base_in_recipe_start_or_field(name):
    base, variant = ROWS["base"], ROWS[name]
    same_recipe = variant.recipe == base.recipe
    assert not same_recipe or variant.from_scratch or variant.evaluate


@pytest.mark.parametrize(
    ("name", "vision", "text"),
    [
        ("L2 norm, temperature 0.07", True, True),
        ("no shared classifier", True, True),
        ("soft contrastive targets 0.1", True, True),
        ("trained on crops of 80 %", False, True),
        ("not mentioned: masked", False, False),
        ("vision and text from scratch, as long a stage 2", False, False),
    ],
)
def test_rows_share_stage_1_where_nothing_of_it_differs(name, vision, text):
    base, variant = ROWS["base"], ROWS[name]
    assert (variant.vision == base.vision, variant.text == base.text) == (vision, text)


def test_a_row_that_only_scores_otherwise_shares_the_whole_training():
    centre = [each for each in ROWS.values() if each.evaluate and each.recipe == ROWS["base"].recipe]
    assert centre
    assert {each.training for each in centre} == {ROWS["base"].training}


def test_a_difference_is_taken_within_the_seed():
    base = {0: row(0.80), 1: row(0.70), 2: row(0.90)}
    found = {0: row(0.82), 1: row(0.72)}
    assert ablations.cell(found, base, "auc") == "0.770 ± 0.071 (+0.020 ± 0.000)"
    assert ablations.cell(base, base, "auc") == "0.800 ± 0.100"


def test_without_shared_classifier_its_column_is_a_dash():
    assert ablations.cell({0: row(None)}, {0: row(0.8)}, "auc") == "–"


def test_the_table_has_a_row_for_what_is_finished_only():
    base, masked = ROWS["base"], ROWS["not mentioned: masked"]
    table = ablations.as_markdown(list(ROWS.values()), {"base": {0: row(0.8)}, masked.name: {0: row(0.7)}})
    lines = table.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(f"| {base.name} | 0.800 ± – |")
    assert lines[3].startswith(f"| **{masked.question}** |")
    assert "(-0.100 ± –)" in lines[4]
    assert len(lines) == 5


def test_a_result_of_another_recipe_does_not_count(tmp_path):
    variant = ROWS["base"]
    file = ablations.result_file(tmp_path, 0, variant)
    file.parent.mkdir()
    file.write_text(json.dumps({"digest": "another", **row(0.8)}))
    assert ablations.all_results(tmp_path, [0], [variant]) == {}
    file.write_text(json.dumps({"digest": variant.digest, **row(0.8)}))
    assert ablations.all_results(tmp_path, [0, 1], [variant])["base"].keys() == {0}

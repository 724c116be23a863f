"""Recipes: what they hold, what they refuse, and where their files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from greenrfm.errors import UserError
from greenrfm.training.choices import Policy, VisionWeights
from greenrfm.training.recipe import Recipe, load_recipe, packaged_recipes, parse_recipe


def content(name: str = "lite") -> dict[str, Any]:
    return {
        **load_recipe(name).model_dump(mode="json", exclude={"preprocessing"}),
        "preprocessing": load_recipe(name).preprocessing.to_dict(),
    }


def changed(part: str, **values: Any) -> Recipe:
    recipe = content()
    recipe[part] = {**recipe[part], **values}
    return parse_recipe(recipe, "mine.yaml")


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_recipe_written_out_is_the_same_recipe(name):
    resolved = yaml.safe_dump(content(name))
    assert parse_recipe(yaml.safe_load(resolved), "resolved.yaml") == load_recipe(name)


def test_the_packaged_recipes_are_those_of_the_documentation():
    assert packaged_recipes() == ("adrenal", "lite", "mr", "performant", "tiny")


@pytest.mark.parametrize(
    ("written", "target", "weight"),
    [("mask", 0, 0), ({"soft": 0.3}, 0.3, 1), ({"soft": 0.0}, 0, 1), ({"negative": 0.5}, 0, 0.5)],
)
def test_a_policy_is_a_target_and_a_weight(written, target, weight):
    policy = changed("labels", uncertain=written).labels.uncertain
    assert (policy.target, policy.weight) == (target, weight)
    assert policy.model_dump() == written


def test_uncertain_is_masked_unless_the_recipe_says_otherwise():
    assert load_recipe("lite").labels.uncertain == Policy()


def test_not_mentioned_weight_is_short_for_a_policy():
    recipe = content()
    recipe["labels"] = {"not_mentioned_weight": 0.5}
    labels = parse_recipe(recipe, "mine.yaml").labels
    assert labels.not_mentioned == Policy(negative=0.5)
    assert labels.not_mentioned_weight == 0.5


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "not_mentioned"),
        ({"not_mentioned": "mask", "not_mentioned_weight": 1}, "either not_mentioned or"),
        ({"not_mentioned": "masked"}, "must be 'mask'"),
        ({"not_mentioned": {"soft": 0.5, "negative": 1}}, "must be 'mask'"),
        ({"not_mentioned": {"sotf": 0.5}}, "did you mean 'soft'"),
        ({"not_mentioned": {"soft": 1.5}}, "less than or equal to 1"),
        ({"not_mentioned_wieght": 1}, "did you mean 'not_mentioned_weight'"),
        ({"not_mentioned": "mask", "uncertian": "mask"}, "did you mean 'uncertain'"),
        ({"not_mentioned": "mask", "pos_weight": 0.5}, "greater than or equal to 1"),
    ],
)
def test_labels_that_make_no_sense_are_refused_in_one_sentence(labels, said):
    recipe = {**content(), "labels": labels}
    with pytest.raises(UserError, match=said) as refused:
        parse_recipe(recipe, "mine.yaml")
    assert "mine.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_rate_is_a_number():
    recipe = content()
    recipe["stage1_vision"] = {**recipe["stage1_vision"], "rate": float("inf")}
    with pytest.raises(UserError, match=r"stage1_vision\.rate.*finite"):
        parse_recipe(recipe, "mine.yaml")


def test_one_frozen_module_needs_no_list():
    assert changed("stage1_vision", freeze="layer1").stage1_vision.freeze == ("layer1",)


def test_vision_weights_have_no_default():
    recipe = content()
    del recipe["network"]["vision_weights"]
    with pytest.raises(UserError, match=r"network\.vision_weights.*required"):
        parse_recipe(recipe, "mine.yaml")


@pytest.mark.parametrize("written", ["random", {"kinetics": "/weights/r3d_18.pth"}, "/runs/before"])
def test_vision_weights_are_written_as_they_were_given(written):
    recipe = changed("network", vision_weights=written)
    assert recipe.model_dump(mode="json")["network"]["vision_weights"] == written


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("kinetics", "{kinetics: FILE}"),
        ({"kinetic": "a.pth"}, "did you mean 'kinetics'"),
        (3, "must be random"),
        ({"earlier": "run"}, "as its path alone"),
    ],
)
def test_other_vision_weights_are_refused(written, said):
    with pytest.raises(UserError, match=said):
        changed("network", vision_weights=written)


@pytest.mark.parametrize("stage", ["stage1_vision", "stage1_text", "stage2"])
def test_a_misspelt_key_of_a_stage_names_the_nearest(stage):
    with pytest.raises(UserError, match="did you mean 'patience'"):
        changed(stage, patiance=2)


def test_a_micro_batch_is_no_larger_than_the_batch():
    with pytest.raises(UserError, match="micro_batch 20 is larger than batch 10"):
        changed("stage2", micro_batch=20)


class TestVisionAlone:
    def test_leaves_out_both_other_stages(self):
        recipe = content()
        del recipe["stage2"], recipe["stage1_text"]
        parsed = parse_recipe(recipe, "mine.yaml")
        assert parsed.is_vision_only
        with pytest.raises(UserError, match="trains vision alone"):
            _ = parsed.alignment_plan

    def test_is_not_half_of_them(self):
        recipe = content()
        del recipe["stage2"]
        with pytest.raises(UserError, match="both stage1_text and stage2"):
            parse_recipe(recipe, "mine.yaml")


class TestFilesOfARecipe:
    def test_lie_relative_to_it(self, tmp_path, monkeypatch):
        (tmp_path / "weights.pth").touch()
        (tmp_path / "bert").mkdir()
        recipe = content()
        recipe["network"] |= {"vision_weights": {"kinetics": "weights.pth"}, "text_encoder": "bert"}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        monkeypatch.chdir(Path("/"))
        network = load_recipe(str(tmp_path / "mine.yaml")).network
        assert network.vision_weights == VisionWeights(kinetics=str(tmp_path / "weights.pth"))
        assert network.text_encoder == str(tmp_path / "bert")

    def test_do_not_travel_with_their_folders(self, tmp_path):
        recipe = changed("network", vision_weights=str(tmp_path / "run"), text_encoder=str(tmp_path / "bert"))
        assert str(tmp_path) not in str(recipe.travelling())
        assert recipe.travelling()["network"]["vision_weights"] == "earlier run"

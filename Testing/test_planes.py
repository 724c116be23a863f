"""MR in three planes: networks, missing images, orientation, training, and reading by one ONNX a plane."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import ROOT, Answer, write_csv
from greenrfm.bundle import Bundle, check
from greenrfm.cohort import Inputs, Study, read_cohort
from greenrfm.commands.scan import scans_at, scans_of
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable
from greenrfm.library import CaseLibrary
from greenrfm.networks import DualEncoder, PlaneEncoders, Supervised, VisionAlone, VisionEncoder, VisionExport
from greenrfm.phantoms.knee_study import draw_knee_study
from greenrfm.progress import silent
from greenrfm.reading import Reader, Reading, read_planes
from greenrfm.training import vram
from greenrfm.training.align import train_alignment
from greenrfm.training.batches import TrainingSet, augmented
from greenrfm.training.encoders import load_stage, save_stage, text_encoder, untrained_vision, vision_encoder
from greenrfm.training.initial import begin_vision
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Augmentation, Recipe, load_recipe, parse_recipe
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_vision
from greenrfm.training.volumes import Crops, prepare_readable, volume_key
from greenrfm.volumes import PLANES, Volume, orient, read_volume, write_volume
from small_alignment import small_bert

SEQUENCES = ("pd", "t1", "t2fs")
INPUTS = Inputs(PLANES, SEQUENCES)
Images = dict[tuple[str, str], Volume]


def recipe_of(**changed: object) -> dict[str, object]:
    return {
        "name": "knee-small",
        "description": "a width that tests have time for",
        "preprocessing": {
            "spacing": None, "size": [60, 60, 28], "crop": [52, 52, 24], "intensity": "zscore",
            "percentiles": [1.0, 99.0], "orientation": "acquired",
        },
        "network": {"width": 4, "stem": [4, 4, 2], "planes": list(PLANES), "sequences": list(SEQUENCES),
                    "vision_weights": "random"},
        "labels": {"not_mentioned_weight": 1.0},
        "augmentation": {"offset": 0.1, "gain": 0.1, "mirror": True},
        "stage1_vision": {"epochs": 1, "batch": 6, "rate": 0.01},
        **changed,
    }  # fmt: skip


def small_recipe(**changed: object) -> Recipe:
    return parse_recipe(recipe_of(**changed), "small")


def child(*arguments: str | Path, cwd: Path) -> Answer:
    """Run one command line in a Python of its own, with more time than reading takes: it trains."""
    done = subprocess.run(
        [sys.executable, "-c", "from greenrfm.commands.main import main\nmain()", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT / "train"), "PYTHONIOENCODING": "utf-8"},
        timeout=500,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def images() -> Images:
    """Return a study with every plane and all but one sequence."""
    study = next(found for seed in range(90) if len((found := draw_knee_study(seed, 0, 56)).volumes) >= 6)
    return dict(study.volumes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a generated cohort of which enough studies are in validation, and a run by its bundle."""
    folder = tmp_path_factory.mktemp("knee")
    arguments = ("--studies", "15", "--matrix", "56", "--seed", "5", "--out", "cohort", "--workers", "1")
    answer = child("phantoms", "knee", *arguments, cwd=folder)
    assert answer.code == 0, answer.err
    with (folder / "cohort" / "cohort.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for place, row in enumerate(rows):
        row["split"] = "train" if place < 10 else "validation" if place < 14 else "test"
    with (folder / "cohort" / "cohort.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    # Two findings that every other study has, so that both can be learned whatever was drawn.
    states = np.array([[place % 2, (place + 1) % 2] for place in range(len(rows))], np.int8)
    table = LabelTable(tuple(row["study_id"] for row in rows), ("acl", "fracture"), states)
    table.write(folder / "labels.csv")
    (folder / "findings.yaml").write_text(
        yaml.safe_dump({
            "name": "knee-two", "title": "Two findings", "modality": "MR", "body_part": "knee",
            "findings": [{"key": "acl", "name": "ACL lesion"}, {"key": "fracture", "name": "Fracture"}],
        }),
        encoding="utf-8",
    )  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe_of()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    answer = child(
        "train", "cohort/cohort.csv", "--labels", "labels.csv", "--findings", "findings.yaml", "--recipe", "small.yaml",
        "--out", "run", "--cache", "cache", cwd=folder,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return Bundle.load(folder / "run" / "bundle")


class TestNetworks:
    def model(self) -> PlaneEncoders:
        torch.manual_seed(0)
        return PlaneEncoders(PLANES, 2, 4, (4, 4, 2))

    def volumes(self, studies: int = 3) -> torch.Tensor:
        return torch.randn(studies, 6, 48, 48, 24, generator=torch.Generator().manual_seed(1))

    def test_features_are_the_mean_over_the_planes_that_a_study_has(self) -> None:
        model, volumes = self.model().eval(), self.volumes()
        volumes[1, 2:4] = 0
        with torch.no_grad():
            found = model(volumes)
            each = [model.by_plane[plane](volumes[:, 2 * at : 2 * at + 2]) for at, plane in enumerate(PLANES)]
        torch.testing.assert_close(found[0], (each[0] + each[1] + each[2])[0] / 3)
        torch.testing.assert_close(found[1], (each[0] + each[2])[1] / 2)

    def test_a_plane_that_is_missing_leaves_its_batch_statistics_alone(self) -> None:
        model, volumes = self.model().train(), self.volumes()
        volumes[0, :2] = 0
        model(volumes)
        alone = self.model().train().by_plane["sagittal"]
        alone(volumes[1:, :2])
        for name, value in model.by_plane["sagittal"].named_buffers():
            torch.testing.assert_close(value, alone.get_buffer(name))

    def test_a_plane_that_no_study_has_still_gives_every_weight_a_gradient_of_zero(self) -> None:
        model, volumes = self.model().train(), self.volumes()
        volumes[:, :2] = 0
        before = {name: value.clone() for name, value in model.by_plane["sagittal"].named_buffers()}
        model(volumes).square().sum().backward()
        for encoder in model.by_plane.values():
            for parameter in encoder.parameters():
                assert parameter.grad is not None
                assert encoder is model.by_plane["sagittal"] or parameter.grad.isfinite().all()
        assert all(not parameter.grad.any() for parameter in model.by_plane["sagittal"].parameters())
        for name, value in model.by_plane["sagittal"].named_buffers():
            if "num_batches" not in name:  # a counter that no normalisation with a momentum looks at
                torch.testing.assert_close(value, before[name])

    def test_the_paper_s_networks_are_one_resnet_a_plane_with_the_stem_1_2_2(self) -> None:
        recipe = load_recipe("mr")
        assert (recipe.network.planes, recipe.network.sequences) == (PLANES, SEQUENCES)
        with torch.device("meta"):
            encoder = vision_encoder(recipe)
        assert isinstance(encoder, PlaneEncoders)
        for plane in encoder.by_plane.values():
            assert (plane.net.conv1.kernel_size, plane.net.conv1.stride) == ((2, 2, 1), (2, 2, 1))
            assert plane.net.conv1.in_channels == 3

    def test_the_mean_of_the_planes_latents_is_the_latent_of_their_mean_features(self) -> None:
        model = VisionAlone(Supervised(self.model().eval(), 2)).eval()
        volumes = self.volumes(1)
        with torch.no_grad():
            each = [
                VisionExport(model, plane=plane)(volumes[:, 2 * at : 2 * at + 2])[0] for at, plane in enumerate(PLANES)
            ]
            torch.testing.assert_close(model.encode_volumes(volumes), torch.stack(each).mean(0))


class TestImagesOfAStudy:
    def test_without_any_of_them_it_is_refused_in_one_sentence(self) -> None:
        with pytest.raises(UserError, match=r"study a has none of the images image_pd_sagittal, .*; fill one of these"):
            INPUTS.check(Study("a", "p", {"image": Path("x")}))
        with pytest.raises(UserError, match=r"study a has no image; .* need a recipe that names them, such as mr"):
            Inputs().check(Study("a", "p", {"image_pd_sagittal": Path("x")}))

    def test_in_a_column_that_names_no_plane_are_refused_with_the_nearest(self) -> None:
        studies = [Study("a", "p", {"image_pd_saggital": Path("x"), "image_pd_axial": Path("y")})]
        with pytest.raises(UserError, match=r"'image_pd_saggital' .*names no plane; did you mean 'image_pd_sagittal'"):
            INPUTS.unread(studies)

    def test_of_a_sequence_that_the_recipe_does_not_name_are_said_to_be_unread(self) -> None:
        (sentence,) = INPUTS.unread([Study("a", "p", {"image_dwi_axial": Path("x"), "image_pd_axial": Path("y")})])
        assert sentence.startswith("column 'image_dwi_axial' is not read")

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            ({"planes": ["axial"], "sequences": []}, "give both planes and sequences"),
            ({"planes": ["axial", "axial"], "sequences": ["t1"]}, "once"),
            ({"planes": ["oblique"], "sequences": ["t1"]}, "planes"),
        ],
    )
    def test_are_named_by_a_recipe_that_makes_sense(self, network: dict[str, object], message: str) -> None:
        content = recipe_of()
        assert isinstance(content["network"], dict)
        with pytest.raises(UserError, match=message):
            parse_recipe({**content, "network": {**content["network"], **network}}, "mine.yaml")

    def test_become_channels_in_order_and_what_is_missing_zeros(self, images: Images, tmp_path: Path) -> None:
        taken = {key: volume for key, volume in images.items() if key[1] != "coronal"}
        study = Study("a", "p", {})
        for (sequence, plane), volume in taken.items():
            study.images[f"image_{sequence}_{plane}"] = tmp_path / f"{sequence}_{plane}.nii.gz"
            write_volume(volume, study.images[f"image_{sequence}_{plane}"])
        recipe = small_recipe()
        found = prepare_readable([study], recipe.preprocessing, tmp_path / "cache", 1, silent, inputs=INPUTS)
        crops = Crops([found.files["a"]], recipe.preprocessing.crop, INPUTS)
        whole = crops.fields([0])[0]
        for channel, column in enumerate(INPUTS.columns):
            _, sequence, plane = column.split("_")
            if (sequence, plane) in taken:
                wanted = recipe.preprocessing.for_plane(plane).apply(taken[sequence, plane]).array
                np.testing.assert_allclose(whole[channel], wanted, atol=4e-3)
            else:
                assert not whole[channel].any()
        part = augmented(crops, [0], Augmentation(offset=0.5, gain=0.2), np.random.default_rng(0))[0]  # type: ignore[arg-type]
        for channel, column in enumerate(INPUTS.columns):
            assert bool(part[channel].any()) == (column in study.images)

    def test_of_which_one_cannot_be_read_make_the_study_unreadable(self, images: Images, tmp_path: Path) -> None:
        study = Study("a", "p", {"image_pd_axial": tmp_path / "no.nii.gz", "image_t1_sagittal": tmp_path / "t1.nii.gz"})
        write_volume(next(volume for key, volume in images.items() if key[1] == "sagittal"), tmp_path / "t1.nii.gz")
        (tmp_path / "no.nii.gz").write_bytes(b"no image")
        recipe = small_recipe()
        found = prepare_readable([study], recipe.preprocessing, tmp_path / "cache", 1, silent, inputs=INPUTS)
        assert not found.files
        assert found.unreadable["a"].startswith("image_pd_axial: ")
        with pytest.raises(UserError, match="study a, image_pd_axial: "):
            prepare_readable(
                [study], recipe.preprocessing, tmp_path / "cache", 1, silent, inputs=INPUTS, skip_unreadable=False
            )

    def test_name_the_run_together(self, tmp_path: Path) -> None:
        study = Study("a", "p", {"image_pd_axial": tmp_path / "one", "image_t1_axial": tmp_path / "two"})
        for path in study.images.values():
            path.write_bytes(b"x")
        before = volume_key(study, small_recipe().preprocessing, INPUTS)
        (tmp_path / "two").write_bytes(b"xy")
        assert volume_key(study, small_recipe().preprocessing, INPUTS) != before

    def test_are_mirrored_left_to_right_in_each_plane(self) -> None:
        crops = Crops([], (4, 4, 4), Inputs(PLANES, ("pd",)))
        study = torch.randn(3, 4, 4, 4)
        found = crops.mirrored(study)
        for row, axis in ((0, 3), (1, 2), (2, 2)):  # sagittal slices run from right to left
            torch.testing.assert_close(found[row], study.flip(axis)[row])


class TestOrientation:
    @settings(max_examples=25, deadline=None)
    @given(
        plane=st.sampled_from(PLANES),
        order=st.sampled_from(list(permutations(range(3)))),
        flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    )
    def test_of_the_stored_stack_makes_no_difference(
        self, images: Images, plane: str, order: tuple[int, ...], flips: tuple[bool, ...]
    ) -> None:
        volume = next(found for key, found in images.items() if key[1] == plane)
        preprocessing = small_recipe().preprocessing.for_plane(plane)
        expected = preprocessing.apply(volume)
        found = preprocessing.apply(turned(volume, order, flips))
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)

    def test_puts_the_slices_of_each_plane_last(self, images: Images) -> None:
        for (_, plane), volume in images.items():
            prepared = small_recipe().preprocessing.for_plane(plane).apply(volume)
            assert int(np.argmax(np.linalg.norm(prepared.affine[:3, :3], axis=0))) == 2

    def test_of_another_plane_than_its_name_is_refused(self, images: Images) -> None:
        volume = next(found for key, found in images.items() if key[1] == "axial")
        with pytest.raises(UserError, match="its slices are axial, not coronal"):
            small_recipe().preprocessing.for_plane("coronal").apply(volume)


def turned(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    opposite = {"P": "A", "A": "P", "L": "R", "R": "L", "S": "I", "I": "S"}
    codes = [volume.axis_codes[axis] for axis in order]
    return orient(volume, "".join(opposite[code] if flip else code for code, flip in zip(codes, flips, strict=True)))


class SomeStudies:
    """Random studies of which some lack a plane; what `Crops` gives the stages."""

    def __init__(self, studies: int) -> None:
        rng = np.random.default_rng(0)
        self._volumes = rng.standard_normal((studies, 4, 48, 48, 16)).astype(np.float32)
        self._volumes[::3, :2] = 0

    def random(self, indices: list[int], rng: np.random.Generator) -> np.ndarray:
        return self._volumes[list(indices)]

    fields = random


class TestTraining:
    def recipe(self, folder: Path, **network: object) -> Recipe:
        content = recipe_of(
            stage1_text={"epochs": 1, "batch": 6, "rate": 0.001},
            stage2={"epochs": 1, "batch": 6, "rate": 0.001, "micro_batch": 2},
            augmentation={},
        )
        content["network"] = {
            "width": 4, "stem": [4, 4, 2], "planes": ["sagittal", "axial"], "sequences": ["pd", "t1"],
            "vision_weights": "random", "text_encoder": str(small_bert(folder / "bert")), "max_tokens": 16, **network,
        }  # fmt: skip
        return parse_recipe(content, "small")

    def studies(self, recipe: Recipe) -> TrainingSet:
        states = np.random.default_rng(1).integers(0, 2, (6, 2)).astype(np.int8)
        names = tuple(f"s{index}" for index in range(6))
        texts = [f"Effusion {index}." for index in range(6)]
        return TrainingSet(names, SomeStudies(6), Reports(recipe, texts), states)  # type: ignore[arg-type]

    def test_goes_through_both_stages_with_planes_missing_and_replayed_in_parts(self, tmp_path: Path) -> None:
        recipe = self.recipe(tmp_path)
        data = self.studies(recipe)
        fabric = make_fabric("32-true")
        stage1 = train_vision(fabric, recipe, data, 0, Session())
        save_stage(stage1, tmp_path / "vision.pt")
        save_stage(Supervised(text_encoder(recipe), 2), tmp_path / "text.pt")
        model = train_alignment(fabric, recipe, data, tmp_path / "vision.pt", tmp_path / "text.pt", 0, Session())
        assert isinstance(model, DualEncoder)
        assert isinstance(model.vision, PlaneEncoders)
        before = stage1.encoder.state_dict()
        moved = [name for name, value in model.vision.state_dict().items() if not torch.equal(value, before[name])]
        assert any("sagittal" in name for name in moved)
        assert any("axial" in name for name in moved)
        assert all(value.isfinite().all() for value in model.state_dict().values())

    def test_begins_from_an_earlier_run_plane_by_plane(self, tmp_path: Path) -> None:
        recipe = self.recipe(tmp_path)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
        torch.manual_seed(0)
        save_stage(Supervised(vision_encoder(recipe), 2), tmp_path / "run" / "stage1_vision.pt")
        again = self.recipe(tmp_path, vision_weights=str(tmp_path / "run"))
        begun = begin_vision(vision_encoder(again), again)
        kept = torch.load(tmp_path / "run" / "stage1_vision.pt", weights_only=True)
        assert all(torch.equal(kept[f"encoder.{name}"], value) for name, value in begun.state_dict().items())

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux measures a CPU's peak")
    def test_is_measured_for_a_memory_limit(self, tmp_path: Path) -> None:
        assert vram._step(self.recipe(tmp_path), 2, 2, True, make_fabric("32-true")).peak > 0


class TestABundle:
    def study(self, folder: Path) -> tuple[str, Images]:
        """Return the first study that has all planes."""
        cohort = read_cohort(folder / "cohort" / "cohort.csv")
        for study in cohort:
            names = {column: (column.split("_")[1], column.split("_")[2]) for column in study.images}
            if {plane for _, plane in names.values()} == set(PLANES):
                return study.study_id, {names[column]: read_volume(path) for column, path in study.images.items()}
        raise AssertionError("no study has all planes")

    def test_has_a_network_for_each_plane_and_passes_every_check(self, bundle: Bundle) -> None:
        assert [network.file for network in bundle.manifest.networks] == [f"vision-{plane}.onnx" for plane in PLANES]
        assert all(network.sequences == SEQUENCES for network in bundle.manifest.networks)
        assert {f"input-{plane}" for plane in PLANES} <= set(bundle.reference())
        results = check(bundle)
        assert all(result.ok for result in results), results
        assert child("bundle", "check", bundle.folder, cwd=bundle.folder).code == 0

    def test_computes_what_torch_does_in_each_plane_and_averages_the_latents(
        self, folder: Path, bundle: Bundle
    ) -> None:
        recipe = load_recipe(str(folder / "small.yaml"))
        model = VisionAlone(load_stage(untrained_vision(recipe, 2), folder / "run" / "stage1_vision.pt")).eval()
        _, images = self.study(folder)
        latents = []
        for plane in PLANES:
            field = np.zeros((1, 3, *recipe.preprocessing.size), np.float32)
            for channel, sequence in enumerate(SEQUENCES):
                if (sequence, plane) in images:
                    field[0, channel] = recipe.preprocessing.for_plane(plane).apply(images[sequence, plane]).array
            with torch.no_grad():
                expected = VisionExport(model, plane=plane)(torch.from_numpy(field))[0][0].numpy()
            (found,) = bundle.vision(1, plane).run(["latent"], {"volume": field})
            np.testing.assert_allclose(found[0], expected, atol=1e-4)
            latents.append(expected)
        reading = read_planes(Reader(bundle, 1), images, field="padded")
        np.testing.assert_allclose(reading.latent, np.mean(latents, axis=0), atol=1e-4)

    def test_has_heat_maps_whose_means_average_to_the_logit(self, folder: Path, bundle: Bundle) -> None:
        reading = read_planes(Reader(bundle, 1), self.study(folder)[1], heatmaps=True, field="padded")
        assert set(reading.plane_heatmaps) == set(PLANES)
        assert reading.heatmaps is None
        for score in reading.scores:
            means = [maps[score.key].mean(dtype=np.float64) for maps in reading.plane_heatmaps.values()]
            assert np.mean(means) == pytest.approx(score.logit, abs=1e-4)

    def test_reads_the_same_however_the_stacks_are_stored(self, folder: Path, bundle: Bundle) -> None:
        _, images = self.study(folder)
        reader = Reader(bundle, 1)
        turns = list(permutations(range(3)))
        moved = {
            key: turned(volume, turns[number % 6], (number % 2 == 0, number % 3 == 0, True))
            for number, (key, volume) in enumerate(images.items())
        }
        np.testing.assert_array_equal(read_planes(reader, moved).latent, read_planes(reader, images).latent)

    def test_names_the_planes_and_sequences_that_are_missing(self, folder: Path, bundle: Bundle) -> None:
        _, images = self.study(folder)
        part = {key: volume for key, volume in images.items() if key[1] != "coronal"}
        dropped = next(iter(part))
        del part[dropped]
        reading = read_planes(Reader(bundle, 1), part)
        said = " ".join(reading.warnings)
        assert "no coronal images: it was read from sagittal, axial alone" in said
        assert f"{dropped[0]} {dropped[1]}" in said

    def test_takes_a_single_volume_as_the_plane_of_its_slices(self, folder: Path, bundle: Bundle) -> None:
        _, images = self.study(folder)
        key = next(key for key in images if key[1] == "axial")
        reading = Reader(bundle, 1).read(images[key], heatmaps=True)
        assert reading.heatmaps is not None
        said = " ".join(reading.warnings)
        assert "no sagittal or coronal images" in said
        assert "taken for pd, the bundle's first sequence" in said

    @pytest.mark.parametrize(
        ("key", "message"), [(("pd", "oblique"), "planes sagittal, coronal, axial, not 'oblique'"),
                             (("t3", "axial"), "sequences pd, t1, t2fs, not 't3'")]
    )  # fmt: skip
    def test_refuses_what_it_does_not_know(
        self, folder: Path, bundle: Bundle, key: tuple[str, str], message: str
    ) -> None:
        volume = next(iter(self.study(folder)[1].values()))
        with pytest.raises(UserError, match=message):
            read_planes(Reader(bundle, 1), {key: volume})
        with pytest.raises(UserError, match="no image to read"):
            read_planes(Reader(bundle, 1), {})

    def test_reads_a_cohort_on_the_command_line(self, folder: Path, bundle: Bundle) -> None:
        answer = child("read", bundle.folder, "--cohort", "cohort/cohort.csv", "--json", cwd=folder)
        assert answer.code == 0, answer.err
        entries = json.loads(answer.out)
        cohort = read_cohort(folder / "cohort" / "cohort.csv")
        assert [entry["study"] for entry in entries] == [study.study_id for study in cohort]
        study_id, images = self.study(folder)
        reading: Reading = Reader(bundle, 1).read(images)
        entry = next(entry for entry in entries if entry["study"] == study_id)
        found = [each["probability"] for each in entry["findings"]]
        if all(probability is not None for probability in found):  # a scan unfit for the bundle shows none
            assert found == pytest.approx([score.probability for score in reading.scores], abs=1e-5)

    def test_makes_a_library_that_can_be_rebuilt_from_all_images(self, folder: Path, bundle: Bundle) -> None:
        study_id, images = self.study(folder)
        known = ("--bundle", bundle.folder, "--overrule")
        added = child("library", "add", "cases", "cohort/cohort.csv", *known, cwd=folder)
        assert added.code == 0, added.err
        again = child("library", "rebuild", "cases", *known, "--out", "anew", cwd=folder)
        assert again.code == 0, again.err
        with CaseLibrary.open(folder / "cases") as old, CaseLibrary.open(folder / "anew") as new:
            assert len(old.get(study_id).images) == len(images) > 1
            assert len(new) == len(old)
            wanted = {case.study_id: latent for case, latent in old.items()}[study_id]
            for (case, latent), (same, read) in zip(old.items(), new.items(), strict=True):
                assert same == case
                np.testing.assert_allclose(read, latent, atol=1e-5)

        # The study itself is searched for with all of its images.
        query = ("library", "search", "cases", "--bundle", bundle.folder, "--cohort", "cohort/cohort.csv", "--json")
        hits = json.loads(child(*query, "--study", study_id, "-k", "100", cwd=folder).out)
        (own,) = [hit for hit in hits if hit["study"] == study_id]
        assert own["score"] == pytest.approx(float(wanted @ wanted), rel=1e-4)
        assert "no study 'nobody'" in child(*query, "--study", "nobody", cwd=folder).err

    def test_reads_a_study_anew_whose_sequences_changed_places(self, folder: Path, bundle: Bundle) -> None:
        rows = list(csv.reader((folder / "cohort" / "cohort.csv").open(newline="", encoding="utf-8")))
        first, second = (rows[0].index(f"image_{name}_sagittal") for name in ("pd", "t2fs"))
        row = next(row for row in rows[1:] if row[first] and row[second])
        readings = []
        for _ in range(2):
            row[first], row[second] = row[second], row[first]
            write_csv(folder / "cohort" / "swapped.csv", [rows[0], row])
            arguments = ("--cohort", "cohort/swapped.csv", "--out", "swapped", "--overrule", "--json")
            answer = child("read", bundle.folder, *arguments, cwd=folder)
            assert answer.code == 0, answer.err
            readings.append([finding["probability"] for finding in json.loads(answer.out)[0]["findings"]])
        assert readings[0] != readings[1]

    def test_takes_a_single_volume_for_the_sequence_that_is_named(self, folder: Path, bundle: Bundle) -> None:
        study = next(study for study in read_cohort(folder / "cohort" / "cohort.csv") if study.images)
        column, path = next(iter(study.images.items()))
        (scan,) = scans_at([path], sequence="t1")
        assert set(scan.load_for(bundle)) == {("t1", column.rpartition("_")[2])}

    def test_says_of_a_study_without_images_what_to_fill(self, bundle: Bundle) -> None:
        (scan,) = scans_of([Study("a", "p", {"image_dwi_axial": Path("x.nii.gz")})])
        with pytest.raises(UserError, match="study a has none of the images image_pd_sagittal"):
            scan.load_for(bundle)


def test_one_volume_still_has_one_network_and_no_planes() -> None:
    encoder = VisionEncoder(4, 4)
    assert encoder.by_plane == {"": encoder}
    assert load_recipe("lite").network.inputs.columns == ("image",)

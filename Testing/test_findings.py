"""Finding sets, states and the label table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, State, load_finding_set, packaged_sets

SIZES = {"chest-ct-18": 18, "abdomen-ct-30": 30, "knee-mr-14": 14, "spine-mr-9": 9}
# METHOD.md, "Distillation": the order of CT-RATE.
CHEST = [
    "medical_material",
    "arterial_wall_calcification",
    "cardiomegaly",
    "pericardial_effusion",
    "coronary_artery_wall_calcification",
    "hiatal_hernia",
    "lymphadenopathy",
    "emphysema",
    "atelectasis",
    "lung_nodule",
    "lung_opacity",
    "pulmonary_fibrotic_sequela",
    "pleural_effusion",
    "mosaic_attenuation_pattern",
    "peribronchial_thickening",
    "consolidation",
    "bronchiectasis",
    "interlobular_septal_thickening",
]
STATES = st.sampled_from([int(state) for state in State])


def write(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_four_sets_are_packaged() -> None:
    assert set(packaged_sets()) == set(SIZES)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_packaged_set_is_complete(name: str, size: int) -> None:
    finding_set = load_finding_set(name)
    assert len(finding_set.keys) == len(set(finding_set.keys)) == size
    assert finding_set.modality in ("CT", "MR")
    assert finding_set.name == name
    assert finding_set.body_part
    assert len(finding_set.prompts) == 5
    for finding in finding_set.findings:
        assert finding.synonyms, finding.key
        assert len(set(finding.synonyms)) == len(finding.synonyms), finding.key
        for code in finding.codes:
            assert code.scheme in ("SCT", "RADLEX")
            assert code.value.removeprefix("RID").isdigit()


def test_every_code_stands_with_its_source_in_the_document() -> None:
    lines = (Path(__file__).parents[1] / "docs" / "codes.md").read_text(encoding="utf-8").splitlines()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("|")]
    sources = {row[0] for row in rows if len(row) == 2}
    table = [row for row in rows if len(row) == 6 and row[0] in SIZES]
    coded = {
        (name, finding.key, code.scheme, code.value, code.meaning)
        for name in SIZES
        for finding in load_finding_set(name).findings
        for code in finding.codes
    }
    assert len(table) == len(coded)
    assert {row[:5] for row in table} == coded
    assert {row[5] for row in table} <= sources


def test_the_chest_set_has_the_findings_of_ct_rate_in_their_order() -> None:
    assert list(load_finding_set("chest-ct-18").keys) == CHEST


def test_the_normal_finding_closes_the_mr_sets() -> None:
    assert load_finding_set("knee-mr-14").keys[-1] == load_finding_set("spine-mr-9").keys[-1] == "normal"


def test_a_prompt_is_filled_with_the_finding() -> None:
    finding_set = load_finding_set("chest-ct-18")
    assert finding_set.prompts[2].fill("emphysema") == ("There is emphysema.", "There is no emphysema.")


def test_an_own_set_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "name: own\nmodality: CT\nfindings:\n  - key: rib_lesion\n    synonyms: [Costal Lesion]\n")
    own = load_finding_set(path)
    assert own["rib_lesion"].name == "Rib lesion"
    assert own["rib_lesion"].synonyms == ("costal lesion",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: own\nmodality: CT\nfindings:\n  - key: a\n    synonim: [b]\n", "did you mean 'synonyms'"),
        ("name: own\nmodalty: CT\nfindings: [{key: a}]\n", "did you mean 'modality'"),
        ("name: own\nmodality: CT\nfindings: [{key: a}, {key: a}]\n", "names 'a' twice"),
        ("name: own\nmodality: CT\nfindings: [{key: Lung Nodule}]\n", "must be lower case"),
        ("name: own\nmodality: CT\nfindings: []\n", "is empty"),
        ("name: own\nfindings: [{key: a}]\n", "under 'modality'"),
        ("name: [own\n", "cannot be read as YAML"),
        ("just a sentence", "needs a list under 'findings'"),
    ],
)
def test_a_faulty_set_is_refused_with_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_finding_set(write(tmp_path, text))


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'chest-ct-18'"):
        load_finding_set("chest-ct-19")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml cannot be read"):
        load_finding_set(tmp_path / "none.yaml")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'lung_nodule'"):
        load_finding_set("chest-ct-18")["lung_nodul"]


def test_a_subset_keeps_the_order_of_the_set() -> None:
    assert load_finding_set("chest-ct-18").subset(("emphysema", "cardiomegaly")).keys == ("cardiomegaly", "emphysema")


@pytest.mark.parametrize(
    ("state", "cell"),
    [(State.PRESENT, "1"), (State.ABSENT, "0"), (State.UNCERTAIN, "-1"), (State.NOT_MENTIONED, "")],
)
def test_a_state_is_its_cell(state: State, cell: str) -> None:
    assert state.cell == cell
    assert State.from_cell(cell) is state
    assert State.from_cell(f" {cell} ") is state


def test_cells_as_pandas_writes_them_are_read() -> None:
    assert [State.from_cell(cell) for cell in ("1.0", "0.0", "-1.0")] == [1, 0, -1]


@pytest.mark.parametrize("cell", ["2", "-2", "yes", "0.5", "nan"])
def test_other_cells_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        State.from_cell(cell)


@given(
    data=st.data(),
    studies=st.lists(st.text("abcXYZ019 ,;\"'é-_", min_size=1, max_size=8), unique=True, max_size=6),
    keys=st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True), unique=True, min_size=1, max_size=5),
)
def test_a_label_table_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, studies: list[str], keys: list[str]
) -> None:
    rows = [data.draw(st.lists(STATES, min_size=len(keys), max_size=len(keys))) for _ in studies]
    table = LabelTable(tuple(studies), tuple(keys), np.array(rows, np.int8).reshape(len(studies), len(keys)))
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    table.write(path)
    again = LabelTable.read(path, keys)
    assert (again.study_ids, again.keys) == (table.study_ids, table.keys)
    assert np.array_equal(again.states, table.states)
    backwards = LabelTable.read(path, keys[::-1])
    assert np.array_equal(backwards.states, table.states[:, ::-1])
    assert np.array_equal(again.rows(studies[::-1]), table.states[::-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,emphysemma\na,1\n", "did you mean 'emphysema'"),
        ("study_id,emphysema\na,1\na,0\n", "has study a twice"),
        ("study_id,emphysema,emphysema\na,1,1\n", "twice; remove one"),
        ("study_id,emphysema\na,maybe\n", "line 2: a state is"),
        ("study_id,emphysema\na\n", "line 2: 1 cells"),
        ("study,emphysema\na,1\n", "must begin with"),
        ("", "must begin with"),
        ("study_id\na\n", "no column 'emphysema'"),
    ],
)
def test_faulty_labels_are_refused_with_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        LabelTable.read(path, ["emphysema"])


def test_a_study_without_a_row_is_named() -> None:
    with pytest.raises(UserError, match="no row for study b"):
        LabelTable(("a",), ("emphysema",), np.zeros((1, 1), np.int8)).rows(["b"])

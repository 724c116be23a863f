"""Cohorts: the study table and its splits."""

from __future__ import annotations

import csv
import string
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.cohort import SPLITS, Cohort, Study, check_cohort, read_cohort, split_by_patient, write_cohort
from greenrfm.errors import UserError


def table(folder: Path, text: str) -> Path:
    path = folder / "cohort.csv"
    path.write_text(text, encoding="utf-8")
    return path


def studies(patients: list[str], splits: list[str] | None = None) -> Cohort:
    named = splits or [""] * len(patients)
    rows = zip(patients, named, strict=True)
    return Cohort(Path("cohort.csv"), tuple(Study(f"s{i}", who, split=split) for i, (who, split) in enumerate(rows)))


def test_a_table_with_everything(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "\ufeffstudy_id,patient_id,image_t2_sagittal,image_pd_coronal,findings,impression,split,modality,age,x_ward\r\n"
        'a,p1,mr/Ünï 胸.nii.gz,,"Line one,\nline ""two"".",Normal.,train,MR,61,B2\r\n'
        "b,p2,,/abs/pd.nii.gz,,Effusion.,,MR,,\r\n"
        "\r\n",
    )
    first, second = read_cohort(path)
    assert first.images == {"image_t2_sagittal": tmp_path / "mr/Ünï 胸.nii.gz"}
    assert first.report == 'Line one,\nline "two".\nNormal.'
    assert (first.split, first.modality, first.extra) == ("train", "MR", {"age": "61", "x_ward": "B2"})
    assert second.images == {"image_pd_coronal": Path("/abs/pd.nii.gz")}
    assert second.report == "Effusion."


def test_a_report_column_wins_over_its_parts(tmp_path: Path) -> None:
    text = "study_id,patient_id,report,findings,impression\na,p,Whole.,Part.,Part.\nb,q,,Part one.,Part two.\n"
    assert [study.report for study in read_cohort(table(tmp_path, text))] == ["Whole.", "Part one.\nPart two."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'study_id'"),
        ("study_id;patient_id\na;b\n", "separated by commas"),
        ("study_id,image\na,b\n", "no column 'patient_id'"),
        ("study_id,patient_id,reprot\na,p,x\n", "unknown column 'reprot'; did you mean 'report'.*begin with x_"),
        ("study_id,patient_id,Image\na,p,x\n", "unknown column 'Image'; did you mean 'image'"),
        ("study_id,patient_id,age,age\na,p,1,2\n", "column 'age' twice"),
        ("study_id,patient_id\n", "no studies"),
        ("study_id,patient_id\na,p\n\na,q\n", "study a twice"),
        ("study_id,patient_id\na,p,c\n", "line 2: 3 cells, the header has 2"),
        ("study_id,patient_id\na,p\nb,\n", "line 3: patient_id is empty"),
        ("study_id,patient_id,split\na,p,valid\n", "split 'valid' is none of .*did you mean 'validation'"),
        ("study_id,patient_id,split\na,p,train\nb,p,test\n", "one patient in two splits: study a in train, study b in"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_cohort(table(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "cohort.csv" in str(caught.value)


def test_files_that_are_no_table_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_cohort(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_cohort(tmp_path)
    (tmp_path / "latin.csv").write_bytes("study_id,patient_id\nä,b\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_cohort(tmp_path / "latin.csv")


def test_a_report_may_be_long_and_a_missing_quotation_mark_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = "No effusion.\n" * 20_000
    lines = f'study_id,patient_id,report\na,p,"{report}"\nb,q,Short.\n'
    assert len(read_cohort(table(tmp_path, lines)).studies[0].report) == len(report.strip())
    monkeypatch.setattr("greenrfm.cohort.table.LONGEST_CELL", 1000)
    before = csv.field_size_limit(1000)
    try:
        with pytest.raises(UserError, match=r"after line 1 .*quotation mark missing") as caught:
            read_cohort(table(tmp_path, lines))
    finally:
        csv.field_size_limit(before)
    assert "effusion" not in str(caught.value)


def test_memory_holds_the_reports_once(tmp_path: Path) -> None:
    count, text = 2000, "No effusion is seen. " * 60
    rows = "".join(f"s{number},p{number},ş{text},{text}\n" for number in range(count))
    path = table(tmp_path, "study_id,patient_id,findings,impression\n" + rows)
    tracemalloc.start()
    try:
        cohort = read_cohort(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A letter beyond Latin-1 makes Python hold two bytes for each.
    assert peak < 1.5 * sum(2 * len(study.report) for study in cohort)


def test_a_message_never_quotes_the_report_or_the_patient(tmp_path: Path) -> None:
    text = "study_id,patient_id,report,split\na,Doe^Jane,SECRET,train\nb,Doe^Jane,SECRET,test\n"
    with pytest.raises(UserError) as caught:
        read_cohort(table(tmp_path, text))
    assert "SECRET" not in str(caught.value)
    assert "Doe" not in str(caught.value)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs", "Cc")), max_size=12)
stripped = cell.map(str.strip)
name = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 4),
            stripped,
            st.dictionaries(st.sampled_from(["image", "image_t2_sagittal"]), name, max_size=2),
            st.dictionaries(st.sampled_from(["age", "x_own"]), stripped, max_size=2),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("c") / "cohort.csv"
    extras = {key for row in rows for key in row[3]}
    cohort = Cohort(
        path,
        tuple(
            Study(
                study_id=f"s{number}",
                patient_id=f"p{patient}",
                images={key: path.parent / image for key, image in images.items()},
                report=report,
                split=SPLITS[patient % 3],
                extra={key: extra.get(key, "") for key in extras},
            )
            for number, (patient, report, images, extra) in enumerate(rows)
        ),
    )
    write_cohort(cohort, path)
    assert read_cohort(path).studies == cohort.studies


def test_images_stay_found_when_the_table_moves_with_them(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path / "c.csv", (Study("a", "p", {"image": tmp_path / "v" / "a.nii.gz"}),))
    write_cohort(cohort, tmp_path / "c.csv")
    assert "v/a.nii.gz" in (tmp_path / "c.csv").read_text()
    assert str(tmp_path) not in (tmp_path / "c.csv").read_text()
    write_cohort(cohort, tmp_path / "other" / "c.csv")
    assert read_cohort(tmp_path / "other" / "c.csv").studies == cohort.studies


def test_by_split_selects() -> None:
    cohort = studies(["a", "b", "c"], ["train", "", "train"])
    assert [study.study_id for study in cohort.by_split("train")] == ["s0", "s2"]
    assert len(cohort.by_split("test")) == 0
    assert len(cohort.by_split("")) == 1


def test_check_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "here.nii").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    path = table(
        tmp_path,
        "study_id,patient_id,image,report\na,p,here.nii,\nb,q,gone.nii,text\nc,r,empty,text\nd,t,,\ne,u,,text\n",
    )
    problems = check_cohort(read_cohort(path))
    assert len(problems) == 3
    assert "study b: image" in problems[0]
    assert "gone.nii does not exist" in problems[0]
    assert "study c" in problems[1]
    assert "empty folder" in problems[1]
    assert problems[2] == "study d has neither an image nor a report"


# Splits

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@settings(max_examples=60, deadline=None)
@given(
    patients=st.lists(st.integers(0, 40).map(str), min_size=1, max_size=80),
    given_splits=st.dictionaries(st.integers(0, 40).map(str), st.sampled_from(SPLITS), max_size=10),
    seed=st.integers(0, 100),
)
def test_a_patient_is_in_one_split_and_existing_splits_stay(patients, given_splits, seed) -> None:
    cohort = studies(patients, [given_splits.get(who, "") for who in patients])
    free = set(patients) - set(given_splits)
    if 0 < len(free) < 3:
        with pytest.raises(UserError, match="more patients or fewer splits"):
            split_by_patient(cohort, FRACTIONS, seed)
        return
    divided = split_by_patient(cohort, FRACTIONS, seed)
    of_patient: dict[str, str] = {}
    for before, after in zip(cohort, divided, strict=True):
        assert after.split in SPLITS
        assert before.split in ("", after.split)
        assert of_patient.setdefault(after.patient_id, after.split) == after.split
    counts = {split: sum(of_patient[who] == split for who in free) for split in SPLITS}
    if free:
        assert min(counts.values()) >= 1
        assert all(abs(counts[split] - FRACTIONS[split] * len(free)) <= 2 for split in SPLITS)
    # The rows' order does not matter, the seed does.
    turned = split_by_patient(Cohort(cohort.path, cohort.studies[::-1]), FRACTIONS, seed)
    assert [study.split for study in turned][::-1] == [study.split for study in divided]


def test_other_studies_of_a_patient_follow_the_one_with_a_split() -> None:
    divided = split_by_patient(studies(["a", "a", "b"], ["", "test", ""]), {"train": 1.0}, seed=0)
    assert [study.split for study in divided] == ["test", "test", "train"]


def test_the_seed_decides() -> None:
    cohort = studies([str(number) for number in range(60)])
    one, again, other = ([study.split for study in split_by_patient(cohort, FRACTIONS, seed)] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert [one.count(split) for split in SPLITS] == [42, 6, 12]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.5}, "add up to 0.5"),
        ({"train": 0.5, "dev": 0.5}, "dev=0.5"),
        ({"train": 1.5, "test": -0.5}, "train=1.5"),
    ],
)
def test_fractions_that_make_no_sense_are_refused(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_by_patient(studies(["a", "b"]), fractions, 0)

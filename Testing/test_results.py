"""What leaves a reading: results on disk, urgency, priors, the audit record, tables and pages."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.errors import UserError
from greenrfm.results import AuditLog, Result, ResultFolder, Score, Urgency, find_priors, read_audit
from greenrfm.results.folder import file_name, read_results
from greenrfm.results.study_page import study_page
from greenrfm.results.tables import guarded
from greenrfm.results.worklist import Missing, Worklist, worklist_page, write_worklist

KEYS = ("nodule", "effusion", "normal")
NAMES = {key: key.capitalize() for key in KEYS}
HOSTILE = (
    '<script>alert("1")</script>', "</td><img src=x onerror=alert(1)>", "a'\"&b", "=cmd|' /C calc'!A0", "../../etc",
    "javascript:alert(1)", "@SUM(A1)", "-2+3", "+1", "ünï 漢字",
)  # fmt: skip


def score(key: str, probability: float, present: float = 0.6, absent: float = 0.4) -> Score:
    said = "present" if probability >= present else "absent" if probability < absent else "indeterminate"
    return Score(key, NAMES.get(key, key), probability, said, present, absent)


def result(
    study: str, *probabilities: float, patient: str = "", day: str = "", bundle: str = "b", **more: Any
) -> Result:
    scores = tuple(score(key, value) for key, value in zip(KEYS, probabilities, strict=False))
    reading = {"study": study, "findings": [], "bundle": bundle, "notice": "Not for diagnostic use."}
    reading |= {"warnings": list(more.pop("warnings", ())), "withheld": more.pop("withheld", None)}
    return Result("k", study, patient, day, "", "scan.nii", "2026-01-01T00:00:00Z", "1", scores, reading, **more)


def worklist(results: list[Result], **more: Any) -> Worklist:
    kept = {"priors": find_priors(results), "urgency": Urgency(), "names": NAMES, "bundle": "tiny", "made": "Now."}
    usual = {"notice": "Not for diagnostic use.", "link": lambda study, suffix: f"studies/{file_name(study)}{suffix}"}
    return Worklist(results, **{**kept, **usual, **more})


class Page(HTMLParser):
    """What a browser would find in a page: tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


# --- a result on disk

texts = st.text(st.characters(exclude_categories=["Cs"]))
scores_ = st.builds(score, texts, st.floats(0, 1), st.floats(0, 1), st.just(0.0))
results_ = st.builds(
    lambda ids, scores, warnings: replace(
        result("s"), key=ids[0], study_id=ids[1], patient_id=ids[2], scores=tuple(scores),
        reading={"study": ids[1], "findings": [], "warnings": warnings, "notice": ids[0], "bundle": ids[2]},
    ),
    st.tuples(texts, texts, texts), st.lists(scores_, max_size=4), st.lists(texts, max_size=3),
)  # fmt: skip


@given(results_)
def test_a_result_comes_back_from_its_file_as_it_was(written: Result) -> None:
    assert Result.parse(written.to_json()) == written


@given(st.data())
def test_a_damaged_result_is_refused_and_never_half_believed(data: st.DataObject) -> None:
    text = result("s", 0.2, 0.7).to_json()
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(1, len(text)))
    changed = text[:start] + data.draw(st.text(max_size=8)) + text[start + length :]
    try:
        parsed = Result.parse(changed)
    except ValueError:
        return
    assert Result.parse(parsed.to_json()) == parsed
    assert all(0 <= each.probability <= 1 for each in parsed.scores)


leaves = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
names = st.sampled_from(["format", "scores", "reading", "key", "pictures"])


@given(st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner)))
def test_any_other_json_is_no_result(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Result.parse(json.dumps(value))


def test_a_damaged_file_in_the_folder_counts_as_not_read(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "out") as folder:
        folder.save(result("s1", 0.5))
        folder.save(result("s2", 0.5))
        path = tmp_path / "out" / "studies" / "s1.json"
        path.write_bytes(path.read_bytes()[:40])
        assert folder.load("s1") is None
        assert folder.load("s2") == result("s2", 0.5)
        assert [each.study_id for each in read_results(tmp_path / "out")] == ["s2"]


@given(st.lists(texts.filter(bool), min_size=2, max_size=6, unique=True))
def test_every_study_id_has_a_file_name_of_its_own_inside_the_folder(ids: list[str]) -> None:
    names = [file_name(each) for each in ids]
    assert len(set(names)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) for name in names)


@given(texts.filter(bool))
def test_no_study_id_is_the_file_name_of_another(first: str) -> None:
    """An id that names itself like another one's file would put its scores on the other's page."""
    assert file_name(file_name(first)) != file_name(first) or file_name(first) == first


@pytest.mark.parametrize("device", ["CON", "nul", "com1", "aux.1"])
def test_an_id_that_windows_takes_for_a_device_gets_another_name(device: str) -> None:
    assert file_name(device).startswith(f"{device}-")


def test_a_second_run_in_one_folder_is_told_so_and_the_first_goes_on(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "out") as first:
        with pytest.raises(UserError, match=r"open elsewhere .* name another --out"):
            ResultFolder(tmp_path / "out")
        first.save(result("s1", 0.5))
    ResultFolder(tmp_path / "out").close()


# --- the audit record

records = st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers()), max_size=6)


@settings(max_examples=40)
@given(records, st.integers(0, 400))
def test_an_audit_keeps_every_whole_line_and_goes_on_behind_a_cut_one(tmp_path_factory, lines, cut) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    with AuditLog(path) as log:
        for line in lines:
            log.add(line)
    content = path.read_bytes()[: len(path.read_bytes()) - cut if cut else None]
    path.write_bytes(content)
    whole = [line for line, end in zip(lines, _ends(lines), strict=True) if end <= len(content)]
    assert list(read_audit(path)) == whole
    with AuditLog(path) as log:
        log.add({"after": 1})
    assert path.read_bytes().startswith(content)  # nothing that stood there is gone
    behind = list(read_audit(path))
    assert behind[-1] == {"after": 1}
    # What lacked only its end of line is whole again.
    assert behind[:-1] in (whole, lines[: len(whole) + 1])


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size there")
def test_a_record_that_the_disk_takes_only_a_part_of_is_an_error_and_not_lost_in_silence(tmp_path: Path) -> None:
    """Python's unbuffered write returns how many bytes were taken, and raises nothing."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from greenrfm.results import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "log.add({'n': 0})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))\n"
        "try:\n"
        "    log.add({'n': 'x' * 200})\n"
        "except OSError:\n"
        "    print('said')\n"
    )
    path = tmp_path / "audit.jsonl"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "said\n"
    assert list(read_audit(path)) == [{"n": 0}]


def _ends(lines: list[dict[str, Any]]) -> list[int]:
    ends, at = [], 0
    for line in lines:
        at += len(json.dumps(line)) + 1
        ends.append(at)
    return ends


# --- urgency

probabilities = st.lists(st.floats(0, 1), min_size=2, max_size=2)


@given(st.lists(probabilities, max_size=8), st.data())
def test_a_worklist_is_in_order_and_complete(rows, data) -> None:
    weights = data.draw(st.dictionaries(st.sampled_from(KEYS[:2]), st.floats(0, 4)))
    urgency = Urgency(weights)
    results = [result(f"s{number}", *row) for number, row in enumerate(rows)]
    ordered = urgency.sort(results)
    assert sorted(each.study_id for each in ordered) == sorted(each.study_id for each in results)
    values = [urgency.value(each) for each in ordered]
    assert values == sorted(values, reverse=True)
    urgent = [any(s.call == "present" and weights.get(s.key, 0) > 0 for s in each.scores) for each in ordered]
    assert urgent == sorted(urgent, reverse=True)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_a_higher_probability_is_never_less_urgent(low: float, high: float, threshold: float) -> None:
    low, high = sorted((low, high))
    assert score("nodule", low, threshold, 0).excess <= score("nodule", high, threshold, 0).excess
    assert -1 <= score("nodule", low, threshold, 0).excess <= 1


def test_findings_that_were_named_urgent_come_first_and_those_without_weight_do_not_count() -> None:
    quiet, loud = result("quiet", 0.99, 0.1), result("loud", 0.1, 0.61)
    assert [each.study_id for each in Urgency().sort([loud, quiet])] == ["quiet", "loud"]
    urgency = Urgency.parse(["effusion"], KEYS)
    assert [each.study_id for each in urgency.sort([quiet, loud])] == ["loud", "quiet"]
    mute = Urgency.parse(["nodule=0"], KEYS)
    assert [each.study_id for each in mute.sort([quiet, loud])] == ["loud", "quiet"]
    assert "Effusion" in urgency.rule(NAMES)
    assert "Without weight: Nodule, Normal" in mute.rule(NAMES)


def test_a_normal_study_is_not_urgent_for_being_normal() -> None:
    healthy, ill = result("healthy", 0.1, 0.1, 0.99), result("ill", 0.65, 0.1, 0.1)
    assert [each.study_id for each in Urgency().sort([healthy, ill])] == ["ill", "healthy"]


@pytest.mark.parametrize(("text", "said"), [("effusoin", "did you mean 'effusion'"), ("nodule=-1", "from 0 up"),
                                            ("nodule=much", "from 0 up"), ("nodule=inf", "from 0 up")])  # fmt: skip
def test_an_urgent_finding_that_means_nothing_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Urgency.parse([text], KEYS)


# --- priors


def test_the_prior_is_the_latest_earlier_study_of_the_same_patient() -> None:
    studies = [
        result("old", 0.2, patient="p", day="2023-01-01"),
        result("older", 0.9, patient="p", day="2022-01-01"),
        result("now", 0.7, patient="p", day="2024-01-01"),
        result("same-day", 0.1, patient="p", day="2024-01-01"),
        result("other", 0.1, patient="q", day="2023-06-01"),
        result("undated", 0.1, patient="p"),
    ]
    priors = find_priors(studies)
    assert {study: prior.study_id for study, prior in priors.items()} == {
        "old": "older",
        "now": "old",
        "same-day": "old",
    }
    (change,) = priors["now"].changes
    assert change.difference == pytest.approx(0.5)
    assert (change.call_before, change.call_after, change.is_new_call) == ("absent", "present", True)
    assert priors["now"].to_dict()["findings"][0]["probability"] == 0.2


def test_probabilities_of_two_bundles_are_not_compared_but_said() -> None:
    now = result("now", 0.7, patient="p", day="2024-01-01")
    foreign = result("foreign", 0.1, patient="p", day="2023-12-01", bundle="another")
    (prior,) = find_priors([now], [foreign]).values()
    assert (prior.changes, prior.to_dict()["not_compared"]) == ((), "it was read with another bundle")
    same = result("same", 0.1, patient="p", day="2023-01-01")
    assert find_priors([now], [foreign, same])["now"].study_id == "same"


def test_an_id_that_comes_again_on_another_day_is_an_earlier_study() -> None:
    now = replace(result("CT", 0.7, patient="p", day="2024-02-01"), series_uid="1.2")
    before = replace(now, study_date="2023-02-01", series_uid="1.1")
    assert find_priors([now], [before])["CT"].study_date == "2023-02-01"
    # The same study, read before with a wrong date, is none.
    assert not find_priors([now], [replace(now, study_date="2023-02-01")])


def test_probabilities_of_two_fields_and_overruled_ones_are_not_compared_but_said() -> None:
    now = result("b", 0.7, patient="p", day="2024-02-01", options={"field": "tiles"})
    before = replace(now, study_id="a", study_date="2023-02-01")
    assert find_priors([now], [before])["b"].changes
    whole = find_priors([now], [replace(before, options={"field": "whole"})])["b"]
    assert (whole.changes, whole.reason) == ((), "another field of view was read")
    shown = {**before.reading, "overruled": True, "checks": [{"code": "modality", "level": "withhold", "sentence": ""}]}
    overruled = find_priors([now], [replace(before, reading=shown)])["b"]
    assert "by overrule" in overruled.reason


def test_a_prior_whose_scores_are_withheld_is_said() -> None:
    now = result("now", 0.7, patient="p", day="2024-01-01")
    void = result("void", patient="p", day="2023-12-01", withheld="it is an MR")
    assert find_priors([now, void])["now"].reason == "its scores were withheld"


# --- tables and pages


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_from_outside_becomes_markup_or_a_formula(hostile: str, tmp_path: Path) -> None:
    now = result(hostile, 0.9, 0.1, patient=hostile, day="2024-01-01", warnings=[hostile])
    old = result("old " + hostile, 0.2, 0.1, patient=hostile, day="2023-01-01")
    void = result("void " + hostile, withheld=hostile)
    listed = worklist(
        [now, old, void], unreadable=[Missing("lost", hostile, "", hostile)], skipped=[hostile], made=hostile
    )
    pages = [Page(worklist_page(listed))]
    for each in (now, void):
        pages.append(Page(study_page(each, listed.priors.get(each.study_id), {}, bundle=hostile, patients=True)))
    harmless = {
        *("html", "head", "meta", "title", "style", "body", "p", "br", "h1", "h2", "a", "span", "ul", "li"),
        *("table", "thead", "tr", "th", "td", "details", "summary", "svg", "rect", "line"),
    }
    for page in pages:
        assert {tag for tag, _ in page.tags} <= harmless
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert all(str(a.get("href", "")).startswith(("studies/", "../")) for tag, a in page.tags if tag == "a")
        assert hostile in page.text
    write_worklist(listed, tmp_path / "worklist.csv")
    rows = list(csv.DictReader((tmp_path / "worklist.csv").open(encoding="utf-8", newline="")))
    assert {row["group"] for row in rows} == {"read", "withheld", "unreadable"}
    for row in rows:
        for name, cell in row.items():
            assert name == "urgency" or not cell.startswith(("=", "+", "-", "@"))
    assert rows[0]["study_id"].removeprefix("'") == hostile


@given(st.text())
def test_a_guarded_cell_is_no_formula_and_loses_nothing(cell: str) -> None:
    shown = guarded(cell)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert shown in (cell, f"'{cell}")


def test_the_page_carries_its_notice_first_loads_nothing_and_drops_no_study() -> None:
    listed = worklist(
        [result("read", 0.9), result("void", withheld="it is an MR")],
        unreadable=[Missing("broken", reason="the file is cut off")],
        waiting=[Missing("later")],
        skipped=["series 3: a localizer"],
    )
    page = Page(worklist_page(listed))
    for text in ("read", "void", "it is an MR", "broken", "cut off", "later", "series 3: a localizer"):
        assert text in page.text
    assert page.text.index("Not for diagnostic use.") < page.text.index("Nodule 0.90 present")
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert not [a for tag, a in page.tags if "src" in a or tag in ("link", "script")]


def test_the_page_without_patient_ids_names_none() -> None:
    studies = [
        result("now", 0.9, patient="Smith", day="2024-01-01"),
        result("old", 0.9, patient="Smith", day="2023-01-01"),
    ]
    assert "Smith" in worklist_page(worklist(studies))
    hidden = worklist(studies, patients=False, unreadable=[Missing("lost", "Smith")])
    assert "Smith" not in worklist_page(hidden)
    assert "since old" in Page(worklist_page(hidden)).text


def test_a_worklist_of_5000_studies_is_made_in_seconds() -> None:
    import time

    studies = [
        result(f"study-{n}", n % 97 / 97, n % 89 / 89, patient=f"p{n // 2}", day=f"20{n % 30:02d}-01-01")
        for n in range(5000)
    ]
    began = time.perf_counter()
    text = worklist_page(worklist(studies))
    assert text.count("<tr") == 5001
    assert time.perf_counter() - began < 20
    assert len(text) < 10_000_000

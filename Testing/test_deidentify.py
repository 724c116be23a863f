"""De-identification: what goes, what stays, and where it was. All names and numbers here are made up."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.distill.deidentify import RULES, Deidentified, Deidentifier, deidentify, in_words
from greenrfm.distill.identifiers import PLACEHOLDER, Kind, number_starts
from greenrfm.distill.number_rules import LISTS_GATE
from planted_identifiers import CLINICAL, planted

GOES = [
    ("CT of 03/05/2024 and 12.03.24.", "CT of [DATE] and [DATE]."),
    ("3/5/2024 - 12 mm nodule", "[DATE] - 12 mm nodule"),
    ("2024-03-05T10:30:00Z", "[DATE]T[TIME]"),
    ("Dated 9/10/11.", "Dated [DATE]."),
    ("on March 3rd, 2024 and March 4", "on [DATE] and [DATE]"),
    ("on 5 March 12 mm", "on [DATE] 12 mm"),
    ("since May 2023; on 3 May", "since [DATE]; on [DATE]"),
    ("on 25 September. No effusion.", "on [DATE]. No effusion."),
    ("12.-15.03.2024", "[DATE]"),
    ("20240305", "[DATE]"),
    ("vom 12.03. und 5. März 2024", "vom [DATE] und [DATE]"),
    ("el 3 de marzo de 2024, marzo de 2023, 3 de abril", "el [DATE], [DATE], [DATE]"),
    ("5 Mart 2024 tarihli, Aralık 2023'te", "[DATE] tarihli, [DATE]'te"),
    ("与2024年3月5日及2023-01-02CT比较", "与[DATE]及[DATE]CT比较"),
    ("２０２４年３月５日，二〇二四年三月五日", "[DATE]，[DATE]"),
    ("at 10:30 am, 14.30 Uhr, 23:59:10", "at [TIME], [TIME], [TIME]"),
    ("a 92-year-old, 101 y.o.; Alter: 95", "a [AGE]-year-old, [AGE] y.o.; Alter: [AGE]"),
    ("患者，女，92岁", "患者，女，[AGE]岁"),
    ("MRN: 12-34/5, accession no 4711 AB", "MRN: [ID], accession no [ID] AB"),
    ("SSN 123-45-6789; CT2024001234; 98765432", "SSN [ID]; [ID]; [ID]"),
    ("1.2.840.10008.5.1.4.1.1.2", "[ID]"),
    ("住院号：A1234567患者", "住院号：[ID]患者"),
    ("T.C. Kimlik No: 12345678901", "T.C. Kimlik No: [ID]"),
    ("(555) 123-4567 ext. 12, 1-800-555-1234", "[PHONE], [PHONE]"),
    ("Tel. 555-1234. 5 nodules", "Tel. [PHONE]. 5 nodules"),
    ("+49 (0)221 478-12345 and 0212 555 44 33", "[PHONE] and [PHONE]"),
    ("a.b@c-d.org, https://x.org/p?q=1.", "[EMAIL], [URL]."),
    ("Dr. Anna-Maria von der Heide called.", "Dr. [NAME] called."),
    ("Dr. K. No effusion.", "Dr. [NAME]. No effusion."),
    ("Dr. J. A. O'Neil No effusion", "Dr. [NAME] No effusion"),
    ("Dr. Mary Baker reviewed the Baker cyst.", "Dr. [NAME] reviewed the Baker cyst."),
    ("Herr Prof. Dr. med. Groß", "Herr Prof. Dr. med. [NAME]"),
    ("DR. SMITH NO EFFUSION", "DR. [NAME] NO EFFUSION"),
    ("Patient name: SMITH^JOHN", "Patient name: [NAME]"),
    ("Name: smith, john\nLungs clear", "Name: [NAME]\nLungs clear"),
    ("Signed by John Q. Smith, MD", "Signed by [NAME]"),
    ("Jane Roe, M.D.", "[NAME], M.D."),
    ("Patient: Jane Roe.", "Patient: [NAME]."),
    ("Dra. María del Carmen Ruiz", "Dra. [NAME]"),
    ("Uzm. Dr. Işıl Ünal, Ayşe Hanım", "Uzm. Dr. [NAME], [NAME] Hanım"),
    ("姓名：欧阳文博\n报告医生：李明，王主任", "姓名：[NAME]\n报告医生：[NAME]，[NAME]主任"),
    ("Hauptstraße 5a, 50667 Köln", "[ADDRESS]"),
    ("Am Birkenweg 5, 50667 Köln-Deutz.", "Am [ADDRESS]."),
    ("12 Main St., Boston, MA 02115-1234", "[ADDRESS]"),
    ("Hospital: St. Mary Heart Hospital, Findings", "Hospital: [HOSPITAL], Findings"),
]


@pytest.mark.parametrize(("report", "expected"), GOES)
def test_identifiers_go(report: str, expected: str) -> None:
    assert deidentify(report).text == expected


@pytest.mark.parametrize("sentence", [sentence for language in CLINICAL.values() for sentence in language])
def test_clinical_content_stays(sentence: str) -> None:
    assert deidentify(sentence) == Deidentified(sentence, Counter())


STAYS = [
    "Nodule on image 3. May represent a cyst.",
    "images 12/14/16 and series 3.10.15; im. 5/2024",
    "Segments 6-8-10, 9-10-11 ribs, stations 4/7/10.",
    "pH 7.35; white cell 12000; 10000 IU; 1500 / -600",
    "(4:56) and 10:30 position, bei 10 Uhr",
    "for 92 years ago, 95 % of 92 patients, 89-year-old",
    "2019, 2020 and 2021; in the 1990s",
    "Fleischner 2017; Gleason 4+3=7; p53; C34.1; 18F-FDG; Xe-133",
    "window at 350-1500, values of 100-1000; in may; En bloc; 12 Fr. Pigtail; signed distance by Otsu",
    "Volume 1234567 mm3 and 120 x 80 x 60 mm",
    "patient no 3 mm nodule, case 2, study 1",
    "MS plaques. MR Mamma. DR Thorax. Mr and Ms.",
    "12mm结节，3个月，2周，CT值60HU，肺段9-10",
]


@pytest.mark.parametrize("sentence", STAYS)
def test_numbers_of_findings_stay(sentence: str) -> None:
    assert deidentify(sentence).text == sentence


def test_planted_identifiers_go_and_the_sentences_beside_them_stay() -> None:
    total, missed = Counter[Kind](), Counter[Kind]()
    for case in planted(seed=0, count=500):
        result = deidentify(case.report)
        for sentence in case.kept:
            assert sentence in result.text
        for kind, text in case.identifiers:
            total[kind] += 1
            elsewhere = sum(sentence.count(text) for sentence in case.kept)
            if kind is not Kind.AGE:
                missed[kind] += result.text.count(text) > elsewhere
            elif result.removed[kind] < 1:
                missed[kind] += 1
    assert set(total) == set(Kind)
    assert not +missed, (missed, total)


def test_a_place_in_the_text_becomes_a_place_in_the_report() -> None:
    report = "CT of 03/05/2024: Dr. Roe saw a 12 mm nodule."
    result = deidentify(report)
    assert result.text == "CT of [DATE]: Dr. [NAME] saw a 12 mm nodule."

    def original(quote: str) -> str:
        start = result.text.index(quote)
        first, last = result.to_original(start, start + len(quote))
        return report[first:last]

    assert original("12 mm nodule.") == "12 mm nodule."
    assert original("[DATE]") == "03/05/2024"
    assert original("ATE") == "03/05/2024"
    assert original("of [D") == "of 03/05/2024"
    assert original("E]: Dr. [NAME] saw") == "03/05/2024: Dr. Roe saw"
    assert original(result.text) == report
    for start, end in ((-1, 2), (3, 2), (0, len(result.text) + 1)):
        with pytest.raises(ValueError, match="no span"):
            result.to_original(start, end)


FRAGMENTS = st.sampled_from(
    [text for report, _ in GOES for text in (report, *report.split())]
    + ["[DATE]", "[NAME]", "[", "]", "\n", " ", ". ", ": ", "-", "/", "12", " mm", "\x00", "\x01", "Dr. ", "患者", "，"]
    + [kind.placeholder for kind in Kind]
)
REPORTS = st.one_of(st.text(max_size=80), st.lists(FRAGMENTS, max_size=12).map("".join))


@settings(max_examples=300, deadline=None)
@given(REPORTS)
def test_nothing_else_changes_and_every_place_maps_back(report: str) -> None:
    result = deidentify(report)
    assert deidentify(result.text).text == result.text
    assert sum(result.removed.values()) == len(result._text_spans)
    place = 0
    for (start, end), (text_start, text_end) in zip(result._report_spans, result._text_spans, strict=True):
        assert start < end
        assert PLACEHOLDER.fullmatch(result.text[text_start:text_end])
        assert result.to_original(text_start, text_end) == (start, end)
        first, last = result.to_original(place, text_start)
        assert report[first:last] == result.text[place:text_start]
        place = text_end
    first, last = result.to_original(place, len(result.text))
    assert (report[first:last], last) == (result.text[place:], len(report))
    places = [result.to_original(at, at) for at in range(len(result.text) + 1)]
    assert all(start <= end for start, end in places)
    assert places == sorted(places)


@settings(max_examples=300, deadline=None)
@given(REPORTS)
def test_where_a_rule_looks_is_where_it_matches(report: str) -> None:
    numbers = number_starts(report)
    for rule in RULES:
        matches = [match.span() for match in rule.pattern.finditer(report)]
        if rule.at_numbers:
            assert [match.span() for match in rule.matches(report, numbers)] == matches
        if rule.kind and rule.gate is not LISTS_GATE and not rule.gate(report, numbers):
            assert not [match for match in rule.pattern.finditer(report) if rule.judge(match)]


def test_counts_are_kept_over_threads_and_told_without_content() -> None:
    run = Deidentifier()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, ["Dr. Roe, 03/05/2024, 04/05/2024"] * 50))
    assert run.removed == {Kind.NAME: 50, Kind.DATE: 100}
    assert in_words(run.removed) == "dates: 100, names: 50"
    assert in_words({}) == "nothing"
    assert "Roe" not in repr(run("Dr. Roe").removed)


@pytest.mark.parametrize(
    "piece",
    ["A", "1", "1.", "1/", "a-", "Dr. ", "Dr. A ", "A. ", "Name: ", "1 ", "王", "1年", "x@", "[", "12 x ", "\n", "Aa "],
)
def test_time_grows_with_length_and_not_with_its_square(piece: str) -> None:
    # A pattern that backtracks would need minutes here: the test's time limit is the check.
    deidentify(piece * (20_000 // len(piece)))

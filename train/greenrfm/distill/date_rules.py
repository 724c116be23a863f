"""Dates, times of the day and great ages."""

from __future__ import annotations

import re

from greenrfm.distill.identifiers import (
    BLANK,
    EDGE,
    REMOVED,
    Gate,
    Judge,
    Kind,
    Rule,
    always,
    any_of,
    holding,
    holding_match,
    holding_number,
    whole,
)
from greenrfm.distill.number_rules import LISTS_GATE, UNIT

MONTH = rf"(?P<month>{any_of('months')})\b\.?"
DAY = r"(?:0?[1-9]|[12]\d|3[01])(?!\d)"
CENTURY = r"(?:19|20)\d\d"
YEAR = rf"{CENTURY}(?!\d)"
# No digit, and no digit with a mark, may stand before: "1.12.03.2024" is no date.
ALONE = r"(?<!\d)(?<!\d[./])"
OF = rf"[-/.,]?{BLANK}{{0,3}}(?:(?i:of|del?){BLANK}+)?-?"
ORDINAL = r"(?i:st|nd|rd|th|er|º)?\.?"
HAN = "[〇零一二三四五六七八九十]"
HAN_PART = rf"(?:\d\d?|{HAN}{{1,3}})"
# "Image 3. May 2024": the 3 is the image's.
COUNTED = re.compile(rf"{EDGE}{any_of('places_in_images', 'levels')}[ .:#]*\Z")
MONTH_BEFORE = re.compile(rf"{EDGE}{MONTH}{BLANK}+\Z")
DATE_LABEL = re.compile(rf"{EDGE}{any_of('date_labels')}[ \t:.]*\Z")


def _part(low: int, high: int, text: str) -> bool:
    return low <= int(text) <= high


def _numeric(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept day.month.year in either order."""
    first, second = int(match["a"]), int(match["b"])
    return match.span("it") if 1 <= min(first, second) <= 12 and 1 <= max(first, second) <= 31 else None


def _short(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept day.month.year with two digits of the year, but no list of levels such as ribs 9-10-11."""
    numbers = [int(match[name]) for name in "abc"]
    padded = any(match[name].startswith("0") for name in "abc")
    like_levels = numbers in (sorted(numbers), sorted(numbers, reverse=True)) and max(numbers) <= 12 and not padded
    if like_levels and not DATE_LABEL.search(match.string, max(0, match.start() - 20), match.start("it")):
        return None
    return _numeric(match)


def _year_first(match: re.Match[str]) -> tuple[int, int] | None:
    valid = _part(1, 12, match["b"]) and _part(1, 31, match["c"])
    return match.span("it") if valid else None


def _not_counted(match: re.Match[str]) -> tuple[int, int] | None:
    start = max(0, match.start("it") - 20)
    return None if COUNTED.search(match.string, start, match.start("it")) else match.span("it")


def _day_first(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept "3 March" without a year; "3. May represent …" is none."""
    span = _not_counted(match) if _is_month(match["month"], match, match.start("it")) else None
    return span and (span[0], match.end("month"))  # a full stop behind it may be the sentence's


def _month_alone(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept "in March" and "en marzo"."""
    name = match["month"]
    return match.span("month") if name[0].isupper() or match[0][:2] in ("en", "En") else None


def _after_month(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept "March 3" by its 3, with the month."""
    month = MONTH_BEFORE.search(match.string, max(0, match.start() - 16), match.start())
    return (month.start(), match.end("it")) if month and _is_month(month["month"], match, month.start()) else None


def _is_month(name: str, match: re.Match[str], start: int) -> bool:
    """Tell whether a word without a year is written like a month."""
    dated = DATE_LABEL.search(match.string, max(0, start - 20), start)
    return name[0].isupper() and (name.lower() != "may" or dated is not None)


def _time(match: re.Match[str]) -> tuple[int, int] | None:
    return match.span("it") if _part(0, 23, match["h"]) and _part(0, 59, match["m"]) else None


def _dates(*patterns: str, gate: Gate = always, judge: Judge = whole, at_numbers: bool = True) -> list[Rule]:
    return [Rule(Kind.DATE, re.compile(f"(?P<it>{pattern})"), judge, gate, at_numbers) for pattern in patterns]


# Dates that are nothing else, found before the clinical numbers are set aside.
SURE_DATES = [
    *_dates(
        rf"{EDGE}{CENTURY}(?P<s>[-./])(?P<b>\d\d?)(?P=s)(?P<c>\d\d?)(?!\d)",
        judge=_year_first,
    ),
    *_dates(
        rf"(?:{ALONE}\d{{1,2}}\.{BLANK}?-{BLANK}?)?{ALONE}(?P<a>\d\d?){BLANK}?[-./]{BLANK}?"
        rf"(?P<b>\d\d?){BLANK}?[-./]{BLANK}?{YEAR}",
        judge=_numeric,
    ),
    *_dates(rf"{ALONE}{DAY}{ORDINAL}{OF}{MONTH}{OF}{YEAR}", judge=_not_counted),
    *_dates(
        rf"{ALONE}[0-3]\d {{1,2}}[01]\d {{1,2}}{YEAR}",
        rf"{ALONE}[0-3]?\d(?P<month>{any_of('months')}){YEAR}",
    ),
    *_dates(
        rf"{EDGE}{MONTH}(?:{OF}|{BLANK}*{DAY}{ORDINAL}[, \t]*){YEAR}",
        gate=holding_number(YEAR),
        at_numbers=False,
    ),
    *_dates(r"(?<!\d)(?<!\d[.,])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"),
    *_dates(
        rf"(?:\d{{2,4}}|{HAN}{{2,4}}){BLANK}?年{BLANK}?{HAN_PART}{BLANK}?月(?:份|{BLANK}?{HAN_PART}{BLANK}?[日号])?",
        rf"\d\d?{BLANK}?月{BLANK}?\d\d?{BLANK}?[日号]",
        gate=holding("月"),
        at_numbers=False,
    ),
]

OVER_89 = r"(?P<it>(?<!\d)(?<!\d[.,/-])(?:9\d|1[0-2]\d)(?!\d))"
AGES = [
    Rule(
        Kind.AGE,
        re.compile(rf"{OVER_89}(?={any_of('old')})(?!{BLANK}*(?i:years?){BLANK}+(?i:ago|earlier|later))"),
        at_numbers=True,
    ),
    Rule(
        Kind.AGE,
        re.compile(rf"{EDGE}{any_of('ages')}{BLANK}?[:=]?{BLANK}?{OVER_89}(?![.,]?\d|{BLANK}?[%x×])"),
        gate=holding_number(r"9\d|1[0-2]\d"),
    ),
]

UNSURE_DATES = [
    *_dates(
        rf"{ALONE}(?<!-)(?P<a>\d\d?)(?P<s>[-./])(?P<b>\d\d?)(?P=s)(?P<c>\d\d)(?![\d:]|[.,/-]\d)",
        gate=LISTS_GATE,
        judge=_short,
    ),
    *_dates(
        rf"{ALONE}(?<!\d-)(?:0?[1-9]|1[0-2])[./-]{YEAR}(?!-)",
        r"(?<!\d)(?<!\d[./-])(?:19|20)\d\d[-/](?:0[1-9]|1[0-2])(?![\d./-])",
        judge=_not_counted,
    ),
    *_dates(
        rf"{ALONE}{DAY}(?:-|{BLANK}){MONTH}(?:-|{BLANK})'?\d\d(?![\d.,/]|{BLANK}?(?:[x×]|{UNIT}))",
        judge=_not_counted,
    ),
    *_dates(
        rf"{ALONE}{DAY}{ORDINAL}{OF}{MONTH}(?!\d)",
        gate=holding_number(r"\d+[^\W\d_.º]{0,2}\.?[ \t-]"),
        judge=_day_first,
    ),
    Rule(
        Kind.DATE,
        re.compile(rf"(?<=[^\W\d_.][ \t])(?P<it>{DAY}(?:st|nd|rd|th)?)(?!\d|[.,/-]\d|{BLANK}?(?:[x×]|{UNIT}))"),
        _after_month,
        at_numbers=True,
    ),
    Rule(
        Kind.DATE,
        re.compile(rf"\b(?:[Ii]n|[Ss]ince|[Uu]ntil|[Ii]m|[Ss]eit) (?P<it>{MONTH})(?!\w)"),
        _month_alone,
        # A capital behind the end of such a word.
        holding_match(r"[A-ZÀ-ɏ](?:(?<=[Ii][nm] .)|(?<=[Ss]ince .)|(?<=[Uu]ntil .)|(?<=[Ss]eit .))"),
    ),
    Rule(Kind.DATE, re.compile(rf"[Ee]n (?<!\w[Ee]n )(?P<it>{MONTH})(?!\w)"), _month_alone),
    *_dates(rf"{EDGE}{DAY}{BLANK}+de{BLANK}+{MONTH}"),
    Rule(
        Kind.DATE,
        re.compile(r"\b(?:[Vv]om|[Aa]m) (?P<it>[0-3]\d\.[01]\d\.)(?!\d)"),
        gate=holding_number(r"\d\d\.\d\d\."),
    ),
]


def _times(*patterns: str, gate: Gate = always, at_numbers: bool = False) -> list[Rule]:
    return [Rule(Kind.TIME, re.compile(pattern), _time, gate, at_numbers) for pattern in patterns]


CLOCK = r"(?P<h>\d\d?)[:.](?P<m>\d\d)"
ZONE = r"(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"
NOON = r"(?i:[ap]\.?m\b\.?)"
# 4:56 alone is a series and an image, 10:30 a place in the breast: only a word or a date makes it a time.
TIMES = [
    *_times(
        rf"(?<!\d)(?<!\d[:.])(?P<it>(?P<h>\d\d?):(?P<m>\d\d):[0-5]\d{ZONE}(?:{BLANK}?{NOON})?)(?![\d:])",
        rf"(?<!\d)(?<!\d[:.])(?P<it>{CLOCK}{BLANK}?(?:{NOON}|(?i:hrs?|hours|uhr)\b))",
        at_numbers=True,
    ),
    *_times(
        rf"{REMOVED}(?:T|,?{BLANK}*(?:(?i:at|um|saat|a las|-){BLANK}*)?)"
        rf"(?P<it>{CLOCK}(?::\d\d)?{ZONE}(?:{BLANK}?(?:{NOON}|(?i:uhr|h)\b))?)(?![\d:])",
        rf"{EDGE}(?i:time|uhrzeit|um|hora|a las|saati?|时间){BLANK}?:?{BLANK}?(?P<it>{CLOCK}(?::\d\d)?)(?![\d:])"
        rf"(?!{BLANK}?(?i:o'?clock|position|hiza|yön|kadran))",
        gate=holding_number(r"(?<=[:.])\d\d"),
    ),
    *_times(rf"(?P<it>(?P<h>\d\d?){BLANK}?[时点]{BLANK}?(?P<m>\d\d?){BLANK}?分(?:\d\d?秒)?)", gate=holding("分")),
]

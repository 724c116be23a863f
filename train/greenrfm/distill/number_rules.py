"""Identifiers made of numbers: telephone and record numbers, addresses of the net; and numbers that stay."""

from __future__ import annotations

import re

from greenrfm.distill.identifiers import (
    BLANK,
    EDGE,
    END,
    Judge,
    Kind,
    Rule,
    any_of,
    holding,
    holding_match,
    holding_number,
)

LETTERS = r"A-Za-zÀ-ɏ0-9"
UNIT = rf"(?:{any_of('units')})(?![A-Za-zÀ-ɏ])"
NUMBER = r"\d{1,9}(?:[.,]\d+)?"
# Separators of two or three numbers with one unit: "12 x 8 mm", "3 to 5 mm".
BETWEEN = rf"{BLANK}?(?:x|×|X|\*|/|-|~|至|\b(?:by|to|bis|ila|a|and|und|y|ve)\b|,){BLANK}?"
FIVE_DIGITS = holding_number(r"\d{5}")
LISTS_GATE = holding_number(
    r"\d*(?:\d[-./]\d\d?[-./]\d\d|\d[-./](?:19|20)\d\d|(?:19|20)\d\d[-/]\d\d|\d{3}[ ./)-]+\d{2}|\d{5})"
)


def _enough(low: int) -> Judge:
    """Accept what has so many digits."""

    def judge(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span("it") if sum(map(str.isdigit, match["it"])) >= low else None

    return judge


NET = [
    Rule(
        Kind.EMAIL,
        re.compile(rf"(?P<it>{EDGE}(?<![.%+-])[{LETTERS}._%+-]{{1,64}}@[{LETTERS}-]+(?:\.[{LETTERS}-]+)+)"),
        gate=holding("@"),
    ),
    Rule(
        Kind.URL,
        re.compile(
            rf"(?P<it>(?:(?i:https?|ftp)://|\b(?i:www)\.)[A-Za-z0-9./_~:?#@!$&()*+,;=%-]*[A-Za-z0-9/=-]"
            rf"|{EDGE}(?<![.-])[a-z0-9-]{{1,63}}(?:\.[a-z0-9-]{{1,63}}){{0,4}}\.(?:com|org|edu|gov)\b(?:/[\w./?=&%-]*[\w/])?)"
        ),
        gate=holding_match(r"://|w[Ww]{2}\.|W[Ww]{2}\.|\.(?:com|org|edu|gov)\b"),
    ),
]

# Numbers that belong to the findings: kind None keeps them.
CLINICAL = [
    Rule(
        None,
        re.compile(rf"(?P<it>(?<!\d)(?<!\d[.,]){NUMBER}(?:{BETWEEN}-?{NUMBER}){{0,3}}{BLANK}?-?{UNIT})"),
        gate=LISTS_GATE,
        at_numbers=True,
    ),
    Rule(
        None,
        re.compile(
            rf"{EDGE}(?P<it>(?:{any_of('places_in_images', 'levels')}){BLANK}?[.:#]?{BLANK}?\d{{1,4}}"
            rf"(?:{BLANK}?[-/:,.]{BLANK}?\d{{1,4}})*)(?!\d)"
        ),
        gate=LISTS_GATE,
    ),
    # "T10-11-12", "L3/4/5"
    Rule(None, re.compile(rf"{EDGE}(?P<it>[CTDLS]\d{{1,2}}(?:[-/][CTDLS]?\d{{1,2}})+)(?!\d)"), gate=LISTS_GATE),
    # "9-10-11. kosta"
    Rule(
        None,
        re.compile(
            rf"(?<!\d)(?<!\d[.,/-])(?P<it>\d{{1,2}}\.?(?:{BLANK}?[-/,]{BLANK}?\d{{1,2}}\.?)+{BLANK}?{any_of('levels')})"
        ),
        gate=LISTS_GATE,
        at_numbers=True,
    ),
]

# Groups of two digits or more: the 5 of "555-1234 5 nodules" is none of them.
DIGITS = r"\(?\d+\)?(?:(?: ?[-/] ?|[. ])?(?:\(0\) ?)?\(?\d{2,}\)?)*"
EXTENSION = rf"(?:[ ,]*(?i:ext|x|dw|dahili)\.?:?{BLANK}*\d{{2,5}})?"
GROUPS_GATE = holding_number(r"\d{3,}[). /-]+\d\d|\d*1\d{10}")
PHONES = [
    Rule(
        Kind.PHONE,
        re.compile(rf"{EDGE}(?i:call){BLANK}+(?P<it>\d{{3}}-\d{{4}})(?![\d-])"),
        gate=holding_number(r"\d{3,}-\d{4}"),
    ),
    Rule(
        Kind.PHONE,
        re.compile(
            rf"{EDGE}{any_of('phones')}\.?{BLANK}?(?:no|nr)?[.:]*{BLANK}*(?P<it>\+?{DIGITS}{EXTENSION})(?!{BLANK}?[,.]?\d)"
        ),
        _enough(4),
        holding_number(r"\d{2,}(?:[ ()/.-]{0,3}\d\d|[ -]\d)"),
    ),
    Rule(Kind.PHONE, re.compile(rf"{EDGE}(?<!\+)(?P<it>\+{DIGITS})"), _enough(8), holding_number(r"(?<=\+)\d")),
    *(
        Rule(
            Kind.PHONE, re.compile(rf"{EDGE}(?<!\d[.,/-])(?P<it>{pattern})(?![A-Za-z.,/-]?\d)"), _enough(9), GROUPS_GATE
        )
        for pattern in (
            rf"(?:1[-. ])?\(\d{{3}}\)[ -]?\d{{3}}[-. ]\d{{4}}{EXTENSION}",
            rf"(?:1[-. ])?\d{{3}}(?P<s>[-.])\d{{3}}(?P=s)\d{{4}}{EXTENSION}",
            r"\(?0\d{2,4}\)?(?: ?[/-] ?| )\d{2,8}(?:[ -]\d{2,5}){0,3}",
            r"9\d \d{3} \d\d \d\d|[6789]\d\d(?: \d{3}){2}|[6789]\d\d(?: \d\d){3}",
            r"1[3-9]\d{9}|1[3-9]\d(?:[ -]\d{4}){2}",
        )
    ),
]


def _numeric(fewest: int, pattern: str) -> Rule:
    """Return the rule for ids that begin with a digit."""
    return Rule(Kind.ID, re.compile(pattern), _enough(fewest), at_numbers=True)


CODE = r"[A-Za-z]{0,4}[-/]?\d(?:[A-Za-z0-9./_-]*[A-Za-z0-9])?"
IDS = [
    Rule(
        Kind.ID,
        re.compile(
            rf"{EDGE}(?:{any_of('ids')}){BLANK}*[:#=]{BLANK}*#?{BLANK}*(?P<it>{CODE}(?: \d{{3,5}}){{0,4}}){END}"
        ),
        gate=holding_match(r"[:#=][ \t#]*[A-Za-z]{0,4}[-/]?\d"),
    ),
    Rule(
        Kind.ID,
        re.compile(
            rf"{EDGE}(?:{any_of('ids')}){BLANK}*(?:(?:is|ist|es){BLANK}+)?"
            rf"(?P<it>[A-Za-z]{{0,4}}[-/]?\d[A-Za-z0-9/_-]*(?: \d{{3,5}}){{0,4}}){END}(?![.,]\d)"
        ),
        _enough(4),
        holding_number(r"\d+(?:[A-Za-z0-9/_-]{2,}\d| \d{3})"),
    ),
    # DICOM's unique identifiers, and the numbers of the American social security
    _numeric(6, r"(?<!\d)(?<!\d\.)(?P<it>[0-2](?:\.\d+){5,})(?!\d)"),
    _numeric(9, rf"{EDGE}(?<!-)(?P<it>\d{{3}}-\d\d-\d{{4}}){END}(?!-)"),
    # Letters with six digits or more, or seven digits alone: findings have no such numbers.
    Rule(
        Kind.ID,
        re.compile(rf"{EDGE}(?P<it>[A-Za-z]{{1,6}}[-_/]?(?:\d{{2,4}}[-_/])?\d{{5,}}[A-Za-z0-9]*(?:[-_/]\d+)*){END}"),
        _enough(6),
        FIVE_DIGITS,
    ),
    _numeric(
        7,
        r"(?<!\d)(?<!\d[.,])(?P<it>(?:\d{2,4}[-/])?\d{7,}[A-Za-z]?(?:[-/]\d+)?|\d{2,4}[-/]\d{5,6})"
        rf"{END}(?![.,]\d)",
    ),
]

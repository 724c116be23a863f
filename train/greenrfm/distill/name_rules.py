"""Identifiers made of words: names of people and hospitals where something introduces them, and addresses."""

from __future__ import annotations

import re
from functools import cache

from greenrfm.distill.identifiers import (
    BLANK,
    EDGE,
    KEPT,
    REMOVED,
    Gate,
    Judge,
    Kind,
    Rule,
    alternatives,
    always,
    any_of,
    data,
    holding,
    holding_match,
    holding_number,
    whole,
)
from greenrfm.findings import load_finding_set, packaged_sets

CAPITAL = "[A-Z" + "".join(chr(code) for code in range(0xC0, 0x250) if chr(code).isupper()) + "]"
LETTER = r"[^\W\d_]"
INITIAL = rf"(?:{CAPITAL}\.-?)+"
WORD = rf"(?:{CAPITAL}(?:{LETTER}|['-](?={LETTER}))+|{INITIAL}|{CAPITAL}\b)"
PARTICLE = rf"(?:(?:{alternatives('particles')}){BLANK}+)"
NAME = rf"{PARTICLE}{{0,2}}{WORD}(?:{BLANK}*(?<=[ \t.]){PARTICLE}{{0,2}}{WORD}){{0,4}}"
TITLE = rf"(?:(?:{alternatives('titles')})\b\.?-?{BLANK}*(?:(?:{alternatives('degrees')})\.{BLANK}*)*)"
# "Smith, John", "SMITH^JOHN"
LISTED = rf"{NAME}(?:(?:,{BLANK}?|\^){NAME}){{0,2}}"
PARTICLES = frozenset(word for entry in data()["particles"] for word in entry.split())
TOKEN = re.compile(rf"{LETTER}(?:{LETTER}|['-](?={LETTER}))*")
HAN = "[\u4e00-\u9fff]"


@cache
def _stop() -> frozenset[str]:
    titles = re.findall(LETTER + "+", alternatives("titles", "degrees").lower())
    return frozenset(word for line in data()["stop"] for word in line.split()) | {*titles}


@cache
def _clinical() -> frozenset[str]:
    """Return the words that begin a clinical statement and no name: those above and the findings' own."""
    sets = (load_finding_set(name) for name in packaged_sets())
    phrases = (phrase for each in sets for finding in each.findings for phrase in (finding.name, *finding.synonyms))
    return _stop() | {word for phrase in phrases for word in phrase.lower().split()} - {*data()["eponyms"]}


def _name(first: frozenset[str], fewest: int, but: frozenset[str] = frozenset()) -> Judge:
    """Cut a name before its first clinical word.

    `first` is what its first word must not be, `fewest` how many words it must have, and `but` are words
    that do not end it.
    """

    def judge(match: re.Match[str]) -> tuple[int, int] | None:
        start, end = match.span("it")
        words = 0
        for token in TOKEN.finditer(match.string, start, end):
            word = token[0].lower()
            if token[0] in PARTICLES:
                continue
            ends = word not in but and word in (_clinical() if words else first)
            if ends and not _initial(match.string, token):
                end = token.start()
                break
            words += 1
        # The full stop behind an initial may be the sentence's: it stays.
        end = start + len(match.string[start:end].rstrip(" \t,^-."))
        return (start, end) if words >= fewest and end > start else None

    return judge


def _initial(text: str, token: re.Match[str]) -> bool:
    return len(token[0]) == 1 and text[token.end() : token.end() + 1] == "."


def _surname(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept a Chinese name after a word that may also open a sentence."""
    return match.span("it") if match["it"][0] in data()["chinese"]["surnames"] else None


def _rules(kind: Kind, gate: Gate, *patterns: str, judge: Judge = whole) -> list[Rule]:
    return [Rule(kind, re.compile(pattern, re.MULTILINE), judge, gate) for pattern in patterns]


def _labelled(kind: Kind, labels: str, value: str, judge: Judge) -> Rule:
    """Return the rule for a value behind one of `labels` and a colon: the colon is looked for first."""
    label = re.compile(rf"(?:^|(?<=[\n.;|,(){REMOVED}])){BLANK}*{labels}{BLANK}*\Z")

    def labelled(match: re.Match[str]) -> tuple[int, int] | None:
        before = match.string[max(0, match.start() - LONGEST_LABEL) : match.start()]
        return judge(match) if label.search(before) else None

    return Rule(kind, re.compile(rf"[:=]{BLANK}*{value}", re.MULTILINE), labelled, COLON)


LONGEST_LABEL = 50
CLOSING = "(?:Grüßen|Gruß|[Rr]egards|[Ss]incerely|Saludos|Saygılarımla)"
COLON, HAN_GATE = holding(":", "="), holding_match(HAN)

NAMES = [
    *_rules(
        Kind.NAME,
        holding_match(
            rf"(?:by|By|BY|von|Von|durch|Durch|por|Por|gez\.|Gez\.|fdo\.|Fdo\.|/s/){BLANK}*:?{BLANK}*{CAPITAL}"
        ),
        rf"{EDGE}{any_of('name_verbs')}{BLANK}*:?{BLANK}*{TITLE}*(?P<it>{LISTED})",
        judge=_name(_stop(), 1),
    ),
    _labelled(Kind.NAME, any_of("name_labels"), rf"{TITLE}*(?P<it>{LISTED})", _name(_stop(), 1)),
    # "Name: smith, john" on a line of its own.
    _labelled(
        Kind.NAME,
        any_of("name_labels"),
        rf"(?P<it>{LETTER}+(?:[,^]?{BLANK}?{LETTER}+){{0,3}}){BLANK}*$",
        _name(_clinical(), 1),
    ),
    *_rules(
        Kind.NAME,
        always,
        rf"(?=[A-ZÀ-ɏ]){EDGE}(?:{TITLE})+(?P<it>{NAME})",
        judge=_name(_stop(), 1),
    ),
    *_rules(
        Kind.NAME,
        holding("Grüßen", "Gruß", "egards", "incerely", "Saludos", "Saygılarımla"),
        rf"\b{CLOSING}[,.]?\s+{TITLE}*(?P<it>{NAME})",
        judge=_name(_clinical(), 1),
    ),
    _labelled(Kind.NAME, any_of("weak_name_labels"), rf"{TITLE}*(?P<it>{LISTED})", _name(_clinical(), 2)),
    *_rules(
        Kind.NAME,
        holding_match(rf"(?:{alternatives('after_names')})(?!\w)"),
        rf"(?<![\w.])(?P<it>{NAME}),?{BLANK}+(?:{alternatives('after_names')})(?!\w)",
        judge=_name(_clinical(), 2),
    ),
    *_rules(
        Kind.NAME,
        holding(*data()["turkish_after"]),
        rf"{EDGE}(?P<it>{WORD}(?:{BLANK}{WORD})?){BLANK}(?:{alternatives('turkish_after')})(?!\w)",
        judge=_name(_clinical(), 1),
    ),
    *_rules(
        Kind.NAME,
        HAN_GATE,
        rf"(?:{alternatives('chinese.labels')}){BLANK}*[:=]{BLANK}*(?P<it>{HAN}{{2,4}}(?:·{HAN}{{1,6}})?)(?!{HAN})",
        rf"(?P<it>(?:{data()['chinese']['double_surnames']}|[{data()['chinese']['surnames']}]){HAN}{{0,2}}?)(?:{alternatives('chinese.titles')})",
    ),
    *_rules(
        Kind.NAME,
        HAN_GATE,
        rf"(?:{alternatives('chinese.weak_labels')}){BLANK}*[:=]{BLANK}*(?P<it>{HAN}{{2,3}})(?=[\s,.;(]|$|男|女)",
        # "患者高热" is a fever; a name has its sex behind it.
        rf"(?:{alternatives('chinese.weak_labels')})(?P<it>{HAN}{{2,3}})(?=,{BLANK}*[男女])",
        judge=_surname,
    ),
]

SAINT = rf"(?:(?:St|Sankt|San|Santa)\.?{BLANK}+)?"
JOINT = rf"(?:(?:of|the|and|&|für|und|de|del|la|los|am|im|zu){BLANK}+)"
PROPER = rf"{SAINT}{WORD}(?:{BLANK}+{JOINT}{{0,2}}{SAINT}{WORD}){{0,7}}"
# A hospital may be called after an organ and a road: only headings end its name.
HOSPITALS = [
    _labelled(
        Kind.HOSPITAL,
        rf"{any_of('hospitals')}{BLANK}*(?:[Nn]ame|adı)?",
        rf"(?P<it>{PROPER})",
        _name(_stop(), 1, frozenset({"hospital", "klinik", "department", "heart", "chest", "imaging", "radiology"})),
    ),
    *_rules(Kind.HOSPITAL, HAN_GATE, rf"(?:医院|医院名称|就诊医院){BLANK}*[:=]{BLANK}*(?P<it>{HAN}{{3,20}})"),
]

POSTCODE = holding_number(r"\d{5}")
STREET = r"(?:Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Boulevard|Blvd\b\.?|Lane|Drive)"
US_TOWN = rf"{CAPITAL}[a-z]+(?: {CAPITAL}[a-z]+){{0,2}},? [A-Z]{{2}},? \d{{5}}(?:-\d{{4}})?(?!\d)"
TOWN = rf"(?:[A-Z]{{1,2}}-)?\d{{5}} {CAPITAL}{LETTER}+(?:(?: |-)(?:(?:am|an der|im|bei) )?{CAPITAL}{LETTER}+){{0,2}}"
NUMBER = r" \d{1,4}(?: ?[a-z])?\b"
TURKISH = rf"{WORD}(?: {WORD}){{0,2}} (?:Mah(?:allesi|\.)|Cad(?:desi|\.)|Sok(?:ak|ağı|\.)|Bulvarı|Bulv\.)"
SHORT = r"(?:St|Str|Ave|Rd|Blvd|Cad|Sok|Mah|Bulv|No|Nr|Apt|Av|Avda|Kat|D)\."
# To the end of the sentence; the full stop of "Str." is none.
LINE = rf"(?:\b{SHORT}|(?!\b{SHORT})[^\n;.{REMOVED}{KEPT}])"
ROADS = frozenset(
    {"la", "el", "los", "las", "de", "del", "der", "an", "am", "im", "in", "of", "the", "dr", "prof", "san"}
)
ADDRESSES = [
    _labelled(
        Kind.ADDRESS, any_of("addresses"), rf"(?P<it>{LINE}{{0,120}}?\d{LINE}{{0,80}})", _name(_stop(), 1, ROADS)
    ),
    *_rules(
        Kind.ADDRESS,
        holding("St", "Ave", "Road", "Rd", "Boulevard", "Blvd", "Lane", "Drive"),
        rf"(?<!\w)(?<!\d[.,/-])(?P<it>\d{{1,5}}[A-Za-z]? (?:[NSEW]\.? )?(?:{CAPITAL}[a-z]+ |\d+(?:st|nd|rd|th) ){{1,3}}"
        rf"{STREET}(?:,? (?:Apt|Suite|Unit|#)\.? ?\w+)?(?:, {US_TOWN})?)(?!\w)",
    ),
    *_rules(Kind.ADDRESS, POSTCODE, rf"\b(?P<it>{US_TOWN})"),
    *_rules(
        Kind.ADDRESS,
        holding("traße ", "trasse ", "tr. ", "asse ", "llee ", "latz ", "Weg "),
        rf"(?<!\w)(?P<it>(?:{CAPITAL}[\w-]*(?:straße|strasse|str\.|gasse|allee|platz)"
        rf"|(?:{WORD} )?(?:Straße|Str\.|Allee|Platz|Gasse|Weg)){NUMBER}(?:,?\s{TOWN})?)",
    ),
    *_rules(Kind.ADDRESS, holding("Box"), r"(?<!\w)(?P<it>P\.? ?O\.? ?Box \d+)"),
    # "Faserring 3" is no address; with a town behind it is one.
    *_rules(
        Kind.ADDRESS,
        POSTCODE,
        rf"(?<!\w)(?P<it>{CAPITAL}[\w-]*(?:weg|ring|damm|ufer|steig|hof){NUMBER},\s{TOWN})",
    ),
    *_rules(Kind.ADDRESS, POSTCODE, rf"^{BLANK}*(?P<it>{TOWN}){BLANK}*$"),
    *_rules(
        Kind.ADDRESS,
        holding(" Mah", " Cad", " Sok", " Bulv"),
        rf"(?<!\w)(?P<it>{TURKISH}(?:[, ]+{TURKISH}){{0,2}}(?:[, ]*(?:No|Kat|D|Daire)[:.]? ?\d+(?:[/-]\w+)?){{0,3}})",
    ),
    *_rules(
        Kind.ADDRESS,
        holding("C/", "Calle", "Av.", "Avda", "Avenida", "Plaza", "Paseo"),
        rf"(?<!\w)(?P<it>(?:C/|Calle|Avda\.?|Av\.|Avenida|Plaza|Paseo) ?(?:(?:de|del|la|las|los) ){{0,2}}"
        rf"{WORD}(?:(?: (?:de|del|la|las|los|y)){{0,2}} {WORD}){{0,3}},? (?:n\.?º ?)?\d{{1,4}}\b(?:, \d{{5}} {WORD})?)",
    ),
    *_rules(
        Kind.ADDRESS,
        holding("路", "街", "巷", "大道", "胡同"),
        rf"(?P<it>(?:{HAN}{{2,3}}[省市])?(?:{HAN}{{2,3}}[市区县])?{HAN}{{2,4}}(?:路|街|巷|大道|胡同)\d{{1,5}}号"
        r"(?:\d{1,4}[号]?[栋楼室单元]*)*)",
    ),
]

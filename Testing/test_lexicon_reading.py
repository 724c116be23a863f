"""What the lexicon makes of the words around a finding, and how it says why. All sentences here are made up."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.distill import LexiconLabeler, Unlabelled
from greenrfm.distill.evidence import Evidence
from greenrfm.distill.phrases import compile_phrase
from greenrfm.distill.sentences import LONGEST, shortened, split
from greenrfm.findings import State, load_finding_set, packaged_sets
from greenrfm.phantoms.phrases import Instance, StudyFacts
from greenrfm.phantoms.reports import write_report

LABELERS = {name: LexiconLabeler(load_finding_set(name)) for name in packaged_sets()}
STATES = {"+": State.PRESENT, "-": State.ABSENT, "?": State.UNCERTAIN, "": State.NOT_MENTIONED}


def read(report: str, key: str, finding_set: str = "chest-ct-18") -> Evidence:
    return LABELERS[finding_set].label(report).findings[key]


@pytest.mark.parametrize(
    ("report", "key", "state"),
    [
        ("Her mother had emphysema.", "emphysema", ""),
        ("Family history of pulmonary fibrosis.", "pulmonary_fibrotic_sequela", ""),
        ("No family history of bronchiectasis.", "bronchiectasis", ""),
        ("Emphysema in his father.", "emphysema", ""),
        ("FAMILY HISTORY: Emphysema, cardiomegaly.\nFINDINGS: Bronchiectasis.", "emphysema", ""),
        ("FAMILY HISTORY: Emphysema, cardiomegaly.\nFINDINGS: Bronchiectasis.", "bronchiectasis", "+"),
        ("His brother had asthma, but emphysema is seen here.", "emphysema", "+"),
        ("Family history of asthma. Emphysema.", "emphysema", "+"),
        ("Daughter nodules around the larger nodule.", "lung_nodule", "+"),
    ],
)
def test_relatives_diseases_are_nobodys_finding(report: str, key: str, state: str) -> None:
    assert read(report, key).state is STATES[state], read(report, key)


@pytest.mark.parametrize(
    ("report", "key", "state"),
    [
        ("Thyroid: A 6 mm nodule. A second nodule is calcified.", "lung_nodule", ""),
        ("Thyroid: A 6 mm nodule. Another nodule in the right lung.", "lung_nodule", "+"),
        ("Thyroid: A 6 mm nodule.\nLungs: A nodule.", "lung_nodule", "+"),
        ("Liver: Multiple nodules.\nFindings: A nodule.", "lung_nodule", "+"),
        ("Mediastinum and lymph nodes: Esophagus unremarkable.", "lymphadenopathy", ""),
        ("Lymph nodes: An enlarged node below the carina.", "lymphadenopathy", "+"),
        ("Nodule in the thyroid; nodule in the right lung.", "lung_nodule", "+"),
        ("The lungs are clear; hypodense nodule in the thyroid.", "lung_nodule", ""),
        ("Plaque in the circumflex artery; the aorta is wide.", "arterial_wall_calcification", ""),
        ("Calcified plaque in the abdominal aorta.", "arterial_wall_calcification", ""),
        ("Calcified plaque in the thoracic and abdominal aorta.", "arterial_wall_calcification", "+"),
    ],
)
def test_a_finding_belongs_to_its_clause_and_its_section(report: str, key: str, state: str) -> None:
    assert read(report, key).state is STATES[state], read(report, key)


@pytest.mark.parametrize(
    ("report", "key", "state"),
    [
        ("Increase in density in the left lower lobe.", "lung_opacity", "+"),
        ("Density increase in the perirenal fat.", "lung_opacity", ""),
        ("Density increase.", "lung_opacity", ""),
        ("Sequelae density increases in the lung apices.", "lung_opacity", ""),
        ("Consistent with pneumonic infiltration.", "lung_opacity", ""),
        ("No pneumonic infiltration.", "lung_opacity", "-"),
        ("Ground glass nodule of 6 mm in the right upper lobe.", "lung_opacity", ""),
        ("Ground glass nodule of 6 mm in the right upper lobe.", "lung_nodule", "+"),
        ("The right atrium is dilated.", "cardiomegaly", ""),
        ("All cardiac chambers are enlarged.", "cardiomegaly", "+"),
        ("Heart size is greater than normal.", "cardiomegaly", "+"),
        ("The lungs are not emphysematous.", "emphysema", "-"),
        ("The bronchi are not dilated, emphysema is seen.", "emphysema", "+"),
        ("Pericardial effusion - no thickening was detected.", "pericardial_effusion", "-"),
        ("Pleural effusion, no thickening of the septa was detected.", "pleural_effusion", "+"),
        ("Atelectasis versus consolidation.", "atelectasis", "?"),
        ("Atelectasis versus consolidation.", "consolidation", "?"),
        ("Borderline cardiomegaly.", "cardiomegaly", "?"),
        ("Question small pleural effusion.", "pleural_effusion", "?"),
        ("This may be due to atelectasis.", "atelectasis", "?"),
        ("Density at the aorta that may represent calcification.", "arterial_wall_calcification", "?"),
        ("The bronchial wall thickness is normal.", "peribronchial_thickening", "-"),
        ("Previously described as consolidation.", "consolidation", ""),
        ("No increase in peribronchial wall thickness.", "peribronchial_thickening", "-"),
        ("A mild increase in the cardiothoracic ratio.", "cardiomegaly", "+"),
        ("No increase in heart size.", "cardiomegaly", "-"),
        ("No increase in the pleural effusion.", "pleural_effusion", "+"),
        ("Areas of infiltration in both lungs.", "lung_opacity", "+"),
        ("No areas of infiltration in the lungs.", "lung_opacity", "-"),
        ("Septal lines at the bases.", "interlobular_septal_thickening", "+"),
    ],
)
def test_a_chest_report_says(report: str, key: str, state: str) -> None:
    assert read(report, key).state is STATES[state], read(report, key)


@pytest.mark.parametrize(
    ("report", "sentences"),
    [
        ("右肺上叶见结节。左肺未见异常！心脏增大？", ["右肺上叶见结节。", "左肺未见异常！", "心脏增大？"]),
        ("纵隔居中；胸腔积液。", ["纵隔居中；", "胸腔积液。"]),
        ("考虑“结节。”随访。", ["考虑“结节。”", "随访。"]),
        ("大小约3.5cm，边界清。复查", ["大小约3.5cm，边界清。", "复查"]),
    ],
)
def test_chinese_sentences_end_at_full_width_marks(report: str, sentences: list[str]) -> None:
    assert [report[each.start : each.end] for each in split(report, frozenset())] == sentences


@given(st.text(alphabet="ab .,。！？；\n：:“”", max_size=80))
@settings(max_examples=200, deadline=None)
def test_sentences_are_in_order_and_lose_no_letter(report: str) -> None:
    spans = [(each.start, each.end) for each in split(report, frozenset())]
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    inside = "".join(report[start:end] for start, end in spans)
    assert re.sub(r"[^ab]", "", inside) == re.sub(r"[^ab]", "", report)


def test_a_sentence_knows_its_section() -> None:
    report = "Cough. LUNGS: Clear. No nodule.\nHeart: Normal."
    assert [each.section for each in split(report, frozenset())] == ["", "lungs", "lungs", "heart"]


@pytest.mark.parametrize(
    ("report", "key", "rule"),
    [
        ("No pleural effusion.", "pleural_effusion", "pleural effusion [negation: no]"),
        ("Atelectasis cannot be excluded.", "atelectasis", "atelectasis [uncertainty: cannot be excluded]"),
        ("Plaques all along the winding aorta.", "arterial_wall_calcification", "plaques .. aorta"),
        ("Wall of the old aorta calcified.", "arterial_wall_calcification", "aorta calcif*"),
        ("The heart of Mr Smith is normal.", "cardiomegaly", "normal: heart .. normal"),
    ],
)
def test_the_rule_says_what_decided_in_words_of_the_lexicon(report: str, key: str, rule: str) -> None:
    assert read(report, key).rule == rule


def test_a_phrase_names_its_own_words_only() -> None:
    phrase = compile_phrase("(aorta|arch) .. calcif*")
    assert phrase.named("arch of Mary Miller calcified ") == "arch .. calcif*"


def test_threads_may_share_a_labeler() -> None:
    labeler = LexiconLabeler(load_finding_set("chest-ct-18"))
    reports = [f"Nodule of {n} mm in the lung. {'No e' if n % 2 else 'E'}mphysema in lobe {n}." for n in range(400)]
    with ThreadPoolExecutor(4) as pool:
        states = [each.findings["emphysema"].state for each in pool.map(labeler.label, reports)]
    assert states == [State.ABSENT if n % 2 else State.PRESENT for n in range(400)]


def test_generated_reports_are_read_as_they_were_meant() -> None:
    rng, labeler = np.random.default_rng(5), LABELERS["chest-ct-18"]
    keys = labeler.finding_set.keys
    said, called = [], []
    for _ in range(150):
        chosen = [key for key in keys if rng.random() < 0.25]
        instances = tuple(Instance(key, size_mm=float(rng.uniform(4, 30)), severity=rng.random()) for key in chosen)
        report = write_report(StudyFacts(instances, 60, "F", contrast=True), rng)
        found = labeler.label(report.text).findings
        said.append([report.said[key] is State.PRESENT for key in keys])
        called.append([found[key].state is State.PRESENT for key in keys])
    meant, read_as = np.array(said), np.array(called)
    f1 = 2 * (meant & read_as).sum(axis=0) / (meant.sum(axis=0) + read_as.sum(axis=0))
    assert f1.mean() >= 0.97, dict(zip(keys, f1.round(3), strict=True))


@pytest.mark.parametrize(
    "report",
    [
        "Kein Emphysem.",
        "Kein Nachweis eines Emphysems.",
        "Keine Hydronephrose.",
        "Keine Pleuraergüsse. Herzgröße normal. Kein Pneumothorax. Mediastinum unauffällig.",
        "Ausschluss eines Pneumothorax.",
        "Sin ascitis.",
        "No se observa derrame pleural. Corazón de tamaño normal. Sin nódulos pulmonares.",
        "Hidronefroz saptanmadi. Asit yoktur.",
        "Amfizem yok.",
        "Pas d'épanchement pleural. Pas d'emphysème. Le coeur est de taille normale.",
        "Assenza di pneumothorax.",
        "Sem derrame pleural. Ausência de enfisema.",
        "Geen pleuravocht. Het hart is niet vergroot.",
        "Brak plynu w jamach oplucnowych. Serce niepowiekszone.",
        "Ei pleuranestetta. Sydan normaalikokoinen.",
        "胸部CT未见异常。双肺未见肺气肿。",
        "Эмфиземы нет.",
        # One sentence is enough: its denial would be missed.
        "The heart is not enlarged and the lungs are clear. Kein Emphysem.",
    ],
)
def test_another_language_is_refused(report: str) -> None:
    for labeler in LABELERS.values():
        with pytest.raises(Unlabelled, match=r"does not read like English.*--labeler llm"):
            labeler.label(report)


@pytest.mark.parametrize(
    "report",
    [
        *(
            "",
            "- 12 x 8 -",
            "Normal.",
            "NORMAL",
            "Unremarkable.",
            "Stable examination.",
            "No acute disease.",
            "Emphysema.",
        ),
        *("Cardiomegaly", "ACL tear.", "Baker's cyst.", "Schmörl node L3.", "Granuloma RUL.", "Paraseptal emphyseema."),
        "Lungs clear. Heart normal size. Mediastinum unremarkable. Bones intact.",
        "Left basilar atelectasis/infiltrate.",
        "PAs normal. LES lax. DES in the LAD.",
        "Clinical information: Husten, kein Fieber.\nFindings: The lungs are clear. No pleural effusion is seen.",
    ],
)
def test_short_english_is_read(report: str) -> None:
    for labeler in LABELERS.values():
        labeler.label(report)


def test_generated_reports_read_like_english() -> None:
    rng = np.random.default_rng(9)
    for _ in range(100):
        chosen = [key for key in LABELERS["chest-ct-18"].finding_set.keys if rng.random() < 0.25]
        report = write_report(StudyFacts(tuple(map(Instance, chosen)), 60, "F", contrast=True), rng).text
        LABELERS["chest-ct-18"].label(report)


def test_text_without_sentence_ends_is_read_in_pieces_with_nothing_lost() -> None:
    words = ("no pleural effusion with a nodule of the lung and emphysema in the left lobe, " * 300).strip()
    pieces = list(shortened(words, split(words, frozenset())))
    assert max(each.end - each.start for each in pieces) <= LONGEST
    assert "".join(words[each.start : each.end] for each in pieces) == words
    assert all(words[each.end - 2 : each.end] == ", " for each in pieces[:-1])
    solid = "x" * 2500
    assert [each.end for each in shortened(solid, split(solid, frozenset()))] == [1000, 2000, 2500]


@pytest.mark.parametrize(
    "report",
    [
        "no pleural effusion with a nodule of the lung and emphysema in the left lobe " * 600,
        "The lungs are clear." + "\n" * 50_000 + "No effusion.",
        "The lungs are clear." + " \n" * 50_000 + "No effusion.",
    ],
)
def test_text_of_no_form_takes_no_ages(report: str) -> None:
    began = time.process_time()
    LABELERS["chest-ct-18"].label(report)
    assert time.process_time() - began < 15

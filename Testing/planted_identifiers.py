"""Made-up reports in five languages with made-up identifiers planted in them, and what must survive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from greenrfm.distill.identifiers import Kind

FIRST = {
    "en": "John Mary Robert Linda Emily Grace Peter Olivia Samuel Priya",
    "de": "Anna Jürgen Käthe Lukas Björn Ursula Sören Heike Matthias Zoë",
    "es": "José María Lucía Íñigo Carmen Raúl Begoña Ángel Nuria Óscar",
    "tr": "Ayşe Mehmet İsmail Çağla Şule Uğur Ömer Gülşen Emre Işıl",
    "zh": "伟 芳 秀英 敏 建国 丽华 强 晓明 雪 文博",
}
LAST = {
    "en": "Smith O'Connor Baker Patel Lee McDonald Taylor-Jones Hughes Okafor Wright",
    "de": "Müller Schmidt Weiß Groß Köhler Öztürk Becker-Lang Jäger Vogel Zimmermann",
    "es": "García Núñez Ibáñez Ortega Ruiz Peña Castillo Vázquez Iglesias Domínguez",
    "tr": "Yılmaz Şahin Çelik Öztürk Kaya Doğan İnan Aydın Güneş Ünal",
    "zh": "张 王 李 刘 陈 杨 赵 周 吴 徐",
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
}
# Clinical sentences: every character of them must survive. What they have in common with identifiers is on purpose.
CLINICAL = {
    "en": [
        "There is a 12 x 8 x 10 mm nodule in segment 6 (series 3, image 45).",
        "Stable since the prior; compare image 3/45 with 2/41, and 4:56 with 5:60.",
        "Attenuation is -60 HU to 120 HU; window 1500/-600; 120 kV, 85 mAs, 350 mGy*cm.",
        "Degenerative change at T10-11-12 and L3/4/5; fractures of ribs 9/10/11 and 9-10-11.",
        "Ejection fraction 55-60 %. SUVmax 12.5. BI-RADS 4, Lung-RADS 4A, Gleason 3+4, T2N1M0.",
        "May represent a cyst. March of calcifications along the aorta. Baker cyst and Schmorl nodes.",
        "65-year-old male, status post 90 days of therapy, 100 ml contrast, creatinine 1.2 mg/dl.",
        "Lesion at the 10:30 o'clock position; ratio 1:20. Follow-up in 3-6-12 months.",
        "Dr. was not reached. No effusion. Patient: Known asthma. Patient presents with cough.",
        "The Fleischner Society 2017 guideline applies. ICD-10 C34.1. 3.5 cm, 2,5 cm and 12.10 mm.",
        "Chest X-ray MD impression. MR Abdomen without contrast. DR Chest. PA and lateral.",
        "Name: not given. Hospital course: uneventful. Attending: none. Comparison: none.",
    ],
    "de": [
        "Rundherd von 12 x 8 mm im Segment 6 (Serie 3, Bild 45), Dichte -60 HU.",
        "Frakturen der Rippen 9-10-11. Zustand nach Operation vor 12 Jahren. Kein Pleuraerguss.",
        "Faserring 3 mm, Gallenweg 8 mm, bis 4,5 cm. Am 10 Uhr Mamma. Patient: 65 Jahre.",
        "Herz nicht vergrößert. Frau und Mann. 10000 Einheiten Heparin. BWK 10/11/12.",
    ],
    "es": [
        "Nódulo de 12 x 8 mm en el segmento 6 (serie 3, imagen 45), de 3 a 5 mm.",
        "TC 64 cortes. Sin derrame pleural. Hace 3 meses. Fractura de la costilla 9.",
    ],
    "tr": [
        "Sağ akciğerde 12 x 8 mm nodül (seri 3, imaj 45). 9-10-11. kostalarda fraktür.",
        "Plevral effüzyon izlenmedi. Saat 10 hizasında lezyon. 6 ay sonra kontrol. 2,5 cm kitle.",
    ],
    "zh": [
        "右肺上叶见12×8mm结节，边缘清楚（图像45，系列3），CT值约-60HU。",
        "患者：黄疸三天。患者高热，2周前开始。胸腔未见积液；第9-10-11肋骨骨折。3个月后复查。",
    ],
}


@dataclass(frozen=True)
class Planted:
    """A report, the clinical sentences in it, and (kind, identifier) for all that was planted."""

    language: str
    report: str
    kept: tuple[str, ...]
    identifiers: tuple[tuple[Kind, str], ...]


def planted(seed: int, count: int) -> Iterator[Planted]:
    """Yield `count` reports, the languages in turn."""
    chance = random.Random(seed)
    for number in range(count):
        language = list(CLINICAL)[number % 5]
        kept = tuple(chance.sample(CLINICAL[language], 2))
        frames = chance.sample(list(_frames(language, chance)), 4)
        sentences = [frame for frame, _, _ in frames]
        sentences[1:1], sentences[4:4] = [kept[0]], [kept[1]]
        identifiers = tuple((kind, text) for _, kind, text in frames)
        # A line without a full stop ends with its line.
        gap = chance.choice(["\n", "\n\n", " "])
        report = "".join(text + (gap if text[-1] in ".。" else "\n") for text in sentences)
        yield Planted(language, report, kept, identifiers)


def _frames(language: str, chance: random.Random) -> Iterator[tuple[str, Kind, str]]:
    """Yield sentences with one identifier each."""
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1998, 2025)
    first, last = chance.choice(FIRST[language].split()), chance.choice(LAST[language].split())
    number = "".join(chance.choices("0123456789", k=chance.randint(6, 10)))
    phone = "".join(chance.choices("23456789", k=7))
    old = chance.randint(90, 104)
    dates = {
        "en": [f"{month}/{day}/{year}", f"{month:02}/{day:02}/{year % 100:02}", f"{year}-{month:02}-{day:02}"],
        "de": [f"{day}.{month}.{year}", f"{day:02}.{month:02}.{year % 100:02}", f"{day:02}.{month:02}.{year}"],
        "es": [f"{day}/{month}/{year}", f"{day:02}-{month:02}-{year}"],
        "tr": [f"{day:02}.{month:02}.{year}", f"{day}.{month}.{year}", f"{day:02}/{month:02}/{year}"],
        "zh": [f"{year}年{month}月{day}日", f"{year}-{month:02}-{day:02}", f"{year}年{month}月", f"{month}月{day}日"],
    }[language]
    if language in MONTHS:
        name = MONTHS[language].split()[month - 1]
        dates += {
            "en": [f"{name} {day}, {year}", f"{day} {name} {year}", f"{name} {year}", f"{day:02}-{name[:3]}-{year}"],
            "de": [f"{day}. {name} {year}", f"{name} {year}"],
            "es": [f"{day} de {name} de {year}", f"{name} de {year}", f"{day} de {name}"],
            "tr": [f"{day} {name} {year}", f"{name} {year}"],
        }[language]
    date = chance.choice(dates)
    clock = f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}"
    full = first + last if language == "zh" else f"{first} {last}"
    if language == "zh":
        full = last + first
    frames = {
        "en": [
            (f"Comparison is made with CT of {date}.", Kind.DATE, date),
            (f"Called at {clock} hours to the ward.", Kind.TIME, clock),
            (f"A {old}-year-old woman with dyspnea.", Kind.AGE, str(old)),
            (f"Discussed with Dr. {full} by phone.", Kind.NAME, full),
            (f"Patient name: {last.upper()}, {first.upper()}", Kind.NAME, f"{last.upper()}, {first.upper()}"),
            (f"Electronically signed by {first[0]}. {last}, MD.", Kind.NAME, last),
            (f"Referring physician: {full}", Kind.NAME, full),
            (f"Mrs. {last} was informed.", Kind.NAME, last),
            (f"MRN: {number}.", Kind.ID, number),
            (f"Accession number CT-{number} was reviewed.", Kind.ID, number),
            (f"Questions: (555) {phone[:3]}-{phone[3:]}.", Kind.PHONE, f"(555) {phone[:3]}-{phone[3:]}"),
            (f"Fax: +1 555 {phone[:3]} {phone[3:]}.", Kind.PHONE, f"+1 555 {phone[:3]} {phone[3:]}"),
            (f"Write to {first.lower()}@clinic.example.", Kind.EMAIL, f"{first.lower()}@clinic.example"),
            (f"Images at https://pacs.example/{number}.", Kind.URL, f"https://pacs.example/{number}"),
            (
                f"Lives at {day} {chance.choice(['Elm', 'North Hill'])} Street, Boston, MA 02{phone[:3]}.",
                Kind.ADDRESS,
                "Street",
            ),
            (f"Hospital: {last} Memorial Hospital", Kind.HOSPITAL, f"{last} Memorial"),
        ],
        "de": [
            (f"Vergleich mit der CT vom {date}.", Kind.DATE, date),
            (f"Telefonisch mitgeteilt um {clock} Uhr.", Kind.TIME, clock),
            (f"{old}-jährige Patientin mit Dyspnoe.", Kind.AGE, str(old)),
            (f"Besprochen mit Herrn Prof. Dr. med. {full}.", Kind.NAME, full),
            (f"Frau {last} wurde informiert.", Kind.NAME, last),
            (f"Patient: {last}, {first}", Kind.NAME, f"{last}, {first}"),
            (f"Befundet von Dr. {last}.", Kind.NAME, last),
            (f"Fallnummer: {number}.", Kind.ID, number),
            (f"Patienten-ID {number} liegt vor.", Kind.ID, number),
            (f"Tel. 0221 / {phone}.", Kind.PHONE, f"0221 / {phone}"),
            (f"Anschrift: Lindenstraße {day}, 50{phone[:3]} Köln", Kind.ADDRESS, f"Lindenstraße {day}"),
            (f"Wohnt Am Markt, Gartenstr. {day}, 50{phone[:3]} Köln.", Kind.ADDRESS, f"Gartenstr. {day}"),
            (f"Krankenhaus: Klinikum {last}", Kind.HOSPITAL, last),
        ],
        "es": [
            (f"Se compara con TC de {date}.", Kind.DATE, date),
            (f"Paciente de {old} años con disnea.", Kind.AGE, str(old)),
            (f"Comentado con la Dra. {full}.", Kind.NAME, full),
            (f"Paciente: {full} {chance.choice(LAST['es'].split())}", Kind.NAME, full),
            (f"Firmado por {full}.", Kind.NAME, full),
            (f"NHC: {number}.", Kind.ID, number),
            (f"Historia clínica {number}.", Kind.ID, number),
            (f"Tel: 91 {phone[:3]} {phone[3:5]} {phone[5:]}.", Kind.PHONE, f"91 {phone[:3]} {phone[3:5]} {phone[5:]}"),
            (f"Domicilio: Calle Mayor {day}, Madrid", Kind.ADDRESS, f"Calle Mayor {day}"),
        ],
        "tr": [
            (f"{date} tarihli BT ile karşılaştırıldı.", Kind.DATE, date),
            (f"{old} yaşında kadın hasta.", Kind.AGE, str(old)),
            (f"Uzm. Dr. {full} ile görüşüldü.", Kind.NAME, full),
            (f"Hasta adı soyadı: {full}", Kind.NAME, full),
            (f"{first} Hanım bilgilendirildi.", Kind.NAME, first),
            (f"Sayın {last} bilgilendirildi.", Kind.NAME, last),
            (f"Protokol no: {number}.", Kind.ID, number),
            (
                f"Tel: 0212 {phone[:3]} {phone[3:5]} {phone[5:]}.",
                Kind.PHONE,
                f"0212 {phone[:3]} {phone[3:5]} {phone[5:]}",
            ),
            (f"Adres: Cumhuriyet Mah. Gül Sok. No: {day} Ankara", Kind.ADDRESS, "Gül Sok"),
        ],
        "zh": [
            (f"与{date}CT比较。", Kind.DATE, date),
            (f"患者，女，{old}岁，胸痛。", Kind.AGE, f"{old}岁"[:-1]),
            (f"报告医生：{full}", Kind.NAME, full),
            (f"姓名：{full}", Kind.NAME, full),
            (f"已通知{last}主任。", Kind.NAME, last),
            (f"住院号：{number}。", Kind.ID, number),
            (f"联系电话：138{phone}0。", Kind.PHONE, f"138{phone}0"),
            (f"住址：南京路{day}号", Kind.ADDRESS, f"南京路{day}号"),
        ],
    }
    yield from frames[language]

"""A labeler made up for tests, and runs of it in this process or in one that may be killed."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

from greenrfm.distill.evidence import NOTHING, Evidence, Labelled, Unlabelled, Usage
from greenrfm.distill.journal import Journal
from greenrfm.distill.run import Summary, distill_reports
from greenrfm.findings import FindingSet, State, load_finding_set

CHEST = load_finding_set("chest-ct-18")
OUTPUTS = ("labels.csv", "labels.evidence.jsonl", "labels.failed.csv")


class MadeUp:
    """Answers by the digest of the report; fails where it says FAIL; counts its calls."""

    model, version = "made-up", "1"
    finding_set: FindingSet = CHEST

    def __init__(self, seconds: float = 0.0, name: str = "llm") -> None:
        self.name, self.seconds, self.calls = name, seconds, list[str]()

    def label(self, report: str) -> Labelled:
        self.calls.append(report)
        if self.seconds:
            time.sleep(self.seconds)
        if "FAIL" in report:
            raise Unlabelled("the server answered 500", Usage(10, 0, 3))
        digest = hashlib.sha256(report.encode()).digest()
        found = {key: _evidence(byte, report) for key, byte in zip(CHEST.keys, digest, strict=False)}
        return Labelled(found, Usage(100, 50, 1))


def _evidence(byte: int, report: str) -> Evidence:
    if byte % 3 == 0:
        return NOTHING
    start = byte % (len(report) - 1)
    votes = (("lexicon", State.PRESENT), ("llm", State.ABSENT)) if byte % 5 == 0 else ()
    state = State.UNCERTAIN if votes else (State.PRESENT, State.ABSENT)[byte % 2]
    return Evidence(state, start, min(start + 60, len(report)), "", votes)


def reports(count: int, failing: tuple[int, ...] = ()) -> list[tuple[str, str]]:
    """Return made-up reports, none like another; some not in ASCII, `failing` ones cannot be labelled."""
    texts = ("Kleiner Herd im linken Oberlappen, Größe {n} mm.", "右肺上叶见{n}毫米结节。", "Nodule of {n} mm.")
    return [
        (f"s{n:05}", texts[n % 3].format(n=n) + (" FAIL" if n in failing else "") + " End of it.") for n in range(count)
    ]


def run(labeler: Any, studies: list[tuple[str, str]], folder: Path, **options: Any) -> Summary:
    """Run over the studies; the outputs are `folder`/labels.csv and what lies beside it."""
    fresh = options.pop("fresh", False)
    with Journal(folder / "labels.csv", fresh=fresh) as journal:
        return distill_reports(labeler, studies, journal, **options)


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the outputs that exist, without the date: a test may run at midnight."""
    files = [folder / name for name in OUTPUTS if (folder / name).exists()]
    return {path.name: re.sub(rb'"date": "[0-9-]+"', b"", path.read_bytes()) for path in files}

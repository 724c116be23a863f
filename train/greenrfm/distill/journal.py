"""labels.journal.jsonl: each study as soon as it is labelled, so that a kill loses nothing.

Of several lines on one study the last holds. No line holds words of a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from greenrfm.distill.evidence import Usage
from greenrfm.distill.journal_lines import Entry, Header
from greenrfm.errors import UserError
from greenrfm.files import replacing
from greenrfm.locks import Lock


class _Place(NamedTuple):
    """Where a study's entry begins, in bytes, and what a new run must know of it."""

    offset: int
    report: str
    failed: bool


class Journal:
    """The journal beside the labels at `out`, locked as long as it is open; a context manager.

    Memory holds a place per study; entries are read when they are asked for.
    """

    def __init__(self, out: Path, *, fresh: bool = False) -> None:
        """Open the journal of labels.csv at `out`, if there is one; `fresh` has `begin` throw it away.

        Lines that a kill or a full disk broke are taken out: their studies count as not labelled.
        Raises UserError if another run holds it, if `out` is a folder or no .csv, or if it is no journal.
        """
        self.out = out
        self.path = out.with_suffix(".journal.jsonl")
        self.header: Header | None = None
        self.usage = Usage()
        self._places: dict[str, _Place] = {}
        self._streams = ExitStack()
        self._lock = lock_outputs(out)
        try:
            if not fresh and self.path.exists():
                self._open()
                if not self._scan():
                    self._mend()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal and give its lock back; nothing happens the second time."""
        try:
            self._streams.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def form(self) -> str:
        """Return the form in which the server answered in earlier runs, or ""."""
        return "" if self.header is None else self.header.form

    def __len__(self) -> int:
        """Return of how many studies there is an entry."""
        return len(self._places)

    def begin(self, header: Header) -> None:
        """Begin a new journal, or go on with an earlier one; raise UserError if its header differs."""
        if self.header is not None:
            header.check(self.header, self.path)
            return
        self._replace([header.line()])
        self.header = header

    def append(self, entry: Entry) -> None:
        """Write an entry; when it returns, a kill does not lose it."""
        offset = self._writer.tell()
        self._writer.write(entry.line())
        self._writer.flush()
        self._note(entry, offset)

    def lacks(self, study_id: str, report: str, *, or_failed: bool) -> bool:
        """Tell whether the study has no entry on the report with this digest, or only one that failed."""
        place = self._places.get(study_id)
        return place is None or place.report != report or (or_failed and place.failed)

    def read(self, study_id: str, report: str) -> Entry | None:
        """Return the study's entry, None if there is none on the report with this digest."""
        place = self._places.get(study_id)
        if place is None or place.report != report:
            return None
        self._reader.seek(place.offset)
        return Entry.parse(self._reader.readline())

    def _open(self) -> None:
        self._writer = self._streams.enter_context(self.path.open("ab"))
        self._reader = self._streams.enter_context(self.path.open("rb"))

    def _note(self, entry: Entry, offset: int) -> None:
        self.usage += entry.usage
        self._places[entry.study_id] = _Place(offset, entry.report, bool(entry.failed))

    def _scan(self) -> bool:
        """Read the whole file; tell whether every line was whole."""
        whole, offset = True, 0
        for line in self._lines():
            try:
                if self.header is None:
                    self.header = Header.parse(line)
                else:
                    self._note(Entry.parse(line), offset)
                whole = whole and line.endswith(b"\n")
            except ValueError as error:
                # A lost end of the first line is an accident; another first line is another file.
                if self.header is None and line.endswith(b"\n"):
                    raise UserError(
                        f"{self.path} is no journal of labels; name another --out, or begin anew with --fresh"
                    ) from error
                whole = False
            offset += len(line)
        return whole

    def _mend(self) -> None:
        """Keep the whole lines, and read them again."""
        self._replace(line.rstrip(b"\n") + b"\n" for line in self._lines() if _is_whole(line))
        self.header, self.usage, self._places = None, Usage(), {}
        self._scan()

    def _replace(self, lines: Iterable[bytes]) -> None:
        with replacing(self.path) as temporary:
            with temporary.open("wb") as stream:
                stream.writelines(lines)
            self._streams.close()  # Windows replaces no file that is open
        self._open()

    def _lines(self) -> Iterator[bytes]:
        self._reader.seek(0)
        yield from self._reader


def lock_outputs(out: Path) -> Lock:
    """Take the lock on labels.csv and what lies beside it: who holds it may write them.

    Raises UserError if another process holds it, or if `out` is a folder or no .csv.
    """
    if out.is_dir() or out.suffix != ".csv":
        raise UserError(f"labels {out} must be a file whose name ends in .csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    way_out = "wait until that greenrfm command has ended, or end it"
    return Lock(out.with_suffix(".journal.lock"), f"labels {out}", way_out)


def _is_whole(line: bytes) -> bool:
    for kind in (Entry, Header):
        try:
            kind.parse(line)
        except ValueError:
            continue
        return True
    return False

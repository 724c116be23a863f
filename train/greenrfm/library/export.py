"""A whole library as plain files: for another program, for a backup, for a library elsewhere."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.library.case import Case, case_from, entry_of, load_array

if TYPE_CHECKING:
    from greenrfm.library.library import CaseLibrary

FORMAT = "greenrfm-library-export"
FORMAT_VERSION = 1
# The longest line that is read: a report and a picture of some megabytes.
LONGEST = 64 << 20


def export(library: CaseLibrary, out: Path) -> int:
    """Write all cases of an open library to the new folder `out` and return how many.

    `cases.jsonl` has one JSON object a line: what case.json holds, and `report` and `thumbnail` (PNG in
    base64). Row r of `latents.npy`, float32 (cases, dimension), belongs to line r. `export.json` names
    the bundle and the findings. The folder appears when it is whole. Raises UserError if `out` exists.
    """
    if out.exists():
        raise UserError(f"{out} already exists; name a new folder for the export")
    facts = library.info()
    fresh = out.with_name(f".{secrets.token_hex(4)}.{out.name}")
    try:
        fresh.mkdir(parents=True)
        latents = []
        with (fresh / "cases.jsonl").open("w", encoding="utf-8", newline="\n") as stream:
            for case, latent in library.items():
                picture = base64.b64encode(case.thumbnail).decode("ascii")
                stream.write(json.dumps({**entry_of(case), "report": case.report, "thumbnail": picture}) + "\n")
                latents.append(latent)
        np.save(
            fresh / "latents.npy", np.reshape(latents, (-1, facts["dimension"])).astype(np.float32), allow_pickle=False
        )
        names = ("bundle_hash", "similarity", "dimension", "keys")
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **{name: facts[name] for name in names}}
        (fresh / "export.json").write_text(json.dumps({**content, "cases": len(latents)}, indent=1), encoding="utf-8")
        os.replace(fresh, out)
    except OSError as error:
        raise UserError(f"export {out} cannot be written ({error.strerror}); check rights and free space") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return len(latents)


class Export:
    """An exported library: what export.json says, and its cases."""

    def __init__(self, folder: Path) -> None:
        """Read export.json and the latents; raise UserError if one is missing, damaged or of another format."""
        self.folder = folder
        content = self._content()
        bundle_hash, dimension = content.get("bundle_hash"), content.get("dimension")
        keys = content.get("keys")
        if (
            not (isinstance(bundle_hash, str) and bundle_hash)
            or type(dimension) is not int
            or dimension < 1
            or not isinstance(keys, list)
            or not all(isinstance(key, str) for key in keys)
        ):
            raise self._damaged("export.json")
        self.bundle_hash: str = bundle_hash
        self.dimension: int = dimension
        self.keys = tuple(keys)
        try:
            self.latents = load_array(folder / "latents.npy")
        except (OSError, ValueError) as error:
            raise self._damaged("latents.npy") from error
        shape = self.latents.shape
        if len(shape) != 2 or shape[1] != self.dimension or self.latents.dtype != np.float32:
            raise self._damaged("latents.npy")

    def __iter__(self) -> Iterator[tuple[Case, NDArray[np.float32]]]:
        """Yield each case with its latent, float32 (dimension,); raise UserError at one that is damaged."""
        count = 0
        try:
            with (self.folder / "cases.jsonl").open("rb") as stream:
                while line := stream.readline(LONGEST):
                    if count >= len(self.latents):
                        raise ValueError("more cases than latents")
                    yield _case(json.loads(line)), np.array(self.latents[count])
                    count += 1
            if count != len(self.latents):
                raise ValueError("more latents than cases")
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(f"line {count + 1} of cases.jsonl") from error

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / "export.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged("export.json") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise self._damaged("export.json")
        if content.get("format_version") != FORMAT_VERSION:
            raise UserError(f"export {self.folder} has another format version; update greenrfm, or export anew")
        return content

    def _damaged(self, what: str) -> UserError:
        return UserError(
            f"export {self.folder} is missing or damaged ({what}); restore it from a backup, or export anew"
        )


def _case(entry: Any) -> Case:
    if not isinstance(entry, dict) or not isinstance(entry.get("report"), str):
        raise ValueError("no case")
    try:
        picture = base64.b64decode(str(entry["thumbnail"]), validate=True)
    except (KeyError, binascii.Error) as error:
        raise ValueError("no picture") from error
    entry["report"].encode("utf-8")
    return case_from(entry, entry["report"], picture)

"""The two small files beside the cases: what the library is, and what it was about to do."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.library.case import NAME

FORMAT = "greenrfm-library"
FORMAT_VERSION = 1
SIMILARITIES = ("dot",)
# Qdrant takes no longer vectors.
MOST_NUMBERS = 65_536
MOST_BYTES = 64 << 20
SECRET = re.compile(r"[0-9a-f]{32}")
INDEX = re.compile(r"index-[0-9a-f]{8}")


@dataclass(frozen=True)
class Manifest:
    """library.json: the bundle the latents come from, their dimension and similarity, and the finding keys.

    `index` is the name of the folder, or of the collection on the Qdrant server at `server`, that holds the
    current index; empty while there is none yet. `secret` turns what the server sees of ids into something
    that only this folder can turn back.
    """

    bundle_hash: str
    dimension: int
    similarity: str
    keys: tuple[str, ...]
    index: str = ""
    server: str = ""
    secret: str = ""

    def write(self, path: Path) -> None:
        """Write library.json in one step."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        write_text(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read library.json; raise UserError if it is missing, damaged, or of another format version."""
        content = _read_object(path)
        if content is None or content.get("format") != FORMAT:
            raise UserError(
                f"{path} is missing or damaged, so {path.parent} is no case library; "
                "check the folder's name, restore the file from a backup, or make a new library elsewhere"
            )
        if content.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"library {path.parent} has format version {content.get('format_version')} and this greenrfm reads "
                f"{FORMAT_VERSION}; update greenrfm, or make the library anew"
            )
        damaged = UserError(f"{path} is damaged; restore it from a backup, or make the library anew")
        keys, dimension = content.get("keys"), content.get("dimension")
        # Libraries made before there were servers name none.
        texts = {
            "server": "",
            "secret": "",
            **{name: content.get(name) for name in ("bundle_hash", "similarity", "index")},
        }
        texts |= {name: content[name] for name in ("server", "secret") if name in content}
        if not isinstance(keys, list) or not all(isinstance(text, str) for text in [*keys, *texts.values()]):
            raise damaged
        if type(dimension) is not int or not 1 <= dimension <= MOST_NUMBERS or not texts["bundle_hash"]:
            raise damaged
        # The name is joined to the folder: it must not lead out of it.
        if texts["similarity"] not in SIMILARITIES or not INDEX.fullmatch(str(texts["index"])):
            raise damaged
        if bool(texts["server"]) != bool(SECRET.fullmatch(str(texts["secret"]))):
            raise damaged
        return cls(dimension=dimension, keys=tuple(keys), **{name: str(text) for name, text in texts.items()})

    def check_bundle(self, folder: Path, bundle_hash: str | None) -> None:
        """Raise UserError if the library in `folder` was made with another bundle; None fits every library."""
        if bundle_hash is not None and bundle_hash != self.bundle_hash:
            raise UserError(
                f"library {folder} was made with another bundle ({self.bundle_hash[:12]}, not {bundle_hash[:12]}) "
                "and latents of two bundles cannot be compared; open it with its own bundle, or add the studies to a "
                f"new library in another folder: greenrfm library rebuild {folder} --bundle BUNDLE --out NEW_FOLDER"
            )


@dataclass(frozen=True)
class Intent:
    """pending.json: the case folders that are being written or deleted.

    It is written before the work and removed after, so that whoever opens the library next can finish
    what a kill cut off.
    """

    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write pending.json in one step."""
        write_text(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Intent | None:
        """Return what is pending, or None; raise UserError if the file is damaged."""
        if not path.exists():
            return None
        content = _read_object(path)
        try:
            if content is None:
                raise ValueError("no object")
            write, delete = content["write"], content["delete"]
            # The names are joined to the folder and deleted: they must not lead out of it.
            if not all(isinstance(name, str) and NAME.fullmatch(name) for name in [*write, *delete]):
                raise ValueError("no folder name")
            return cls(tuple(write), tuple(delete))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is damaged; delete it, open the library again and repeat what was being added or deleted"
            ) from error


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        # A pipe would be waited for without end, and what is this large is none of ours.
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None

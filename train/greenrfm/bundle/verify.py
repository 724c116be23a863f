"""Whether the files of a bundle's folder are those that its manifest describes."""

from __future__ import annotations

from pathlib import Path

from greenrfm.bundle.manifest import TEXT_FILES, Manifest
from greenrfm.errors import UserError
from greenrfm.files import sha256

Stamp = tuple[int, int]


def verify_files(folder: Path, manifest: Manifest, hashes: bool = True) -> None:
    """Raise UserError if a file of the manifest is missing or differs in size or, with `hashes`, in content.

    A file must lie in the folder itself: a link that leads out of it is refused, or a bundle could name any file of
    this machine. Nor may a text network lie beside a manifest that has none: the folder would be a mixture of two
    bundles.
    """
    for name in TEXT_FILES:
        if not manifest.has_text and (folder / name).exists():
            raise UserError(
                f"bundle {folder} holds {name}, but its manifest says it has no text encoder; copy the bundle again "
                "into an empty folder"
            )
    for name in ("manifest.json", *manifest.files):
        if not _inside(folder, name):
            raise UserError(f"{folder / name} is a link that leads out of the bundle; copy the file itself there")
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"bundle {folder} lacks {name}; copy the whole folder again")
        if path.stat().st_size != record.bytes:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes, its manifest says {record.bytes}; copy the bundle again"
            )
        if hashes and _digest(path) != record.sha256:
            raise UserError(f"{path} is not the file its manifest describes (SHA-256 differs); copy the bundle again")


def stamps(folder: Path, manifest: Manifest) -> dict[str, Stamp]:
    """Return size and time of change of each file that is there: cheap to compare when it is opened later."""
    return {name: _stamp(folder / name) for name in manifest.files if (folder / name).is_file()}


def verify_unchanged(folder: Path, name: str, expected: Stamp) -> None:
    """Raise UserError if a file is no longer what it was when the bundle was opened.

    Networks are opened when first used. Of a bundle that was written anew meanwhile, the scores would be those of a
    mixture of two, under the hash of the first.
    """
    try:
        same = _stamp(folder / name) == expected
    except OSError:
        same = False
    if not same:
        raise UserError(f"{folder / name} was changed since the bundle was opened; open the bundle again")


def _stamp(path: Path) -> Stamp:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _inside(folder: Path, name: str) -> bool:
    try:
        return (folder / name).resolve().parent == folder.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return False


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend its permissions or copy it again") from error

"""A process of its own that opens a case library for one request: `ask` here, `main` there.

Qdrant keeps Python's lock while it opens, makes and closes an index, up to a second: in a thread of the viewer's
process that would freeze the viewer. Request and answer are ASCII JSON on stdin and stdout, for reports and ids belong
into no command line and no log. Nothing here touches Qt or Slicer, but for its Python.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from greenrfm.errors import UserError
from GreenRFMLib.package import MODULE_FOLDER


def ask(action: str, **request: Any) -> dict[str, Any]:
    """Return what `find` or `add` answers in another process; takes a second or more, so call it in a worker.

    What was asked is done to its end, also when the viewer ends.

    Raises
    ------
    UserError
        As the library does.
    RuntimeError
        If the process failed otherwise; the log says where, in the code.
    """
    paths = [str(MODULE_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [_python(), "-m", "GreenRFMLib.library_process", action],
        input=json.dumps(request).encode("ascii"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"kind": f"exit code {done.returncode}", "places": ""}
    if "error" in answer:
        raise UserError(answer["error"])
    if "kind" in answer:
        logging.error("GreenRFM: the library's process: %s at %s", answer["kind"], answer["places"])
        raise RuntimeError("the library's process failed")
    return answer


def find(folder: str, bundle_hash: str, latent: list[float], count: int, patient_id: str) -> dict[str, Any]:
    """Return the most similar cases as `hits`: score, entry as in case.json, report, path of the picture or None."""
    from greenrfm.library import CaseLibrary
    from greenrfm.library.case import entry_of

    with CaseLibrary.open(folder, bundle_hash) as library:
        hits = library.search(latent, count, exclude_patient=patient_id)
    return {
        "hits": [
            {
                "score": hit.score,
                "entry": entry_of(hit.case),
                "report": hit.case.report,
                "thumbnail": str(hit.thumbnail) if hit.thumbnail else None,
            }
            for hit in hits
        ]
    }


def add(
    folder: str,
    bundle_hash: str,
    latent: list[float],
    keys: list[str],
    entry: dict[str, Any],
    report: str,
    thumbnail: str,
) -> dict[str, Any]:
    """Add or replace a case, in a library that is made if the folder is empty; `thumbnail` in hexadecimal digits.

    Returns whether it `replaced` one, and the library's `count`; or, having changed nothing, `other_patient`.
    """
    from greenrfm.library import CaseLibrary
    from greenrfm.library.case import case_from

    case = case_from(entry, report, bytes.fromhex(thumbnail))
    if (Path(folder) / "library.json").is_file():
        library = CaseLibrary.open(folder, bundle_hash)
    else:
        library = CaseLibrary.create(folder, bundle_hash=bundle_hash, dimension=len(latent), keys=keys)
    with library:
        replaced = case.study_id in library
        if replaced and library.get(case.study_id).patient_id != case.patient_id:
            return {"other_patient": True}
        library.add(case, latent)
        return {"replaced": replaced, "count": len(library)}


def main() -> None:
    """Answer the request on stdin."""
    answer: dict[str, Any]
    try:
        request = json.loads(sys.stdin.buffer.read())
        answer = {"find": find, "add": add}[sys.argv[1]](**request)
    except UserError as error:
        answer = {"error": str(error)}
    except Exception as error:  # its message may quote a report
        frames = traceback.extract_tb(error.__traceback__)
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        answer = {"kind": type(error).__name__, "places": places}
    sys.stdout.buffer.write(json.dumps(answer).encode("ascii"))


def _python() -> str:
    """Return Slicer's Python; `sys.executable` is Slicer itself where that is not a plain Python."""
    found = shutil.which("PythonSlicer") or sys.executable or ""
    if not Path(found).stem.lower().startswith("python"):
        raise UserError("the program PythonSlicer of this Slicer was not found; install Slicer again")
    return found


if __name__ == "__main__":
    main()

"""A case library on a disk that becomes full: what was there stays, and it goes on when there is space again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenrfm.errors import UserError
from greenrfm.library import CaseLibrary
from greenrfm.library import store as module
from test_library import child, create, make_case, make_latents


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 120 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


ADD_UNTIL_FULL = """
    import sys
    from pathlib import Path
    from greenrfm.errors import UserError
    from greenrfm.library import CaseLibrary, library as module, store
    from test_library import make_case, make_latents
    module.BATCH = 8
    store.RESERVE = int(sys.argv[2])
    latents = make_latents(400)
    cases = ((make_case(n, thumbnail=bytes(300_000)), latents[n]) for n in range(400))
    try:
        with CaseLibrary.open(sys.argv[1]) as library:
            library.add_many(cases, lambda done: print(done, flush=True))
    except UserError:
        sys.exit(3)
"""


@pytest.mark.parametrize("reserve", [module.RESERVE, -(1 << 40)])
def test_a_full_disk_loses_nothing_that_was_there(small: Path, reserve: int) -> None:
    # With the reserve it is refused before; without, the disk fills up within a case, or within the index, whose
    # mapped memory then ends the process (SIGBUS).
    folder, latents = small / "library", make_latents(400)
    create(folder).close()
    writer = child(ADD_UNTIL_FULL, folder, reserve)
    assert writer.stdout is not None
    acknowledged = max([int(line) for line in writer.stdout], default=0)
    writer.stdout.close()
    ended = writer.wait()
    assert ended == 3 or (reserve < 0 and ended == -signal.SIGBUS)
    assert 8 <= acknowledged < 400
    subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
    with CaseLibrary.open(folder) as library:
        there = library.study_ids()
        assert {f"study-{n}" for n in range(acknowledged)} <= set(there)
        assert len(library) == len(there)
        assert len(library.search(latents[0], 500)) == len(there)
        library.add(make_case(399), latents[399])
    assert not list(folder.glob("cases/*.*"))


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(tmp_path / "library") as library:
        monkeypatch.setattr(module, "RESERVE", 1 << 60)
        with pytest.raises(UserError, match="nothing was changed: free some space"):
            library.add(make_case(1), make_latents(1)[0])
        assert len(library) == 0
        assert not (tmp_path / "library" / "pending.json").exists()

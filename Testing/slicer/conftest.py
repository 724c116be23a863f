"""Tests in a Slicer-like environment; see `Testing/slicer_harness`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTING = str(Path(__file__).resolve().parents[1])
if TESTING not in sys.path:
    sys.path.insert(0, TESTING)

LACKING = ""
try:
    from analyze_panel import bundle, hand, networks, slow, unhurried  # noqa: F401

    from slicer_harness.plugin import *  # noqa: F403
except ImportError as error:
    # A bare machine may lack the system libraries of Qt and VTK; a missing Python package is a fault of the set-up.
    if "shared object" not in str(error):
        raise
    LACKING = f"{error}; on Debian: apt install libgl1 libegl1 libxkbcommon0 libdbus-1-3"


class Skipped(pytest.Module):
    """A file of tests that cannot run on this machine."""

    def collect(self):
        pytest.skip(LACKING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return Skipped.from_parent(parent, path=module_path) if LACKING else None


def pytest_sessionfinish(session, exitstatus):
    if LACKING and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK

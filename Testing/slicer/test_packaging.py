"""What CMake packages is what the module needs: configured, built and packed against a stand-in for Slicer's CMake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "GreenRFMExtension"
STAND_IN = Path(__file__).parent / "cmake"
RAW = "https://raw.githubusercontent.com/GreenRFM/SlicerGreenRFM/main/"
NOT_OF_THE_EXTENSION = ("test_harness_", "test_contract", "test_packaging")
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")


def listed(variable: str) -> set[str]:
    text = (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "GreenRFM")
    found = re.search(rf"set\({variable}\s([^)]*)\)", text)
    assert found is not None
    files = found[1].split()
    assert len(files) == len(set(files)), "a file is listed twice"
    return set(files)


def on_disk(folder: Path, pattern: str) -> set[str]:
    files = (path.relative_to(EXTENSION).as_posix() for path in folder.rglob(pattern) if path.is_file())
    return {file for file in files if "__pycache__" not in file}


def test_scripts_are_the_python_files_on_disk() -> None:
    assert listed("MODULE_PYTHON_SCRIPTS") == on_disk(EXTENSION, "*.py")


def test_resources_are_the_files_on_disk() -> None:
    assert listed("MODULE_PYTHON_RESOURCES") == on_disk(EXTENSION / "Resources", "*")


def test_one_module_only() -> None:
    # Slicer takes every .py file beside the module for a module of its own.
    assert {path.name for path in EXTENSION.glob("*.py")} == {"GreenRFM.py"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configure and build a copy of the sources: a build must leave nothing in the checkout."""
    if shutil.which("cmake", path=programs()) is None:
        pytest.skip("no cmake here: pip install cmake")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler here, whose name Slicer's CMake files ask for")
    source = tmp_path_factory.mktemp("source")
    for name in ("GreenRFMExtension", "train"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "CMakeLists.txt", source)
    # Leftovers of a Python that ran in the checkout must not reach the package.
    (source / "train/greenrfm/__pycache__").mkdir(exist_ok=True)
    (source / "train/greenrfm/__pycache__/leftover.cpython-312.pyc").write_bytes(b"")
    folder = tmp_path_factory.mktemp("build")
    run("cmake", "-S", str(source), "-B", str(folder), f"-DSlicer_DIR={STAND_IN}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", str(folder))
    return folder


@pytest.fixture(scope="module")
def unpacked(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the empty folder into which the package was unpacked."""
    run("cpack", "--config", str(build / "CPackConfig.cmake"), "-B", str(build / "package"))
    (package,) = (build / "package").glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(package) as archive:
        # Python 3.11.2, which Debian 12 has, knows no filters yet.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (top,) = folder.iterdir()
    return top


def programs() -> str:
    """Return the search path with the programs of this Python's packages first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def run(*command: str, **environment: str) -> str:
    program = shutil.which(command[0], path=programs())
    assert program is not None
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_package_holds_the_module_and_greenrfm_and_nothing_else(unpacked: Path) -> None:
    packed = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    module = {
        f"{MODULES.as_posix()}/{file}" for file in listed("MODULE_PYTHON_SCRIPTS") | listed("MODULE_PYTHON_RESOURCES")
    }
    train = {
        f"{MODULES.as_posix()}/GreenRFMTrain/{path.relative_to(ROOT / 'train').as_posix()}"
        for path in (ROOT / "train/greenrfm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == module | train | {"share/Slicer-5.12/GreenRFM.s4ext"}


def test_the_description_is_whole(unpacked: Path) -> None:
    lines = (unpacked / "share/Slicer-5.12/GreenRFM.s4ext").read_text(encoding="utf-8").splitlines()
    description = dict(line.split(" ", 1) for line in lines)
    assert description["category"] == "Informatics"
    assert "not for diagnostic use" in description["description"]
    for url in (description["iconurl"], *description["screenshoturls"].split()):
        assert url.startswith(RAW), url
        assert (ROOT / url.removeprefix(RAW)).is_file(), f"the catalogue would show nothing at {url}"


def test_ctest_lists_the_generic_test_and_the_modules_own(build: Path) -> None:
    names = re.findall(r"Test +#\d+: (\S+)", run("ctest", "--test-dir", str(build), "-N"))
    assert names == ["py_nomainwindow_qSlicerGreenRFMModuleGenericTest", "py_GreenRFM"]


@pytest.mark.parametrize("tree", ["build", "unpacked"])
def test_the_module_builds_its_widget_and_finds_its_own_greenrfm(
    tree: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # ctest and a developer's Slicer load the module from the build tree, everybody else from the package.
    folder = request.getfixturevalue(tree) / MODULES
    script = tmp_path / "load.py"
    script.write_text(LOAD, encoding="utf-8")
    said = run(sys.executable, str(script), str(folder), str(ROOT / "Testing"), PYTHONDONTWRITEBYTECODE="1")
    assert f"greenrfm {folder / 'GreenRFMTrain' / 'greenrfm'}\n" in said
    assert f"module {folder}\n" in said
    assert "button analyzeButton\n" in said


# Runs in a Python that sees neither the checkout's train folder nor an installed greenrfm.
LOAD = """
import sys
from pathlib import Path

folder, testing = sys.argv[1:]
checkout = str(Path(testing).parent)
sys.path[:] = [testing] + [entry for entry in sys.path if not (entry + "/").startswith(checkout + "/train/")]
sys.meta_path[:] = [finder for finder in sys.meta_path if "greenrfm" not in repr(finder).lower()]

import importlib.util

assert importlib.util.find_spec("greenrfm") is None, "this Python finds a greenrfm of its own"

from slicer_harness import boot
from slicer_harness.module import load_module

boot()
loaded = load_module(Path(folder) / "GreenRFM.py")

import greenrfm
import slicer

print("greenrfm", Path(greenrfm.__file__).parent)
print("module", Path(sys.modules["GreenRFM"].__file__).parent)
print("button", slicer.util.findChild(loaded.widget.parent, "analyzeButton").objectName)
loaded.close()
"""


def test_the_tests_of_the_extension_pass_on_the_unpacked_package(unpacked: Path) -> None:
    if os.environ.get("GREENRFM_EXTENSION"):
        pytest.skip("these tests already run on an unpacked package")
    # All but the harness's own and these here: what the package holds is the extension.
    folder = Path(__file__).parent
    tests = [str(path) for path in sorted(folder.glob("test_*.py")) if not path.name.startswith(NOT_OF_THE_EXTENSION)]
    assert len(tests) > 8
    said = run(
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests,
        GREENRFM_EXTENSION=str(unpacked / MODULES),
        # Before the checkout's greenrfm, so that the tests themselves use the package's too.
        PYTHONPATH=str(unpacked / MODULES / "GreenRFMTrain"),
        PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    assert re.search(r"\d+ passed", said)

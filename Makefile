# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
# On a machine without a GPU: make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Python compiles what is imported when it is imported; doing so for all of torch took half the installation.
PIP_INSTALL := -m pip install --quiet --no-compile $(PIP_ARGS)
OUT ?= demo
BIN := .venv/bin

.PHONY: demo test test-slicer-5.12 screenshots lint clean

demo: .venv/train
	$(BIN)/greenrfm demo --out $(OUT)

# Slicer's own libraries and torch do not meet in one process. Two processes of one thread each are nearly twice as fast
# as one of two threads.
test: .venv/dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore=Testing/slicer -n 2 --dist loadfile
	$(BIN)/python -m pytest Testing/slicer

# The same tests against the other Slicer: an environment of its own, because each slicer-core wants its own VTK.
test-slicer-5.12: .venv-5.12/ready
	.venv-5.12/bin/python -m pytest Testing/slicer

# Pictures for the README, with the bundle that `make demo` left.
screenshots: .venv/dev
	$(BIN)/python Testing/screenshots.py --bundle $(OUT)/run/bundle --library $(OUT)/library --out Resources/screenshots

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "greenrfm needs Python 3.11 or newer; name one: make demo PYTHON=python3.11")'
	@# Debian without python3-venv leaves half an environment behind, which the next run would take for a whole one.
	$(PYTHON) -m venv .venv || { rm -rf .venv; echo "no virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }

.venv/train: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[train]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[train,dev]'
	@# Tests measure how long the first import holds the viewer up: compiled, as Slicer's pip leaves packages.
	-$(BIN)/python -m compileall -q -j 2 .venv/lib
	touch $@

# Reading, drawing phantoms and making bundles; neither training nor the checkers.
.venv-5.12/ready: pyproject.toml constraints.txt
	test -x .venv-5.12/bin/python || $(PYTHON) -m venv .venv-5.12 || { rm -rf .venv-5.12; exit 1; }
	echo '*' > .venv-5.12/.gitignore
	grep -vE '^(slicer-core|vtk)==' constraints.txt > .venv-5.12/constraints.txt
	.venv-5.12/bin/python $(PIP_INSTALL) -c .venv-5.12/constraints.txt -e . \
		slicer-core==5.12.4.0 vtk==9.6.0 PySide6-Essentials cmake pytest pytest-timeout pytest-rerunfailures hypothesis onnx scipy
	-.venv-5.12/bin/python -m compileall -q -j 2 .venv-5.12/lib
	touch $@

clean:
	rm -rf .venv .venv-5.12 build demo

# Set-up happens by itself: each target first makes .venv and installs the project into it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# torch comes by pip, which knows where this machine gets it from: uv does not read pip's settings, and would take
# gigabytes of CUDA from PyPI. The rest comes by uv, in a third of pip's time; where it cannot be had, by pip.
PIP := $(RUN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# Compiled, as pip does it: a process that may not write bytecode compiles all it imports again, each time.
UV := $(RUN)/python -m uv pip install --compile-bytecode --python $(RUN)/python --constraint constraints.txt
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --quiet uv || echo 'uv cannot be installed: pip does it all'
	if $(RUN)/python -m uv --version; then $(UV) --editable '.[dev]'; else $(PIP) --editable '.[dev]'; fi
	touch $@

install: $(VENV)/installed  ## make .venv with everything in it

quickstart: install  ## see the whole line at work: some minutes on 2 cores, nothing is downloaded
	$(RUN)/s2l quickstart

test: test-unit test-integration  ## run all tests, real Ray included: about half an hour on 2 cores

test-unit: install  ## the tests that start no Ray: two minutes
	$(RUN)/python -m pytest -q -n auto -m 'not integration and not slow and not long'

# Two files at a time, whose workers are as urgent as what waits for them; some have the machine to themselves.
TOGETHER := (integration or slow) and not long
test-integration: install  ## the tests on real Ray, two files at a time: those of a file share a cluster, and start others
	RAY_worker_niceness=0 $(RUN)/python -m pytest -v -n 2 --dist loadfile --maxfail=5 -m '$(TOGETHER) and not undisturbed'
	$(RUN)/python -m pytest -v --maxfail=5 -m '$(TOGETHER) and undisturbed'

test-long: install  ## runs under attack, two hosts, wheels, trainers: hours, some as root, not run by CI
	$(RUN)/python -m pytest -q -m long

coverage: install  ## the tests, and which lines and branches of s2l_ray/ they run
	$(RUN)/python -m pytest -q -m 'not long' --cov --cov-report=term:skip-covered

lint: install  ## style and types
	$(RUN)/ruff check .
	$(RUN)/mypy

# For the image (jobs/Dockerfile): Linux on x86_64 with Python 3.11. Two dependencies and this package are built there.
LOCK := $(RUN)/python -m uv pip compile --no-config --quiet --generate-hashes --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --constraint constraints.txt
lock: install  ## write jobs/*.lock anew, with hashes, from pyproject.toml and constraints.txt
	$(LOCK) --extra all --output-file jobs/requirements.lock pyproject.toml
	printf '%s\n' hatchling editables setuptools wheel | $(LOCK) --constraint jobs/requirements.lock --output-file jobs/build.lock -

clean:  ## delete .venv and the default output folder
	rm -rf $(VENV) out

.PHONY: help install quickstart test test-unit test-integration test-long coverage lint lock clean

# Set-up happens by itself: each target first makes .venv and installs the project into it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/installed  ## make .venv with everything in it

quickstart: install  ## see the whole line at work: some minutes on 2 cores, nothing is downloaded
	$(RUN)/s2l quickstart

test: install  ## run the tests, real Ray included
	$(RUN)/python -m pytest -q -m 'not slow'

test-slow: install  ## the tests that take minutes each: sweeps, interrupted runs
	$(RUN)/python -m pytest -q -m 'slow and not long'

test-long: install  ## two hosts, as root: a quarter of an hour, not run by CI
	$(RUN)/python -m pytest -q -m long

lint: install  ## style and types
	$(RUN)/ruff check .
	$(RUN)/mypy

# For the image (jobs/Dockerfile): Linux on x86_64 with Python 3.11. Two dependencies and this package are built there.
LOCK := $(RUN)/uv pip compile --no-config --quiet --generate-hashes --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --constraint constraints.txt
lock: install  ## write jobs/*.lock anew, with hashes, from pyproject.toml and constraints.txt
	$(RUN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(LOCK) --output-file jobs/requirements.lock pyproject.toml
	printf '%s\n' hatchling editables setuptools wheel | $(LOCK) --constraint jobs/requirements.lock --output-file jobs/build.lock -

clean:  ## delete .venv and the default output folder
	rm -rf $(VENV) out

.PHONY: help install quickstart test test-slow test-long lint lock clean

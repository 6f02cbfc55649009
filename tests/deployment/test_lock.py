"""jobs/*.lock are what the project asks for, at the tested versions, with hashes: .venv/bin/pytest tests/deployment/test_lock.py"""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
NEEDED = [one for one in [*PROJECT["project"]["dependencies"], *EXTRAS["train"], *EXTRAS["report"]]
          if not one.startswith("s2l-ray[")]
UNTESTED = re.compile("nvidia-|cuda-|triton|setuptools")  # what torch's CUDA build brings; the tests run on a CPU build


def pins(text):
    """Name -> the rest of each entry of a requirements file; an entry goes on as long as lines end in a backslash."""
    entries = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)).splitlines()
    found = {}
    for entry in filter(None, map(str.strip, entries)):
        name, _, rest = entry.partition("==")
        assert rest and re.fullmatch(r"[A-Za-z0-9._-]+", name), f"{entry[:60]!r} is not pinned"
        assert canonicalize_name(name) not in found, f"{name} stands twice"
        found[canonicalize_name(name)] = rest
    return found


def versions(lock):
    return {name: rest.split()[0] for name, rest in lock.items()}


LOCKS = {name: pins((ROOT / "jobs" / name).read_text()) for name in ("requirements.lock", "build.lock")}
RUNTIME, BUILD = LOCKS["requirements.lock"], LOCKS["build.lock"]
TESTED = pins((ROOT / "constraints.txt").read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_a_version_and_its_sha256(name):
    for package, rest in LOCKS[name].items():
        version, *hashes = rest.split()
        assert str(Version(version)) == version, package
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), package


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [*(("requirements.lock", one) for one in NEEDED),
     *(("build.lock", one) for one in [*PROJECT["build-system"]["requires"], "editables", "setuptools", "wheel"])],
)
def test_what_the_project_needs_is_locked_at_a_version_that_fits(lock, wanted):
    requirement = Requirement(wanted)
    assert versions(LOCKS[lock])[canonicalize_name(requirement.name)] in requirement.specifier


def test_versions_are_those_that_were_tested():
    other = {name: at for lock in LOCKS.values() for name, at in versions(lock).items() if TESTED.get(name, at) != at}
    assert other == {}
    untested = {name for name in RUNTIME if name not in TESTED and not UNTESTED.match(name)}
    assert untested == set(), "add them to constraints.txt, then `make lock`"


def test_what_builds_is_not_changed_by_what_is_installed_after_it():
    assert {name for name in BUILD.keys() & RUNTIME.keys() if BUILD[name] != RUNTIME[name]} == set()


def test_all_is_every_extra_but_the_trackers_and_what_develops():
    assert set(EXTRAS) == {"train", "report", "all", "quantize", "harness", "dedup", "mlflow", "wandb", "dev"}
    assert EXTRAS["all"] == ["s2l-ray[train,report]"] and "s2l-ray[all]" in EXTRAS["dev"]
    assert "--extra all --output-file jobs/requirements.lock" in (ROOT / "Makefile").read_text()


def test_what_only_tests_need_is_not_installed():
    assert {"pytest", "hypothesis", "moto", "playwright", "mypy", "ruff"} & RUNTIME.keys() == set()


@pytest.mark.parametrize("name", LOCKS)
def test_it_names_no_index_and_no_file(name):
    text = (ROOT / "jobs" / name).read_text()
    assert not re.search(r"://|^\s*-(?!-hash)", text, re.MULTILINE), "where packages come from is pip's to know"


def test_the_image_installs_nothing_else():
    lines = (ROOT / "jobs" / "Dockerfile").read_text().splitlines()
    tools, needs, project = (line for line in lines if line.startswith("RUN"))
    assert tools == "RUN pip install --no-cache-dir --require-hashes --requirement jobs/build.lock"
    assert needs.endswith("--require-hashes --no-build-isolation --requirement jobs/requirements.lock")
    assert project.endswith("--no-build-isolation --no-deps --editable .")


@pytest.mark.parametrize("text", ["a\n", "a==\n", "a>=1\n", "a==1\na==2\n", "a @ file:///x\n", "-e .\n", "a[b]==1\n"])
def test_what_is_not_pinned_once_is_found(text):
    with pytest.raises(AssertionError):
        pins(text)

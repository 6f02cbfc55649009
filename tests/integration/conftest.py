"""What several files look at: one finished small run (starting Ray Train takes longer than its steps), and job servers."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from s2l_ray.pipeline import plan_line, run_line
from s2l_ray.results import collect_results

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def finished(ray_cluster, small_recipe, word_problems, tmp_path_factory):
    """A finished run: (recipe, line, accounts, results)."""
    recipe = small_recipe(word_problems, tmp_path_factory.mktemp("storage"))
    line = plan_line(recipe)
    accounts = run_line(line, "test")
    return recipe, line, accounts, collect_results(line, accounts)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process):
    """End a process we started, and its children."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()


@pytest.fixture(scope="module")
def loopback_cluster():
    """A Ray head of our own on loopback; yields its job server's address."""
    with _head({"RAY_AUTH_MODE": "disabled"}) as address:
        yield address


@pytest.fixture(scope="session")
def ray_head():
    """A function (environment variables) -> context of a Ray head on loopback; it gives the job server's address."""
    return _head


@pytest.fixture
def recipe_file(small_recipe, word_problems, tmp_path):
    """A function (**{"dotted.key": value}) -> the small recipe as a file, its storage in the test's own folder."""

    def write(**changes):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(small_recipe(word_problems, tmp_path / "out", **changes).model_dump(mode="json")))
        return file

    return write


@contextlib.contextmanager
def _head(settings):
    """A Ray head on loopback with these environment variables, ended with the block."""
    folder = tempfile.mkdtemp(prefix="s2lj-", dir="/tmp")
    ports = {name: _free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    options = [f"--{name}={port}" for name, port in ports.items()]
    # A job runs `python`, as it does in a cluster's image: here that is the tests' own.
    environment = {**os.environ, **settings, "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
         "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        _wait_for_jobs(address, environment)
        yield address
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_jobs(address, environment):
    """The job agent answers some seconds after the head does."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        probe = subprocess.run([BIN / "ray", "job", "submit", "--address", address, "--", "true"],
                               capture_output=True, env=environment, check=False)
        if probe.returncode == 0:
            return
        time.sleep(2)
    raise TimeoutError(f"no job server at {address}: {probe.stderr.decode()[-500:]}")

"""Shared by all tests: one Ray cluster for the session, small real models, small data."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.registry import METRICS, SELECTORS, SHAPES, TRAINERS
from s2l_ray.storage.packages import offers

# No deadline for one example: a busy machine is slow, not wrong.
settings.register_profile("s2l", deadline=None)
settings.load_profile("s2l")

# Before anything imports Ray or torch: explicit, so that a developer's own settings do not leak in.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
# For the local S3 servers; workers inherit them from the session's cluster.
os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="us-east-1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does: another value's workers are not forked

ROOT = Path(__file__).resolve().parent.parent
collect_ignore = ["plugin"]  # packages of their own, which tests/integration/test_plugin.py installs and tests
REAL_DATA = ROOT.parent / "shared" / "data"
GPT2_TOKENIZER = ROOT.parent / "shared" / "models" / "gpt2_tokenizer"


@pytest.fixture(autouse=True)
def _environment_as_it_was():
    """A command that runs in this process sets variables; workers of clusters that start later would not be forked."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name != "PYTEST_CURRENT_TEST"})


@pytest.fixture(scope="session")
def warm():
    """A server of warm workers for all clusters of this session (see ray_command); its address, where there is one."""
    from s2l_ray.execution.warm_launch import can_fork, warm_server
    from s2l_ray.execution.warm_start import warm_workers

    if not can_fork():
        yield None
        return
    with warm_server() as server, warm_workers(server=server):
        yield server


@pytest.fixture(scope="session")
def on_this_machine(warm, tmp_path_factory):
    """A function () -> context in which work is done on this machine alone, also beside the cluster of other tests."""
    from s2l_ray.execution.local.machine import machine_session
    from s2l_ray.storage.files import Storage

    return lambda: machine_session(Storage(str(tmp_path_factory.mktemp("machine"))), [], warm)


@pytest.fixture(scope="session")
def ray_cluster(warm):
    """A cluster of this test session's own, in its own short folder (socket paths have a length limit)."""
    import ray

    from s2l_ray.execution.cluster import start_local

    folder = tempfile.mkdtemp(prefix="s2lt-", dir="/tmp")
    start_local(2, include_dashboard=False, _temp_dir=folder, object_store_memory=300_000_000, log_to_driver=False,
                logging_level="ERROR")
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A function (package, {group: {name: value}}, {module: source}, version) that installs a package for this test."""
    _look_again()
    before = set(sys.modules)

    def install(package, entry_points, modules=None, version="1.0"):
        site = Path(tempfile.mkdtemp(prefix="site-", dir=tmp_path))
        folder = site / f"{package.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        groups = {f"s2l_ray.{group}": names for group, names in entry_points.items()}
        lines = [line for group, names in groups.items()
                 for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, source in (modules or {}).items():
            (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        _look_again()
        return site

    yield install
    monkeypatch.undo()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    _look_again()


def _look_again():
    """Forget which packages are installed."""
    offers.cache_clear()
    for registry in (SELECTORS, METRICS, SHAPES, TRAINERS):
        registry.__dict__.pop("offered", None)
        registry._tried.clear()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets beside the project, where it is there."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    """The real GPT-2 tokenizer's folder, where it is there."""
    if not GPT2_TOKENIZER.is_dir():
        pytest.skip(f"no GPT-2 tokenizer at {GPT2_TOKENIZER}")
    return GPT2_TOKENIZER


@pytest.fixture(scope="session")
def word_problems(tmp_path_factory):
    """A folder with pool.jsonl (400 rows) and held_out.jsonl of the quickstart's generator."""
    from s2l_ray.quickstart.problems import write_files

    folder = tmp_path_factory.mktemp("problems")
    write_files(folder, 400, 48, seed=0)
    return folder


@pytest.fixture(scope="session")
def small_recipe():
    """A function (data folder, storage, **{"dotted.key": value}) -> recipe that finishes in seconds."""
    return _small_recipe


def _small_recipe(data: Path, storage: Path | str, **changes):
    """A recipe on the shipped base models that finishes in seconds; `changes` are dotted keys."""
    tree = {
        "name": "small",
        "storage": str(storage),
        "data": {"path": str(data / "pool.jsonl"), "id_column": "id", "max_length": 128, "shard_rows": 64,
                 "prompt_style": "plain"},
        "proxy": {"model": {"path": str(ASSETS / "proxy_base")}, "max_steps": 6, "global_batch_size": 8,
                  "micro_batch_size": 4, "learning_rate": 1e-3, "num_checkpoints": 2, "precision": "fp32"},
        "trajectory": {"num_points": 3, "precision": "fp32"},
        "selection": {"budget": 0.11, "num_clusters": 8, "controls": ["random"]},
        "target": {"model": {"path": str(ASSETS / "target_base")}, "max_steps": 3, "global_batch_size": 8,
                   "micro_batch_size": 4, "learning_rate": 1e-3, "num_checkpoints": 0, "zero_stage": 2, "precision": "bf16"},
        "evaluation": {"tasks": [{"name": "problems", "path": str(data / "held_out.jsonl"),
                                  "metrics": ["loss", "exact_match", "rouge_l", "bleu"], "max_new_tokens": 8}]},
        "resources": {"num_workers": 2},
    }
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    from s2l_ray.recipe.loading import parse_recipe

    return parse_recipe(json.loads(json.dumps(tree)))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has no sandbox for root
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()

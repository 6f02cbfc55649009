"""Every shipped recipe from a wheel, in an empty folder: .venv/bin/pytest tests/integration/test_wheel.py"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from s2l_ray.recipe.loading import shipped_recipes

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
SHORT = ["proxy.max_steps=8", "trajectory.num_points=2", "target.max_steps=4", "evaluation.tasks.0.limit=20"]
RUNS = {
    "quickstart": ["run", *SHORT, "selection.controls=[]", "selection.budget=300", "selection.num_clusters=10"],
    "quickstart-sweep": ["sweep", *SHORT, "sweep.controls=[random]", "sweep.control_seeds=1",
                         "sweep.space={selection.selector: [s2l], selection.budget: [300], selection.num_clusters: [10]}"],
}
WITHOUT_A_HUB = {"mathinstruct-phi2": "'EleutherAI/pythia-70m-deduped' is neither a folder here nor reachable on the hub"}


@pytest.fixture(scope="module")
def from_wheel(tmp_path_factory):
    """Return a function that runs `s2l` in an empty folder, from a wheel of the project that lies elsewhere."""
    folder, empty = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}

    def run(*arguments):
        code = "import s2l_ray; print(s2l_ray.__file__); from s2l_ray.cli.main import main; main()"
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=empty, env=environment, capture_output=True,
                              text=True, check=False)
        assert done.stdout.startswith(str(folder / "site")), "of the wheel, not of the checkout"
        return done

    return run


def test_the_wheel_holds_every_recipe(from_wheel):
    listed = json.loads(from_wheel("recipes").stdout.splitlines()[-1])
    assert listed.keys() == shipped_recipes().keys() == RUNS.keys() | WITHOUT_A_HUB.keys()
    assert all("site" in path for path in listed.values())


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(RUNS))
def test_it_is_checked_to_its_end(from_wheel, name):
    done = from_wheel(RUNS[name][0], name, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert {step["state"] for step in json.loads(done.stdout.splitlines()[-1])["steps"]} == {"runs"}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(RUNS))
def test_it_runs(from_wheel, name):
    command, *settings = RUNS[name]
    done = from_wheel(command, name, *settings)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["report"]).name == "report.html" and str(ROOT) not in json.dumps(found)


@pytest.mark.parametrize("name", sorted(WITHOUT_A_HUB))
def test_what_cannot_be_had_offline_is_said_at_once(from_wheel, name):
    done = from_wheel("run", name)
    assert done.returncode == 2 and WITHOUT_A_HUB[name] in done.stderr, done.stderr

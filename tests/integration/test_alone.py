"""The line on this machine alone, without Ray: the same bytes as on Ray. .venv/bin/pytest tests/integration/test_alone.py"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.stages.proxy import run_proxy
from s2l_ray.storage.artifacts import Artifact

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def alone(on_this_machine, small_recipe, word_problems, tmp_path_factory):
    """A run on this machine alone of the recipe that `finished` has run on Ray, in a storage of its own."""
    plan = plan_run(small_recipe(word_problems, tmp_path_factory.mktemp("alone")))
    with on_this_machine():
        assert not any(one.is_reused for one in run_plan(plan, "test"))
    return plan


def tables(plan, step, folder=""):
    """The Parquet files of a step's artifact, by name; with a folder, only those in it."""
    root = Path(plan.storage.path(step.artifact.folder))
    found = {str(path.relative_to(root)): pq.read_table(path) for path in sorted((root / folder).rglob("*.parquet"))}
    assert found
    return found


def weights(plan, step):
    root = Path(plan.storage.path(step.artifact.folder))
    return {str(path.relative_to(root)): load_file(path) for path in sorted(root.rglob("*.safetensors"))}


def test_it_makes_what_ray_makes_to_the_last_bit(alone, finished):
    _, on_ray, _, _ = finished
    assert [step.label for step in alone.steps] == [step.label for step in on_ray.steps]
    for ours, theirs in zip(alone.steps, on_ray.steps, strict=True):
        assert ours.artifact.fingerprint == theirs.artifact.fingerprint
        if ours.stage.workers != "training":
            assert tables(alone, ours) == tables(on_ray, theirs), ours.label
            continue
        mine, others = weights(alone, ours), weights(on_ray, theirs)
        assert mine.keys() == others.keys() and len(mine) == (5 if ours.stage.name == "proxy" else 1)
        for file, tensors in mine.items():
            assert tensors.keys() == others[file].keys()
            assert all(tensors[name].equal(others[file][name]) for name in tensors), (ours.label, file)
    facts = [plan.step("proxy").artifact.manifest() for plan in (alone, on_ray)]
    assert facts[0]["history"][0]["loss"] == facts[1]["history"][0]["loss"]
    assert facts[0]["num_workers_used"] == facts[1]["num_workers_used"] == [2]


def longer(recipe):
    return recipe.model_copy(update={"proxy": recipe.proxy.model_copy(update={"max_steps": 120, "num_checkpoints": 4})})


@pytest.mark.parametrize("victim", [0, 1], ids=["first worker", "second worker"])
def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_weights(on_this_machine, alone, victim, capsys):
    prepare = alone.step("prepare").artifact
    recipe = longer(alone.recipe)

    def train(case):
        artifact = Artifact(prepare.storage, "proxy", {"case": case}, {"examples": prepare.fingerprint})
        run_proxy(artifact, prepare, recipe)
        assert not artifact.exists("resume"), "resume checkpoints are cleared away"
        root = Path(prepare.storage.path(artifact.folder))
        return {str(path.relative_to(root)): load_file(path) for path in root.rglob("*.safetensors")}

    killed = []

    def kill(machine, folder):
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            saved = [name for name in prepare.storage.list_names(folder) if prepare.storage.exists(f"{folder}/{name}/complete.json")]
            if saved:
                workers = sorted(machine.folder.glob("worker-*.log"), key=lambda path: int(path.stem.partition("-")[2]))[-2:]
                os.kill(next(pid for pid in psutil.pids() if output_of(pid) == str(workers[victim])), signal.SIGKILL)
                killed.append(saved)
            time.sleep(0.02)

    with on_this_machine():
        calm = train("calm")
    folder = Artifact(prepare.storage, "proxy", {"case": f"killed {victim}"}, {"examples": prepare.fingerprint}).file("resume")
    with on_this_machine() as machine:
        threading.Thread(target=kill, args=(machine, folder), daemon=True).start()
        interrupted = train(f"killed {victim}")
    assert killed, "nothing was killed: the training ended before its first checkpoint was seen"
    assert "going on from the newest checkpoint" in " ".join(capsys.readouterr().err.split())
    assert all(interrupted[file][name].equal(calm[file][name]) for file in calm for name in calm[file])


def output_of(pid):
    """The file that is a process's standard output."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/1")
    return ""


@pytest.fixture
def recipe_of_its_own(small_recipe, word_problems, tmp_path):
    """The file of a recipe with a longer training of the proxy, and variables that name no cluster."""
    recipe = longer(small_recipe(word_problems, tmp_path / "out"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(tmp_path / "recipe.yaml"), {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


@pytest.fixture
def command(recipe_of_its_own):
    """A function () -> `s2l proxy` of that recipe, started."""
    file, environment = recipe_of_its_own
    # A test runner in the background hands down an ignored SIGINT; a terminal does not.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli.main import main; main(sys.argv[1:])")
    return lambda: subprocess.Popen([sys.executable, "-c", code, "proxy", file], env=environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["Ctrl-C", "SIGKILL"])
def test_a_command_that_is_ended_leaves_no_process_and_the_next_one_goes_on(command, tmp_path, how, code):
    first = command()
    deadline = time.monotonic() + 240
    while not list((tmp_path / "out").glob("proxy/*/resume/*/complete.json")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(how)
    _, said = first.communicate(timeout=60)
    assert first.returncode == code
    assert code != 130 or "stopped. Finished work is kept" in said
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert len(gone) >= 3 and not alive, "the server and two workers at least"
    second = command()
    out, said = second.communicate(timeout=240)
    assert second.returncode == 0, said
    manifest = json.loads(next((tmp_path / "out").glob("proxy/*/manifest.json")).read_text())
    assert manifest["history"][-1]["step"] == 120
    assert json.loads(out.splitlines()[-1])


def test_nothing_of_ray_is_loaded_or_started(recipe_of_its_own):
    program = ("import sys\nfrom s2l_ray.cli.main import main\n"
               "try:\n    main(['proxy', sys.argv[1], 'proxy.max_steps=6'])\nexcept SystemExit as ended:\n"
               "    print(sorted({'ray', 'torch'} & sys.modules.keys()), ended.code)")
    file, environment = recipe_of_its_own
    done = subprocess.run([sys.executable, "-c", program, file], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "['torch'] 0", done.stderr  # torch: by the tokenizer's classes, to check them
    assert "starting Ray" not in done.stderr and "running on this machine" in done.stderr

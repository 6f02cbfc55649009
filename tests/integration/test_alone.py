"""The line on this machine alone, without Ray: the same bytes as on Ray. .venv/bin/pytest tests/integration/test_alone.py"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.stages.proxy import run_proxy
from s2l_ray.storage.artifacts import Artifact

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def alone(finished):
    """The plan of a run on this machine alone."""
    return finished[1]


def tables(plan, step, folder=""):
    """The Parquet files of a step's artifact, by name; with a folder, only those in it."""
    root = Path(plan.storage.path(step.artifact.folder))
    found = {str(path.relative_to(root)): pq.read_table(path) for path in sorted((root / folder).rglob("*.parquet"))}
    assert found
    return found


def test_it_makes_what_ray_makes_to_the_last_bit(alone, finished_on_ray, weights_of):
    on_ray = finished_on_ray
    assert {step.stage.name for step in on_ray.steps} == {step.stage.name for step in alone.steps}
    for theirs in on_ray.steps:
        ours = alone.step(theirs.stage.name, theirs.of)
        assert ours.artifact.fingerprint == theirs.artifact.fingerprint
        if ours.stage.workers != "training":
            assert tables(alone, ours) == tables(on_ray, theirs), ours.label
            continue
        mine, others = weights_of(ours.artifact), weights_of(theirs.artifact)
        assert mine.keys() == others.keys() and len(mine) == (5 if ours.stage.name == "proxy" else 1)
        for file, tensors in mine.items():
            assert tensors.keys() == others[file].keys()
            assert all(tensors[name].equal(others[file][name]) for name in tensors), (ours.label, file)
    facts = [plan.step("proxy").artifact.manifest() for plan in (alone, on_ray)]
    assert facts[0]["history"][0]["loss"] == facts[1]["history"][0]["loss"]
    assert facts[0]["num_workers_used"] == facts[1]["num_workers_used"] == [2]


def longer(recipe, **changes):
    proxy = recipe.proxy.model_copy(update={"max_steps": 120, "num_checkpoints": 4, **changes})
    return recipe.model_copy(update={"proxy": proxy})


@pytest.mark.parametrize(("victim", "lora"), [(0, None), (1, LoraConfig(rank=4, dropout=0.1))],
                         ids=["first worker", "second worker, of adapters"])
def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_weights(
    on_this_machine, alone, victim, lora, weights_of, worker_killed, capsys
):
    prepare = alone.step("prepare").artifact
    recipe = longer(alone.recipe, lora=lora)
    calm, interrupted = (Artifact(prepare.storage, "proxy", {"case": f"{case} {victim} {lora}"}, {"examples": prepare.fingerprint})
                         for case in ("calm", "killed"))
    with on_this_machine():
        run_proxy(calm, prepare, recipe)
    with on_this_machine() as machine, worker_killed(machine, interrupted, victim):
        run_proxy(interrupted, prepare, recipe)
    assert not interrupted.exists("resume"), "resume checkpoints are cleared away"
    assert "going on from the newest checkpoint" in " ".join(capsys.readouterr().err.split())
    ours, theirs = weights_of(interrupted), weights_of(calm)
    assert all(ours[file][name].equal(theirs[file][name]) for file in theirs for name in theirs[file])


@pytest.fixture
def recipe_of_its_own(small_recipe, word_problems, tmp_path):
    """The file of a recipe with a longer training of the proxy, and variables that name no cluster."""
    recipe = longer(small_recipe(word_problems, tmp_path / "out"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(tmp_path / "recipe.yaml"), {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


@pytest.fixture
def command(recipe_of_its_own):
    """A function () -> `s2l proxy` of that recipe, started; the last that it prints is which libraries it has loaded."""
    file, environment = recipe_of_its_own
    # A test runner in the background hands down an ignored SIGINT; a terminal does not.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli.main import main\n"
            "try:\n    main(sys.argv[1:])\nfinally:\n    print(*sorted({'ray', 'torch'} & sys.modules.keys()))")
    return lambda: subprocess.Popen([sys.executable, "-c", code, "proxy", file], env=environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_command_that_is_ended_leaves_no_process_and_the_next_one_goes_on(command, tmp_path):
    seen = set()
    for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        running, deadline = command(), time.monotonic() + 240
        while not (saved := {file.parent.name for file in tmp_path.glob("out/proxy/*/resume/*/complete.json")} - seen):
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        seen |= saved
        family = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(how)
        _, said = running.communicate(timeout=60)
        assert running.returncode == code
        assert code != 130 or "stopped. Finished work is kept" in said
        gone, alive = psutil.wait_procs(family, timeout=30)
        assert len(gone) >= 3 and not alive, "the server and two workers at least"
    last = command()
    out, said = last.communicate(timeout=240)
    assert last.returncode == 0, said
    manifest = json.loads(next(tmp_path.glob("out/proxy/*/manifest.json")).read_text())
    assert manifest["history"][-1]["step"] == 120
    *_, told, libraries = out.splitlines()
    assert json.loads(told) and libraries == "torch"  # by the tokenizer's classes, to check them
    assert "starting Ray" not in said and "running on this machine" in said


def test_rows_without_a_recipe_are_run_to_their_report(tmp_path):
    rows = [{"instruction": f"What is {n} plus {n % 7}?", "output": f"It is {n + n % 7}."} for n in range(120)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"instruction": "", "output": "x"}]))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [Path(sys.executable).parent / "s2l", "run", "mine.jsonl", "target.max_steps=1", "selection.controls=[]"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["arms"]["s2l"]["rows"] == 12  # 10 % of 120
    assert "Of 121 rows read, 120 are examples" in (tmp_path / "out/runs/mine/report.html").read_text()

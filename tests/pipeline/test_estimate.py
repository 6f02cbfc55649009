"""`s2l plan`: what a run will take, against what it took."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2l_ray.cli.main import main
from s2l_ray.execution.cards import CARDS
from s2l_ray.pipeline.machine import Machine, Rate, machine_for
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.stages.work import Work

LLAMA = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4}


def planned(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *map(str, arguments)])
    answer = capsys.readouterr()
    assert ended.value.code == 0, answer.err
    return json.loads(answer.out.splitlines()[-1]), answer


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "mine.jsonl"
    lines = [{"instruction": f"What is {n} plus {n}?", "output": f"It is {2 * n}."} for n in range(300)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def settings(tmp_path, *more):
    return [f"storage={tmp_path / 'out'}", "selection.budget=30", "selection.controls=[]", *more]


def test_every_step_has_its_work_and_the_sums_are_those_of_the_steps(rows, tmp_path, capsys):
    found, answer = planned(capsys, rows, *settings(tmp_path, "target.max_steps=7", "target.global_batch_size=16",
                                                   "trajectory.num_points=4"))
    by = {step["label"]: step for step in found["steps"]}
    assert by["prepare"]["rows"] == 300 and by["select s2l"]["rows"] == 30
    assert by["finetune s2l"]["steps"] == 7
    points = by["trajectories"]["tokens"] / by["prepare"]["tokens"]
    assert points == pytest.approx(5, rel=0.01)  # 4 and the untouched model
    assert found["left"]["seconds"] == pytest.approx(sum(step["seconds"] for step in found["steps"]), abs=0.5)
    assert found["left"] == found["all"] and "rates are assumed" in answer.err
    assert "not in the plan" not in answer.err
    assert not (tmp_path / "out" / "proxy").exists()


def test_a_card_and_a_price_give_hours_and_money(rows, tmp_path, capsys):
    found, _ = planned(capsys, rows, *settings(tmp_path), "--card", "l4", "--price", "0.5")
    tune = next(step for step in found["steps"] if step["label"] == "finetune s2l")
    assert tune["gpu_hours"] == pytest.approx(tune["seconds"] * tune["workers"] / 3600, abs=1e-3)
    assert found["all"]["money"] == pytest.approx(found["all"]["gpu_hours"] * 0.5, abs=0.05)
    assert tune["precision"] == "bf16"


def test_what_does_not_fit_a_card_is_said_with_what_would(rows, tmp_path, capsys):
    large = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
             "num_attention_heads": 32}
    found, answer = planned(capsys, rows, *settings(tmp_path), f"target.model.config={json.dumps(large)}", "--card", "l4")
    assert "finetune s2l" in found["warnings"][0] and "l4 has 22" in found["warnings"][0]
    said = " ".join(answer.err.split())
    assert "does not fit. finetune s2l" in said and "zero_stage=3" in said


def test_workers_share_the_memory_of_this_machine(rows, tmp_path, capsys):
    huge = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64}
    found, _ = planned(capsys, rows, *settings(tmp_path), f"target.model.config={json.dumps(huge)}")
    assert "finetune s2l" in found["warnings"][0] and "this machine has" in found["warnings"][0]


@pytest.mark.parametrize(("asked", "said"), [
    (["--card", "h100", "--probe"], "leave one of them out"),
    (["--price", "2"], "name one with --card"),
    (["--card", "abacus"], "--card abacus: known are"),
    (["resources.use_gpu=true"], "with --card"),
])
def test_what_cannot_be_planned_is_refused(rows, tmp_path, capsys, asked, said):
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(rows), *settings(tmp_path), *asked])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_measured_rate_goes_before_an_assumed_one():
    from s2l_ray.stages.planning import Step
    from s2l_ray.stages.table import stage_of

    step, work = Step(stage_of("finetune"), None, None), Work(10, 100, 5, 1e12, "bf16", 1, 10**9)
    machine = Machine(CARDS["h100"], {})
    assumed = machine.rate(step, work, ResourcesConfig())
    assert assumed.per_worker == pytest.approx(0.3 * 989e12) and not assumed.is_measured
    small = machine.rate(step, Work(10, 100, 5, 1e12, "bf16", 1, 10**7), ResourcesConfig())
    assert small.per_worker == pytest.approx(assumed.per_worker / 10)  # the root of a hundredth
    mine = Rate(3.0, 1e9, is_measured=True)
    assert machine.at({"finetune": mine}).rate(step, work, ResourcesConfig()) is mine


def test_cores_are_measured_where_there_is_no_card():
    machine = machine_for(ResourcesConfig(), None, None)
    assert machine.card is None and machine.core_rate["fp32"] > 1e8
    assert machine.num_workers("training", ResourcesConfig(num_workers=3)) == 3


@pytest.mark.slow
def test_a_probe_measures_each_stage_and_leaves_what_was_there(rows, tmp_path):
    kept = tmp_path / "out" / "probe" / "1234567890abcdef" / "manifest.json"  # of the stage that is called probe
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    held = rows.with_name("held.jsonl")
    held.write_text("".join(rows.read_text().splitlines(keepends=True)[:20]))
    task = json.dumps([{"name": "held", "path": str(held), "metrics": ["loss"]}])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}  # this machine alone
    command = [Path(sys.executable).parent / "s2l", "plan", rows, *settings(tmp_path), f"evaluation.tasks={task}",
               f"target.model.config={json.dumps(LLAMA)}", "--probe"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rates = {step["label"].split()[0]: step["rate"] for step in found["steps"]}
    assert {name for name, rate in rates.items() if rate == "measured"} >= {
        "prepare", "proxy", "trajectories", "finetune", "evaluate"}
    assert all(step["state"] == "left" for step in found["steps"])
    assert list((tmp_path / "out").rglob("manifest.json")) == [kept]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"models", "probe", "s2l-storage.json"}

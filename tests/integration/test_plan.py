"""A dry run checks everything and does nothing: .venv/bin/pytest tests/integration/test_plan.py"""

import json

import pytest

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.pipeline.dry_run import dry_run, table_of
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.stages.table import STAGES

pytestmark = pytest.mark.integration


def test_what_would_run_and_where(ray_cluster, small_recipe, word_problems, tmp_path):
    plan = plan_run(small_recipe(word_problems, tmp_path))
    told = dry_run(plan.steps, plan.recipe, plan.storage)
    assert told["cluster"].startswith("1 node: 2 CPUs")
    found = {step["label"]: (step["state"], step["where"]) for step in told["steps"]}
    assert found["prepare"] == ("runs", "workers of 1 CPU, as many as there is room for")
    assert found["finetune s2l"] == ("runs", "2 training workers, 2 CPUs in all")
    assert found["select s2l"] == ("runs", "one process")
    assert table_of(told).row_count == len(plan.steps)
    assert not any(plan.storage.exists(step.artifact.folder) for step in plan.steps)


def test_what_is_finished_is_said(ray_cluster, finished):
    _, plan, *_ = finished
    assert {step["state"] for step in dry_run(plan.steps, plan.recipe, plan.storage)["steps"]} == {"finished"}


def test_a_dry_run_refuses_what_a_run_would(ray_cluster, small_recipe, word_problems, tmp_path):
    plan = plan_run(small_recipe(word_problems, tmp_path))
    recipe = plan.recipe.model_copy(update={"data": plan.recipe.data.model_copy(update={"path": str(tmp_path / "gone.jsonl")})})
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        dry_run(plan.steps, recipe, plan.storage)


@pytest.mark.parametrize("command", ["run", "sweep", *(stage.name for stage in STAGES)])
def test_the_commands_stop_after_the_checks(ray_cluster, small_recipe, word_problems, tmp_path, capsys, command):
    asking = {"selection.controls": ["ifd"]} if command == "probe" else {}
    recipe = small_recipe(word_problems, tmp_path / "out", **asking)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.model_dump()))
    with pytest.raises(SystemExit) as ended:
        main([command, str(tmp_path / "recipe.yaml"), "--dry-run"])
    answer = capsys.readouterr()
    assert ended.value.code == 0, answer.err
    plan = json.loads(answer.out.splitlines()[-1])
    assert {"runs"} == {step["state"] for step in plan["steps"]}
    assert not (tmp_path / "out" / "prepare").exists()

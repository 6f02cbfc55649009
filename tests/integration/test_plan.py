"""A dry run checks everything and does nothing: .venv/bin/pytest tests/integration/test_plan.py"""

import json

import pytest

from s2l_ray.cli import main
from s2l_ray.errors import InputError
from s2l_ray.pipeline import plan_line
from s2l_ray.plan import dry_run, table_of

pytestmark = pytest.mark.integration


def test_what_would_run_and_where(ray_cluster, small_recipe, word_problems, tmp_path):
    line = plan_line(small_recipe(word_problems, tmp_path))
    plan = dry_run(line.steps, line.recipe, line.storage)
    assert plan["cluster"].startswith("1 node: 2 CPUs")
    found = {step["label"]: (step["state"], step["where"]) for step in plan["steps"]}
    assert found["prepare"] == ("runs", "workers of 1 CPU, as many as there is room for")
    assert found["finetune s2l"] == ("runs", "2 training workers, 2 CPUs in all")
    assert found["select s2l"] == ("runs", "one process")
    assert table_of(plan).row_count == len(line.steps)
    assert not any(line.storage.exists(step.artifact.folder) for step in line.steps)


def test_what_is_finished_is_said(finished):
    _, line, *_ = finished
    assert {step["state"] for step in dry_run(line.steps, line.recipe, line.storage)["steps"]} == {"finished"}


def test_a_dry_run_refuses_what_a_run_would(ray_cluster, small_recipe, word_problems, tmp_path):
    line = plan_line(small_recipe(word_problems, tmp_path))
    recipe = line.recipe.model_copy(update={"data": line.recipe.data.model_copy(update={"path": str(tmp_path / "gone.jsonl")})})
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        dry_run(line.steps, recipe, line.storage)


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_the_commands_stop_after_the_checks(ray_cluster, small_recipe, word_problems, tmp_path, capsys, command):
    recipe = small_recipe(word_problems, tmp_path / "out")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.model_dump()))
    with pytest.raises(SystemExit) as ended:
        main([command, str(tmp_path / "recipe.yaml"), "--dry-run"])
    answer = capsys.readouterr()
    assert ended.value.code == 0, answer.err
    plan = json.loads(answer.out.splitlines()[-1])
    assert {"runs"} == {step["state"] for step in plan["steps"]}
    assert not (tmp_path / "out" / "prepare").exists()

"""What a recipe's line consists of, before anything runs: .venv/bin/pytest tests/test_pipeline.py"""

import json
import shutil

import pytest

from s2l_ray.artifacts import Artifact
from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.training import check_resumable
from s2l_ray.pipeline import plan_line, run_line
from s2l_ray.storage import Storage

FRESH = {"config": {"model_type": "gpt_neox", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}}


def labels(line):
    return [step.label for step in line.steps]


def test_controls_alone_need_no_proxy_and_are_not_held_to_its_training(small_recipe, word_problems, tmp_path):
    # 7 points do not fit the proxy's 6 steps, which is nothing to a selection that trains no proxy.
    changes = {"selection.selector": "random", "selection.controls": ["full"], "trajectory.num_points": 7}
    line = plan_line(small_recipe(word_problems, tmp_path, **changes))
    assert not {"proxy", "trajectories", "embed"} & set(labels(line))
    with pytest.raises(InputError, match="num_points=7 exceeds the proxy's 6 optimizer steps"):
        plan_line(small_recipe(word_problems, tmp_path, **changes), "proxy")


def test_a_fresh_base_model_is_another_one_under_another_seed(small_recipe, word_problems, tmp_path):
    tokenizer = small_recipe(word_problems, tmp_path).target.model.path
    changes = {"target.model": {**FRESH, "tokenizer": tokenizer}, "evaluation.include_base": True}
    lines = [plan_line(small_recipe(word_problems, tmp_path, **changes, seed=seed)) for seed in (0, 1)]
    first, second = (line.step("evaluate base").artifact.fingerprint for line in lines)
    assert first != second


def test_held_out_rows_are_prepared_only_where_they_are_evaluated(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path)
    assert "prepare task problems" in labels(plan_line(recipe))
    assert labels(plan_line(recipe, "finetune"))[:3] == ["prepare", "proxy", "trajectories"]


@pytest.mark.integration
def test_a_budget_above_the_examples_is_refused_before_the_proxy_trains_also_on_a_reused_pool(
    ray_cluster, small_recipe, word_problems, tmp_path
):
    # 101 rows are read, one repeats another: 100 examples. Only prepare can know, and what it found must be used again.
    rows = [json.loads(line) for line in (word_problems / "pool.jsonl").read_text().splitlines()[:100]]
    rows.append({**rows[0], "id": "again"})
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(word_problems / "held_out.jsonl", tmp_path)
    recipe = small_recipe(tmp_path, tmp_path / "out", **{"selection.budget": 101, "selection.num_clusters": 4})
    refusal = "budget=101 must be between 1 and the 100 candidates"
    with pytest.raises(InputError, match=refusal):
        run_line(plan_line(recipe), "test")
    assert not (tmp_path / "out" / "proxy").exists()
    with pytest.raises(InputError, match=refusal):
        plan_line(recipe)


def test_a_deepspeed_training_of_another_number_of_workers_is_not_lost(tmp_path):
    artifact = Artifact(Storage.open(str(tmp_path)), "finetune", {"case": 1})
    artifact.storage.write_bytes(artifact.file("model"), b"a file where there may be a folder")
    check_resumable(artifact, ResourcesConfig(num_workers=2))
    artifact.storage.write_bytes(artifact.file("resume-2-workers/checkpoint_1/state"), b"x")
    check_resumable(artifact, ResourcesConfig(num_workers=2))
    check_resumable(artifact, ResourcesConfig(num_workers=(2, 4)))
    with pytest.raises(InputError, match=r"an unfinished training of 2 workers, .*num_workers=4 cannot go on .*: set "
                       r"resources.num_workers=2, or delete .*/resume-2-workers to begin it anew"):
        check_resumable(artifact, ResourcesConfig(num_workers=4))

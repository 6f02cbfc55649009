"""What a recipe's line consists of, before anything runs: .venv/bin/pytest tests/pipeline/test_pipeline.py"""

import json
import shutil
import time

import pytest

from s2l_ray.errors import InputError
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import record_run, run_plan
from s2l_ray.results.record import find_record

FRESH = {"config": {"model_type": "gpt_neox", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}}


# What the small recipe's artifacts are kept under. Users reuse theirs after an update, so these may change only
# together with what is computed; then SCHEMA_VERSION goes up, and CHANGELOG.md says why.
GOLDEN = {
    "prepare": "5c24ad3a49386203", "prepare task problems": "ecc8d0e892ed2ec0", "proxy": "15bf71594b4766bc",
    "trajectories": "529b270de16cf99b", "select s2l": "3db6d79840f60470", "select random": "7660d4310c010973",
    "finetune s2l": "8b1218283f5a29bd", "finetune random": "6653f2ccf29533c2", "evaluate s2l": "25d917b5b21a8633",
    "evaluate random": "b24f23f501791f1c",
}
NOT_SEARCHED = {
    "prepare": "7090d2b183372c31", "prepare task problems": "ecc8d0e892ed2ec0", "proxy": "3c7c6253977bd7ca",
    "trajectories": "47348cd57b6f15a1", "select s2l": "86849379fd326f23", "select random": "ed543538a2f905b9",
    "finetune s2l": "9dab02e43c9ed66e", "finetune random": "ee59595fc5e90994", "evaluate s2l": "7301fa05cee1ecd5",
    "evaluate random": "7e1ac7c937e698c8",
}
"""Of the same recipe with data.decontaminate=false: the artifacts from before there was a search for leaks."""


def labels(plan):
    return [step.label for step in plan.steps]


def test_what_users_have_stays_reusable(small_recipe, word_problems, tmp_path, monkeypatch):
    found = {step.label: step.artifact.fingerprint for step in plan_run(small_recipe(word_problems, tmp_path)).steps}
    assert found == GOLDEN, "an update would compute everything again: see the comment at GOLDEN"
    off = plan_run(small_recipe(word_problems, tmp_path, **{"data.decontaminate": False}))
    assert {step.label: step.artifact.fingerprint for step in off.steps} == NOT_SEARCHED


@pytest.mark.parametrize("changes", [
    {"selection.selector": "s2l"}, {"resources.num_workers": 1}, {"resources.wait_timeout_s": 5},
    {"trajectory.num_points": 3, "name": "other"}, {"trajectory.batch_tokens": 8192}, {"trajectory.batch_tokens": "auto"},
], ids=str)
def test_what_is_set_to_what_it_is_anyway_or_decides_nothing_changes_no_artifact(
    small_recipe, word_problems, tmp_path, changes
):
    recipe = small_recipe(word_problems, tmp_path)
    assert recipe.trajectory.num_points == 3
    plan = plan_run(small_recipe(word_problems, tmp_path, **changes))
    assert {step.label: step.artifact.fingerprint for step in plan.steps} == GOLDEN


def test_controls_alone_need_no_proxy_and_are_not_held_to_its_training(small_recipe, word_problems, tmp_path):
    # 7 points do not fit the proxy's 6 steps, which is nothing to a selection that trains no proxy.
    changes = {"selection.selector": "random", "selection.controls": ["full"], "trajectory.num_points": 7}
    plan = plan_run(small_recipe(word_problems, tmp_path, **changes))
    assert not {"proxy", "trajectories", "embed"} & set(labels(plan))
    with pytest.raises(InputError, match="num_points=7 exceeds the proxy's 6 optimizer steps"):
        plan_run(small_recipe(word_problems, tmp_path, **changes), "proxy")


def test_a_fresh_base_model_is_another_one_under_another_seed(small_recipe, word_problems, tmp_path):
    tokenizer = small_recipe(word_problems, tmp_path).target.model.path
    changes = {"target.model": {**FRESH, "tokenizer": tokenizer}, "evaluation.include_base": True}
    plans = [plan_run(small_recipe(word_problems, tmp_path, **changes, seed=seed)) for seed in (0, 1)]
    first, second = (plan.step("evaluate", "base").artifact.fingerprint for plan in plans)
    assert first != second


def test_held_out_rows_are_prepared_only_where_they_are_evaluated(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path)
    assert "prepare task problems" in labels(plan_run(recipe))
    assert labels(plan_run(recipe, "finetune"))[:3] == ["prepare", "proxy", "trajectories"]


def test_up_to_embed_nothing_is_planned_that_only_a_selection_needs(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path, **{"selection.selector": "k_center"})
    assert labels(plan_run(recipe, "embed")) == ["prepare", "proxy", "embed"]
    whole = small_recipe(word_problems, tmp_path)  # s2l needs losses and no embeddings; who asks for them gets them
    assert "trajectories" not in labels(plan_run(whole, "embed"))


def test_a_command_that_goes_less_far_keeps_what_the_run_has_finished(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path)
    whole = plan_run(recipe)

    def recorded(plan):
        record_run(plan, "test")
        return [step["label"] for step in find_record(whole.folder, str(tmp_path)).steps]

    assert recorded(plan_run(recipe, "select")) == [*GOLDEN][:1] + [*GOLDEN][2:6]
    assert recorded(whole) == [*GOLDEN]
    *finished, unfinished = whole.steps
    for step in finished:
        step.artifact.publish({"rows": {"examples": 240}}, time.time())
    assert recorded(plan_run(recipe, "select")) == [*GOLDEN][:-1], f"but for {unfinished.label}"
    # Another recipe of that name, other data, or a damaged record: nothing of it is of this run.
    other = small_recipe(word_problems, tmp_path, **{"evaluation.include_base": True})
    assert recorded(plan_run(other, "select")) == [*GOLDEN][:1] + [*GOLDEN][2:6]
    assert recorded(whole) == [*GOLDEN]
    whole.storage.write_bytes(f"{whole.folder}/run.json", b"{")
    assert recorded(plan_run(recipe, "select")) == [*GOLDEN][:1] + [*GOLDEN][2:6]


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
        run_plan(plan_run(recipe), "test")
    assert not (tmp_path / "out" / "proxy").exists()
    with pytest.raises(InputError, match=refusal):
        plan_run(recipe)

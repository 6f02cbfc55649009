"""Sampled answers, judged, and the selector that needs them: .venv/bin/pytest tests/integration/test_sample.py"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2l_ray.errors import InputError
from s2l_ray.metrics.responses import judge_response
from s2l_ray.modeling.generation import Sampling, generate_answers, prompt_length
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.scoring import SamplingConfig
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.stages.workers.sampling import ShardSampler
from s2l_ray.storage.artifacts import Artifact

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]
SAMPLING = SamplingConfig(num_samples=3, max_new_tokens=8, temperature=0.7)


def recipe_of(finished, **changes):
    recipe = finished[0]
    data = recipe.data.model_copy(update={"limit": 96})
    return recipe.model_copy(update={"name": "sampled", "data": data, "sampling": SAMPLING, "selection": SelectionConfig(
        selector="pass_rate", budget=5), **changes})


@pytest.fixture(scope="module")
def sampled(here, finished):
    plan = plan_run(recipe_of(finished), "select")
    run_plan(plan, "test")
    return plan


def test_nothing_is_trained_for_it(sampled):
    labels = [step.label for step in sampled.steps]
    assert "sample" in labels and labels[-1] == "select pass_rate" and not {"proxy", "trajectories"} & set(labels)


def test_answers_are_those_of_each_example_alone_and_judged_as_held_out_ones_are(sampled):
    step = next(step for step in sampled.steps if step.stage.name == "sample")
    examples = next(one.artifact for one in sampled.steps
                    if one.artifact.fingerprint == step.artifact.parents["examples"])
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "target_base", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "target_base")
    found = {row["example_id"]: row for shard in step.artifact.list_names("shards")
             for row in step.artifact.read_table(f"shards/{shard}").to_pylist()}
    originals = {row["id"]: row for row in map(json.loads, Path(sampled.recipe.data.path).read_text().splitlines())}
    shard = examples.list_names("examples")[0]
    for row in examples.read_table(f"examples/{shard}").slice(0, 64).to_pylist()[::9]:
        prompt = np.array(row["input_ids"])[: prompt_length(np.array(row["supervised"]))]
        seeds = [ShardSampler.seed_of(sampled.recipe.seed, row["example_id"], number) for number in range(3)]
        answers = [generate_answers(model, tokenizer, [prompt], 8, Sampling(0.7, [seed]))[0] for seed in seeds]
        gold = str(originals[row["example_id"]]["answer"])
        right = sum(judge_response(answer, (gold,), ()).is_equal for answer in answers)
        assert (found[row["example_id"]]["num_samples"], found[row["example_id"]]["num_right"]) == (3, right)
    assert len(found) == 96


def test_the_number_of_workers_does_not_change_a_byte(sampled):
    from s2l_ray.stages.sample import SamplePlan, run_sample

    done = next(step for step in sampled.steps if step.stage.name == "sample").artifact
    examples = next(step for step in sampled.steps if step.artifact.fingerprint == done.parents["examples"]).artifact
    again = Artifact(done.storage, "sample", {**done.identity, "copy": 1}, done.parents)
    alone = sampled.recipe.model_copy(update={"resources": ResourcesConfig(num_scoring_workers=1)})
    run_sample(SamplePlan(again, alone, examples))
    read = done.storage.read_bytes
    names = done.list_names("shards")
    assert names and all(read(done.file(f"shards/{n}")) == read(again.file(f"shards/{n}")) for n in names)


def test_the_selection_says_what_was_solved(sampled):
    chosen = sampled.step("select", "pass_rate").artifact
    findings = chosen.read_json("findings.json")
    assert sum(findings[f"num_{how}_solved"] for how in ("sometimes", "never", "always")) == 96
    scores = chosen.read_table("selection.parquet")["score"].to_pylist()
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)


def test_a_pool_without_answers_to_check_is_refused_before_work(finished, tmp_path):
    (tmp_path / "free.jsonl").write_text("".join(
        json.dumps({"instruction": f"Tell me of {n}", "output": f"There were {n} of them, as far as I know."}) + "\n"
        for n in range(30)))
    recipe = recipe_of(finished)
    data = recipe.data.model_copy(update={"path": str(tmp_path / "free.jsonl"), "id_column": None, "limit": None})
    with pytest.raises(InputError, match=r"none of the pool's first 30 rows has a final answer.*sampling\.answer_column"):
        run_plan(plan_run(recipe.model_copy(update={"data": data, "evaluation": type(recipe.evaluation)()}), "select"), "test")


def test_a_target_of_fresh_weights_is_not_asked(finished):
    recipe = recipe_of(finished)
    fresh = recipe.target.model.model_copy(update={"path": None, "config": {"model_type": "llama"}, "tokenizer": str(ASSETS / "target_base")})
    target = recipe.target.model_copy(update={"model": fresh})
    with pytest.raises(InputError, match=r"its weights are fresh.*sampling\.model\.path"):
        plan_run(recipe.model_copy(update={"target": target}), "select")

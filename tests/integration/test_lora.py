"""The whole line with adapters in place of whole models: .venv/bin/pytest tests/integration/test_lora.py"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2l_ray.errors import InputError
from s2l_ray.modeling.generation import generate_answers
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.models import load_model
from s2l_ray.pipeline.merge import write_merged_target
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.stages.finetune import run_finetune
from s2l_ray.storage.artifacts import Artifact

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def line(here, small_recipe, word_problems, tmp_path_factory):
    """The plan of a finished run whose proxy and target were trained by adapters."""
    adapters = {"rank": 4}
    plan = plan_run(small_recipe(word_problems, tmp_path_factory.mktemp("storage"), name="lora",
                                 **{"proxy.lora": adapters, "target.lora": adapters, "selection.controls": [],
                                    "target.precision": "fp32"}))
    run_plan(plan, "test")
    return plan


def folder_of(artifact, name):
    return Path(artifact.storage.path(artifact.file(name)))


def test_points_and_targets_are_adapters_of_some_kilobytes(line):
    proxy, target = (line.step(stage, of).artifact for stage, of in (("proxy", None), ("finetune", "s2l")))
    points = proxy.manifest()["points"]
    assert len(points) == 4, "before training and three times in it"
    for artifact, names in ((proxy, [f"point-{point['step']:08d}" for point in points]), (target, ["model"])):
        for name in names:
            files = {path.name: path.stat().st_size for path in folder_of(artifact, name).iterdir()}
            assert files["adapter_model.safetensors"] < 200_000 and "model.safetensors" not in files
            base = json.loads((folder_of(artifact, name) / "base_model.json").read_text())
            assert base["path"] in (line.recipe.proxy.model.path, line.recipe.target.model.path)


def test_losses_of_a_point_are_those_of_base_and_adapter(line):
    proxy, scored = line.step("proxy").artifact, line.step("trajectories").artifact
    examples = line.step("prepare").artifact
    shard = examples.list_names("examples")[0]
    table = examples.read_table(f"examples/{shard}")
    found = np.array(scored.read_table(f"shards/{shard}")["losses"].to_pylist())
    # The untouched point is the base itself: an adapter begins as nothing.
    base = LossScorer(load_model(line.recipe.proxy.model, vocab_size=0, seed=0))
    last = LossScorer(load_model(ModelConfig(path=str(folder_of(proxy, "model"))), vocab_size=0, seed=0))
    np.testing.assert_allclose(found[:, [0, -1]], table_losses([base, last], table, 8192), atol=1e-5)
    assert np.abs(found[:, 0] - found[:, -1]).max() > 0.01


def test_the_merged_folder_gives_the_answers_that_were_evaluated(line, tmp_path):
    command = [Path(sys.executable).parent / "s2l", "merge", f"{line.recipe.storage}/runs/lora", "--output", "whole",
               "--precision", "fp32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["folder"] == "whole" and said["base"] == line.recipe.target.model.path
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    task, evaluated = line.step("prepare", "task problems").artifact, line.step("evaluate", "s2l").artifact
    shard = task.list_names("examples")[0]
    rows = task.read_table(f"examples/{shard}").to_pylist()[:16]
    prompts = [np.array(row["input_ids"][: row["supervised"].index(True)]) for row in rows]
    expected = {row["example_id"]: row["prediction"] for row in evaluated.read_table("predictions.parquet").to_pylist()}
    answers = generate_answers(whole, tokenizer, prompts, 8)
    assert answers == [expected[row["example_id"]] for row in rows]
    assert said["dtype"] == "float32" and "rounds away" not in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert again.returncode == 2 and "'whole' is not empty" in " ".join(again.stderr.split()), again.stderr
    small = subprocess.run([*command[:3], "--output", "small"], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert "float16 rounds away what adapters change" in " ".join(small.stderr.split()), small.stderr
    assert (tmp_path / "small" / "model.safetensors").stat().st_size < (tmp_path / "whole" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_every_zero_stage_trains_the_same_adapters(line, zero_stage):
    recipe, done = line.recipe, line.step("finetune", "s2l").artifact
    changed = recipe.model_copy(update={"target": recipe.target.model_copy(update={"zero_stage": zero_stage})})
    artifact = Artifact(done.storage, "finetune", {**done.identity, "case": zero_stage}, done.parents)
    run_finetune(artifact, line.step("select", "s2l").artifact, line.step("prepare").artifact, changed, "test")
    weights, expected = (load_file(folder_of(one, "model") / "adapter_model.safetensors") for one in (artifact, done))
    assert weights.keys() == expected.keys() and any("lora_B" in name for name in weights)
    # Stage 2 did the line's. Adam moves a weight by up to 1e-3 in each of 3 steps.
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    assert max(float(weights[name].abs().max()) for name in expected if "lora_B" in name) > 1e-4


def test_a_whole_model_is_not_merged(finished, tmp_path):
    trained = finished[1].step("finetune", "s2l").artifact
    with pytest.raises(InputError, match="is a whole model already"):
        write_merged_target(trained.storage, trained.folder, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_dropout_of_adapters_is_part_of_what_names_a_training(line):
    plain, other = (line.recipe.model_copy(update={"target": line.recipe.target.model_copy(update={
        "lora": LoraConfig(rank=4, dropout=dropout)})}) for dropout in (0.0, 0.1))
    assert plan_run(plain).step("finetune", "s2l").artifact.is_finished
    assert not plan_run(other).step("finetune", "s2l").artifact.is_finished

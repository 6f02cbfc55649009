"""Further losses where a selector asks for them: .venv/bin/pytest tests/integration/test_probe.py"""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from s2l_ray.errors import InputError
from s2l_ray.modeling.key_parts import mask_key_parts
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.scoring import ProbeConfig

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


@pytest.fixture(scope="module")
def probed(here, finished):
    """The finished run's line again, asked for three selections by further losses: (plan, labels of what was run)."""
    recipe = finished[0]
    selection = recipe.selection.model_copy(update={"selector": "ifd", "controls": ["key_part_gain", "ask_llm"]})
    plan = plan_run(recipe.model_copy(update={"selection": selection, "name": "probed"}), "select")
    done = run_plan(plan, "test")
    return plan, [one.step.label for one in done if not one.is_reused]


def column(plan, name, of=None, stage="probe"):
    """Return a step's column over all shards."""
    artifact = plan.step(stage, of).artifact
    shards = artifact.storage.list_names(artifact.file("shards"))
    return np.concatenate([artifact.read_table(f"shards/{s}")[name].to_numpy() for s in shards])


def test_no_proxy_is_trained_for_the_losses_of_the_untouched_one(probed):
    plan, run = probed
    probes = ["probe with_prompt", "probe without_prompt", "probe masked_prompt", "probe judge"]
    selections = ["select ifd", "select key_part_gain", "select ask_llm"]
    assert [step.label for step in plan.steps] == ["prepare", *probes, *selections]
    assert run == [*probes, *selections]


def test_the_losses_are_the_model_s_own_one_example_at_a_time(probed):
    plan, _ = probed
    proxy, prepare = plan.recipe.proxy.model, plan.step("prepare").artifact
    model = AutoModelForCausalLM.from_pretrained(proxy.path, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(proxy)
    shard = prepare.storage.list_names(prepare.file("examples"))[0]
    examples = prepare.storage.read_table(prepare.file(f"examples/{shard}"))
    found = {name: column(plan, "loss", name) for name in ("with_prompt", "without_prompt")}
    for row in range(0, examples.num_rows, 17):
        ids = torch.tensor(examples["input_ids"][row].as_py())
        mask = torch.tensor(examples["supervised"][row].as_py())
        response = torch.cat([torch.tensor([tokenizer.eos_token_id]), ids[mask]])
        labels = torch.cat([torch.tensor([-100]), ids[mask]])
        with torch.no_grad():
            whole = model(input_ids=ids[None], labels=torch.where(mask, ids, -100)[None]).loss
            alone = model(input_ids=response[None], labels=labels[None]).loss
        assert found["with_prompt"][row] == pytest.approx(whole.item(), abs=1e-5)
        assert found["without_prompt"][row] == pytest.approx(alone.item(), abs=1e-5)


def test_what_is_compared_is_the_same_tokens(probed):
    plan, _ = probed
    counts = {name: column(plan, "num_supervised_tokens", name)
              for name in ("with_prompt", "without_prompt", "masked_prompt", "judge")}
    assert (counts["with_prompt"] == counts["without_prompt"]).all()
    assert (counts["with_prompt"] == counts["masked_prompt"]).all()
    assert (counts["judge"] == 1).all()


def test_a_masked_loss_is_that_of_the_example_written_with_masks(probed, word_problems):
    plan, _ = probed
    rows = {row["id"]: row for row in map(json.loads, (word_problems / "pool.jsonl").read_text().splitlines())}
    model = AutoModelForCausalLM.from_pretrained(plan.recipe.proxy.model.path, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(plan.recipe.proxy.model)
    ids, losses = (column(plan, name, "masked_prompt") for name in ("example_id", "loss"))
    for place in range(0, len(ids), 31):
        row = rows[ids[place]]
        prompt = tokenizer(mask_key_parts(row["instruction"]) + "\n")["input_ids"]
        response = [*tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(prompt) + response])
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([prompt + response]), labels=labels).loss.item()
        assert losses[place] == pytest.approx(expected, abs=1e-5), row


def test_the_selections_take_the_highest_scores_of_their_tables(probed):
    plan, _ = probed
    ids = column(plan, "example_id", "judge")
    likely = np.exp(-column(plan, "loss", "judge").astype(np.float64))
    artifact = plan.step("select", "ask_llm").artifact
    table: pa.Table = artifact.read_table("selection.parquet")
    assert table.num_rows == 44 and set(artifact.parents) == {"examples", "target_examples", "judge"}
    assert set(table["example_id"].to_pylist()) == set(ids[np.argsort(-likely)[:44]])


def test_the_finished_proxy_can_be_asked_and_is_trained_for_it(finished):
    recipe = finished[0]
    selection = recipe.selection.model_copy(update={"selector": "ifd", "controls": []})
    asked = recipe.model_copy(update={"selection": selection, "probe": ProbeConfig(point="final"), "name": "final"})
    plan = plan_run(asked, "select")
    assert [step.label for step in plan.steps][:2] == ["prepare", "proxy"]
    run_plan(plan, "test")
    last = np.stack(column(finished[1], "losses", stage="trajectories"))[:, -1]
    assert column(plan, "loss", "with_prompt") == pytest.approx(last, abs=1e-5), "the trajectory's last point"


def test_the_number_of_workers_does_not_change_a_byte(probed):
    from s2l_ray.stages.probe import Probe, run_probe
    from s2l_ray.storage.artifacts import Artifact

    plan, _ = probed
    done, prepare = plan.step("probe", "masked_prompt").artifact, plan.step("prepare").artifact
    again = Artifact(done.storage, "probe", {**done.identity, "copy": 1}, done.parents)
    alone = plan.recipe.model_copy(update={"resources": ResourcesConfig(num_scoring_workers=1)})
    run_probe(Probe("masked_prompt", again, alone, alone.proxy.model, None, prepare))
    names = done.storage.list_names(done.file("shards"))
    read = done.storage.read_bytes
    assert names and all(read(done.file(f"shards/{n}")) == read(again.file(f"shards/{n}")) for n in names)


def test_fresh_weights_are_not_asked(small_recipe, word_problems, tmp_path):
    tokenizer = small_recipe(word_problems, tmp_path).proxy.model.path
    fresh = {"config": {"model_type": "gpt_neox", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
             "tokenizer": tokenizer}
    recipe = small_recipe(word_problems, tmp_path, **{"proxy.model": fresh, "selection.selector": "ifd"})
    with pytest.raises(InputError, match=r"probe\.point=initial asks a model of fresh weights"):
        plan_run(recipe)

"""The whole line, small: .venv/bin/pytest tests/integration/test_line.py"""

import json
import time

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.results.record import find_record
from s2l_ray.results.results import tables_of
from s2l_ray.results.status import status_of

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


def test_every_stage_leaves_a_manifest_with_its_origin(finished):
    _, plan, done, _ = finished
    assert [one.step.label for one in done] == [
        "prepare", "prepare task problems", "proxy", "trajectories", "select s2l", "select random",
        "finetune s2l", "finetune random", "evaluate s2l", "evaluate random"]
    for step in plan.steps:
        manifest = step.artifact.manifest()
        assert manifest["fingerprint"] == step.artifact.fingerprint
        assert manifest["packages"]["ray"] and manifest["wall_s"] >= 0 and manifest["rows"]
    rows = plan.step("prepare").artifact.manifest()["rows"]
    assert rows["read"] == rows["examples"] + rows["duplicates"] + rows["quarantined"] == 400


def test_selections_have_exactly_the_budget_and_give_the_rows_back_unchanged(finished, word_problems):
    _, plan, _, results = finished
    lines = set((word_problems / "pool.jsonl").read_text().splitlines())
    pool = results["pool"]["examples"]
    for name, expected in (("s2l", round(0.11 * pool)), ("random", round(0.11 * pool))):
        artifact = plan.step("select", name).artifact
        table = artifact.read_table("selection.parquet")
        subset = artifact.storage.read_bytes(artifact.file("subset.jsonl")).decode().splitlines()
        assert table.num_rows == len(subset) == expected
        assert set(subset) <= lines
        assert [json.loads(row)["id"] for row in subset] == table["example_id"].to_pylist()
        typed = pq.read_table(artifact.storage.path(artifact.file("subset.parquet")))
        assert typed["id"].to_pylist() == table["example_id"].to_pylist()


def test_the_target_is_a_folder_that_transformers_loads(finished):
    _, plan, _, _ = finished
    folder = plan.storage.path(plan.step("finetune", "s2l").artifact.file("model"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    output = model.generate(**tokenizer("2 + 3", return_tensors="pt"), max_new_tokens=2, do_sample=False)
    assert output.shape[1] >= 3


def test_results_name_every_arm_with_intervals_and_differences(finished):
    _, _, _, results = finished
    for name in ("s2l", "random"):
        for metric in ("loss", "exact_match", "rouge_l", "bleu"):
            value = results["arms"][name]["metrics"]["problems"][metric]
            assert value["low"] <= value["value"] <= value["high"] and value["n"] == 48
            assert len(value["by_source"]) >= 8
    assert {(d["control"], d["metric"]) for d in results["differences"]} == {
        ("random", metric) for metric in ("loss", "exact_match", "rouge_l")}
    assert sum(stage["share"] for stage in results["stages"]) == pytest.approx(1)
    assert json.loads(json.dumps(results)) == results
    assert len(tables_of(results)) == 6


def test_a_second_run_reuses_everything(finished):
    recipe, _, _, _ = finished
    started = time.monotonic()
    done = run_plan(plan_run(recipe), "again")
    assert all(one.is_reused for one in done)
    assert time.monotonic() - started < 20


def test_another_number_of_clusters_pays_for_selection_and_training_only(finished):
    recipe, _, _, _ = finished
    changed = recipe.model_copy(update={"selection": recipe.selection.model_copy(update={"num_clusters": 5})})
    waiting = [step.label for step in plan_run(changed).steps if not step.artifact.is_finished]
    assert waiting == ["select s2l", "finetune s2l", "evaluate s2l"], "controls do not depend on K"


def test_where_it_runs_does_not_change_what_it_is(finished):
    recipe, _, _, _ = finished
    elsewhere = recipe.model_copy(update={
        "name": "moved", "resources": recipe.resources.model_copy(update={"num_workers": 1, "max_failures": 9})})
    assert all(step.artifact.is_finished for step in plan_run(elsewhere).steps)


def test_status_tells_each_step(finished):
    _, plan, _, _ = finished
    found = status_of(find_record(plan.storage.uri_of(plan.folder), "unused"))
    assert found["left"] == [] and {step["state"] for step in found["steps"]} == {"finished"}
    assert next(s for s in found["steps"] if s["label"] == "prepare")["rows"]["read"] == 400


@pytest.mark.slow
def test_the_line_on_an_s3_server_over_http_and_the_growth_of_what_it_chose(
        small_recipe, word_problems, tmp_path, monkeypatch, capsys):
    from moto.server import ThreadedMotoServer

    from s2l_ray.cli.main import main as cli
    from s2l_ray.pipeline.plan import plan_run
    from s2l_ray.pipeline.run import run_plan
    from s2l_ray.results.record import find_record
    from s2l_ray.results.status import status_of

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        uri = f"s3://s2l/work?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        recipe = small_recipe(word_problems, uri, **{"resources.num_workers": 1, "selection.controls": []})
        import boto3

        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1").create_bucket(Bucket="s2l")
        done = run_plan(plan_run(recipe, "select"), "test")
        assert [one.step.label for one in done] == ["prepare", "proxy", "trajectories", "select s2l"]
        plan = plan_run(recipe, "select")
        assert all(one.is_reused for one in run_plan(plan, "again"))
        assert status_of(find_record("small", uri))["left"] == []
        chosen = plan.step("select", "s2l").artifact
        rows = chosen.storage.read_bytes(chosen.file("subset.jsonl")).splitlines()
        assert len(rows) == 44  # 11 % of 400
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        more = tmp_path / "more.jsonl"
        new = [{**json.loads(row), "id": f"new{n}", "instruction": f"Later: {json.loads(row)['instruction']}"}
               for n, row in enumerate(rows)]
        more.write_text("".join(json.dumps(row) + "\n" for row in new))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli(["select", str(more), "--extend", plan.storage.uri_of(plan.folder), "--budget", "50"])
        assert not ended.value.code
        assert sum(json.loads(capsys.readouterr().out.splitlines()[-1])["extended"].values()) == 50
        proxy = plan.step("proxy").artifact
        brought = tmp_path / "cache" / "s2l_ray" / proxy.folder / proxy.manifest()["hash"]
        assert (brought / "manifest.json").exists(), "by what it is, not by what it was made from"
    finally:
        server.stop()

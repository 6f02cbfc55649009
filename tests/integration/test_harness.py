"""An evaluation by the real lm-evaluation-harness, offline: .venv/bin/pytest tests/integration/test_harness.py"""

import json
import random

import numpy as np
import pytest
import torch

from s2l_ray.metrics.intervals import paired_difference, proportion_interval
from s2l_ray.modeling.models import load_from, load_tokenizer_from
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.report.build import build_page
from s2l_ray.report.study import read_study
from s2l_ray.results.results import collect_results, tables_of
from s2l_ray.rows import originals
from s2l_ray.stages.planning import of_task

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]

TASK = """task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: brier_score}]
metadata: {version: 2.0}
"""
NAME = "lm_eval/sums"


@pytest.fixture(scope="module")
def rows():
    """Questions with three choices, of which one is right; the last two are one row twice."""
    draw = random.Random(1)
    made = []
    for _ in range(40):
        one, other = draw.randrange(50), draw.randrange(50)
        choices = [str(one + other), f"{one} and {other} apples", "none of them"]
        draw.shuffle(choices)
        made.append({"question": f"What is {one} plus {other}?", "choices": choices, "answer": choices.index(str(one + other))})
    return [*made, made[-1]]


@pytest.fixture(scope="module")
def measured(finished, here, rows, tmp_path_factory):
    """The finished run, evaluated by the harness alone: (plan, done)."""
    recipe, folder = finished[0], tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(TASK.replace("DATA", str(folder / "rows.jsonl")))
    harness = recipe.evaluation.harness.model_copy(update={"tasks": ["sums"], "include_path": str(folder)})
    evaluation = recipe.evaluation.model_copy(update={"tasks": [], "harness": harness})
    plan = plan_run(recipe.model_copy(update={"evaluation": evaluation, "name": "by_harness"}))
    return plan, run_plan(plan, "test")


@pytest.mark.parametrize("weigh_by_size", [True, False], ids=["examples_alike", "tasks_alike"])
def test_a_group_has_the_harness_s_own_value_with_an_interval_over_the_examples_of_its_tasks(
        finished, here, rows, tmp_path, weigh_by_size):
    recipe = finished[0]
    for name, some in (("sums", rows), ("few", rows[:7])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        (tmp_path / f"{name}.yaml").write_text(
            TASK.replace("DATA", str(tmp_path / f"{name}.jsonl")).replace("task: sums", f"task: {name}"))
    weighed = f"{{metric: %s, weight_by_size: {json.dumps(weigh_by_size)}}}"
    (tmp_path / "group.yaml").write_text(
        f"group: both\ntask: [sums, few]\naggregate_metric_list: [{weighed % 'acc'}, {weighed % 'brier_score'}]\n"
        "metadata: {version: 3}\n")
    harness = recipe.evaluation.harness.model_copy(update={"tasks": ["both"], "include_path": str(tmp_path)})
    evaluation = recipe.evaluation.model_copy(update={"tasks": [], "harness": harness})
    plan = plan_run(recipe.model_copy(update={"evaluation": evaluation, "name": f"grouped_{weigh_by_size}"}))
    results = collect_results(plan, run_plan(plan, "test"))
    for arm in ("s2l", "random"):
        metrics, evaluated = results["arms"][arm]["metrics"], plan.step("evaluate", arm).artifact
        assert next(iter(metrics)) == "lm_eval/both" and {*metrics} == {f"lm_eval/{name}" for name in ("both", "sums", "few")}
        parts = [metrics[f"lm_eval/{name}"]["acc"]["value"] for name in ("sums", "few")]
        expected = (len(rows) * parts[0] + 7 * parts[1]) / (len(rows) + 7) if weigh_by_size else sum(parts) / 2
        whole = metrics["lm_eval/both"]["acc"]
        assert whole["value"] == pytest.approx(expected) and whole["n"] == len(rows) + 7
        assert whole["low"] <= whole["value"] <= whole["high"] and whole["low"] < whole["high"]
        told = evaluated.manifest()
        assert told["rows"]["examples"] == len(rows) + 7, "a group's examples are its tasks'"
        assert told["harness"]["groups"]["lm_eval/both"]["members"] in (["sums", "few"], ["few", "sums"])
        assert list(told["harness"]["groups"]["lm_eval/both"]["without_interval"]) == ["brier_score"]
    assert ("lm_eval/both", "acc") in [(gap["task"], gap["metric"]) for gap in results["differences"]]


def one_by_one(artifact, rows):
    """Whether each row's right choice is the likeliest, and the likeliest a character; each choice is run alone."""
    model, tokenizer = load_from(artifact).eval(), load_tokenizer_from(artifact)
    found = {"acc": [], "acc_norm": []}
    for row in rows:
        scores = []
        for choice in row["choices"]:
            before = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
            ids = torch.tensor([tokenizer(f"{row['question']} {choice}", add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, :-1].float()
            each = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
            scores.append(float(each[len(before) - 1:].sum()))
        lengths = [len(choice) for choice in row["choices"]]
        found["acc"].append(float(np.argmax(scores) == row["answer"]))
        found["acc_norm"].append(float(np.argmax(np.divide(scores, lengths)) == row["answer"]))
    return {name: np.array(values) for name, values in found.items()}


def test_its_values_are_those_of_rows_scored_one_by_one_and_arms_are_compared_in_pairs(measured, rows, capsys):
    plan, done = measured
    results = collect_results(plan, done)
    ours, theirs = (one_by_one(plan.step("finetune", name).artifact, rows) for name in ("s2l", "random"))
    for arm, expected in (("s2l", ours), ("random", theirs)):
        artifact = plan.step("evaluate", arm).artifact
        assert artifact.read_table("predictions.parquet").num_rows == 0
        table = artifact.read_table("harness.parquet")
        for metric, values in expected.items():
            own = table.filter((np.array(table["metric"].to_pylist()) == metric).tolist())
            assert own["value"].to_pylist() == values.tolist(), (arm, metric)
            assert own["example_id"].to_pylist()[-1] == f"{own['example_id'].to_pylist()[-2]}-1"
            assert results["arms"][arm]["metrics"][NAME][metric] == {
                **proportion_interval(int(values.sum()), len(rows)).to_dict(), "by_source": {}, "better": "higher", "harness": "0.4.13"}
        facts = artifact.manifest()
        assert facts["rows"]["examples"] == facts["harness"]["tasks"][NAME]["examples"] == len(rows)
        assert facts["harness"]["tasks"][NAME]["version"] == 2.0
        assert facts["harness"]["tasks"][NAME]["without_interval"]["brier_score"] > 0
    assert [(gap["control"], gap["task"], gap["metric"]) for gap in results["differences"]] == [
        ("random", NAME, "acc"), ("random", NAME, "acc_norm")]
    for gap in results["differences"]:
        expected = paired_difference(ours[gap["metric"]], theirs[gap["metric"]], np.random.default_rng(plan.recipe.seed))
        assert {name: gap[name] for name in ("value", "low", "high", "n")} == expected.to_dict()
    assert capsys.readouterr().out == ""


def test_results_and_report_say_that_it_is_the_harness_that_measured(measured):
    plan, done = measured
    titles = [table.title for table in tables_of(collect_results(plan, done))]
    assert f"{NAME}: acc (by lm-evaluation-harness 0.4.13; higher is better; 95 % interval)" in titles
    study = read_study([f"{plan.storage.uri}/{plan.folder}"], "")
    assert study.metric.title == f"acc on {NAME} by lm-evaluation-harness 0.4.13"
    page = build_page(study)
    assert f"Acc on {NAME} by lm-evaluation-harness 0.4.13; higher is better" in page.sections["curve"].sentences[0]
    others = page.sections["curve"].figures[0].tables[1]
    assert {row[2] for row in others.rows} == {f"{NAME} by lm-evaluation-harness 0.4.13"}


def test_our_own_ranking_of_options_is_the_harness_s_row_by_row(finished, rows, tmp_path):
    lettered = [[f"({letter}) {text}" for letter, text in zip("ABC", row["choices"], strict=True)] for row in rows]
    asked = [{**row, "asked": "\n".join([row["question"], *said]), "lettered": said}
             for row, said in zip(rows, lettered, strict=True)]
    for name, written in (("own", rows), ("theirs", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    task = TASK.replace("DATA", str(tmp_path / "theirs.jsonl")).replace("{{choices}}", "{{lettered}}")
    (tmp_path / "sums.yaml").write_text(task.replace("{{question}}", "{{asked}}") + 'target_delimiter: "\\n"\n')
    recipe = finished[0]
    settings = recipe.model_dump(mode="json")
    settings["name"] = "ranked"
    settings["evaluation"] |= {
        "tasks": [{"name": "own", "path": str(tmp_path / "own.jsonl"), "metrics": ["acc", "acc_norm"]}],
        "harness": {"tasks": ["sums"], "include_path": str(tmp_path)}}
    plan = plan_run(type(recipe).model_validate(settings))
    run_plan(plan, "test")
    examples = plan.step("prepare", of_task("own")).artifact
    asked_then = [row["question"] for name in examples.list_names("examples")
                  for row in originals.values(examples.read_table(f"originals/{name}"))]
    order = [asked_then.index(row["question"]) for row in rows]
    for arm in ("s2l", "random"):
        artifact = plan.step("evaluate", arm).artifact
        ours, harness = artifact.read_table("predictions.parquet"), artifact.read_table("harness.parquet")
        for metric in ("acc", "acc_norm"):
            theirs = harness.filter((np.array(harness["metric"].to_pylist()) == metric).tolist())["value"].to_pylist()
            assert np.array(ours[metric].to_pylist())[order].tolist() == theirs, (arm, metric)
        assert {len(losses) for losses in ours["option_losses"].to_pylist()} == {3}

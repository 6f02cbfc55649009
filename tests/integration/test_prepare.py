"""prepare on real data and on bad data: .venv/bin/pytest tests/integration/test_prepare.py"""

import json

import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.rows.originals import json_lines
from s2l_ray.stages.planning import Planning
from s2l_ray.stages.prepare import plan_prepare, run_prepare
from s2l_ray.starter.look import look_at
from s2l_ray.starter.vocabulary import learn_tokenizer
from s2l_ray.storage.files import Storage

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]
MODEL = ModelConfig(path=str(ASSETS / "proxy_base"))


def prepare(tmp_path, data, model=MODEL, resources=None, seed=0):
    plan = plan_prepare(Storage.open(str(tmp_path / "out")), DataConfig(**data), model, seed)
    if not plan.artifact.is_finished:
        run_prepare(plan, resources or ResourcesConfig())
    return plan.artifact


def tables(artifact, folder):
    storage = artifact.storage
    return [storage.read_table(artifact.file(f"{folder}/{n}")) for n in storage.list_names(artifact.file(folder))]


def write_lines(path, lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n")
    return path


def good(number):
    return {"instruction": f"What is {number} + 1?", "output": f"The answer is {number + 1}."}


@pytest.mark.parametrize("name", ["alpaca", "clinical", "math_mixture"])
def test_real_data_is_accounted_for_row_by_row(real_data, gpt2_tokenizer, tmp_path, name):
    model = ModelConfig(path=MODEL.path, tokenizer=str(gpt2_tokenizer), eos_token="<|endoftext|>")
    data = {"path": str(real_data / f"{name}.parquet"), "limit": 1500, "id_column": "id", "max_bad_fraction": 0.3}
    artifact = prepare(tmp_path, data, model)
    manifest, rows = artifact.manifest(), artifact.manifest()["rows"]
    assert rows["read"] == 1500 == rows["examples"] + rows["duplicates"] + rows["quarantined"]
    examples = tables(artifact, "examples")
    assert [t.num_rows for t in examples][:-1] == [1024] * (len(examples) - 1)
    for table, original in zip(examples, tables(artifact, "originals"), strict=True):
        lengths = table["num_tokens"].to_pylist()
        assert lengths == sorted(lengths) and max(lengths) <= 512
        assert all(n >= 1 for n in table["num_supervised_tokens"].to_pylist())
        assert original["example_id"].equals(table["example_id"])
    quarantine = artifact.read_table("quarantine.parquet")
    assert quarantine.num_rows == rows["quarantined"] == sum(manifest["quarantine_reasons"].values())


def test_messages_made_from_real_rows_give_the_same_texts(real_data, tmp_path):
    rows = pq.read_table(real_data / "alpaca.parquet").slice(0, 300).to_pylist()
    rows = [row for row in rows if not row["input"]]
    made = [{"id": r["id"], "messages": [{"role": "user", "content": r["instruction"]},
                                         {"role": "assistant", "content": r["response"]}]} for r in rows]
    as_messages = write_lines(tmp_path / "messages.jsonl", made)
    as_alpaca = write_lines(tmp_path / "alpaca.jsonl", [{k: r[k] for k in ("id", "instruction", "response")} for r in rows])
    found = []
    for path in (as_messages, as_alpaca):
        artifact = prepare(tmp_path, {"path": str(path), "id_column": "id", "max_bad_fraction": 0.5})
        table = tables(artifact, "examples")[0].select(["example_id", "input_ids", "supervised"])
        found.append(table.sort_by("example_id").to_pylist())
    assert found[0] == found[1] and len(found[0]) > 100


def test_bad_rows_are_set_aside_with_file_row_and_reason(tmp_path, capsys):
    lines = [good(n) for n in range(200)]
    lines[6] = b'{"instruction": "caf\xe9", "output": "x"}'
    lines[10] = b'{"instruction": "cut off'
    lines[20] = {"instruction": "no answer"}
    lines[30] = {"instruction": "  ", "output": "x"}
    lines[40] = {"instruction": 5, "output": "x"}
    lines[50] = good(0)
    artifact = prepare(tmp_path, {"path": str(write_lines(tmp_path / "rows.jsonl", lines)), "max_bad_fraction": 0.05})
    quarantine = artifact.read_table("quarantine.parquet").to_pylist()
    assert [(q["file"], q["row"], q["reason"]) for q in quarantine] == [
        ("rows.jsonl", 7, "invalid_utf8"), ("rows.jsonl", 11, "not_json"), ("rows.jsonl", 21, "missing_field"),
        ("rows.jsonl", 31, "empty_field"), ("rows.jsonl", 41, "wrong_type")]
    assert artifact.manifest()["rows"] == {"read": 200, "examples": 194, "duplicates": 1, "quarantined": 5}
    said = " ".join(capsys.readouterr().err.split())
    assert "prepare: set aside: {'invalid_utf8': 1, 'not_json': 1," in said and "First: rows.jsonl row 7: invalid_utf8" in said
    assert f"All are listed in {artifact.storage.uri_of(artifact.file('quarantine.parquet'))}".replace(" ", "") in said.replace(" ", "")
    kept = {line for table in tables(artifact, "originals") for line in json_lines(table)}
    assert kept == {json.dumps(good(n)) for n in range(200) if n not in (6, 10, 20, 30, 40, 50)}


def test_too_many_bad_rows_stop_the_run_and_say_which(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [*[good(n) for n in range(20)], {"instruction": "no answer"}])
    with pytest.raises(InputError, match=r"1 of 21 rows \(4.8%\) are bad.*rows.jsonl row 21: missing_field"):
        prepare(tmp_path, {"path": str(path)})
    assert not plan_prepare(Storage.open(str(tmp_path / "out")), DataConfig(path=str(path)), MODEL, 0).artifact.is_finished


def test_limit_draws_over_all_rows_with_the_seed(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [{**good(n), "id": str(n)} for n in range(300)])
    data = {"path": str(path), "id_column": "id", "limit": 30}
    drawn = [sorted(int(i) for t in tables(prepare(tmp_path, data, seed=s), "examples") for i in t["example_id"].to_pylist())
             for s in (0, 1)]
    assert len(drawn[0]) == len(drawn[1]) == 30 and drawn[0] != drawn[1]
    assert max(drawn[0]) > 200, "not just the first rows"


def test_same_bytes_for_one_and_two_workers(word_problems, tmp_path):
    data = {"path": str(word_problems / "pool.jsonl"), "id_column": "id", "shard_rows": 100}
    found = []
    for workers in (1, 2):
        artifact = prepare(tmp_path / str(workers), data, resources=ResourcesConfig(num_scoring_workers=workers))
        storage = artifact.storage
        found.append({f"{folder}/{name}": storage.read_bytes(artifact.file(f"{folder}/{name}"))
                      for folder in ("examples", "originals") for name in storage.list_names(artifact.file(folder))})
    assert found[0] == found[1] and len(found[0]) == 8


def test_near_duplicates_are_left_out_and_listed_whatever_the_workers(tmp_path, capsys):
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    rows = [{"instruction": f"Say these {n} things: {' '.join(numbers[n % 12:] + numbers[:n % 12])}, {n * 'x'} and {n}.",
             "output": f"I say {n} of them, {n} times."} for n in range(1, 61)]
    twins = {5: {**rows[4], "instruction": rows[4]["instruction"].upper() + "!"}, 40: {**rows[11], "output": rows[11]["output"] + " "}}
    for place, row in twins.items():
        rows.insert(place, row)
    path = write_lines(tmp_path / "rows.jsonl", rows)
    found = []
    for workers in (1, 2):
        data = {"path": str(path), "near_duplicates": {"threshold": 0.9}, "shard_rows": 16}
        artifact = prepare(tmp_path / str(workers), data, resources=ResourcesConfig(num_scoring_workers=workers))
        found.append((artifact.manifest()["rows"], artifact.read_table("near_duplicates.parquet").to_pylist(),
                      [table.to_pylist() for table in tables(artifact, "examples")]))
    assert found[0] == found[1]
    counts, listed, _ = found[0]
    # The second twin differs by white space at its end alone: it is a duplicate.
    assert counts == {"read": 62, "examples": 60, "duplicates": 1, "near_duplicates": 1, "quarantined": 0}
    assert listed == [{"file": "rows.jsonl", "row": 6, "kept_file": "rows.jsonl", "kept_row": 5, "similarity": 1.0}]
    assert "near-duplicates left out: 1. First: rows.jsonl row 6, 100% like rows.jsonl row 5, which stays" in " ".join(
        capsys.readouterr().err.split())
    plain = prepare(tmp_path / "1", {"path": str(path), "shard_rows": 16})
    assert plain.manifest()["rows"] == {"read": 62, "examples": 61, "duplicates": 1, "quarantined": 0}
    assert not plain.exists("near_duplicates.parquet") and plain.fingerprint != artifact.fingerprint


LONG = "Which of the nine rivers that cross the northern plain carries the most water to the sea in spring, number {}?"


def steps_of(small_recipe, tmp_path, pool, task, **changes):
    """The prepare steps of a recipe on these rows and this task, by what they are of."""
    write_lines(tmp_path / "pool.jsonl", pool)
    write_lines(tmp_path / "held_out.jsonl", task)
    recipe = small_recipe(tmp_path, tmp_path / "out", **{"data.id_column": None, **changes})
    return {step.of: step for step in Planning(recipe, Storage.open(recipe.storage)).plan_until("prepare")}


def kept_rows(artifact):
    return sorted(row for table in tables(artifact, "originals") for row in table["row"].to_pylist())


def test_rows_with_text_of_the_tasks_are_left_out_for_proxy_and_target_alike(small_recipe, tmp_path, capsys):
    pool = [good(n) for n in range(20)]
    pool[3] = {"instruction": f"Answer this. {LONG.format(7)}", "output": "The third."}
    pool[8] = {"instruction": "Write a question about rivers.", "output": LONG.format(8)}
    pool[9] = good(100)
    task = [{"instruction": LONG.format(7), "output": "The first."}, good(100), good(101)]
    learned = look_at(str(write_lines(tmp_path / "words.jsonl", [good(n) for n in range(40)])), ["data.prompt_style=plain"])
    tokenizer = str(learn_tokenizer(learned, tmp_path / "models"))
    steps = steps_of(small_recipe, tmp_path, pool, task, **{"target.model.tokenizer": tokenizer})
    assert len({step.artifact.fingerprint for step in steps.values()}) == 2
    manifests = [step.run() for step in steps.values()]
    for manifest, step in zip(manifests, steps.values(), strict=True):
        assert manifest["rows"] == {"read": 20, "examples": 17, "duplicates": 0, "leaks": 3, "quarantined": 0}
        assert manifest["leaks_of"] == {"problems": {"rows": 3, "own_rows": 1}}
        assert kept_rows(step.artifact) == [n for n in range(1, 21) if n not in (4, 9, 10)]
        leaks = step.artifact.read_table("leaks.parquet").to_pylist()
        assert [(one["file"], one["row"], one["task"], one["held_out_file"], one["held_out_row"], one["how"]) for one in leaks] == [
            ("pool.jsonl", 4, "problems", "held_out.jsonl", 1, "13 words in a row"),
            ("pool.jsonl", 9, "problems", "held_out.jsonl", 1, "13 words in a row"),
            ("pool.jsonl", 10, "problems", "held_out.jsonl", 2, "the same row")]
    said = " ".join(capsys.readouterr().err.split())
    assert "leaks left out: 3 of problems, of which 1 are its own rows. First: pool.jsonl row 4 has 13 words in a row" in said


def test_what_a_pool_is_searched_for_is_a_part_of_its_identity(small_recipe, tmp_path):
    pool, task = [good(n) for n in range(20)], [good(n) for n in range(50, 60)]
    found = steps_of(small_recipe, tmp_path, pool, task)[None].artifact.fingerprint
    alone = steps_of(small_recipe, tmp_path, pool, task, **{"evaluation.tasks": []})[None].artifact
    off = steps_of(small_recipe, tmp_path, pool, task, **{"data.decontaminate": False})[None].artifact
    assert off.fingerprint == alone.fingerprint != found and "held_out" not in off.identity
    assert steps_of(small_recipe, tmp_path, pool, [*task, good(70)])[None].artifact.fingerprint != found
    assert steps_of(small_recipe, tmp_path, pool, task, **{"target.max_steps": 4})[None].artifact.fingerprint == found


def test_a_pool_of_leaks_alone_is_refused_with_what_to_set(small_recipe, tmp_path):
    rows = [good(n) for n in range(20)]
    step = steps_of(small_recipe, tmp_path, rows, rows)[None]
    with pytest.raises(InputError, match=r"no example is left of 20 rows.*20 of problems, of which 20 are its own rows.*"
                                         r"data\.decontaminate=false keeps them"):
        step.run()


def test_a_task_that_cannot_be_read_is_named_with_what_does_without(small_recipe, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl.*data\.decontaminate=false does without"):
        steps_of(small_recipe, tmp_path, [good(1)], [good(2)], **{
            "evaluation.tasks": [{"name": "a", "path": str(tmp_path / "nowhere.jsonl")}]})


def test_hub_names_need_the_hub(tmp_path):
    with pytest.raises(InputError, match="'TIGER-Lab/MathInstruct' is neither a folder here nor reachable on the hub"):
        plan_prepare(Storage.open(str(tmp_path)), DataConfig(hub_name="TIGER-Lab/MathInstruct"), MODEL, 0)

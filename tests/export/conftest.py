"""A finished run made by hand from rows of every shape: prepared rows, and a selection that is really run on them."""

import json

import pyarrow as pa
import pytest

from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.rows.shape import detect_shapes
from s2l_ray.stages.select import run_select
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import EXAMPLES, shard_name

TOOLS = [{"type": "function", "function": {"name": "add", "description": "Sum", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}},
         {"name": "look_up", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}]


def _call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


ROWS = {
    "alpaca": {"instruction": "Add the numbers.", "input": "1 and 2", "output": "3", "system": "Be \u2028 short.", "history": [["Hi", "Hello"]]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Wie heißt du? שלום 🙂"}, {"from": "gpt", "value": "Anna"}]},
    "prompt_completion": {"prompt": "Say \"a\"\tand <b>.", "completion": "a\n\n<b>"},
    "question_answer": {"question": "2 + 2?", "answer": "4"},
    "ultrachat": {"data": ["one", "two", "three", "four"]},
    "preference": {"prompt": "Which?", "chosen": "This.", "rejected": "That."},
    "messages": {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    "thinking": {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "reasoning_content": "Let me see.", "content": "So."}]},
    "weights": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bad", "weight": 0}, {"role": "user", "content": "b"},
                             {"role": "assistant", "content": "good", "weight": 1}]},
    "tools": {"tools": TOOLS, "messages": [
        {"role": "user", "content": "1 + 2, and who is it?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [_call("add", a=1, b=[2]), _call("look_up", a="who")]},
        {"role": "tool", "name": "look_up", "content": "Anna"}, {"role": "tool", "name": "add", "content": "3"},
        {"role": "assistant", "content": "3, Anna"}, {"role": "user", "content": "Again."},
        {"role": "assistant", "tool_calls": [_call("add", c={"deep": None})]}]},
    "not_in_turn": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]},
}
"""One row of each shape, and of each part that a row may have."""


class Runs:
    """Writes finished runs to one storage."""

    def __init__(self, folder):
        self.storage = Storage.open(str(folder / "out"))
        self.folder = folder
        self.names = {}

    def pool(self, rows, shape):
        """Write the rows as prepare leaves them, without a tokenizer."""
        artifact = Artifact(self.storage, "prepare", {"format": shape, "rows": json.dumps(rows), "max_length": 96,
                                                      "files": [["mine.jsonl", "ab" * 32]]})
        ids, raws = [f"row-{n}" for n in range(len(rows))], [json.dumps(row, ensure_ascii=False) for row in rows]
        count = len(rows)
        artifact.write_table(f"examples/{shard_name(0)}", pa.table(
            [ids, ["a | b"] * count, [[1, 2]] * count, [[False, True]] * count, [2] * count, [1] * count], schema=EXAMPLES))
        artifact.write_table(f"originals/{shard_name(0)}", pa.table(
            {"example_id": ids, "file": ["mine.jsonl"] * count, "row": list(range(count)), "raw": raws}))
        artifact.publish({"format": shape, "rows": {"read": count, "examples": count, "duplicates": 0, "quarantined": 0}}, 0.0)
        return artifact

    def select(self, pool, selector, budget=1.0, seed=0):
        config = SelectionConfig(selector=selector, budget=budget)
        identity = {"selector": selector, **({"budget": budget, "seed": seed} if selector == "random" else {})}
        artifact = Artifact(self.storage, "select", identity, {"examples": pool.fingerprint, "target_examples": pool.fingerprint})
        run_select(artifact, config, seed, {"examples": pool, "target_examples": pool})
        return {"label": f"select {selector}", "stage": "select", "fingerprint": artifact.fingerprint, "arm": selector}

    def recipe(self, **target):
        model = {"path": "some/model"}
        return parse_recipe({
            "name": "mine", "storage": self.storage.uri, "data": {"path": str(self.folder / "mine.jsonl"), "max_length": 96},
            "proxy": {"model": {"path": "some/proxy"}, "epochs": 1},
            "target": {"model": model, "epochs": 2, "global_batch_size": 8, "micro_batch_size": 2, **target},
            "selection": {"selector": "full", "controls": ["random"], "budget": 0.5}}).model_dump()

    def run(self, rows, shape=None, **target):
        """Return a run on these rows that chose all of them, and a random half as its control."""
        key = json.dumps([rows, shape, target])
        if key not in self.names:
            name = self.names[key] = f"mine-{len(self.names)}"
            pool = self.pool(rows, shape or detect_shapes(rows))
            steps = [self.select(pool, "full"), self.select(pool, "random", 0.5)]
            self.storage.write_json(f"runs/{name}/run.json", {
                "name": name, "recipe": self.recipe(**target), "command": "s2l run mine.yaml", "git_commit": None, "started": 1.0, "steps": steps})
        return self.storage.uri_of(f"runs/{self.names[key]}")

    def sweep(self, rows):
        """Write a sweep of two trials on these rows."""
        pool = self.pool(rows, detect_shapes(rows))
        trials = [{"trial": f"random-b{budget}", "overrides": {"selection.selector": "random", "selection.budget": budget, "seed": 3},
                   "steps": [self.select(pool, "random", budget, 3)]} for budget in (0.5, 0.8)]
        self.storage.write_json("sweeps/many/sweep.json", {
            "name": "many", "recipe": self.recipe(), "command": "s2l sweep mine.yaml", "git_commit": None, "started": 1.0, "shared": [], "trials": trials})
        return self.storage.uri_of("sweeps/many")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A storage to write finished runs to; a run on the same rows is written once."""
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def rows():
    """One row of each shape and each part."""
    return ROWS

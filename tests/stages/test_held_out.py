"""What leaks are looked for by, kept for the workers: .venv/bin/pytest tests/stages/test_held_out.py"""

from s2l_ray.rows.compared import Texts
from s2l_ray.rows.held_out import HeldOutRow
from s2l_ray.rows.leaks import index_held_out
from s2l_ray.stages.workers.held_out import keep_held_out, read_held_out
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage

PROMPT = "how many pens has ann if she buys seven of them on each of three days"
ROWS = [HeldOutRow("task.jsonl", 1, "key", Texts((PROMPT,), ("21",)))]


def test_what_an_interrupted_run_put_there_is_not_made_again(tmp_path):
    artifact, made = Artifact(Storage.open(str(tmp_path)), "prepare", {"data": 1}), []

    def index():
        made.append(1)
        return index_held_out([("task", ROWS)])

    assert read_held_out(artifact) is None, "leaks are not looked for"
    for _ in range(2):
        keep_held_out(artifact, index)
    assert len(made) == 1
    found = read_held_out(artifact).find([Texts((PROMPT + " and more",), ())], [None]).to_pylist()
    assert found[0]["task"] == "task" and found[0]["held_out_row"] == 1

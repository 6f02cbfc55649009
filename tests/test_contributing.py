"""CONTRIBUTING.md's examples, each really added to a copy of the package: .venv/bin/pytest tests/test_contributing.py"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))
LINES = re.findall(r"<!-- line: (\S+) before `(.*?)` -->\n```python\n(.*?)```", TEXT, re.DOTALL)

SELECTOR = """
import pyarrow as pa
import pyarrow.parquet as pq
from s2l_ray.cli.main import main
from s2l_ray.recipe.parts import parse_selection
from s2l_ray.recipe.selection import SelectionConfig
assert SelectionConfig(selector="short_response", controls=["short_response"]).selector == "short_response"
assert parse_selection(["selection.selector=short_response"]).selector == "short_response"
rows = {"example_id": list("abcd"), "losses": [[2.0, 1.0]] * 4, "num_supervised_tokens": [7, 3, 9, 1]}
pq.write_table(pa.table(rows), "losses.parquet")
for line in ("selectors", "select --trajectories losses.parquet --selector short_response --budget 2 --output chosen"):
    try:
        main(line.split())
    except SystemExit as done:
        assert done.code == 0, line
chosen = pq.read_table("chosen/selection.parquet")
assert chosen["example_id"].to_pylist() == ["d", "b"], chosen  # of 1 and 3 tokens, by rank
"""

METRIC = """
import numpy as np
import pyarrow as pa
from s2l_ray.metrics.metric import Answer
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.registry import METRICS
task = TaskConfig(name="held", path="x.jsonl", metrics=["contains_gold"])
metric = METRICS.find(task.metrics[0])
answers = Answer("so it is Paris.", "", "paris"), Answer("Rome", "", "paris"), Answer("Paris", "", None)
values = [metric.score(answer) for answer in answers]
assert values == [1.0, 0.0, 0.0] and metric.mode == "max"
found = metric.estimate(pa.table({metric.name: values}), np.random.default_rng(0))
assert abs(found.value - 1 / 3) < 1e-9 and found.low <= found.value <= found.high and found.n == 3
print(*METRICS.names)
"""

SHAPE = """
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.shape import detect_shape, to_conversation
from s2l_ray.rows.units import plan_units
open("rows.jsonl", "w").write('{"letter": "1 + 1?", "answer": "2", "level": 3}\\n{"letter": "2 + 2?", "answer": "4"}\\n')
rows = [row.value for unit in plan_units([scan_file("rows.jsonl")], 10) for row in read_unit(unit)]
assert [detect_shape(row) for row in rows] == ["letters"] * 2
assert DataConfig(path="x", format="letters").format == "letters"
turns = [[(turn.role, turn.content) for turn in to_conversation(row, "letters").turns] for row in rows]
assert turns == [[("user", "1 + 1?"), ("assistant", "2")], [("user", "2 + 2?"), ("assistant", "4")]]
print("letters")
"""

FORMAT = """
import pyarrow as pa
from pyarrow.orc import write_table
from s2l_ray.errors import InputError
from s2l_ray.rows.listing import known_endings, list_files
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.typed import read_unit_table, unify_schemas
from s2l_ray.rows.units import plan_units
table = pa.table({"instruction": list("abcde"), "output": list("vwxyz"), "level": pa.array(range(5), pa.int8())})
write_table(table, "rows.orc")
assert [name.rpartition("/")[2] for name in list_files("*")] == ["rows.orc"] and ".orc" in known_endings()
scan = scan_file("rows.orc")
assert (scan.num_rows, scan.format) == (5, "orc")
for size in (1, 2, 3, 5):
    units = plan_units([scan], size)
    assert [row.value for unit in units for row in read_unit(unit)] == table.to_pylist()
    assert pa.concat_tables(read_unit_table(unit, unify_schemas([scan])) for unit in units).equals(table)
write_table(table.slice(0, 3), "rows.orc")  # while a run reads it
content = open("rows.orc", "rb").read()
open("cut.orc", "wb").write(content[:-20])
for fails in (lambda: list(read_unit(units[0])), lambda: scan_file("cut.orc")):
    try:
        fails()
    except InputError as error:
        assert ".orc: " in str(error)
    else:
        raise AssertionError("a file that is not what it was is read in silence")
print("orc")
"""

TRAINER = """
from typer.testing import CliRunner
from s2l_ray.cli.main import app
from s2l_ray.recipe.registry import TRAINERS
from s2l_ray.rows.conversation import Conversation, Turn
trainer = TRAINERS.find("torchtune")
asked = Turn("user", "1 + 1?")
assert trainer.row(Conversation((asked, Turn("assistant", "2")))) == {"messages": [
    {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]}
assert trainer.lacks(Conversation((asked, Turn("assistant", "2", is_learned=False), asked, Turn("assistant", "2"))))
assert trainer.changes(Conversation((asked, Turn("assistant", "2", thinking="easy"))))
refused = CliRunner().invoke(app, ["export", "nothing", "--to", "torchtunes"])
assert refused.exit_code == 2
print(*TRAINERS.names)
"""

STAGE = """
import sys
import pyarrow as pa
from s2l_ray.cli.main import main
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.loading import parse_recipe
model = {"model": {"path": str(ASSETS / "proxy_base")}, "max_steps": 20}
open("pool.jsonl", "w").write('{"instruction": "a", "output": "b"}\\n' * 9)
plan = plan_run(parse_recipe({"name": "it", "storage": "out", "data": {"path": "pool.jsonl"}, "proxy": model, "target": model,
    "selection": {"selector": "random", "controls": []}}), "tally")
assert [step.label for step in plan.steps] == ["prepare", "tally"]
assert "tally" not in [step.label for step in plan_run(plan.recipe, "proxy").steps]
examples, tally = (plan.step(label) for label in ("prepare", "tally"))
table = pa.table({"source": ["web", "book", "web"], "num_supervised_tokens": [5, 7, 6]})
examples.artifact.write_table("examples/part-0.parquet", table)
tally.run()
assert tally.artifact.read_json("tokens.json") == {"web": 11, "book": 7}
assert tally.artifact.is_finished
main(["tally", "--help"])
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, on its own."""
    shutil.copytree(ROOT / "s2l_ray", tmp_path / "s2l_ray", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "jobs" / "recipes", tmp_path / "jobs" / "recipes")
    return tmp_path


def add(package, room, lines=()):
    """Add the example whose file is in a room."""
    for name in (name for name in FILES if name.startswith(room)):
        assert not (package / name).exists(), f"{name} is there already"
        (package / name).write_text(FILES[name])
    for name, before, line in lines:
        source = (package / name).read_text()
        assert source.count(before) == 1
        (package / name).write_text(source.replace(before, line + before))


def touched(package):
    """Return the files of the copy that are not as they are here."""
    files = [path.relative_to(package) for path in (package / "s2l_ray").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.as_posix() for path in files
                  if not (ROOT / path).is_file() or (ROOT / path).read_bytes() != (package / path).read_bytes())


def output_of(package, program):
    """Run a program against the copy, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", program], cwd=package, env={**os.environ, "PYTHONPATH": str(package)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(("room", "program", "printed"), [
    ("s2l_ray/selectors/methods/", SELECTOR, "short_response"), ("s2l_ray/metrics/measures/", METRIC, "contains_gold"),
    ("s2l_ray/rows/shapes/", SHAPE, "letters"), ("s2l_ray/rows/files/", FORMAT, "orc"),
    ("s2l_ray/export/trainers/", TRAINER, "torchtune"),
], ids=["selector", "metric", "row shape", "file format", "trainer"])
def test_one_file_adds_it(package, room, program, printed):
    assert touched(package) == []
    add(package, room)
    assert printed in output_of(package, program)
    assert len(touched(package)) == 1


def test_one_file_and_one_line_add_a_stage(package):
    add(package, "s2l_ray/stages/", LINES)
    assert "how many tokens each source has" in output_of(package, STAGE)
    assert len(touched(package)) == 2


def test_no_example_is_left_out():
    assert len(FILES) == 6 and len(LINES) == 1
    assert TEXT.count("```python\n") == 7

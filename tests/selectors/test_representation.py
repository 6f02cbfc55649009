"""RDS+ by hand and against its definition: .venv/bin/pytest tests/selectors/test_representation.py"""

import numpy as np
import pyarrow as pa
import pytest

import s2l_ray
from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.representation import SELECTOR
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import pool_of


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def select(rows, tasks, budget):
    ids = pa.array([f"e{i:05d}" for i in range(len(rows))])
    pool = Pool(ids, embeddings_ND=unit(rows), tasks=tuple(unit(task) for task in tasks))
    return SELECTOR.select(pool, budget, SelectionConfig(), np.random.default_rng(0))


def degrees(*angles):
    """Vectors in the plane, whose cosine is that of the difference of their angles."""
    return [[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in angles]


def test_each_example_of_a_task_takes_its_next_nearest_in_turn():
    # To 0: 10 (row 0), 20 (1), 85 (2), 100 (3). To 90: 85, 100, 20, 10.
    # Turn 1: row 0, row 2. Turn 2: row 1, row 3.
    choice = select(degrees(10, 20, 85, 100), [degrees(0, 90)], 4)
    assert choice.positions_B.tolist() == [0, 2, 1, 3]
    assert choice.scores_B == pytest.approx(np.cos(np.radians([10, 5, 20, 10])), abs=1e-6)
    assert choice.facts["num_turns"] == 2 and choice.facts["num_same_as_a_task_example"] == 0


def test_who_comes_upon_a_taken_example_loses_its_turn():
    # To 0: rows 0, 1, 2, 3. To 10: rows 1 (12), 0 (6 is 4 away, 12 is 2), 2, 3.
    # Turn 1: 0 takes row 0 (6), 10 takes row 1 (12). Turn 2: 0 would take row 1, 10 row 0: both are taken.
    # Turn 3: 0 takes row 2, 10 comes upon it.
    choice = select(degrees(6, 12, 40, 80), [degrees(0, 10)], 3)
    assert choice.positions_B.tolist() == [0, 1, 2]


def test_of_several_tasks_each_takes_turns_by_its_nearest_example():
    # Task a has examples at 0 and 90, task b one at 180. Best of a: 88 (row 2, 2 away), 5 (row 0), 20 (row 1); of b: 170.
    choice = select(degrees(5, 20, 88, 170), [degrees(0, 90), degrees(180)], 4)
    assert choice.positions_B.tolist() == [2, 3, 0, 1], "a: 88; b: 170; a: 5; b: 88 is taken; a: 20"
    assert choice.facts["num_turns"] == 2


def test_one_task_with_one_example_is_a_ranking_by_cosine():
    rows = np.random.default_rng(0).normal(size=(300, 6))
    cosines = unit(rows) @ unit([[1, 2, 3, 4, 5, 6]])[0]
    choice = select(rows, [[[1, 2, 3, 4, 5, 6]]], 40)
    assert choice.positions_B.tolist() == np.argsort(-cosines, kind="stable")[:40].tolist()


def test_examples_of_the_task_in_the_pool_come_first_and_are_counted():
    rows = np.random.default_rng(1).normal(size=(50, 4))
    choice = select(rows, [rows[[7, 30]] * 3], 10)
    assert choice.positions_B[:2].tolist() == [7, 30] and choice.facts["num_same_as_a_task_example"] == 2


def as_published(rows, tasks, budget):
    """Pop from each ranking in turn, as the authors' two scripts do for one task and for several."""
    cosines = [unit(rows) @ unit(task).T for task in tasks]
    columns = list(cosines[0].T) if len(tasks) == 1 else [found.max(axis=1) for found in cosines]
    rankings = [sorted(range(len(rows)), key=lambda row, column=column: -column[row]) for column in columns]
    chosen = []
    while len(chosen) < budget:
        for ranking in rankings:
            row = ranking.pop(0)
            if row not in chosen and len(chosen) < budget:
                chosen.append(row)
    return chosen


@pytest.mark.parametrize("sizes", [[1], [5], [40], [2, 3], [1, 1, 1, 1]])
@pytest.mark.parametrize("budget", [1, 9, 57, 120])
def test_it_is_what_the_authors_take_on_random_data(sizes, budget):
    rng = np.random.default_rng(sum(sizes) + budget)
    rows, tasks = rng.normal(size=(120, 8)), [rng.normal(size=(size, 8)) for size in sizes]
    assert select(rows, tasks, budget).positions_B.tolist() == as_published(rows, tasks, budget)


def test_from_python_and_what_is_missing_is_named():
    rows, solved = np.random.default_rng(2).normal(size=(30, 5)), np.random.default_rng(3).normal(size=(4, 5))
    chosen = s2l_ray.select(None, 6, selector="representation", embeddings=rows, task_embeddings=solved)
    table = pa.table({"task": ["x", "y", "x", "x"], "embedding": list(solved.astype(np.float32))})
    by_task = s2l_ray.select(None, 6, selector="representation", embeddings=rows, task_embeddings=table)
    # The pool's order is that of hashed ids, which decides equal cosines alone.
    assert chosen.indices.tolist() == as_published(rows, [solved], 6)
    assert by_task.indices.tolist() == as_published(rows, [solved[[0, 2, 3]], solved[[1]]], 6)
    with pytest.raises(InputError, match="needs embeddings= and task_embeddings="):
        s2l_ray.select(None, 6, selector="representation", embeddings=rows)


@pytest.mark.parametrize(("tasks", "message"), [
    (None, r"selection\.task_examples.*--task-embeddings"),
    (pa.table({"embedding": [[1.0, 2.0]]}).slice(0, 0), "needs examples of the tasks"),
    (pa.table({"vector": [[1.0, 2.0]]}), "need a column embedding"),
    (pa.table({"embedding": [[1.0, 2.0, 3.0]]}), "have 3 numbers, the pool's have 2: one model must make both"),
    (pa.table({"embedding": [[0.0, 0.0]]}), "all zero"),
    (pa.table({"embedding": [[1.0, 2.0]] * 2, "task": ["x", None]}), "1 rows without a task"),
])
def test_bad_examples_say_what_is_wrong(tasks, message):
    pool = pa.table({"example_id": ["a", "b"]})
    embeddings = pa.table({"example_id": ["a", "b"], "embedding": [[1.0, 0.0], [0.0, 1.0]]})
    with pytest.raises(InputError, match=message):
        pool_of(pool, SELECTOR.needs, embeddings, tasks=tasks)

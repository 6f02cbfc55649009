"""Scores from elsewhere: .venv/bin/pytest tests/selectors/test_external.py"""

import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.external import External
from s2l_ray.selectors.run import pool_of, run_selector

POOL = pa.table({"example_id": ["a", "b", "c", "d"]})


def select(scores, budget=4):
    selector = External()
    return run_selector(selector, pool_of(POOL, selector.needs, scores=scores), SelectionConfig(budget=budget), 0, {})[0]


def test_the_highest_scores_first_and_equal_ones_in_the_pools_order():
    # The table of scores has its own order, and rows that are not in the pool.
    scores = pa.table({"example_id": ["d", "x", "b", "a", "c"], "score": [1, 99, 7, 1, -3]})
    selection = select(scores)
    assert selection["example_id"].to_pylist() == ["b", "a", "d", "c"]
    assert selection["score"].to_pylist() == [7, 1, 1, -3]
    assert select(scores, 2)["example_id"].to_pylist() == ["b", "a"]


def test_scores_rank_in_double_precision():
    # As float32 all four are equal, or infinite.
    scores = pa.table({"example_id": ["a", "b", "c", "d"], "score": [1e300, 1 + 1e-12, 1, 2e300]})
    selection = select(scores)
    assert selection["example_id"].to_pylist() == ["d", "a", "b", "c"]
    assert max(selection["score"].to_pylist()) < float("inf")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "needs scores: give a table"),
        (pa.table({"score": [1.0]}), "scores table needs a column example_id"),
        (pa.table({"example_id": ["a", "b"], "score": [1, 2]}), r"2 examples have no row in the scores table, .*'d', 'c'"),
        (pa.table({"example_id": ["a", "b", "c", "d"], "rating": [1, 2, 3, 4]}), "needs a column score"),
        (pa.table({"example_id": ["a", "b", "c", "d"], "score": [1, None, 3, float("nan")]}), "has 2 missing or non-finite"),
    ],
)
def test_bad_scores_say_what_is_wrong(scores, message):
    with pytest.raises(InputError, match=message):
        select(scores)

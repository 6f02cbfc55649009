"""Pass rates by hand: .venv/bin/pytest tests/selectors/test_pass_rate.py"""

import numpy as np
import pyarrow as pa
import pytest

import s2l_ray
from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.pass_rate import SELECTOR
from s2l_ray.selectors.pool import Pool

RATES = [0.0, 0.25, 1.0, 0.5, 0.75, 0.0, 1.0]


def select(budget, rates=RATES):
    pool = Pool(pa.array([f"e{n}" for n in range(len(rates))]), pass_rates_N=np.array(rates, dtype=float))
    return SELECTOR.select(pool, budget, SelectionConfig(), np.random.default_rng(0))


def test_half_of_the_time_comes_first_and_always_or_never_last():
    # p (1 - p): 0.5 gives 1/4, 0.25 and 0.75 give 3/16; then never solved, then always.
    choice = select(7)
    assert choice.positions_B.tolist() == [3, 1, 4, 0, 5, 2, 6]
    assert choice.scores_B.tolist() == [0.25, 0.1875, 0.1875, 0, 0, -1, -1]
    assert {key: choice.facts[key] for key in choice.facts if key != "remarks"} == {
        "num_sometimes_solved": 3, "num_never_solved": 2, "num_always_solved": 2}


def test_a_budget_that_needs_what_teaches_nothing_is_told():
    assert select(3).facts["remarks"] == []
    (remark,) = select(5).facts["remarks"]
    assert remark.startswith("2 of 5 are always or never solved: only 3 candidates")


def test_rates_of_your_own_are_a_column_of_a_table():
    table = pa.table({"example_id": [f"e{n}" for n in range(7)], "pass_rate": RATES})
    chosen = s2l_ray.select(table, 3, selector="pass_rate")
    assert chosen.ids[0] == "e3" and set(chosen.ids[1:]) == {"e1", "e4"}
    with pytest.raises(InputError, match=r"shares from 0 to 1, it has 0 to 4"):
        s2l_ray.select(table.set_column(1, "pass_rate", pa.array([0, 1, 4, 2, 3, 0, 4])), 3, selector="pass_rate")
    with pytest.raises(InputError, match="a table with a column pass_rate"):
        s2l_ray.select(None, 1, selector="pass_rate", ids=["a", "b"])

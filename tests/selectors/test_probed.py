"""The selectors that need further losses, by hand: .venv/bin/pytest tests/selectors/test_probed.py"""

import math

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import pool_of


def select(name, budget, **probes):
    losses = {probe: np.array(values, dtype=np.float64) for probe, values in probes.items()}
    pool = Pool(pa.array([f"e{i}" for i in range(len(next(iter(losses.values()))))]), probes=losses)
    return SELECTORS.find(name).select(pool, budget, SelectionConfig(), np.random.default_rng(0))


def test_ifd_is_a_ratio_of_perplexities_and_what_misleads_comes_last():
    # exp(l(y|x) - l(y)): exp(1-2) = 0.368, exp(3-2) = 2.718, exp(2-2) = 1, exp(0.5-2) = 0.223, exp(1.9-2) = 0.905
    choice = select("ifd", 5, with_prompt=[1, 3, 2, 0.5, 1.9], without_prompt=[2] * 5)
    assert choice.positions_B.tolist() == [4, 0, 3, 2, 1]
    assert choice.scores_B == pytest.approx([0.905, 0.368, 0.223, 0, 1 - math.e], abs=1e-3)
    assert choice.facts == {"num_misleading": 2}


def test_an_ifd_beyond_every_number_is_last():
    choice = select("ifd", 3, with_prompt=[2000, 2, 1], without_prompt=[1, 1, 2])
    assert choice.positions_B.tolist() == [2, 1, 0]


def test_key_part_gain_is_what_masking_costs():
    # 3 - 1 = 2, 1 - 1 = 0, 0.5 - 1 = -0.5, 4 - 3 = 1
    choice = select("key_part_gain", 3, with_prompt=[1, 1, 1, 3], masked_prompt=[3, 1, 0.5, 4])
    assert choice.positions_B.tolist() == [0, 3, 1]
    assert choice.scores_B.tolist() == [2, 1, 0]


def test_ask_llm_scores_with_the_probability_of_yes():
    choice = select("ask_llm", 4, judge=[math.log(4), math.log(2), 900, 800])  # 1/4, 1/2, 0 and 0 as doubles
    assert choice.positions_B.tolist() == [1, 0, 3, 2]
    assert choice.scores_B == pytest.approx([0.5, 0.25, 0, 0])


def test_losses_come_as_tables_by_id_or_as_columns():
    requires = SELECTORS.find("ifd").needs
    table = pa.table({"example_id": ["a", "b"], "loss_with_prompt": [1.0, 2.0], "loss_without_prompt": [3.0, 4.0]})
    pool = pool_of(table, requires)
    order = [["a", "b"].index(i) for i in pool.example_ids.take(pa.array([0, 1])).to_pylist()]
    assert pool.probes["without_prompt"].tolist() == [[3.0, 4.0][i] for i in order]
    tables = {name: pa.table({"example_id": ["b", "a"], "loss": [9.0, 8.0]}) for name in requires}
    assert pool_of(table, requires, probes=tables).probes["with_prompt"].tolist() == [[8.0, 9.0][i] for i in order]
    with pytest.raises(InputError, match="needs a column loss_with_prompt"):
        pool_of(table.select(["example_id"]), requires)

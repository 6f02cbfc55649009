"""Rankings by the loss alone, by hand: .venv/bin/pytest tests/selectors/test_loss_based.py"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool


def select(name, losses_NC, budget):
    losses = np.asarray(losses_NC, dtype=np.float32)
    pool = Pool(pa.array([f"e{i:05d}" for i in range(len(losses))]), losses_NC=losses)
    return SELECTORS.find(name).select(pool, budget, SelectionConfig(), np.random.default_rng(0))


# First, middle and last point of five examples; the last losses are 2, 0.5, 3, 1, 2 and the decreases 3, 4, 0, -1, 4.
LOSSES = [[5, 9, 2], [4.5, 9, 0.5], [3, 9, 3], [0, 9, 1], [6, 9, 2]]


@pytest.mark.parametrize(
    ("name", "order", "scores"),
    [
        ("high_loss", [2, 0, 4, 3, 1], [3, 2, 2, 1, 0.5]),  # 0 and 4 are equal: the lower id first
        ("low_loss", [1, 3, 0, 4, 2], [-0.5, -1, -2, -2, -3]),
        # exp(-3) = 0.0498, exp(-2) = 0.1353, exp(-1) = 0.3679, exp(-0.5) = 0.6065: the order of high_loss
        ("least_confidence", [2, 0, 4, 3, 1], [-0.0498, -0.1353, -0.1353, -0.3679, -0.6065]),
        # ascending ranks: 1 -> 0, 3 -> 1, 0 and 4 share (2 + 3) / 2 = 2.5, 2 -> 4; distances to 2: 2, 1, 0.5, 0.5, 2
        ("middle_perplexity", [0, 4, 3, 1, 2], [-0.5, -0.5, -1, -2, -2]),
        ("high_learnability", [1, 4, 0, 2, 3], [4, 4, 3, 0, -1]),
        ("confidence_curriculum", [1, 3, 0, 4, 2], [-0.5, -1, -2, -2, -3]),
    ],
)
def test_orders_and_scores_by_hand(name, order, scores):
    choice = select(name, LOSSES, 5)
    assert choice.positions_B.tolist() == order
    assert choice.scores_B == pytest.approx(scores, abs=1e-4)


def test_the_curriculum_spreads_its_budget_and_ends_with_the_least_confident():
    # 10 losses 9..0 at ids 0..9; 3 runs of 10/3: ranks floor(10/6) = 1, floor(30/6) = 5, floor(50/6) = 8.
    choice = select("confidence_curriculum", np.arange(9, -1, -1)[:, None], 3)
    assert choice.scores_B.tolist() == [-1, -5, -8]
    assert choice.positions_B.tolist() == [8, 4, 1]


def test_the_middle_of_an_even_pool_is_the_two_around_the_median():
    choice = select("middle_perplexity", [[9], [1], [5], [3]], 2)
    assert sorted(choice.positions_B.tolist()) == [2, 3]


def test_probabilities_too_small_for_a_double_still_rank():
    choice = select("least_confidence", [[2000], [3000], [1000]], 3)  # exp(-1000) is 0
    assert choice.positions_B.tolist() == [1, 0, 2]


@settings(deadline=None)
@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=40))
def test_one_point_has_no_learnability_and_confidence_ranks_as_loss(losses):
    column = np.array(losses)[:, None]
    assert select("high_learnability", column, len(losses)).positions_B.tolist() == list(range(len(losses)))
    high, unsure = (select(name, column, len(losses)).positions_B for name in ("high_loss", "least_confidence"))
    assert high.tolist() == unsure.tolist()

"""What every selector promises, whichever it is: .venv/bin/pytest tests/selectors/test_promises.py"""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.promises import check_choice, check_nested, choose, draws_by_its_seed_alone
from s2l_ray.selectors.run import selection_identity
from s2l_ray.selectors.sample_tables import Values, make_tables
from s2l_ray.tables.schemas import metadata_of
from s2l_ray.testing import SELECTOR_PROMISES

SEEDS = st.integers(0, 2**31)
SHARES = st.floats(0.01, 1)
VALUES = st.sampled_from(get_args(Values))

# Whose score says the rank. The others sample, or rank by what was already chosen.
RANKED = {"learning_percentage", "learning_percentage_approx", "high_loss", "low_loss", "least_confidence",
          "middle_perplexity", "high_learnability", "confidence_curriculum", "iterative", "external", "ifd",
          "key_part_gain", "ask_llm"}
CLUSTERED = {"s2l", "s2l_seedless", "learning_percentage", "learning_percentage_approx", "ltd"}
BINNED = {"loss_bins"}  # groups without a centroid
DRAWS_FROM_LARGE_POOLS = {"facility_location"}  # of more than 20,000 examples


@pytest.mark.parametrize("promise", SELECTOR_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", SELECTORS.own)
def test_ours_keep_every_promise_that_is_asked_of_others(name, promise):
    asked = {"always_draws": name not in DRAWS_FROM_LARGE_POOLS} if promise is draws_by_its_seed_alone else {}
    promise(SELECTORS.find(name), **asked)


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", SELECTORS.own)
@given(count=st.integers(1, 60), share=SHARES, clusters=st.integers(1, 8) | st.just("auto"), seed=SEEDS,
       values=VALUES, by_source=st.sampled_from([{}, {"per": "source"}, {"stratify_by": "source"}]))
def test_a_choice_is_right_whatever_is_asked(name, count, share, clusters, seed, values, by_source):
    parameters = {"num_clusters": clusters if clusters == "auto" else min(clusters, count), **by_source}
    budget = max(1, int(share * count))
    table = check_choice(SELECTORS.find(name), make_tables(count, seed, values), budget, seed, **parameters)
    clusters, quotas, distances = (table[column].to_pylist() for column in ("cluster", "quota", "distance"))
    if name in CLUSTERED | BINNED:
        assert [clusters.count(cluster) for cluster in clusters] == quotas
        assert set(distances) == {None} if name in BINNED else min(distances) >= 0
    else:
        assert {*clusters, *quotas, *distances} == {None}


@pytest.mark.parametrize("name", [name for name in SELECTORS.own if SELECTORS.find(name).is_nested and name != "full"])
@settings(max_examples=10, deadline=None)
@given(count=st.integers(2, 60), shares=st.tuples(SHARES, SHARES), seed=SEEDS, values=VALUES)
def test_nested_selectors_keep_what_a_smaller_budget_chose(name, count, shares, seed, values):
    small, large = (max(1, int(share * count)) for share in sorted(shares))
    check_nested(SELECTORS.find(name), make_tables(count, seed, values), small, large, seed)


@pytest.mark.parametrize("name", sorted(RANKED))
@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 60), seed=SEEDS)
def test_the_higher_score_comes_first(name, count, seed):
    selection, _ = choose(SELECTORS.find(name), make_tables(count, seed), max(1, count // 2), seed)
    scores = selection["score"].to_numpy()
    assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("name", SELECTORS.own)
def test_identity_is_what_can_change_the_choice(name):
    selector, base = SELECTORS.find(name), SelectionConfig(selector=name)
    identity = selection_identity(selector, base, 0)
    others = {"per": "source", "num_clusters": 7, "normalise": "ratio", "epoch_1_fraction": 0.5, "num_neighbours": 3,
              "kmeans_iterations": 3}
    for field, value in others.items():
        reads = field in selector.parameters or (field == "per" and name != "full")
        changed = selection_identity(selector, base.model_copy(update={field: value}), 0)
        assert (changed != identity) is reads, field
    assert (selection_identity(selector, base, 1) != identity) is selector.takes_seed
    more = base.model_copy(update={"budget": 0.5})
    assert (selection_identity(selector, more, 0) != identity) is selector.takes_budget


def test_what_has_its_default_is_left_out_of_the_identity():
    # So a parameter that is added to a selector makes no selection stale.
    assert selection_identity(SELECTORS.find("s2l"), SelectionConfig(), 3) == {"selector": "s2l", "budget": 0.11, "seed": 3}
    assert selection_identity(SELECTORS.find("full"), SelectionConfig(), 3) == {"selector": "full"}


def test_another_version_of_a_package_is_another_selection(installed):
    source = "from s2l_ray.selectors.methods.random import Random\nclass Mine(Random):\n    name = 'mine'\nMINE = Mine()\n"
    found = []
    for version in ("1.0", "1.1"):
        installed("s2l-mine", {"selectors": {"mine": "mine_module:MINE"}}, {"mine_module": source}, version)
        mine, config = SELECTORS.find("mine"), SelectionConfig(selector="mine")
        found.append(selection_identity(mine, config, 3))
        assert metadata_of(choose(mine, make_tables(9), 2)[0].schema)["plugins"] == {"mine": f"s2l-mine {version}"}
    assert found == [{"selector": "mine", "budget": 0.11, "seed": 3, "plugins": {"mine": f"s2l-mine {version}"}}
                     for version in ("1.0", "1.1")]
    assert "plugins" not in metadata_of(choose(SELECTORS.find("random"), make_tables(9), 2)[0].schema)

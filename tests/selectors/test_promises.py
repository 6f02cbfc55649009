"""What every selector promises, whichever it is: .venv/bin/pytest tests/selectors/test_promises.py"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.run import pool_of, run_selector, selection_identity
from s2l_ray.tables.needs import PROBES, Need
from s2l_ray.tables.schemas import SELECTION, with_metadata

FRACTIONS = [0, 1 / 3, 2 / 3, 1]
SEEDS = st.integers(0, 2**31)

# Whose score says the rank. The others sample, or rank by what was already chosen.
RANKED = {"learning_percentage", "learning_percentage_approx", "high_loss", "low_loss", "least_confidence",
          "middle_perplexity", "high_learnability", "confidence_curriculum", "iterative", "external", "ifd",
          "key_part_gain", "ask_llm"}
CLUSTERED = {"s2l", "s2l_seedless", "learning_percentage", "learning_percentage_approx", "ltd"}
BINNED = {"loss_bins"}  # groups without a centroid


def vectors(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def tables(count, seed=0, equal=False):
    """Return everything that a selector may need: trajectories, further losses, embeddings and scores of `count` examples."""
    rng = np.random.default_rng(seed)
    ids = [f"e{i:05d}" for i in range(count)]
    draw = (lambda *shape: np.ones(shape)) if equal else (lambda *shape: rng.random(shape) + 0.01)
    trajectories = pa.table({
        "example_id": ids,
        "source": [f"s{i % 3}" for i in range(count)],
        "num_supervised_tokens": pa.array((draw(count) * 40).astype(np.int32) + 1),
        "losses": vectors(draw(count, len(FRACTIONS))),
        **{f"loss_{probe}": draw(count) * 5 for probe in PROBES},
    })
    points = {"points": [{"step": i, "fraction": f} for i, f in enumerate(FRACTIONS)]}
    embeddings = pa.table({"example_id": ids, "embedding": vectors(draw(count, 5))})
    return with_metadata(trajectories, points), embeddings, pa.table({"example_id": ids, "score": draw(count)})


def select(made, name, budget, seed=0, **parameters):
    selector = SELECTORS.find(name)
    config = SelectionConfig(selector=name, budget=budget, **parameters)
    trajectories, embeddings, scores = made
    return run_selector(selector, pool_of(trajectories, selector.needs, embeddings, scores), config, seed, {})


def chosen(made, name, budget, seed=0, **parameters):
    return select(made, name, budget, seed, **parameters)[0]["example_id"].to_pylist()


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", SELECTORS.names)
@given(count=st.integers(1, 60), share=st.floats(0.01, 1), clusters=st.integers(1, 8) | st.just("auto"), seed=SEEDS,
       equal=st.booleans(), by_source=st.sampled_from([{}, {"per": "source"}, {"stratify_by": "source"}]))
def test_a_selection_is_the_budget_without_repeats_and_reproducible(
    name, count, share, clusters, seed, equal, by_source
):
    made = tables(count, seed, equal)
    budget = max(1, int(share * count))
    parameters = {"num_clusters": clusters if clusters == "auto" else min(clusters, count), **by_source}
    first, facts = select(made, name, budget, seed, **parameters)
    assert first.schema.equals(SELECTION) and isinstance(facts, dict)
    ids = first["example_id"].to_pylist()
    assert len(ids) == len(set(ids)) == (count if name == "full" else budget)
    assert set(ids) <= set(made[0]["example_id"].to_pylist())
    clusters, quotas, distances = (first[column].to_pylist() for column in ("cluster", "quota", "distance"))
    if name in CLUSTERED | BINNED:
        assert [clusters.count(cluster) for cluster in clusters] == quotas
        assert set(distances) == {None} if name in BINNED else min(distances) >= 0
    else:
        assert {*clusters, *quotas, *distances} == {None}
    order = np.random.default_rng(seed).permutation(count)
    shuffled = tuple(table.take(np.roll(order, turn)) for turn, table in enumerate(made))
    assert chosen(shuffled, name, budget, seed, **parameters) == ids, "the order of the input rows must not matter"


@pytest.mark.parametrize("by_source", [{}, {"per": "source"}])
@pytest.mark.parametrize("name", SELECTORS.names)
def test_a_budget_of_the_whole_pool_takes_all(name, by_source):
    assert sorted(chosen(tables(30), name, 30, num_clusters=5, **by_source)) == [f"e{i:05d}" for i in range(30)]


@pytest.mark.parametrize("name", SELECTORS.names)
def test_a_pool_of_one_gives_it(name):
    assert chosen(tables(1), name, 1, num_clusters=1) == ["e00000"]


@pytest.mark.parametrize("name", [selector.name for selector in SELECTORS if selector.is_nested])
@settings(max_examples=10, deadline=None)
@given(count=st.integers(2, 60), shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), seed=SEEDS, equal=st.booleans())
def test_nested_selectors_keep_what_a_smaller_budget_chose(name, count, shares, seed, equal):
    made = tables(count, seed, equal)
    small, large = (max(1, int(share * count)) for share in sorted(shares))
    parameters = {"num_clusters": min(4, count)}
    assert chosen(made, name, large, seed, **parameters)[:small] == chosen(made, name, small, seed, **parameters)[:small]


@pytest.mark.parametrize("name", sorted(RANKED))
@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 60), seed=SEEDS)
def test_the_higher_score_comes_first(name, count, seed):
    selection, _ = select(tables(count, seed), name, max(1, count // 2), seed, num_clusters=min(4, count))
    scores = selection["score"].to_numpy()
    assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("name", SELECTORS.names)
def test_a_selector_without_a_seed_gives_one_choice_for_every_seed(name):
    made = tables(40)
    differ = {tuple(chosen(made, name, 12, seed, num_clusters=4)) for seed in range(6)}
    if not SELECTORS.find(name).takes_seed:
        assert len(differ) == 1
    elif name != "facility_location":  # which draws above 20,000 examples only
        assert len(differ) > 1


@pytest.mark.parametrize("name", SELECTORS.names)
def test_a_selector_is_described_and_names_real_fields_and_tables(name):
    selector = SELECTORS.find(name)
    assert type(selector).__doc__
    assert selector.parameters <= set(SelectionConfig.model_fields) - {"selector", "budget", "seed", "per", "controls"}
    assert selector.needs <= set(Need)


@pytest.mark.parametrize("name", SELECTORS.names)
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

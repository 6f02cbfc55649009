"""The classifier in rounds, where one knows what is hard: .venv/bin/pytest tests/selectors/test_iterative.py"""

import numpy as np
import pyarrow as pa

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.iterative import Iterative
from s2l_ray.selectors.pool import Pool


def select(losses_N, embeddings_ND, budget, seed=0, **parameters):
    rows = np.asarray(embeddings_ND, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    losses = np.asarray(losses_N, dtype=np.float32)[:, None]
    pool = Pool(pa.array([f"e{i:05d}" for i in range(len(rows))]), losses_NC=losses, embeddings_ND=rows)
    return Iterative().select(pool, budget, SelectionConfig(**parameters), np.random.default_rng(seed))


def two_topics(count=200, seed=0):
    """Return (is_hard, losses, embeddings): the hard half points east, the easy half north."""
    rng = np.random.default_rng(seed)
    is_hard = np.arange(count) % 2 == 0
    centres = np.where(is_hard[:, None], [[1.0, 0, 0]], [[0, 1.0, 0]])
    return is_hard, np.where(is_hard, 5.0, 1.0) + rng.random(count), centres + rng.normal(0, 0.2, (count, 3))


def test_the_hard_topic_is_found_from_a_few_labels():
    is_hard, losses, embeddings = two_topics()
    choice = select(losses, embeddings, 80, num_clusters=8)
    assert is_hard[choice.positions_B].mean() > 0.95
    assert choice.facts["num_labelled"] == 32  # a seed of 8 and 3 rounds of 8
    assert 0 < choice.facts["num_known_hard"] < 32


def test_an_example_is_judged_by_its_embedding_and_not_by_its_own_loss():
    # One example among the easy ones has a hard one's loss, and is not in the seed: its score stays low.
    is_hard, losses, embeddings = two_topics()
    odd = 1
    losses[odd] = 99
    choice = select(losses, embeddings, 200, num_clusters=8)
    place = choice.positions_B.tolist().index(odd)
    assert not is_hard[odd] and place >= 80


def test_scores_are_half_probability_half_similarity():
    _, losses, embeddings = two_topics()
    scores = select(losses, embeddings, 200, num_clusters=8).scores_B
    assert 0.5 < scores[0] < 1.0 + 1e-6 and scores[-1] < 0.5


def test_equal_losses_know_nothing_hard_and_give_the_first_ids():
    embeddings = np.random.default_rng(0).random((20, 3))
    choice = select(np.ones(20), embeddings, 4, num_clusters=5)
    assert choice.positions_B.tolist() == [0, 1, 2, 3]
    assert choice.scores_B.tolist() == [0] * 4 and choice.facts["num_known_hard"] == 0


def test_a_seed_of_one_is_its_own_median_and_the_rounds_go_on_by_id():
    # The seed is row 2 (the middle direction), loss 1. The rounds label 0, 1 and 3: only 3 is harder, and points north.
    embeddings = [[1, 0.3], [1, 0.4], [1, 1], [0, 1], [0.01, 1], [1, 0.1]]
    choice = select([0, 1, 1, 2, 9, 9], embeddings, 2, num_clusters=1)
    assert choice.facts == {"num_labelled": 4, "num_known_hard": 1}
    assert choice.positions_B.tolist() == [3, 4]


def test_a_round_never_labels_more_than_there_are():
    is_hard, losses, embeddings = two_topics(20)
    choice = select(losses, embeddings, 10, num_clusters=20)
    assert choice.facts == {"num_labelled": 20, "num_known_hard": 10}
    assert is_hard[choice.positions_B].all()

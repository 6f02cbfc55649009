"""IterSelectTune with losses for labels: a classifier of hard examples, trained in rounds on few of them.

Song et al., "IterSelectTune: An Iterative Training Framework for Efficient Instruction-Tuning Data Selection",
arXiv 2410.13464.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need

_NUM_ROUNDS = 3
_CLASSIFIER_WEIGHT = 0.5  # the rest is the similarity's; the paper's weights are unverified
_BLOCK_ROWS = 8192


class Iterative(Selector):
    """Score = 0.5 P(hard | embedding) + 0.5 max cosine similarity to an example known to be hard.

    The paper lets GPT-4 judge the base model's answers to a k-means-diverse seed, trains a classifier of hard and easy
    on these labels, labels more of what it calls hard, and repeats. Here a loss stands for the judge: hard is a loss,
    at the first recorded point (the untouched model, where recorded), above the median of the seed. All of these are
    our choices: the seed is the example nearest to each of `num_clusters` centroids; the classifier is a logistic
    regression on the embeddings (the paper's is BERT); 3 rounds, each labelling as many as the seed, of those not yet
    labelled the likeliest to be hard; the two weights.

    As long as all labels agree, the classifier gives that label to all and a round takes the first in the pool's order.
    If nothing labelled is hard in the end (equal losses), every score is 0 and the choice is the first in that order.
    The score does not depend on the budget, so selections are nested.
    """

    name = "iterative"
    needs = frozenset({Need.TRAJECTORIES, Need.EMBEDDINGS})
    parameters = frozenset({"num_clusters", "kmeans_fit_rows", "kmeans_iterations"})
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest scores, the highest first."""
        assert pool.losses_NC is not None and pool.embeddings_ND is not None
        seed = _diverse_seed(pool.embeddings_ND, config, rng)
        first_N = pool.losses_NC[:, 0]
        hard_N = first_N > np.median(first_N[seed])
        is_labelled_N = np.zeros(len(pool), dtype=bool)
        is_labelled_N[seed] = True
        with threadpool_limits(limits=1):  # as in k-means: the same bits on every machine
            for _ in range(_NUM_ROUNDS):
                likely_N = _probabilities(pool.embeddings_ND, is_labelled_N, hard_N)
                order = np.argsort(-likely_N, kind="stable")
                is_labelled_N[order[~is_labelled_N[order]][: len(seed)]] = True
            likely_N = _probabilities(pool.embeddings_ND, is_labelled_N, hard_N)
            similar_N = _largest_cosine(pool.embeddings_ND, pool.embeddings_ND[is_labelled_N & hard_N])
        scores_N = _CLASSIFIER_WEIGHT * likely_N + (1 - _CLASSIFIER_WEIGHT) * similar_N
        choice = highest_first(scores_N, budget)
        facts = {"num_labelled": int(is_labelled_N.sum()), "num_known_hard": int((is_labelled_N & hard_N).sum())}
        return Choice(choice.positions_B, scores_B=choice.scores_B, facts=facts)


def _diverse_seed(embeddings_ND: np.ndarray, config: SelectionConfig, rng: np.random.Generator) -> np.ndarray:
    """Return the position nearest to its centroid, of each non-empty cluster."""
    found = cluster_rows(
        embeddings_ND, resolve_num_clusters(config.num_clusters, len(embeddings_ND)), rng,
        fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations,
    )
    order = np.lexsort((found.distances_N, found.labels_N))
    return order[np.unique(found.labels_N[order], return_index=True)[1]]


def _probabilities(embeddings_ND: np.ndarray, is_labelled_N: np.ndarray, hard_N: np.ndarray) -> np.ndarray:
    """Return P(hard) of every row; with labels of one class only, that class for all."""
    labels = hard_N[is_labelled_N]
    if labels.all() or not labels.any():
        return np.full(len(embeddings_ND), float(labels[0]))
    from sklearn.linear_model import LogisticRegression  # heavy

    model = LogisticRegression(max_iter=1000).fit(embeddings_ND[is_labelled_N], labels)
    return model.predict_proba(embeddings_ND)[:, 1].astype(np.float64)


def _largest_cosine(embeddings_ND: np.ndarray, known_HD: np.ndarray) -> np.ndarray:
    """Return each unit row's largest cosine similarity to the H known ones, 0 where there are none."""
    largest_N = np.zeros(len(embeddings_ND))
    if len(known_HD) == 0:
        return largest_N
    for start in range(0, len(embeddings_ND), _BLOCK_ROWS):
        block = embeddings_ND[start : start + _BLOCK_ROWS]
        largest_N[start : start + len(block)] = (block @ known_HD.T).max(axis=1)
    return largest_N


SELECTOR = Iterative()

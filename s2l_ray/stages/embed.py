"""embed: a unit-length vector for every example, by the finished proxy or another model."""

import time
from functools import partial
from typing import Any

from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.identity import model_identity
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.scoring import Pooling
from s2l_ray.stages.planning import FOR_EMBEDDING, Output, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Pool, Sizes, Work, scoring_work
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.needs import Need

_POOLING: dict[str, Pooling] = {Need.EMBEDDINGS: "mean", Need.REPRESENTATIONS: "weighted_mean"}


def outputs(planning: Planning) -> list[Output]:
    """Return the vectors that the selectors ask for; the embeddings where none asks for any."""
    return [(need, None) for need in _POOLING if need in planning.needs] or [(Need.EMBEDDINGS, None)]


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the pool's vectors or a wanted task's.

    It is named by the model, the examples as its tokenizer sees them, the batches, and how tokens count.
    """
    config, pooling = planning.recipe.embedding, _POOLING[table]
    examples = planning.artifact("examples", FOR_EMBEDDING if of is None else of)
    parents, proxy = {"examples": examples.fingerprint}, None
    identity = config.identity() | ({} if pooling == "mean" else {"pooling": pooling})
    if config.model is None:
        proxy = planning.artifact("proxy")
        parents["proxy"] = proxy.fingerprint
    else:
        identity["model"] = model_identity(config.model)
    artifact = Artifact(planning.storage, "embed", identity, parents)
    run = partial(run_embed, artifact, examples, proxy, planning.recipe, pooling)
    return Step(stage_of("embed"), artifact, run, of or (None if pooling == "mean" else table))


def work(step: Step, sizes: Sizes) -> Work:
    """Return what one pass of the model does."""
    pool = sizes.pool(FOR_EMBEDDING if step.of in (None, Need.REPRESENTATIONS) else step.of)
    return scoring_work(sizes, "embedding.model", Pool(pool.rows, pool.tokens, 0), 1, "fp32")


def run_embed(
    artifact: Artifact, examples: Artifact, proxy: Artifact | None, recipe: Recipe, pooling: Pooling
) -> dict[str, Any]:
    """Write one file of vectors for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        A vector is not finite, or the table is not one row for each example.
    """
    started = time.time()
    arguments = {"artifact": artifact, "examples": examples, "proxy": proxy, "config": recipe.embedding,
                 "pooling": pooling}
    run = run_shards("embed", artifact, examples, _embedder, arguments, recipe.resources)
    return artifact.publish(run.facts, started)


def _embedder(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.embedding import ShardEmbedder  # heavy: torch, which the driver does without

    return ShardEmbedder(**arguments)

"""embed: a unit-length vector for every example, by the finished proxy or another model."""

import time
from functools import partial
from typing import Any

from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.identity import model_identity
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import FOR_EMBEDDING, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Pool, Sizes, Work, scoring_work
from s2l_ray.storage.artifacts import Artifact


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the embeddings, named by the model, the examples as its tokenizer sees them, the batches."""
    config, examples = planning.recipe.embedding, planning.artifact("examples", FOR_EMBEDDING)
    parents, proxy = {"examples": examples.fingerprint}, None
    identity = config.identity()
    if config.model is None:
        proxy = planning.artifact("proxy")
        parents["proxy"] = proxy.fingerprint
    else:
        identity["model"] = model_identity(config.model)
    artifact = Artifact(planning.storage, "embed", identity, parents)
    return Step(stage_of("embed"), artifact, partial(run_embed, artifact, examples, proxy, planning.recipe))


def work(step: Step, sizes: Sizes) -> Work:
    """Return what one pass of the model does."""
    pool = sizes.pool(FOR_EMBEDDING)
    return scoring_work(sizes, "embedding.model", Pool(pool.rows, pool.tokens, 0), 1, "fp32")


def run_embed(artifact: Artifact, examples: Artifact, proxy: Artifact | None, recipe: Recipe) -> dict[str, Any]:
    """Write one file of embeddings for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        An embedding is not finite, or the table is not one row for each example.
    """
    started = time.time()
    arguments = {"artifact": artifact, "examples": examples, "proxy": proxy, "config": recipe.embedding}
    run = run_shards("embed", artifact, examples, _embedder, arguments, recipe.resources)
    return artifact.publish(run.facts, started)


def _embedder(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.embedding import ShardEmbedder  # heavy: torch, which the driver does without

    return ShardEmbedder(**arguments)

"""embed: a unit-length vector for every example, by the finished proxy or another model."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.batching import ExampleTable, plan_batches
from s2l_ray.modeling.embedding import mean_embeddings
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, load_model, model_identity
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.scoring import EmbeddingConfig
from s2l_ray.stages.planning import FOR_EMBEDDING, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import embeddings_schema


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


def run_embed(artifact: Artifact, examples: Artifact, proxy: Artifact | None, recipe: Recipe) -> dict[str, Any]:
    """Write one file of embeddings for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        An embedding is not finite, or the table is not one row for each example.
    """
    started = time.time()
    arguments = {"artifact": artifact, "examples": examples, "proxy": proxy, "config": recipe.embedding}
    run = run_shards("embed", artifact, examples, _ShardEmbedder, arguments, recipe.resources)
    return artifact.publish(run.facts, started)


class _ShardEmbedder:
    """Embeds shards with one model; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, artifact: Artifact, examples: Artifact, proxy: Artifact | None, config: EmbeddingConfig) -> None:
        self._artifact, self._examples, self._batch_tokens = artifact, examples, config.batch_tokens
        device = start_scoring()
        if proxy is not None:
            model = load_from(proxy)
        else:
            assert config.model is not None
            model = load_model(config.model, vocab_size=0, seed=0)
        self._model = model.to(device).eval()  # type: ignore[arg-type]

    def run(self, shard: str) -> Mapping[str, Any]:
        table = self._examples.read_table(f"examples/{shard}")
        rows = ExampleTable(table)
        spans = plan_batches(table["num_tokens"].to_numpy(), self._batch_tokens)
        vectors_ND = np.concatenate(
            [mean_embeddings(self._model, rows.batch(span, pad_id=0)).cpu().numpy() for span in spans]
        )
        if not np.isfinite(vectors_ND).all():
            raise RuntimeError(f"{shard}: an embedding is NaN or infinite: the model diverged in training")
        width = vectors_ND.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), width)
        made = pa.table([table["example_id"], vectors], schema=embeddings_schema(width))
        self._artifact.write_table(f"shards/{shard}", made)
        return {"num_rows": table.num_rows}

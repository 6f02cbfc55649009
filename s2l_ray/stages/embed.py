"""embed: a unit-length vector for every example, by the finished proxy or another model."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.artifacts import Artifact
from s2l_ray.config import EmbeddingConfig, ResourcesConfig
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.batching import ExampleTable, plan_batches
from s2l_ray.modeling.embedding import mean_embeddings
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_model, model_identity
from s2l_ray.tables import embeddings_schema
from s2l_ray.training_config import ModelConfig


def embed_artifact(config: EmbeddingConfig, proxy: Artifact, examples: Artifact) -> Artifact:
    """Name the embeddings: the model, the examples as its tokenizer sees them, and the batches."""
    identity: dict[str, Any] = {"batch_tokens": config.batch_tokens}
    parents = {"examples": examples.fingerprint}
    if config.model is None:
        parents["proxy"] = proxy.fingerprint
    else:
        identity["model"] = model_identity(config.model)
    return Artifact(examples.storage, "embed", identity, parents)


def run_embed(
    artifact: Artifact, config: EmbeddingConfig, proxy: Artifact, examples: Artifact, resources: ResourcesConfig
) -> dict[str, Any]:
    """Write one file of embeddings for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        An embedding is not finite, or the table is not one row for each example.
    """
    started = time.time()
    arguments = {"artifact": artifact, "config": config, "proxy": proxy, "examples": examples}
    run = run_shards("embed", artifact, examples, _ShardEmbedder, arguments, resources)
    facts = {"rows": {"examples": run.num_examples}, "num_shards": len(run.shards), "num_shards_reused": run.num_reused}
    return artifact.publish(facts, started)


class _ShardEmbedder:
    """Embeds shards with one model; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, artifact: Artifact, config: EmbeddingConfig, proxy: Artifact, examples: Artifact) -> None:
        self._artifact, self._examples, self._batch_tokens = artifact, examples, config.batch_tokens
        device = start_scoring()
        if config.model is None:
            with proxy.storage.local_folder(proxy.file("model")) as folder:
                model = load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)
        else:
            model = load_model(config.model, vocab_size=0, seed=0)
        self._model = model.to(device).eval()  # type: ignore[arg-type]

    def run(self, shard: str) -> Mapping[str, Any]:
        storage = self._artifact.storage
        table = storage.read_table(self._examples.file(f"examples/{shard}"))
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
        storage.write_table(self._artifact.file(f"shards/{shard}"), made)
        return {"num_rows": table.num_rows}

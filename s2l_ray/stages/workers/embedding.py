"""Embed a shard of examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.embedding import fitted_embeddings
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, load_model
from s2l_ray.recipe.scoring import EmbeddingConfig, Pooling
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import embeddings_schema


class ShardEmbedder:
    """Embeds shards with one model; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, artifact: Artifact, examples: Artifact, proxy: Artifact | None, config: EmbeddingConfig,
                 pooling: Pooling) -> None:
        self._artifact, self._examples, self._pooling = artifact, examples, pooling
        device = start_scoring()
        self._size = BatchSize(config.batch_tokens, device)
        if proxy is not None:
            model = load_from(proxy, device=device)
        else:
            assert config.model is not None
            model = load_model(config.model, vocab_size=0, seed=0, device=device)
        self._model = model.eval()

    def run(self, shard: str) -> Mapping[str, Any]:
        table = self._examples.read_table(f"examples/{shard}")
        vectors_ND = fitted_embeddings(self._model, table, self._size, self._pooling)
        if not np.isfinite(vectors_ND).all():
            raise RuntimeError(f"{shard}: an embedding is NaN or infinite: the model diverged in training")
        width = vectors_ND.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), width)
        made = pa.table([table["example_id"], vectors], schema=embeddings_schema(width))
        self._artifact.write_table(f"shards/{shard}", made)
        return {"num_rows": table.num_rows}

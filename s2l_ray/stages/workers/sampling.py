"""Sample answers to a shard of examples and judge them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.metric import Answer
from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.generation import Sampling, fitted_answers, prompt_length
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import DTYPES, load_model, load_tokenizer
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.recipe.registry import METRICS
from s2l_ray.recipe.scoring import SamplingConfig
from s2l_ray.rows.held_out import response_of
from s2l_ray.rows.originals import values
from s2l_ray.stages.gold import Gold, GoldRule, checked_by
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import SAMPLES


class ShardSampler:
    """Draws answers with seeds of the examples' own, so that who draws and what else is drawn make no difference."""

    def __init__(self, artifact: Artifact, examples: Artifact, model: ModelConfig, config: SamplingConfig,
                 data: DataConfig, gold: GoldRule, precision: Precision, seed: int) -> None:
        self._artifact, self._examples, self._config = artifact, examples, config
        self._data, self._gold, self._seed = data, gold, seed
        self._shape = str(examples.manifest()["format"])
        self._judge = METRICS.find("exact_match")
        self._tokenizer = load_tokenizer(model)
        self._model = load_model(model, vocab_size=len(self._tokenizer), seed=seed, device=start_scoring(),
                                 dtype=DTYPES[precision]).eval()

    def run(self, shard: str) -> Mapping[str, Any]:
        table = self._examples.read_table(f"examples/{shard}")
        golds = [self._gold_of(row) for row in values(self._examples.read_table(f"originals/{shard}"))]
        rows, ids, k = ExampleTable(table), table["example_id"].to_pylist(), self._config.num_samples
        asked = [place for place, gold in enumerate(golds) if gold is not None for _ in range(k)]
        prompts = [rows[place]["input_ids"][: prompt_length(rows[place]["supervised"])] for place in asked]
        seeds = [self.seed_of(self._seed, ids[place], number % k) for number, place in enumerate(asked)]
        sampling = Sampling(self._config.temperature, seeds)
        made = fitted_answers(self._model, self._tokenizer, prompts, self._config.max_new_tokens,
                              self._config.batch_size, sampling) if asked else []
        right = np.zeros(table.num_rows, dtype=np.int32)
        for place, answer in zip(asked, made, strict=True):
            gold = golds[place]
            assert gold is not None
            right[place] += int(self._judge.score(Answer(answer, "", gold.accepted[0], gold.accepted, gold.choices)))
        is_unchecked = np.array([gold is None for gold in golds], dtype=bool)
        found = [table["example_id"], pa.array([k] * table.num_rows, pa.int32()), pa.array(right, mask=is_unchecked)]
        self._artifact.write_table(f"shards/{shard}", pa.table(found, schema=SAMPLES))
        return {"num_rows": table.num_rows}

    def _gold_of(self, row: Mapping[str, Any]) -> Gold | None:
        response = response_of(row, self._shape, self._data)
        return checked_by(self._gold, row, response, self._config.gold)

    @staticmethod
    def seed_of(seed: int, example_id: str, number: int) -> int:
        """Return the seed of one of an example's answers."""
        text = f"{seed} {number} {example_id}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

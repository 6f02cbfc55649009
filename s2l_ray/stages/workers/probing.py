"""Score a shard of examples in a probe's form."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.losses import LossScorer, fitted_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, load_model, load_tokenizer
from s2l_ray.modeling.probes import judged, masked_prompt, without_prompt
from s2l_ray.recipe.model import Precision
from s2l_ray.rows.chat_messages import Reading
from s2l_ray.rows.originals import values
from s2l_ray.stages.probe import Probe
from s2l_ray.tables.needs import Need
from s2l_ray.tables.schemas import PROBE


class ShardProber:
    """Scores shards in the probe's form; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, probe: Probe, precision: Precision, reading: Reading) -> None:
        self._probe, self._reading = probe, reading
        device = start_scoring()
        self._tokenizer = load_tokenizer(probe.tokenizer)
        if probe.model is not None:
            model = load_model(probe.model, vocab_size=0, seed=0, device=device)
        else:
            assert probe.proxy is not None
            model = load_from(probe.proxy, device=device)
        self._scorer = LossScorer(model, precision)
        self._size = BatchSize(probe.recipe.trajectory.batch_tokens, device)

    def run(self, shard: str) -> Mapping[str, Any]:
        started = time.perf_counter()
        examples = self._probe.examples.read_table(f"examples/{shard}")
        probes = self._in_form(examples, shard)
        losses_N = fitted_losses([self._scorer], probes, self._size)[:, 0]
        bad = np.flatnonzero(~np.isfinite(losses_N))
        if len(bad):
            first = examples["example_id"][int(bad[0])].as_py()
            raise RuntimeError(f"{shard}: the {self._probe.name} loss of example {first!r} is {losses_N[bad[0]]}")
        counts_N = [int(np.sum(mask.values.to_numpy(zero_copy_only=False))) for mask in probes["supervised"]]
        made = pa.table([examples["example_id"], pa.array(counts_N, pa.int32()), losses_N], schema=PROBE)
        self._probe.artifact.write_table(f"shards/{shard}", made)
        num_tokens = int(np.sum(probes["input_ids"].combine_chunks().value_lengths().to_numpy()))
        return {"num_tokens": num_tokens, "model_s": time.perf_counter() - started}

    def _in_form(self, examples: pa.Table, shard: str) -> pa.Table:
        """Return the shard's input_ids and supervised in the probe's form, row by row."""
        probe, recipe = self._probe, self._probe.recipe
        if probe.name == Need.WITH_PROMPT:
            return examples.select(["input_ids", "supervised"])
        if probe.name == Need.WITHOUT_PROMPT:
            return without_prompt(examples, self._tokenizer)
        originals = probe.examples.read_table(f"originals/{shard}")
        assert originals["example_id"].equals(examples["example_id"]), shard
        conversations = [self._reading.conversation(row) for row in values(originals)]
        if probe.name == Need.JUDGE:
            return judged(conversations, recipe.probe, recipe.data.max_length, self._tokenizer)
        counts_N = examples["num_supervised_tokens"].to_numpy()
        return masked_prompt(conversations, counts_N, recipe.data, self._tokenizer)

"""probe: one further loss of every example, in another form or under another model, where a selector asks for it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.artifacts import Artifact
from s2l_ray.config import DataConfig, ProbeConfig, Recipe, ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_model, load_tokenizer, model_identity, tokenizer_identity
from s2l_ray.modeling.probes import judged, masked_prompt, without_prompt
from s2l_ray.modeling.tokenization import needs_chat_template
from s2l_ray.rows.formats import to_conversation
from s2l_ray.rows.originals import values
from s2l_ray.tables import PROBE
from s2l_ray.training_config import ModelConfig, TrajectoryConfig


@dataclass(frozen=True)
class ProbePlan:
    """One probe: what it reads and how it scores."""

    name: str
    artifact: Artifact
    config: ProbeConfig
    data: DataConfig
    trajectory: TrajectoryConfig
    """Its precision and batch_tokens hold for probes too."""
    model: ModelConfig | None
    """The model as it is; none means the trained proxy."""
    tokenizer: ModelConfig
    proxy: Artifact
    examples: Artifact
    row_format: str


def model_of_probe(recipe: Recipe, name: str) -> ModelConfig | None:
    """Return the model whose loss a probe is, as it is; none means the trained proxy."""
    if name == "judge" and recipe.probe.judge is not None:
        return recipe.probe.judge
    return recipe.proxy.model if recipe.probe.point == "initial" else None


def plan_probe(recipe: Recipe, name: str, proxy: Artifact, examples: Artifact, row_format: str) -> ProbePlan:
    """Name a probe's table: the form, the model, the examples, and the arithmetic of scoring.

    Raises
    ------
    InputError
        It would be the loss of untrained, fresh weights.
    """
    config, trajectory, model = recipe.probe, recipe.trajectory, model_of_probe(recipe, name)
    tokenizer = recipe.proxy.model if model is None else model
    if model is not None and model.config is not None:
        raise InputError(
            "probe.point=initial asks a model of fresh weights, which knows nothing yet: set probe.point=final, or "
            "give pretrained weights (proxy.model.path, or probe.judge.path for ask_llm)"
        )
    if name == "judge" and config.question_style == "chat" and needs_chat_template(load_tokenizer(tokenizer)):
        raise InputError(f"tokenizer {tokenizer.tokenizer_path!r} has no chat template: use probe.question_style=plain")
    identity: dict[str, Any] = {
        "probe": name, "precision": trajectory.precision, "batch_tokens": trajectory.batch_tokens
    }
    parents = {"examples": examples.fingerprint}
    if name == "judge":
        asked = config.identity()
        identity |= {key: asked[key] for key in ("question", "answer", "question_style")}
        identity |= tokenizer_identity(tokenizer)
    if model is None:
        parents["proxy"] = proxy.fingerprint
    else:
        identity["model"] = model_identity(model)
    artifact = Artifact(examples.storage, "probe", identity, parents)
    return ProbePlan(name, artifact, config, recipe.data, trajectory, model, tokenizer, proxy, examples, row_format)


def run_probe(plan: ProbePlan, resources: ResourcesConfig) -> dict[str, Any]:
    """Write one file of losses for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        A loss is not finite, or the table is not one row for each example.
    """
    started, artifact = time.time(), plan.artifact
    run = run_shards(f"probe {plan.name}", artifact, plan.examples, _ShardProber, {"plan": plan}, resources)
    facts = {
        "probe": plan.name, "rows": {"examples": run.num_examples},
        "num_shards": len(run.shards), "num_shards_reused": run.num_reused,
        "num_tokens_scored": sum(row["num_tokens"] for row in run.rows),
        "model_s": round(sum(row["model_s"] for row in run.rows), 3),
    }
    return artifact.publish(facts, started)


class _ShardProber:
    """Scores shards in the probe's form; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, plan: ProbePlan) -> None:
        self._plan, self._storage = plan, plan.artifact.storage
        device = start_scoring()
        self._tokenizer = load_tokenizer(plan.tokenizer)
        if plan.model is not None:
            model = load_model(plan.model, vocab_size=0, seed=0)
        else:
            with plan.proxy.storage.local_folder(plan.proxy.file("model")) as folder:
                model = load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)
        self._scorer = LossScorer(model.to(device), plan.trajectory.precision)  # type: ignore[arg-type]

    def run(self, shard: str) -> Mapping[str, Any]:
        started = time.perf_counter()
        examples = self._storage.read_table(self._plan.examples.file(f"examples/{shard}"))
        probes = self._in_form(examples, shard)
        losses_N = table_losses([self._scorer], probes, self._plan.trajectory.batch_tokens)[:, 0]
        bad = np.flatnonzero(~np.isfinite(losses_N))
        if len(bad):
            first = examples["example_id"][int(bad[0])].as_py()
            raise RuntimeError(f"{shard}: the {self._plan.name} loss of example {first!r} is {losses_N[bad[0]]}")
        counts_N = [int(np.sum(mask.values.to_numpy(zero_copy_only=False))) for mask in probes["supervised"]]
        made = pa.table([examples["example_id"], pa.array(counts_N, pa.int32()), losses_N], schema=PROBE)
        self._storage.write_table(self._plan.artifact.file(f"shards/{shard}"), made)
        num_tokens = int(np.sum(probes["input_ids"].combine_chunks().value_lengths().to_numpy()))
        return {"num_tokens": num_tokens, "model_s": time.perf_counter() - started}

    def _in_form(self, examples: pa.Table, shard: str) -> pa.Table:
        """Return the shard's input_ids and supervised in the probe's form, row by row."""
        plan = self._plan
        if plan.name == "with_prompt":
            return examples.select(["input_ids", "supervised"])
        if plan.name == "without_prompt":
            return without_prompt(examples, self._tokenizer)
        originals = self._storage.read_table(plan.examples.file(f"originals/{shard}"))
        assert originals["example_id"].equals(examples["example_id"]), shard
        conversations = [to_conversation(row, plan.row_format, plan.data.columns) for row in values(originals)]
        if plan.name == "judge":
            return judged(conversations, plan.config, plan.data.max_length, self._tokenizer)
        counts_N = examples["num_supervised_tokens"].to_numpy()
        return masked_prompt(conversations, counts_N, plan.data, self._tokenizer)

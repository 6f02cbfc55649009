"""probe: one further loss of every example, in another form or under another model, where a selector asks for it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, load_model, load_tokenizer, model_identity, tokenizer_identity
from s2l_ray.modeling.probes import judged, masked_prompt, without_prompt
from s2l_ray.modeling.tokenization import needs_chat_template
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.chat_messages import Reading
from s2l_ray.rows.originals import values
from s2l_ray.stages.planning import Output, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.needs import PROBES, Need
from s2l_ray.tables.schemas import PROBE


@dataclass(frozen=True)
class Probe:
    """One probe: what it reads and how it scores."""

    name: str
    artifact: Artifact
    recipe: Recipe
    model: ModelConfig | None
    """The model as it is; none means the trained proxy."""
    proxy: Artifact | None
    examples: Artifact

    @property
    def tokenizer(self) -> ModelConfig:
        """Return the model whose tokenizer it sees through."""
        return self.model or self.recipe.proxy.model


def outputs(planning: Planning) -> list[Output]:
    """Return the probes that the recipe's selectors ask for.

    Raises
    ------
    InputError
        None asks for any.
    """
    found: list[Output] = [(probe, None) for probe in PROBES if probe in planning.needs]
    if not found:
        raise InputError(f"no selector of this recipe ({', '.join(planning.arms)}) asks for a probe: choose one that "
                         "does (s2l selectors)")
    return found


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of a probe's table, named by the form, the model, the examples, and the arithmetic of scoring.

    Raises
    ------
    InputError
        It would be the loss of untrained, fresh weights, or the judge has no chat template that is asked for.
    """
    recipe, examples = planning.recipe, planning.artifact("examples")
    config, model = recipe.probe, _model_of(recipe, table)
    identity: dict[str, Any] = {"probe": str(table), **recipe.trajectory.scoring_identity()}
    parents, proxy = {"examples": examples.fingerprint}, None
    if model is None:
        proxy = planning.artifact("proxy")
        parents["proxy"] = proxy.fingerprint
    else:
        identity["model"] = model_identity(model)
    if table == Need.JUDGE:
        tokenizer = model or recipe.proxy.model
        if config.question_style == "chat" and needs_chat_template(load_tokenizer(tokenizer)):
            raise InputError(f"tokenizer {tokenizer.tokenizer_path!r} has no chat template: use "
                             "probe.question_style=plain")
        asked = config.identity()
        identity |= {key: asked[key] for key in ("question", "answer", "question_style") if key in asked}
        identity |= tokenizer_identity(tokenizer)
    artifact = Artifact(planning.storage, "probe", identity, parents)
    probe = Probe(str(table), artifact, recipe, model, proxy, examples)
    return Step(stage_of("probe"), artifact, partial(run_probe, probe), probe.name)


def _model_of(recipe: Recipe, name: str) -> ModelConfig | None:
    """Return the model whose loss a probe is, as it is; none means the trained proxy."""
    model = recipe.proxy.model if recipe.probe.point == "initial" else None
    if name == Need.JUDGE and recipe.probe.judge is not None:
        model = recipe.probe.judge
    if model is not None and model.config is not None:
        raise InputError(
            "probe.point=initial asks a model of fresh weights, which knows nothing yet: set probe.point=final, or "
            "give pretrained weights (proxy.model.path, or probe.judge.path for ask_llm)"
        )
    return model


def run_probe(probe: Probe) -> dict[str, Any]:
    """Write one file of losses for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        A loss is not finite, or the table is not one row for each example.
    """
    started, artifact, resources = time.time(), probe.artifact, probe.recipe.resources
    precision = settle_precision(artifact, probe.recipe.trajectory.precision, resources)
    arguments = {"probe": probe, "precision": precision, "reading": Reading.recorded(probe.examples.manifest())}
    run = run_shards(f"probe {probe.name}", artifact, probe.examples, _ShardProber, arguments, resources)
    facts = {
        "probe": probe.name, **run.facts, "precision": precision,
        "num_tokens_scored": sum(row["num_tokens"] for row in run.rows),
        "model_s": round(sum(row["model_s"] for row in run.rows), 3),
    }
    return artifact.publish(facts, started)


class _ShardProber:
    """Scores shards in the probe's form; batches are fixed by the shard, so anybody writes the same bytes."""

    def __init__(self, probe: Probe, precision: Precision, reading: Reading) -> None:
        self._probe, self._reading = probe, reading
        device = start_scoring()
        self._tokenizer = load_tokenizer(probe.tokenizer)
        if probe.model is not None:
            model = load_model(probe.model, vocab_size=0, seed=0)
        else:
            assert probe.proxy is not None
            model = load_from(probe.proxy)
        self._scorer = LossScorer(model.to(device), precision)  # type: ignore[arg-type]

    def run(self, shard: str) -> Mapping[str, Any]:
        started = time.perf_counter()
        examples = self._probe.examples.read_table(f"examples/{shard}")
        probes = self._in_form(examples, shard)
        losses_N = table_losses([self._scorer], probes, self._probe.recipe.trajectory.batch_tokens)[:, 0]
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

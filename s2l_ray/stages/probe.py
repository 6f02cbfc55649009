"""probe: one further loss of every example, in another form or under another model, where a selector asks for it."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.checkpoints import is_checkpoint
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.chat_messages import Reading
from s2l_ray.stages.planning import Output, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Sizes, Work, scoring_work
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.needs import PROBES, Need


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
        It would be the loss of untrained, fresh weights.
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
        asked = config.identity()
        identity |= {key: asked[key] for key in ("question", "answer", "question_style") if key in asked}
        identity |= tokenizer_identity(tokenizer)
    artifact = Artifact(planning.storage, "probe", identity, parents)
    probe = Probe(str(table), artifact, recipe, model, proxy, examples)
    return Step(stage_of("probe"), artifact, partial(run_probe, probe), probe.name, partial(_check_template, probe))


def work(step: Step, sizes: Sizes) -> Work:
    """Return what one pass over the examples in the probe's form does, taken as long as they are."""
    key = "probe.judge" if step.of == Need.JUDGE else "proxy.model"
    return scoring_work(sizes, key, sizes.pool(None), 1, sizes.recipe.trajectory.precision)


def _check_template(probe: Probe) -> None:
    """Refuse a judge that is to be asked in chat style and has no chat template."""
    if probe.name != Need.JUDGE or probe.recipe.probe.question_style != "chat":
        return
    from s2l_ray.modeling.models import load_tokenizer  # heavy: transformers, as the next
    from s2l_ray.modeling.tokenization import needs_chat_template

    if needs_chat_template(load_tokenizer(probe.tokenizer)):
        raise InputError(f"tokenizer {probe.tokenizer.tokenizer_path!r} has no chat template: use "
                         "probe.question_style=plain")


def _model_of(recipe: Recipe, name: str) -> ModelConfig | None:
    """Return the model whose loss a probe is, as it is; none means the trained proxy."""
    model = recipe.proxy.model if recipe.probe.point == "initial" else None
    if name == Need.JUDGE and recipe.probe.judge is not None:
        model = recipe.probe.judge
    if model is recipe.proxy.model and is_checkpoint(model, recipe.trajectory.checkpoints):
        raise InputError(
            f"probe.point=initial asks the model from before the training, and proxy.model.path={model.path!r} is a "
            "checkpoint of it: set proxy.model.path to the model that it began with, or probe.point=final"
        )
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
    run = run_shards(f"probe {probe.name}", artifact, probe.examples, _prober, arguments, resources)
    facts = {
        "probe": probe.name, **run.facts, "precision": precision,
        "num_tokens_scored": sum(row["num_tokens"] for row in run.rows),
        "model_s": round(sum(row["model_s"] for row in run.rows), 3),
    }
    return artifact.publish(facts, started)


def _prober(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.probing import ShardProber  # heavy: torch, which the driver does without

    return ShardProber(**arguments)

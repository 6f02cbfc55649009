"""sample: how many of a model's sampled answers to each example are right, where a selector asks for it."""

import itertools
import time
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.precision import answering_precision, settle_precision
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.identity import model_identity
from s2l_ray.progress.notes import note
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.held_out import held_out_rows
from s2l_ray.rows.hub import scan_pool
from s2l_ray.stages.gold import GoldRule, checked_by, find_rule
from s2l_ray.stages.planning import FOR_SAMPLING, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import ANSWERING, Sizes, Work, loaded_bytes
from s2l_ray.storage.artifacts import Artifact

_LOOKED_AT = 1000
"""Rows that tell how right answers are read."""


@dataclass(frozen=True)
class SamplePlan:
    """What is asked of which model."""

    artifact: Artifact
    recipe: Recipe
    examples: Artifact
    """The pool as the model's tokenizer sees it."""

    @cached_property
    def gold(self) -> GoldRule:
        """Return how the right answers of the pool's rows are read, found by a look at the first of them.

        Raises
        ------
        InputError
            None of them has an answer that can be checked.
        """
        data, config = self.recipe.data, self.recipe.sampling
        scans = scan_pool(self.artifact.storage, data)
        first = list(itertools.islice(held_out_rows(scans, find_shape(scans, data), data), _LOOKED_AT))
        rows = [(row, response) for _, row, response in first]
        rule = find_rule(rows, config.gold, config.answer_column)
        if not any(checked_by(rule, row, response, config.gold) for row, response in rows):
            raise InputError(f"pass_rate samples answers and checks them, and none of the pool's first {len(rows):,} "
                             "rows has a final answer to check by: name the column that has it with "
                             "sampling.answer_column, say how it is written with sampling.gold, or take another "
                             "selector")
        return rule


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the pass rates, named by the model, the examples, and how answers are drawn and read.

    Raises
    ------
    InputError
        The model would be one of fresh weights.
    """
    recipe = planning.recipe
    model = recipe.sampling_model
    if model.config is not None:
        raise InputError("pass_rate asks the target for answers, and its weights are fresh, so it knows none: give "
                         "pretrained weights (target.model.path), or another model as sampling.model.path")
    examples = planning.artifact("examples", FOR_SAMPLING)
    identity = {**recipe.sampling.identity(), **recipe.evaluation.identity_of("precision"), "seed": recipe.seed,
                "model": model_identity(model)}
    artifact = Artifact(planning.storage, "sample", identity, {"examples": examples.fingerprint})
    found = SamplePlan(artifact, recipe, examples)
    return Step(stage_of("sample"), artifact, partial(run_sample, found), check=lambda: _say(found.gold))


def _say(rule: GoldRule) -> None:
    note(f"sample: {rule.description}")


def work(step: Step, sizes: Sizes) -> Work:
    """Return what the answers take, every one as long as it may be."""
    config, pool = sizes.recipe.sampling, sizes.pool(FOR_SAMPLING)
    size = sizes.model("sampling.model" if config.model else "target.model")
    prompts = config.num_samples * pool.rows * (pool.tokens - pool.supervised)
    answers = config.num_samples * pool.rows * config.max_new_tokens
    operations = size.forward_operations(prompts, config.num_samples * pool.rows, pool.tokens)
    operations += ANSWERING * size.forward_operations(answers, answers, pool.tokens)
    precision = sizes.settle(answering_precision(sizes.recipe.evaluation.precision, sizes.recipe.resources))
    return Work(pool.rows, prompts + answers, None, operations, precision, loaded_bytes(size, precision), size.weights)


def run_sample(plan: SamplePlan) -> dict[str, Any]:
    """Write `shards/` of `tables.schemas.SAMPLES`; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        The table is not one row for each example.
    """
    started, artifact, recipe = time.time(), plan.artifact, plan.recipe
    asked = answering_precision(recipe.evaluation.precision, recipe.resources)
    precision = settle_precision(artifact, asked, recipe.resources)
    arguments = {"artifact": artifact, "examples": plan.examples, "model": recipe.sampling_model,
                 "config": recipe.sampling, "data": recipe.data, "gold": plan.gold, "precision": precision,
                 "seed": recipe.seed}
    run = run_shards("sample", artifact, plan.examples, _sampler, arguments, recipe.resources)
    counts = [artifact.read_table(f"shards/{shard}", ["num_right"])["num_right"].null_count for shard in run.shards]
    if sum(counts):
        note(f"sample: {sum(counts):,} of {run.num_examples:,} examples have no final answer to check by, so they are "
             "no candidates for pass_rate")
    return artifact.publish({**run.facts, "precision": precision, "num_unchecked": sum(counts),
                             "gold": f"{plan.gold.preset} of {plan.gold.column}"}, started)


def _sampler(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.sampling import ShardSampler  # heavy: torch, which the driver does without

    return ShardSampler(**arguments)

"""What a step has to compute and to hold, known before it runs: tokens, steps, operations, bytes of a worker.

A stage's module says it in a function `work(step, sizes)`; of one that has none, nothing is estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s2l_ray.recipe.model import AskedPrecision, Precision
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.scoring import CPU_BATCH_TOKENS
from s2l_ray.recipe.training import TrainingConfig
from s2l_ray.selectors.run import resolve_budget
from s2l_ray.stages.planning import FOR_TARGET

if TYPE_CHECKING:
    from s2l_ray.modeling.size import ModelSize  # heavy: torch, which planning does without

ANSWERING = 8
"""An answer's tokens are made one after another: about so many times slower, an operation, than a prompt is read."""
_FROZEN_BYTES = {"nf4": 0.55, "int8": 1.05}  # a weight, with its scales
_ACTIVATION_BYTES = 34  # a token, layer and number of the width, in 16 bits (arXiv 2205.05198, equation 2)


@dataclass(frozen=True)
class Pool:
    """Rows as a tokenizer sees them: how many, and the mean tokens of one."""

    rows: int
    tokens: float
    supervised: float

    def part(self, rows: int) -> "Pool":
        """Return so many of them."""
        return Pool(rows, self.tokens, self.supervised)


@dataclass(frozen=True)
class Work:
    """What a step does, all its workers together; bytes are those of one worker."""

    rows: int
    tokens: float = 0
    steps: int | None = None
    operations: float = 0
    precision: Precision = "fp32"
    bytes: float = 0
    weights: int = 0
    """Of the model that it runs; 0 where it runs none."""


@dataclass(frozen=True)
class Sizes:
    """What is known of a recipe before it runs."""

    recipe: Recipe
    auto: Precision
    """What `precision: auto` comes to where it will run."""
    pools: Mapping[str | None, Pool]
    """Of examples, by what their step is called."""
    models: Mapping[str, "ModelSize"] = field(default_factory=dict)
    """By their key in the recipe."""

    def pool(self, of: str | None) -> Pool:
        """Return the examples of that name, which are the pool's where they have no step of their own."""
        return self.pools.get(of, self.pools[None])

    def model(self, key: str) -> "ModelSize":
        """Return a model's size, the proxy's where the recipe names no other."""
        return self.models.get(key, self.models["proxy.model"])

    def settle(self, asked: AskedPrecision) -> Precision:
        """Return the precision that is asked for, or what auto comes to."""
        return self.auto if asked == "auto" else asked

    def selected(self, arm: str | None) -> Pool:
        """Return an arm's selection, taken as like the pool."""
        assert arm is not None
        pool = self.pool(FOR_TARGET)
        return pool.part(resolve_budget(self.recipe.arms[arm].budget, pool.rows)
                         if SELECTORS.find(arm).takes_budget else pool.rows)


def training_work(sizes: Sizes, key: str, config: TrainingConfig, pool: Pool, steps: int) -> Work:
    """Return what a training on a pool does in so many steps."""
    size, precision, resources = sizes.model(key), sizes.settle(config.precision), sizes.recipe.resources
    examples = steps * config.global_batch_size
    operations = size.training_operations(examples * pool.tokens, examples * pool.supervised, pool.tokens,
                                          recomputes=config.gradient_checkpointing)
    least = 1 if resources.use_gpu else config.unmeasured_micro_batch(resources.min_workers)
    micro = least if config.micro_batch_size == "auto" else config.micro_batch_size
    held = state_bytes(config, size, resources.min_workers, precision)
    alive = activation_bytes(config, size, micro * sizes.recipe.data.max_length, precision)
    return Work(pool.rows, examples * pool.tokens, steps, operations, precision, held + alive, size.weights)


def scoring_work(sizes: Sizes, key: str, pool: Pool, passes: int, asked: AskedPrecision) -> Work:
    """Return what so many passes of a model over a pool do."""
    size, precision = sizes.model(key), sizes.settle(asked)
    tokens = passes * pool.rows * pool.tokens
    operations = size.forward_operations(tokens, passes * pool.rows * pool.supervised, pool.tokens)
    return Work(pool.rows, tokens, None, operations, precision, loaded_bytes(size, precision), size.weights)


def loaded_bytes(size: "ModelSize", precision: Precision) -> float:
    """Return the bytes of a model that only reads: its weights, and one layer's activations of a batch."""
    each = 2 if precision == "bf16" else 4
    return each * (size.weights + CPU_BATCH_TOKENS * size.width * _ACTIVATION_BYTES / 2)


def state_bytes(config: TrainingConfig, size: "ModelSize", num_workers: int, precision: Precision) -> float:
    """Return the bytes that a training worker holds between steps: weights, gradients, AdamW's two moments.

    DDP keeps weights in fp32, and workers reduce a copy of the gradients. DeepSpeed's bf16 keeps weights and gradients
    in 16 bits and an fp32 copy of the weights beside the moments; ZeRO shares out the optimizer's from stage 1, the
    gradients from 2, the weights from 3 (arXiv 1910.02054).
    """
    stage, is_half = (config.zero.stage, precision == "bf16") if config.zero else (0, False)
    weight, gradient, moments = (2, 2, 12) if is_half else (4, 4, 8)
    if config.zero is None and num_workers > 1:
        gradient += 4
    shared = [num_workers if stage >= least else 1 for least in (3, 2, 1)]
    trained = sum(part / of for part, of in zip((weight, gradient, moments), shared, strict=True)) * size.trained
    if not size.adapters:
        return trained
    each = _FROZEN_BYTES[config.quantize] if config.quantize else (2 if precision == "bf16" else 4)
    return trained + each * size.weights / shared[0]


def activation_bytes(config: TrainingConfig, size: "ModelSize", num_tokens: int, precision: Precision) -> float:
    """Return the bytes that the way back needs of a micro-batch; recomputed: each layer's input, and one whole."""
    width = (1 if precision == "bf16" else 2) * size.width * num_tokens
    layers = 2 * size.layers + _ACTIVATION_BYTES if config.gradient_checkpointing else size.layers * _ACTIVATION_BYTES
    return float(width * layers)

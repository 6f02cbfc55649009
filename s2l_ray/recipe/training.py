"""The parts of the recipe about training: the proxy and the target."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.lora import LoraConfig, Quantized
from s2l_ray.recipe.model import AskedPrecision, ModelConfig
from s2l_ray.recipe.settings import WHERE, Count, Fraction, Section, Seed

Order = Literal["shuffled", "as_selected", "easy_first", "hard_first", "cluster_round_robin"]
_CPU_MICRO_BATCH = 4


class Zero(NamedTuple):
    """DeepSpeed's ZeRO."""

    stage: int
    offload_optimizer: bool


class TrainingConfig(Section):
    """Supervised fine-tuning of one causal model; the same for proxy and target."""

    model: ModelConfig
    """The model to fine-tune."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training examples; give this or max_steps."""
    max_steps: Count | None = None
    """Optimizer steps; give this or epochs. The paper compares selections at equal steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate of AdamW."""
    lr_schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate over training."""
    warmup_fraction: Fraction = 0.03
    """Share of the steps over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    global_batch_size: Count = 128
    """Examples in one optimizer step, over all workers."""
    micro_batch_size: Annotated[Count | Literal["auto"], WHERE] = "auto"
    """Examples in one forward pass of one worker; auto is what the GPU has memory for, 4 on CPUs and under ZeRO-3."""
    packing: Annotated[bool, WHERE] = False
    """Put several examples in a row where one would be padded, kept apart: worth it from about 16 in a micro-batch."""
    precision: AskedPrecision = "auto"
    """Arithmetic of forward and backward pass (weights stay fp32); auto is bf16 where it is faster."""
    gradient_checkpointing: Annotated[bool, WHERE] = False
    """Recompute activations in the backward pass: less memory, more time."""
    num_checkpoints: Annotated[int, Field(ge=0), WHERE] = 4
    """Resume checkpoints (with optimizer state) spread evenly over training; only the newest is kept."""

    lora: LoraConfig | None = None
    """Train adapters beside the frozen weights, and keep these alone; null trains the weights themselves."""
    quantize: Quantized | None = None
    """Hold the frozen weights in 4 (nf4) or 8 bits (int8) while adapters are trained: needs `lora`."""

    @model_validator(mode="after")
    def _adapters_have_a_base(self) -> Self:
        if self.lora is not None and self.model.path is None:
            raise ValueError("lora adapts pretrained weights, and model.config makes fresh ones: give model.path, or "
                             "set lora to null")
        if self.quantize is not None and self.lora is None:
            raise ValueError(f"quantize={self.quantize} freezes the weights, so nothing would be trained: set lora "
                             "too, for example lora={rank: 16}")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(f"give exactly one of epochs (now {self.epochs}) and max_steps (now {self.max_steps})")
        return self

    def micro_batch_up_to(self, bound: int, num_workers: int) -> int:
        """Return the largest micro-batch up to a bound that cuts what a worker has of a step into equal parts."""
        whole = self.global_batch_size // num_workers
        return next(part for part in range(min(whole, bound), 0, -1) if whole % part == 0)

    def unmeasured_micro_batch(self, num_workers: int) -> int:
        """Return the micro-batch that is asked for; where that is auto, the one of CPUs."""
        if self.micro_batch_size == "auto":
            return self.micro_batch_up_to(_CPU_MICRO_BATCH, num_workers)
        return self.micro_batch_size

    @property
    def zero(self) -> Zero | None:
        """Return how DeepSpeed shards it; None where DDP runs it."""
        return None

    @property
    def shuffles(self) -> bool:
        """Tell whether the order of examples is drawn anew in each epoch."""
        return True


class ProxyConfig(TrainingConfig):
    """The small model whose training the loss trajectories are taken from."""


class TargetConfig(TrainingConfig):
    """The model you want in the end, fine-tuned with DeepSpeed on the selection."""

    seed: Seed | None = None
    """Seed of the order of examples and of fresh weights; null takes the recipe's seed."""
    order: Order = "shuffled"
    """Examples drawn anew each epoch, by rank, by the mean loss of their trajectory, or from its clusters in turn."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """DeepSpeed ZeRO stage: what is sharded over workers (0 nothing, 1 optimizer, 2 gradients, 3 weights)."""
    offload_optimizer: Annotated[bool, WHERE] = False
    """Keep optimizer state in CPU memory (GPUs only, ZeRO 1 to 3)."""

    @model_validator(mode="after")
    def _offload_needs_sharding(self) -> Self:
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3, not 0")
        if self.quantize is not None and self.zero_stage == 3:
            raise ValueError(f"zero_stage=3 cannot share out weights in {self.quantize}: set zero_stage to 2 or less, "
                             "or quantize to null")
        return self

    @property
    def shuffles(self) -> bool:
        """Tell whether the order of examples is drawn anew in each epoch."""
        return self.order == "shuffled"

    @property
    def zero(self) -> Zero:
        """Return how DeepSpeed shards it."""
        return Zero(self.zero_stage, self.offload_optimizer)

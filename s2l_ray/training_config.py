"""The parts of the recipe that name models and their training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.section import WHERE, Count, Fraction, Section, Seed

Precision = Literal["fp32", "bf16"]
AskedPrecision = Literal["auto", "fp32", "bf16"]


class ModelConfig(Section):
    """A causal language model: pretrained weights, or fresh ones from a config."""

    path: Annotated[str | None, WHERE] = None
    """Hub name or local folder of the pretrained model."""
    revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch on the hub; null takes the newest."""
    config: dict[str, Any] | None = None
    """Instead of `path`: model_type and its fields, for freshly initialised weights (seeded)."""
    tokenizer: Annotated[str | None, WHERE] = None
    """Hub name or local folder of the tokenizer; null takes the model's."""
    eos_token: str | None = None
    """End-of-sequence token, for a tokenizer that names none itself; for example <|endoftext|>."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; off unless you trust its authors."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of path (pretrained weights) and config (fresh weights)")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config needs model_type, for example {model_type: gpt_neox, hidden_size: 128}")
        if self.config is not None and self.tokenizer is None:
            raise ValueError("a fresh config brings no tokenizer: set tokenizer to a hub name or a folder")
        return self

    @property
    def tokenizer_path(self) -> str:
        """Return where the tokenizer comes from."""
        origin = self.tokenizer or self.path
        assert origin is not None
        return origin


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
    micro_batch_size: Annotated[Count, WHERE] = 4
    """Examples in one forward pass of one worker."""
    precision: AskedPrecision = "auto"
    """Arithmetic of forward and backward pass (weights stay fp32); auto is bf16 where it is faster."""
    gradient_checkpointing: Annotated[bool, WHERE] = False
    """Recompute activations in the backward pass: less memory, more time."""
    num_checkpoints: Annotated[int, Field(ge=0), WHERE] = 4
    """Resume checkpoints (with optimizer state) spread evenly over training; only the newest is kept."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(f"give exactly one of epochs (now {self.epochs}) and max_steps (now {self.max_steps})")
        return self


class ProxyConfig(TrainingConfig):
    """The small model whose training the loss trajectories are taken from."""


class TargetConfig(TrainingConfig):
    """The model you want in the end, fine-tuned with DeepSpeed on the selection."""

    seed: Seed | None = None
    """Seed of the order of examples and of fresh weights; null takes the recipe's seed."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """DeepSpeed ZeRO stage: what is sharded over workers (0 nothing, 1 optimizer, 2 gradients, 3 weights)."""
    offload_optimizer: Annotated[bool, WHERE] = False
    """Keep optimizer state in CPU memory (GPUs only, ZeRO 1 to 3)."""

    @model_validator(mode="after")
    def _offload_needs_sharding(self) -> Self:
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3, not 0")
        return self


class TrajectoryConfig(Section):
    """Where on the proxy's training losses are recorded, and how."""

    num_points: Count = 12
    """Trajectory points, spread evenly over the proxy's training; the last is the finished proxy."""
    include_initial: bool = True
    """Record the untouched model too, as point 0."""
    precision: AskedPrecision = "auto"
    """Arithmetic of the forward pass; auto is bf16 where it is faster (GPUs, CPUs with AMX or AVX512-BF16)."""
    batch_tokens: Count = 8192
    """Tokens in one scoring batch, padding included."""

"""The recipe: one tree that says everything about a run, checked before anything starts."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.section import WHERE, Count, Fraction, Section
from s2l_ray.selection_config import SelectionConfig

Format = Literal["auto", "alpaca", "prompt_completion", "messages", "sharegpt"]
PromptStyle = Literal["alpaca", "chat", "plain"]
Precision = Literal["fp32", "bf16"]
Metric = Literal["loss", "exact_match", "rouge_l", "bleu"]


class DataConfig(Section):
    """The candidate pool: which rows, how they are read, and how they become tokens."""

    path: Annotated[str | None, WHERE] = None
    """Data to select from: a file, a folder or a glob, local or any storage URI (.jsonl .json .parquet, .gz .zst)."""
    hub_name: Annotated[str | None, WHERE] = None
    """Hugging Face data set to select from instead of `path`, for example TIGER-Lab/MathInstruct."""
    hub_split: Annotated[str, WHERE] = "train"
    """Split of `hub_name`."""
    hub_revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch of `hub_name`; null takes the newest."""
    format: Format = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column, for example {output: solution}."""
    id_column: str | None = None
    """Column that holds each row's stable id; null takes a hash of the row's text."""
    source_column: str | None = None
    """Column that names each row's source; null takes `source` where present, else the file's name."""
    limit: Count | None = None
    """Number of rows to read, drawn evenly over all rows with the seed; null reads all."""
    prompt_style: PromptStyle = "alpaca"
    """Text around a row: the Alpaca template, the tokenizer's chat template, or plain prompt then response."""
    max_length: Count = 512
    """Tokens kept of each example; the rest is cut off on the right."""
    max_row_chars: Count = 1_000_000
    """Characters of one row's text beyond which it is quarantined."""
    max_bad_fraction: Fraction = 0.01
    """Share of quarantined rows above which the run stops."""
    drop_duplicates: bool = True
    """Drop rows whose conversation occurred before."""
    shard_rows: Count = 1024
    """Examples in one shard: the unit of scoring, retry and resume."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub_name is None):
            raise ValueError("give exactly one of data.path (files) and data.hub_name (a Hugging Face data set)")
        return self


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
    precision: Precision = "fp32"
    """Arithmetic of the forward and backward pass; weights and optimizer stay fp32."""
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
    precision: Precision = "fp32"
    """Arithmetic of the forward pass; the cross-entropy is always fp32."""
    batch_tokens: Count = 8192
    """Tokens in one scoring batch, padding included."""


class EmbeddingConfig(Section):
    """Embeddings of the examples, made only where a selector needs them."""

    model: ModelConfig | None = None
    """Model to embed with; null takes the finished proxy, so that nothing more is fetched."""
    batch_tokens: Count = 8192
    """Tokens in one batch, padding included."""


class TaskConfig(Section):
    """One held-out set and how answers to it are judged."""

    name: str
    """Name of the task in tables and metrics."""
    path: Annotated[str, WHERE]
    """Held-out rows: a file, a folder or a glob, in any format the data section reads."""
    metrics: list[Metric] = ["loss"]
    """What is measured: held-out loss, exact_match of the final answer, rouge_l, bleu."""
    format: Format = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column."""
    answer_column: str = "answer"
    """Column with the gold answer; where a row has none, it is taken from its reference response."""
    limit: Count | None = None
    """Number of rows, drawn evenly with the seed; null takes all."""
    max_new_tokens: Count = 256
    """Tokens generated for one answer at most."""


class EvaluationConfig(Section):
    """What the fine-tuned models are measured on."""

    tasks: list[TaskConfig] = []
    """Held-out tasks; none skips the evaluation."""
    include_base: bool = False
    """Evaluate the target before fine-tuning too."""
    batch_size: Annotated[Count, WHERE] = 64
    """Prompts generated for together."""


class ResourcesConfig(Section):
    """Workers and hardware; nothing here changes what comes out."""

    num_workers: Annotated[Count, WHERE] = 1
    """Training processes (data parallel) for proxy and target."""
    cpus_per_worker: Annotated[Count, WHERE] = 1
    """CPU cores, and torch threads, of one training process."""
    use_gpu: Annotated[bool, WHERE] = False
    """One GPU for each training and scoring worker."""
    num_scoring_workers: Annotated[Count | None, WHERE] = None
    """Most processes that score and generate; null takes as many as the cluster has room for."""
    max_failures: Annotated[int, Field(ge=0), WHERE] = 3
    """Times a training run is restarted from its newest checkpoint after a lost worker."""
    wait_timeout_s: Annotated[float, Field(gt=0), WHERE] = 600.0
    """Seconds to wait for a group of training workers, for example while cloud nodes start."""
    ray_address: Annotated[str | None, WHERE] = None
    """Ray cluster to join; null joins the job's cluster (RAY_ADDRESS) or starts one on this machine."""


class Recipe(Section):
    """Everything about a run: data in, a model fine-tuned on the selected part out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), WHERE]
    """Name of the run, of letters, digits, dot, dash and underscore; its folder is <storage>/runs/<name>."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The one seed every random choice follows from."""
    storage: Annotated[str, WHERE] = "./out"
    """Where artifacts and runs are kept: a folder or a storage URI (s3://bucket/s2l) all nodes can reach."""
    data: DataConfig
    """The candidate pool."""
    proxy: ProxyConfig
    """The proxy model and its training."""
    trajectory: TrajectoryConfig = TrajectoryConfig()
    """Loss trajectories."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """Embeddings."""
    selection: SelectionConfig = SelectionConfig()
    """The selection."""
    target: TargetConfig
    """The target model and its fine-tuning."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out tasks."""
    resources: ResourcesConfig = ResourcesConfig()
    """Workers and hardware."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [task.name for task in self.evaluation.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.tasks: names must differ, got {names}")
        selectors = [self.selection.selector, *self.selection.controls]
        if len(set(selectors)) < len(selectors):
            raise ValueError(f"selection.controls repeats a selector: {selectors}")
        return self

    @model_validator(mode="after")
    def _batches_fit_workers(self) -> Self:
        for part, training in (("proxy", self.proxy), ("target", self.target)):
            step = training.micro_batch_size * self.resources.num_workers
            if training.global_batch_size % step:
                raise ValueError(
                    f"{part}.global_batch_size={training.global_batch_size} must be a multiple of "
                    f"{part}.micro_batch_size x resources.num_workers = {training.micro_batch_size} x "
                    f"{self.resources.num_workers} = {step}; change one of the three"
                )
        return self

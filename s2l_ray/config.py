"""The recipe: one tree that says everything about a run, checked before anything starts."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from s2l_ray.section import WHERE, Count, Fraction, Section, Seed
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.sweep_config import SweepConfig
from s2l_ray.training_config import ModelConfig, ProxyConfig, TargetConfig, TrajectoryConfig

Format = Literal["auto", "alpaca", "prompt_completion", "messages", "sharegpt"]
PromptStyle = Literal["alpaca", "chat", "plain"]
Metric = Literal["loss", "exact_match", "rouge_l", "bleu"]

QUESTION = """###
{example}
###

Is the example between the ### lines good for teaching a language model to follow instructions? A good one has a clear \
instruction, a correct and complete response to it, and nothing harmful in either.

OPTIONS:
- yes
- no
ANSWER:"""
"""Ask-LLM's question (arXiv 2402.09668), put for instruction data."""


class DataConfig(Section):
    """The candidate pool: which rows, how they are read, and how they become tokens."""

    path: Annotated[str | None, WHERE] = None
    """Data to select from: a file, a folder or a glob, local or any storage URI (.jsonl .json .parquet, .gz .zst)."""
    hub_name: Annotated[str | None, WHERE] = None
    """Hugging Face data set to select from instead of `path`, for example TIGER-Lab/MathInstruct."""
    hub_split: Annotated[str, Field(pattern=r"^[^/\\]+$"), WHERE] = "train"
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


class ProbeConfig(Section):
    """Further losses of each example, made only where a selector needs them (ifd, key_part_gain, ask_llm)."""

    point: Literal["initial", "final"] = "initial"
    """Whose losses: the proxy's before training (as Superfiltering, so nothing is trained) or after it."""
    judge: ModelConfig | None = None
    """Instruction-tuned model that answers ask_llm's question; null takes the proxy."""
    question: str = QUESTION
    """What ask_llm asks about {example}; the score is the probability of `answer` after it."""
    answer: str = "yes"
    """The answer whose first token is scored."""
    question_style: PromptStyle = "plain"
    """Text around the question: as it is, the judge's own chat template, or the Alpaca template."""

    @field_validator("question")
    @classmethod
    def _names_the_example(cls, value: str) -> str:
        if value.count("{example}") != 1:
            raise ValueError("must hold {example} exactly once: the place where the example's text goes")
        return value


class EmbeddingConfig(Section):
    """Embeddings of the examples, made only where a selector needs them."""

    model: ModelConfig | None = None
    """Model to embed with; null takes the finished proxy, so that nothing more is fetched."""
    batch_tokens: Count = 8192
    """Tokens in one batch, padding included."""


class TaskConfig(Section):
    """One held-out set and how answers to it are judged."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]
    """Name of the task in tables, metrics and files, of letters, digits, dot, dash, underscore and blank."""
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

    num_workers: Annotated[int | tuple[int, int], WHERE] = 1
    """Training processes (data parallel); [2, 8] lets the proxy have as many as there is room for, the target 2."""
    cpus_per_worker: Annotated[Count, WHERE] = 1
    """CPU cores, and torch threads, of one training process."""
    use_gpu: Annotated[bool, WHERE] = False
    """One GPU for each training and scoring worker."""
    num_scoring_workers: Annotated[Count | None, WHERE] = None
    """Most processes that score and generate; null takes as many as the cluster has room for."""
    max_failures: Annotated[int, Field(ge=0), WHERE] = 3
    """Times a training run is restarted from its newest checkpoint after a lost worker."""
    wait_timeout_s: Annotated[float, Field(gt=0), WHERE] = 600.0
    """Seconds to wait for room for a stage, for example while cloud nodes start, before the run ends."""
    ray_address: Annotated[str | None, WHERE] = None
    """Ray cluster to join; null joins the job's cluster (RAY_ADDRESS) or starts one on this machine."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _a_count_or_fewest_and_most(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value  # refused as in every field
        counts = list(value) if isinstance(value, list | tuple) else [value]
        whole = all(type(count) is int and count >= 1 for count in counts)
        if not whole or len(counts) not in (1, 2) or counts != sorted(set(counts)):
            raise ValueError(f"{value!r} must be a number of workers from 1, or the fewest and the most such as [1, 4]")
        return tuple(counts) if len(counts) == 2 else counts[0]

    @property
    def least_workers(self) -> int:
        """Return the training processes that there are always: all of the target's."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def most_workers(self) -> int:
        """Return the training processes that the proxy may come to have."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers


class Recipe(Section):
    """Everything about a run: data in, a model fine-tuned on the selected part out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), WHERE]
    """Name of the run, of letters, digits, dot, dash and underscore; its folder is <storage>/runs/<name>."""
    seed: Seed = 0
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
    probe: ProbeConfig = ProbeConfig()
    """Further losses."""
    selection: SelectionConfig = SelectionConfig()
    """The selection."""
    target: TargetConfig
    """The target model and its fine-tuning."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out tasks."""
    sweep: SweepConfig = SweepConfig()
    """What `s2l sweep` varies."""
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
        least, most = self.resources.least_workers, self.resources.most_workers
        for part, training, counts in (("proxy", self.proxy, range(least, most + 1)), ("target", self.target, [least])):
            for num_workers in counts:
                step = training.micro_batch_size * num_workers
                if training.global_batch_size % step:
                    raise ValueError(
                        f"{part}.global_batch_size={training.global_batch_size} must be a multiple of "
                        f"{part}.micro_batch_size x resources.num_workers = {training.micro_batch_size} x "
                        f"{num_workers} = {step}; change one of the three"
                    )
        return self

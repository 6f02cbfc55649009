"""The parts of the recipe that say what models compute of each example: losses, further losses, embeddings."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from s2l_ray.recipe.data import PromptStyle
from s2l_ray.recipe.evaluation import GoldName
from s2l_ray.recipe.model import AskedPrecision, ModelConfig
from s2l_ray.recipe.settings import WHERE, Count, Section

Pooling = Literal["mean", "weighted_mean"]
CPU_BATCH_TOKENS = 8192
"""What auto means on CPUs."""
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


class _Batches(Section):
    """What is computed in batches of many tokens."""

    batch_tokens: Count | Literal["auto"] = "auto"
    """Tokens in one batch, padding included; auto is 8192 on CPUs, on GPUs what their memory holds."""

    def identity(self, *, with_defaults: bool = False) -> dict[str, Any]:
        """Return the fields that decide an artifact's content; 8192 was the default before there was auto."""
        kept = super().identity(with_defaults=with_defaults)
        if not with_defaults and kept.get("batch_tokens") == CPU_BATCH_TOKENS:
            del kept["batch_tokens"]
        return kept


class TrajectoryConfig(_Batches):
    """Where on the proxy's training losses are recorded, and how."""

    num_points: Count = 12
    """Trajectory points, spread evenly over the proxy's training; the last is the finished proxy."""
    include_initial: bool = True
    """Record the untouched model too, as point 0."""
    stop_when_stable: bool = False
    """End the proxy's training when another point changes the clusters less than another seed of k-means does."""
    checkpoints: Annotated[str | None, WHERE] = None
    """Folder of your own training's checkpoints (checkpoint-<step>/): they are the points, and no proxy is trained."""
    known: Annotated[str | None, Field(pattern=r"^[0-9a-f]{16}$"), WHERE] = None
    """Losses in the same storage (trajectories/<this>) by the same points: shards that are the same are not scored."""
    precision: AskedPrecision = "auto"
    """Arithmetic of the forward pass; auto is bf16 where it is faster (GPUs, CPUs with AMX or AVX512-BF16)."""

    def scoring_identity(self) -> dict[str, Any]:
        """Return what of it decides how an example is scored, whatever the model and the points."""
        return self.identity_of("precision", "batch_tokens")


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


class EmbeddingConfig(_Batches):
    """Embeddings of the examples, made only where a selector needs them."""

    model: ModelConfig | None = None
    """Model to embed with; null takes the finished proxy, so that nothing more is fetched."""


class SamplingConfig(Section):
    """Sampled answers to the examples, made only where a selector needs them (pass_rate)."""

    model: ModelConfig | None = None
    """Model that answers; null takes the target as it is before fine-tuning."""
    num_samples: Count = 4
    """Answers sampled for each example."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of sampling; 1 draws from the model's own distribution."""
    max_new_tokens: Count = 256
    """Tokens of one answer at most."""
    gold: GoldName = "auto"
    """How the right answer of a row is read; auto finds out from the rows, docs/results.md says how."""
    answer_column: str | None = None
    """Column that the right answer is read from; null looks for one, and else takes the response."""
    batch_size: Annotated[Count | Literal["auto"], WHERE] = "auto"
    """Answers that are made together; auto is 64 on CPUs, on GPUs what their memory holds."""

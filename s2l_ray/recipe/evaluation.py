"""The part of the recipe that says what the fine-tuned models are measured on."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from s2l_ray.recipe.known import known_in
from s2l_ray.recipe.model import AskedPrecision
from s2l_ray.recipe.registry import METRICS
from s2l_ray.recipe.settings import WHERE, Count, Section
from s2l_ray.recipe.task_rows import RowsOfTask

MetricName = Annotated[str, known_in(METRICS)]
GoldName = Literal["auto", "choice", "list", "boolean", "gsm8k", "boxed", "stated", "text", "last"]
PRESETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"hub_name": "openai/gsm8k", "hub_config": "main", "split": "test", "max_new_tokens": 512},
    "math500": {"hub_name": "HuggingFaceH4/MATH-500", "split": "test", "max_new_tokens": 1024},
    "mmlu": {"hub_name": "cais/mmlu", "hub_config": "all", "split": "test", "max_new_tokens": 16,
             "metrics": ["exact_match", "acc"]},
    "arc_challenge": {"hub_name": "allenai/ai2_arc", "hub_config": "ARC-Challenge", "split": "test",
                      "max_new_tokens": 16, "metrics": ["exact_match", "acc", "acc_norm"]},
    "boolq": {"hub_name": "google/boolq", "split": "validation", "max_new_tokens": 16},
    "hellaswag": {"hub_name": "Rowan/hellaswag", "split": "validation", "max_new_tokens": 16,
                  "metrics": ["exact_match", "acc", "acc_norm"]},
}
"""Well-known held-out sets: where they are on the hub, and what else differs from a task's defaults."""


def _check_preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; known: {', '.join(PRESETS)}")
    return name


PresetName = Annotated[str, AfterValidator(_check_preset)]


class TaskConfig(RowsOfTask):
    """One held-out set and how answers to it are judged."""

    default_split: ClassVar[str] = "test"

    preset: Annotated[PresetName | None, WHERE] = None
    """A well-known set instead of `path` (docs/results.md names them): fills in what is not given."""
    metrics: list[MetricName] = ["loss"]
    """What is measured; docs/results.md lists the metrics."""
    gold: GoldName = "auto"
    """How the gold answer is read; auto finds out from the rows, docs/results.md says how."""
    answer_column: str | None = None
    """Column that the gold answer is read from; null looks for one, and else takes the response."""
    max_new_tokens: Count = 256
    """Tokens generated for one answer at most."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Take what a preset says and is not given."""
        preset = PRESETS.get(given.get("preset") or "") if isinstance(given, dict) else None
        if preset is None or given.get("path") is not None or given.get("hub_name") is not None:
            return given
        named = {key: value for key, value in given.items() if value is not None}
        return {"metrics": ["exact_match"], **preset, **named}

    def _origins(self) -> str:
        return f"{super()._origins()} and preset ({', '.join(PRESETS)})"


class HarnessConfig(Section):
    """Tasks of lm-evaluation-harness, measured by it (extra `harness`)."""

    tasks: list[Annotated[str, Field(min_length=1)]] = []
    """Its tasks, groups or tags by name, its own or of `include_path`; a group with a value of its own is told too."""
    include_path: Annotated[str | None, WHERE] = None
    """Folder with task files (YAML) of your own, which may run Python; it and the data they name count by content."""
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Solved examples before each question; null takes each task's own number."""
    limit: Count | None = None
    """Number of rows of each task, its first; null takes all."""
    batch_size: Annotated[Count, WHERE] = 8
    """Requests that are computed together."""
    apply_chat_template: bool = False
    """Whether questions are put into the tokenizer's chat template."""

    @model_validator(mode="after")
    def _tasks_are_distinct(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must differ, got {self.tasks}")
        return self


class EvaluationConfig(Section):
    """What the fine-tuned models are measured on."""

    tasks: list[TaskConfig] = []
    """Held-out tasks; none here and none in `harness` skips the evaluation."""
    harness: HarnessConfig = HarnessConfig()
    """Tasks of lm-evaluation-harness."""
    include_base: bool = False
    """Evaluate the target before fine-tuning too."""
    precision: AskedPrecision = "auto"
    """Arithmetic of losses and answers; auto is bf16 on GPUs that are faster in it, fp32 on CPUs."""
    batch_size: Annotated[Count | Literal["auto"], WHERE] = "auto"
    """Prompts that are answered together; auto is 64 on CPUs, on GPUs what their memory holds."""

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is measured."""
        return not (self.tasks or self.harness.tasks)

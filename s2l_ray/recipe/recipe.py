"""The recipe: one tree that says everything about a run, checked before anything starts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.evaluation import EvaluationConfig
from s2l_ray.recipe.known import Tracker
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.scoring import EmbeddingConfig, ProbeConfig, SamplingConfig, TrajectoryConfig
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.recipe.settings import WHERE, Section, Seed
from s2l_ray.recipe.sweep import SweepConfig
from s2l_ray.recipe.training import ProxyConfig, TargetConfig


class Recipe(Section):
    """Everything about a run: data in, a model fine-tuned on the selected part out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), WHERE]
    """Name of the run, of letters, digits, dot, dash and underscore; its folder is <storage>/runs/<name>."""
    seed: Seed = 0
    """The one seed every random choice follows from."""
    storage: Annotated[str, WHERE] = "./out"
    """Where artifacts and runs are kept: a folder or a storage URI (s3://bucket/s2l) all nodes can reach."""
    report_to: Annotated[list[Tracker], WHERE] = []
    """Trackers that show both trainings as they run; addresses and keys come from the environment."""
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
    sampling: SamplingConfig = SamplingConfig()
    """Sampled answers."""
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

    @property
    def selection_seed(self) -> int:
        """Return the seed of clustering and sampling."""
        return self.seed if self.selection.seed is None else self.selection.seed

    @property
    def target_seed(self) -> int:
        """Return the seed of the target's fine-tuning."""
        return self.seed if self.target.seed is None else self.target.seed

    @property
    def sampling_model(self) -> ModelConfig:
        """Return the model that answers are sampled from."""
        return self.sampling.model or self.target.model

    @property
    def arms(self) -> dict[str, SelectionConfig]:
        """Return the selection asked for, then its controls, by selector."""
        names = [self.selection.selector, *self.selection.controls]
        return {name: self.selection.model_copy(update={"selector": name, "controls": []}) for name in names}

    def models(self) -> dict[str, ModelConfig]:
        """Return every model that the recipe names, by its key."""
        found = {"proxy.model": self.proxy.model, "embedding.model": self.embedding.model,
                 "probe.judge": self.probe.judge, "sampling.model": self.sampling.model,
                 "target.model": self.target.model}
        return {key: model for key, model in found.items() if model is not None}

    def paths(self) -> dict[str, str]:
        """Return every file or folder that the recipe names beside its models and its storage, by its key."""
        named = {"data.path": self.data.path, "trajectory.checkpoints": self.trajectory.checkpoints,
                 "selection.scores": self.selection.scores, "selection.required": self.selection.required,
                 "selection.forbidden": self.selection.forbidden,
                 "evaluation.harness.include_path": self.evaluation.harness.include_path}
        named |= {f"data.more.{number}": path for number, path in enumerate(self.data.more)}
        for key, tasks in (("selection.task_examples", self.selection.task_examples),
                           ("evaluation.tasks", self.evaluation.tasks)):
            named |= {f"{key}.{number}.path": task.path for number, task in enumerate(tasks)}
        return {key: path for key, path in named.items() if isinstance(path, str)}

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [task.name for task in self.evaluation.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.tasks: names must differ, got {names}")
        selectors = [self.selection.selector, *self.selection.controls]
        if len(set(selectors)) < len(selectors):
            raise ValueError(f"selection.controls repeats a selector: {selectors}")
        if len(set(self.report_to)) < len(self.report_to):
            raise ValueError(f"report_to names a tracker twice: {self.report_to}")
        return self

    @model_validator(mode="after")
    def _batches_fit_workers(self) -> Self:
        least, most = self.resources.min_workers, self.resources.max_workers
        for part, training in (("proxy", self.proxy), ("target", self.target)):
            for num_workers in range(least, most + 1):
                size = None if training.micro_batch_size == "auto" else training.micro_batch_size
                if training.global_batch_size % (num_workers * (size or 1)):
                    of = (f"resources.num_workers = {num_workers}; change one of the two" if size is None else
                          f"{part}.micro_batch_size x resources.num_workers = {size} x {num_workers} = "
                          f"{size * num_workers}; change one of the three")
                    raise ValueError(
                        f"{part}.global_batch_size={training.global_batch_size} must be a multiple of {of}")
        return self

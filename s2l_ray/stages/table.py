"""The stages in the order they run: what each gives, what it runs on, whether every selection has one of its own."""

from dataclasses import dataclass

from s2l_ray.recipe.workers import Workers
from s2l_ray.tables.needs import PROBES, Need


@dataclass(frozen=True)
class Stage:
    """A stage. Its module, its folder in the storage and its command bear its name."""

    name: str
    gives: tuple[str, ...]
    """Tables, by the name that others ask for them."""
    workers: Workers
    summary: str
    """What comes of it, for help texts."""
    is_per_arm: bool = False
    """Whether each selection of the recipe has its own."""

    @property
    def is_selecting(self) -> bool:
        """Tell whether it is made for a selection alone; examples are what full data needs too."""
        return "examples" not in self.gives and (not self.is_per_arm or "selection" in self.gives)


STAGES = (
    Stage("prepare", ("examples",), "cpu", "rows to tokenised examples, bad rows set aside"),
    Stage("proxy", ("proxy",), "training", "the small model's training, recorded at its trajectory points"),
    Stage("trajectories", (Need.TRAJECTORIES,), "scoring", "every example's loss at every point"),
    Stage("probe", PROBES, "scoring", "further losses of every example, where a selector asks for them"),
    Stage("embed", (Need.EMBEDDINGS, Need.REPRESENTATIONS), "scoring", "a vector for every example"),
    Stage("sample", (Need.PASS_RATES,), "scoring", "how many of a model's sampled answers to each example are right"),
    Stage("select", ("selection",), "none", "the examples that each selector chooses", is_per_arm=True),
    Stage("finetune", ("model",), "training", "the target on the selection and its controls", is_per_arm=True),
    Stage("evaluate", ("evaluation",), "scoring", "held-out metrics of each fine-tuned target", is_per_arm=True),
)


def stage_of(name: str) -> Stage:
    """Return the stage of this name."""
    return next(stage for stage in STAGES if stage.name == name)

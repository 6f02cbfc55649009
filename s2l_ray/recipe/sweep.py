"""The part of the recipe that says what a sweep tries."""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from s2l_ray.recipe.known import Tracker
from s2l_ray.recipe.selection import SelectorName
from s2l_ray.recipe.settings import WHERE, Count, Section

Value = bool | int | float | str | None


class Draw(Section):
    """How a key's value is drawn, again for each trial; exactly one of the three."""

    choice: list[Value] | None = None
    """One of these values, each as likely."""
    uniform: tuple[float, float] | None = None
    """Between two bounds."""
    log_uniform: tuple[float, float] | None = None
    """Between two bounds above 0, each factor as likely."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of choice, uniform and log_uniform, not {given or 'none'}")
        if self.choice == []:
            raise ValueError("choice is empty: give at least one value")
        low, high = self.uniform or self.log_uniform or (0.5, 1.0)
        if not low < high or (self.log_uniform is not None and low <= 0):
            raise ValueError(f"{given[0]}=[{low}, {high}]: the lower bound comes first, above 0 for log_uniform")
        return self


class SweepConfig(Section):
    """What `s2l sweep` varies, how many trials it runs, and what decides between them."""

    space: dict[str, list[Value] | Draw] = {
        "selection.selector": ["s2l"],
        "selection.budget": [0.03, 0.11, 0.25],
        "selection.num_clusters": [50, 100],
        "seed": [0, 1, 2],
    }
    """Key of the recipe -> the values tried (or a draw), all crossed; `seed` sets selection.seed and target.seed."""
    num_trials: Count | None = None
    """Trials drawn from the space, each run with every seed, controls not counted; null runs the whole grid."""
    controls: list[SelectorName] = ["random", "full"]
    """Selectors that every point is judged against: at each budget, one that takes no budget once."""
    control_seeds: Count = 3
    """Least number of seeds of a control that draws."""
    metric: str | None = None
    """What decides, as TASK.METRIC; null takes the first task's first metric."""
    mode: Literal["max", "min"] | None = None
    """Whether more or less of the metric is better; null takes less for loss and more for all others."""
    scheduler: Literal["none", "asha"] = "none"
    """asha runs a trial's seeds one after another and gives up trials that are behind after the first ones."""
    max_concurrent_trials: Annotated[Count | None, WHERE] = None
    """Most trials at a time; null takes as many as the cluster has room for, which is the bound in any case."""
    tracking: Annotated[Tracker, WHERE] = "tensorboard"
    """Where trials are logged, beside TensorBoard's files; addresses and keys come from the environment."""

    @model_validator(mode="after")
    def _space_is_complete(self) -> Self:
        empty = [key for key, values in self.space.items() if values == []]
        if empty or not self.space:
            raise ValueError(f"space holds no values for {empty or 'any key'}: list at least one")
        draws = [key for key, values in self.space.items() if isinstance(values, Draw)]
        if draws and self.num_trials is None:
            raise ValueError(f"space draws {draws}: say how many trials with num_trials")
        if "seed" in draws:
            raise ValueError("space.seed is a list: every trial runs with each seed")
        reserved = [key for key in self.space if key.split(".")[0] in ("name", "storage", "report_to", "sweep",
                                                                            "resources")]
        if reserved:
            raise ValueError(f"space may not hold {reserved}: they say where a run happens, not what comes out")
        if self.scheduler == "asha" and len(set(map(str, self.seeds))) < 2:
            raise ValueError("scheduler asha stops a trial between its seeds: list at least two in space.seed")
        return self

    @property
    def seeds(self) -> list[Value]:
        """Return the seeds each trial runs with."""
        listed = self.space.get("seed", [0])
        assert isinstance(listed, list)
        return listed

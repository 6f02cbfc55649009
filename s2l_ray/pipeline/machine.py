"""What the workers of a run are and how fast: measured, or assumed of their cards and cores."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import psutil
from joblib import cpu_count

from s2l_ray.execution.cards import Card, card_here, find_card
from s2l_ray.recipe.model import Precision
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.stages.planning import Step
from s2l_ray.stages.work import Work

_TOKENISED = 400_000.0  # tokens a second of one core, taken as such; a sample of the rows says it better
START_S = {"none": 1.0, "cpu": 2.0, "scoring": 8.0, "training": 20.0}
"""Seconds until workers have what they need, by what they are."""
_SHARES = {"scoring": 0.4, "training": 0.3}  # of a card's rate at a billion weights; falls with the root below
_CPU_SHARE = 0.3
_KINDS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Rate:
    """How fast a stage is: what it takes to start, and what each worker does in a second then."""

    start_s: float
    per_worker: float
    """Floating-point operations; of prepare, tokens."""
    is_measured: bool = False


@dataclass(frozen=True)
class Machine:
    """What the workers are: a card each, or cores of CPUs like this one's."""

    card: Card | None
    core_rate: Mapping[Precision, float]
    """Of one core, operations a second of matrix products in each precision, where there is no card."""
    price: float | None = None
    """Of a GPU-hour."""
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """What was measured, by stage."""

    @property
    def auto(self) -> Precision:
        """Return what `precision: auto` comes to."""
        if self.card is not None:
            return "bf16" if self.card.bf16_tflops else "fp32"
        from s2l_ray.modeling.throughput import has_fast_bf16  # heavy: torch

        return "bf16" if has_fast_bf16() else "fp32"

    @property
    def memory_gib(self) -> float:
        """Return the memory of a card, or of this machine."""
        return self.card.memory_gib if self.card else float(psutil.virtual_memory().total) / 2**30

    def at(self, rates: Mapping[str, Rate]) -> "Machine":
        """Return it with what was measured."""
        return replace(self, rates=rates)

    def num_workers(self, workers: str, resources: ResourcesConfig) -> int:
        """Return how many workers a stage has; of CPUs, as many as a container may use."""
        cores = cpu_count()
        if workers == "training":
            return resources.min_workers
        if workers == "scoring" and resources.use_gpu:
            return resources.num_scoring_workers or resources.max_workers
        return {"none": 1, "cpu": cores}.get(workers, min(resources.num_scoring_workers or cores, cores))

    def rate(self, step: Step, work: Work, resources: ResourcesConfig) -> Rate:
        """Return what was measured of a stage, or what is assumed of it."""
        kind = step.workers
        if step.stage.name in self.rates:
            return self.rates[step.stage.name]
        if not work.operations:
            return Rate(START_S[kind], _TOKENISED)
        if self.card is not None:
            share = _SHARES[kind] * min(1.0, (work.weights / 1e9) ** 0.5)
            return Rate(START_S[kind], share * self.card.rate(work.precision))
        threads = resources.cpus_per_worker if kind == "training" else 1
        return Rate(START_S[kind], _CPU_SHARE * threads * self.core_rate[work.precision])


def machine_for(resources: ResourcesConfig, card: str | None, price: float | None) -> Machine:
    """Return the named card, the one of this machine where the recipe uses GPUs, or cores like this machine's.

    Raises
    ------
    InputError
        The card is unknown, or the recipe uses GPUs and this machine has none.
    """
    if card is not None:
        return Machine(find_card(card), {}, price)
    if resources.use_gpu:
        return Machine(card_here(), {}, price)
    import torch  # heavy

    from s2l_ray.modeling.throughput import matmul_rate  # heavy: torch

    torch.set_num_threads(1)
    return Machine(None, {kind: matmul_rate(torch.device("cpu"), kind) for kind in _KINDS})

"""What the papers claim, in small: reproduced, refuted here, or not to be told, each with the figures that say so."""

from dataclasses import dataclass
from typing import Any

from s2l_ray.metrics.seeds import SeedEstimate, holm
from tests.evidence.compare import Arm, Results, agreement
from tests.evidence.setting import FULL, RANDOM, S2L, STEPS

REPRODUCED, REFUTED, OPEN = "reproduced", "refuted here", "cannot tell"
_ENOUGH_SEEDS = 3
_REACHES = 0.1  # of what all of the data gain over random: so near counts as all
_SHARED_BEYOND_CHANCE = 0.02


@dataclass
class Claim:
    """A claim on one pool, and what became of it."""

    text: str
    pool: str
    figures: str
    estimate: SeedEstimate | None = None
    """Ours minus theirs; a claim of a lower loss holds below 0, one of reaching all below `margin`."""
    margin: float | None = None
    verdict: str = OPEN
    p_holm: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"claim": self.text, "pool": self.pool, "verdict": self.verdict, "figures": self.figures,
                "p_holm": None if self.p_holm != self.p_holm else self.p_holm}


def claims(results: Results) -> list[Claim]:
    """Return what can be said of each claim whose cells are there; p-values are corrected for all of them (Holm)."""
    found = [claim for pool in results.pools for claim in (*_by_loss(results, pool), *_by_agreement(results, pool))]
    tested = [claim for claim in found if claim.estimate is not None and claim.estimate.num_seeds >= _ENOUGH_SEEDS]
    for claim, adjusted in zip(tested, holm([one.estimate.p for one in tested if one.estimate]), strict=True):
        claim.p_holm, estimate = adjusted, claim.estimate
        assert estimate is not None
        if claim.margin is not None and estimate.high <= claim.margin:
            claim.verdict = REPRODUCED
        elif adjusted < 0.05:
            claim.verdict = REFUTED if estimate.value > 0 else REPRODUCED
    return found


def _by_loss(results: Results, pool: str) -> list[Claim]:
    setting, found = results.place.setting, []
    most, least = setting.main_budget, setting.budgets[0]

    def arm(name: str, budget: float = most) -> Arm:
        return Arm(pool, name, 1.0 if name == FULL else budget, STEPS)

    lower = [
        (f"S2L's {most:.0%} are better than a random {most:.0%} (arXiv 2403.07384)", arm(S2L), arm(RANDOM)),
        (f"... than a random {most:.0%} of its own lengths", arm(S2L), arm("quota_of_lengths")),
        ("... than a random choice with its own quota of sources", arm(S2L), arm("quota_of_sources")),
        ("... than a random choice with its own quota of mean losses", arm(S2L), arm("quota_of_losses")),
        ("... than bins of the mean loss: trajectories tell more than their mean", arm(S2L), arm("loss_bins")),
        ("S2L by source, as its authors' code does it, is better than random by source", arm("s2l_as_in_code"),
         arm("random_by_source")),
        ("the examples learned least after one epoch are better than those learned most (arXiv 2402.10430)",
         arm("lp_lowest"), arm("lp_highest")),
        (f"LTD's core set of {most:.0%} is better than a random one (arXiv 2305.09246)", arm("ltd"), arm(RANDOM)),
    ]
    for text, ours, theirs in lower:
        estimate = results.compared(ours, theirs)
        if estimate is not None:
            found.append(Claim(text, pool, _told(estimate), estimate))
    equal = [(f"S2L's {most:.0%} reach all of the data at equal steps (arXiv 2403.07384)", arm(S2L), arm(RANDOM), None),
             (f"LTD's {least:.0%} for one task, gsm8k, reach all of the data there (arXiv 2305.09246)",
              arm("ltd_gsm8k", least), arm(RANDOM, least), "gsm8k_test")]
    for text, ours, random, task in equal:
        estimate, gain = results.compared(ours, arm(FULL), task), results.compared(random, arm(FULL), task)
        if estimate is not None and gain is not None:
            margin = _REACHES * max(0.0, gain.value)
            found.append(Claim(text, pool, f"{_told(estimate)}; within {margin:.4f} counts as all", estimate, margin))
    return found


def _told(estimate: SeedEstimate) -> str:
    return (f"{estimate.value:+.4f} nats ({estimate.low:+.4f} to {estimate.high:+.4f}), {estimate.num_seeds} seeds, "
            f"{estimate.num_examples} rows")


def _by_agreement(results: Results, pool: str) -> list[Claim]:
    """Return whether proxies of other sizes share half of what two seeds of one share beyond chance."""
    rows = agreement(results, pool)
    own = [row["shared_s2l"] for row in rows if row["other"] == 0 and row["other_seed"] != 0]
    others = [row for row in rows if row["other"] != 0]
    if not own or not others:
        return []
    worst, twin = min(row["shared_s2l"] for row in others), sum(own) / len(own)
    bins, budget = min(row["shared_loss_bins"] for row in others), results.place.setting.main_budget
    verdict = REPRODUCED if worst - budget >= 0.5 * (twin - budget) else REFUTED
    figures = (f"S2L shares {worst:.3f} of the budget with another size's, {twin:.3f} with another seed's, {budget:.3f} by "
               f"chance; bins of the mean loss {bins:.3f} with another size's")
    is_clear = twin - budget > _SHARED_BEYOND_CHANCE
    text = "a proxy of another size agrees with this one about as another seed of its own size does"
    return [Claim(text, pool, figures, verdict=verdict if is_clear else OPEN)]

"""What the papers claim, in small: reproduced, refuted here, or not to be told, each with the figures that say so."""

from dataclasses import dataclass
from typing import Any

from s2l_ray.metrics.seeds import SeedEstimate
from tests.evidence.compare import Arm, Results, agreement
from tests.evidence.setting import FULL, RANDOM, S2L, STEPS

REPRODUCED, REFUTED, OPEN = "reproduced", "refuted here", "cannot tell"
_QUOTAS = ("quota_of_sources", "quota_of_lengths", "quota_of_losses")


@dataclass(frozen=True)
class Claim:
    """A claim on one pool, and what became of it."""

    text: str
    pool: str
    verdict: str
    figures: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"claim": self.text, "pool": self.pool, "verdict": self.verdict, "figures": self.figures}


def claims(results: Results) -> list[Claim]:
    """Return what can be said of each claim whose cells are there."""
    return [claim for pool in results.pools for claim in (*_by_loss(results, pool), *_by_agreement(results, pool))]


def _by_loss(results: Results, pool: str) -> list[Claim]:
    setting, found = results.place.setting, []
    most, least = setting.main_budget, setting.budgets[0]

    def arm(name: str, budget: float = most) -> Arm:
        return Arm(pool, name, 1.0 if name == FULL else budget, STEPS)

    lower = [
        (f"S2L's {most:.0%} are better than a random {most:.0%} (arXiv 2403.07384)", arm(S2L), arm(RANDOM)),
        (f"... than a random {most:.0%} of equal lengths", arm(S2L), arm("length_matched_random")),
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
            found.append(Claim(text, pool, _is_lower(estimate), _told(estimate)))
    equal = [(f"S2L's {most:.0%} reach all of the data at equal steps (arXiv 2403.07384)", arm(S2L), arm(FULL), None),
             (f"LTD's {least:.0%} for one task, gsm8k, reach all of the data there (arXiv 2305.09246)",
              arm("ltd_gsm8k", least), arm(FULL), "gsm8k_test")]
    for text, ours, theirs, task in equal:
        estimate = results.compared(ours, theirs, task)
        if estimate is not None:
            verdict = REFUTED if estimate.low > 0 else REPRODUCED if estimate.high <= 0 else OPEN
            found.append(Claim(text, pool, verdict, _told(estimate)))
    return [*found, *_mechanism(results, pool)]


def _is_lower(estimate: SeedEstimate) -> str:
    return REPRODUCED if estimate.high < 0 else REFUTED if estimate.low > 0 else OPEN


def _told(estimate: SeedEstimate) -> str:
    return (f"{estimate.value:+.4f} nats ({estimate.low:+.4f} to {estimate.high:+.4f}), {estimate.num_seeds} seeds, "
            f"{estimate.num_examples} rows")


def _mechanism(results: Results, pool: str) -> list[Claim]:
    """Return whether S2L beats random draws that hold as much of each source, length or loss as its own choice does."""
    found = []
    for name in _QUOTAS:
        estimate = results.compared(Arm(pool, S2L, results.place.setting.main_budget, STEPS),
                                    Arm(pool, name, results.place.setting.main_budget, STEPS))
        if estimate is not None:
            what = name.removeprefix("quota_of_")
            found.append(Claim(f"S2L is better than a random choice with its own quota of {what}", pool,
                               _is_lower(estimate), _told(estimate)))
    return found


def _by_agreement(results: Results, pool: str) -> list[Claim]:
    rows = agreement(results, pool)
    own = [row["shared_s2l"] for row in rows if row["other"] == 0 and row["other_seed"] != 0]
    others = [row for row in rows if row["other"] != 0]
    if not own or not others:
        return []
    worst, twin = min(row["shared_s2l"] for row in others), sum(own) / len(own)
    bins = min(row["shared_loss_bins"] for row in others)
    budget = results.place.setting.main_budget
    # Half of what two seeds share beyond chance is what we ask for.
    verdict = REPRODUCED if worst - budget >= 0.5 * (twin - budget) else REFUTED
    return [Claim("proxies of other sizes choose what this one does", pool, verdict,
                  f"S2L shares {worst:.3f} of the budget with another size's, {twin:.3f} with another seed's, "
                  f"{budget:.3f} by chance; bins of the mean loss {bins:.3f} with another size's")]

"""What is said of a scoring's speed, without torch."""

from collections.abc import Mapping, Sequence
from typing import Any


def throughput_facts(shards: Sequence[Mapping[str, Any]], wall_s: float) -> dict[str, Any]:
    """Return the speed of a loss pass over shards that took `wall_s` in all, for people and for the manifest.

    `peak_share` is what the scoring processes reached, while they scored, of the rate of matrix products that each
    of them measured; `tokens_per_s` is over the wall clock, the start of the processes included.
    """
    if not shards:
        return {"num_tokens_scored": 0}
    total = {name: sum(shard[name] for shard in shards) for name in ("num_tokens", "num_padded_tokens", "model_s")}
    return {
        "num_tokens_scored": total["num_tokens"],
        "tokens_per_s": round(total["num_tokens"] / wall_s, 1),
        "model_s": round(total["model_s"], 3),
        "batch_tokens": min(shard["batch_tokens"] for shard in shards),
        "padding_share": round(1 - total["num_tokens"] / total["num_padded_tokens"], 4),
        "peak_share": round(sum(s["operations"] / s["peak_rate"] for s in shards) / total["model_s"], 4),
    }

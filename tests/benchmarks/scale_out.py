"""What Ray adds to the loss pass, how it scales over workers, and what several points cost.

    python tests/benchmarks/scale_out.py --data ../shared/data/math_mixture.parquet \
        --tokenizer ../shared/models/gpt2_tokenizer [--rows 4000]

A proxy of Pythia-14m's shape is trained for some steps and recorded at 10 points; then its trajectories are made again
and again by the real stage on a Ray cluster of this machine's cores:
  workers    1 and 2 scoring workers of one thread, at 2 points
  points     2 and 10 points, beside the sum of the same models one at a time (model time, without loading)
  share      of the wall clock times workers of the longest of these passes, what is not scoring
Prints a table, then one JSON line.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import ray
import torch

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.stages.trajectories import run_trajectories
from s2l_ray.storage.artifacts import Artifact, git_commit

NUM_POINTS = 10
SHAPE = {"model_type": "gpt_neox", "hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4,
         "intermediate_size": 512, "vocab_size": 50_304}


def recipe_of(folder: str, data: dict[str, Any], proxy: dict[str, Any], num_points: int) -> Recipe:
    """Return a recipe whose trajectories are measured."""
    return parse_recipe({
        "name": "scale-out", "storage": f"{folder}/out", "data": data,
        "proxy": {"model": proxy, "max_steps": num_points, "global_batch_size": 8, "micro_batch_size": 8,
                  "num_checkpoints": 0, "learning_rate": 1e-3},
        "trajectory": {"num_points": num_points, "include_initial": False},
        "target": {"model": proxy, "max_steps": 1},
    })


def score(plan: Any, workers: int, points: list[int], copy: str) -> dict[str, Any]:
    """Make the line's trajectories again, at some of the proxy's points; return the manifest's figures."""
    proxy, prepare = (plan.step(label).artifact for label in ("proxy", "prepare"))
    some = dataclasses.replace(plan.step("trajectories").artifact, identity={"copy": copy})
    chosen = [proxy.manifest()["points"][point] for point in points]
    fewer = _WithPoints(proxy.storage, proxy.stage, proxy.identity, proxy.parents, chosen)
    started = time.perf_counter()
    recipe = plan.recipe.model_copy(update={"resources": ResourcesConfig(num_scoring_workers=workers)})
    manifest = run_trajectories(some, fewer, prepare, recipe)
    manifest["wall"] = time.perf_counter() - started
    return manifest


@dataclasses.dataclass(frozen=True)
class _WithPoints(Artifact):
    """A proxy that is known by some of its points only."""

    chosen: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def manifest(self) -> dict[str, Any]:
        """Return the proxy's manifest with these points."""
        return {**super().manifest(), "points": self.chosen}


def speeds(plan: Any) -> dict[str, Any]:
    """Return how the pass scales over workers and points, and what of it is not scoring."""
    one, two = (score(plan, workers, [0, 9], f"workers-{workers}") for workers in (1, 2))
    ten = score(plan, 2, list(range(NUM_POINTS)), "ten")
    alone = sum(score(plan, 2, [point], f"alone-{point}")["model_s"] for point in (0, 9))
    return {
        "two_workers_over_one": one["wall"] / two["wall"],
        "two_workers_over_one_scoring": one["model_s"] / (two["model_s"] / 2),
        "two_points_over_their_sum": two["model_s"] / alone,
        "ten_points_over_ten_alone": ten["model_s"] / (alone / 2 * NUM_POINTS),
        "longest_wall_s": ten["wall"], "not_scoring_share": 1 - ten["model_s"] / (2 * ten["wall"]),
        "tokens_per_s": ten["tokens_per_s"], "peak_share": ten["peak_share"], "padding_share": ten["padding_share"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rows", type=int, default=4000)
    asked = parser.parse_args()
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        proxy = {"config": SHAPE, "tokenizer": asked.tokenizer, "eos_token": "<|endoftext|>"}
        data = {"path": asked.data, "limit": asked.rows, "max_bad_fraction": 0.1, "shard_rows": 256}
        recipe = recipe_of(folder, data, proxy, NUM_POINTS)
        run_plan(plan_run(recipe, "proxy"), "benchmark")
        plan = plan_run(recipe, "trajectories")
        found = speeds(plan)
    for name, value in found.items():
        print(f"  {name:32} {value:12,.3f}")
    print(json.dumps({
        "benchmark": "scale_out", "commit": git_commit(), "cpu": torch.cpu.get_capabilities().get("cpu_name"),
        "cores": os.cpu_count(), "versions": {"torch": torch.__version__, "ray": ray.__version__},
        "speeds": found,
    }))


if __name__ == "__main__":
    main()

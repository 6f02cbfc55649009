"""A small line through Ray on a GPU, with what each phase took: from rows to two evaluated targets.

    python tests/gpu/line.py [--rows 12000] [--steps 300]

The quickstart's problems and base models, one training worker, a Ray cluster of this machine's own. Without a GPU the
sizes are tiny, so that CI runs the code. Prints a table (seconds of every stage, and within trainings until there was a
worker, its model, its first batch, its first step), then one JSON line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table

from s2l_ray.execution.session import session
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import write_files
from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.storage.artifacts import git_commit, package_versions

PHASES = ("worker", "model", "first_batch", "first_step", "trained", "saved")


def recipe_of(folder: Path, steps: int, batch: int, use_gpu: bool) -> Any:
    """Return the recipe; its data lie in the folder, and so does its storage."""
    training = {"max_steps": steps, "global_batch_size": batch, "micro_batch_size": min(batch, 32), "learning_rate": 1e-3,
                "num_checkpoints": 1}
    task = {"name": "problems", "path": str(folder / "held_out.jsonl"), "metrics": ["loss", "exact_match"],
            "max_new_tokens": 8}
    return parse_recipe({
        "name": "line", "storage": str(folder / "out"),
        "data": {"path": str(folder / "pool.jsonl"), "id_column": "id", "max_length": 128, "prompt_style": "plain"},
        "proxy": {"model": {"path": str(ASSETS / "proxy_base")}, **training},
        "trajectory": {"num_points": 4},
        "selection": {"budget": 0.11, "num_clusters": 20, "controls": ["random"]},
        "target": {"model": {"path": str(ASSETS / "target_base")}, **training},
        "evaluation": {"tasks": [task]},
        "resources": {"num_workers": 1, "use_gpu": use_gpu, "ray_address": "local"},
    })


def main() -> None:
    """Run it and show the phases."""
    is_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_000 if is_gpu else 300)
    parser.add_argument("--steps", type=int, default=300 if is_gpu else 4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s2l-line-") as name:
        folder = Path(name)
        write_files(folder, given.rows, 400 if is_gpu else 32, seed=0)
        started = time.monotonic()
        plan = plan_run(recipe_of(folder, given.steps, 128 if is_gpu else 8, is_gpu))
        planned = time.monotonic() - started
        with session(plan.recipe.resources, plan.storage):
            ready = time.monotonic() - started
            run_plan(plan, "tests/gpu/line.py")
            total = time.monotonic() - started
        manifests = {step.label: step.artifact.manifest() for step in plan.steps}
    table = Table("stage", "seconds", *PHASES, title=f"{given.rows:,} rows, {given.steps} steps, {total:.0f} s in all")
    for label, manifest in manifests.items():
        phases = manifest.get("phases_s", {})
        table.add_row(label, f"{manifest['wall_s']:.1f}", *(f"{phases[p]:.1f}" if p in phases else "" for p in PHASES))
    Console(width=120).print(table)
    print(json.dumps({
        "check": "line", "device": torch.cuda.get_device_name() if is_gpu else "cpu", "cores": os.cpu_count(),
        "commit": git_commit(), "versions": package_versions(), "planned_s": round(planned, 1), "ray_s": round(ready, 1),
        "total_s": round(total, 1), "rows": given.rows, "steps": given.steps,
        "stages": {label: {"wall_s": m["wall_s"], "phases_s": m.get("phases_s")} for label, m in manifests.items()},
    }))


if __name__ == "__main__":
    main()

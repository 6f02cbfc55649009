"""A million short rows up to the selection, in memory bounded by a limit that is kept.

    python tests/benchmarks/load.py [--rows 1000000] [--limit-mb 4096] [--points 4]

Generated rows, no two alike, go through prepare, proxy (a few steps), trajectories (the quickstart's base model) and
select (S2L, K=100, 1 %) as `s2l select` runs them, on a Ray cluster of this machine's cores. The limit is kept twice:
  each process  by the kernel, RLIMIT_DATA of this process and so of all below it: its private writable memory
  all of them   by a watch that adds up the proportional set sizes of this process and all below it every half second,
                and ends the run, with exit code 1, once the sum is above the limit
Prints seconds, rows a second and the peaks of each stage: this process, the largest worker, and the sum over all. Then
one JSON line with commit and machine.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
import ray
import torch
from scale_out import recipe_of
from selection import setting

from s2l_ray.cli.output import quiet
from s2l_ray.execution.cluster import ray_session
from s2l_ray.pipeline.plan import RunPlan, plan_run
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.selection import SelectionConfig

CLUSTERS, BUDGET = 100, 0.01
EVERY_S = 0.5


class Tree:
    """Proportional set sizes, in MB, of this process and all below it while the block runs, and their peaks.

    The sum counts a page once that several of them share, such as those of the object store. Above `limit_mb` the
    workers are killed and the block ends with KeyboardInterrupt.
    """

    def __init__(self, limit_mb: int) -> None:
        self.limit_mb, self.is_over = limit_mb, False
        self.peaks = {"driver_mb": 0.0, "largest_worker_mb": 0.0, "all_mb": 0.0}

    def __enter__(self) -> "Tree":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def take_peaks(self) -> dict[str, float]:
        """Return the peaks since the last call, what is taken now being one."""
        self._look()
        peaks, self.peaks = self.peaks, dict.fromkeys(self.peaks, 0.0)
        return {name: round(mb) for name, mb in peaks.items()}

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            workers = self._look()
            if self.peaks["all_mb"] > self.limit_mb:
                self.is_over = True
                for process in workers:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                os.kill(os.getpid(), signal.SIGINT)
                return

    def _look(self) -> list[psutil.Process]:
        """Note what is taken now, and return Ray's workers."""
        own = psutil.Process()
        below = {process: _proportional_mb(process) for process in own.children(recursive=True)}
        workers = [process for process in below if _title(process).startswith("ray::")]
        driver = _proportional_mb(own)
        now = {"driver_mb": driver, "all_mb": driver + sum(below.values()),
               "largest_worker_mb": max((below[worker] for worker in workers), default=0.0)}
        self.peaks = {name: max(mb, now[name]) for name, mb in self.peaks.items()}
        return workers


def _proportional_mb(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss / 2**20
    except psutil.Error:  # it has ended
        return 0.0


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def bound_each_process(limit_mb: int) -> None:
    """Let the kernel refuse this process, and those that it starts from now on, more private memory than the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mb << 20, limit_mb << 20))


def write_sums(file: Path, num_rows: int) -> None:
    """Write short rows, no two of them alike."""
    with file.open("w", encoding="utf-8") as stream:
        for number in range(num_rows):
            row = {"instruction": f"Add {number} and {number % 97}.", "input": "", "output": str(number + number % 97)}
            stream.write(json.dumps(row) + "\n")


def plan_of(folder: str, num_rows: int, num_points: int) -> RunPlan:
    """Write the rows and return the line up to their selection."""
    write_sums(Path(folder) / "pool.jsonl", num_rows)
    data = {"path": f"{folder}/pool.jsonl", "max_length": 64, "prompt_style": "plain"}
    recipe = recipe_of(folder, data, {"path": str(ASSETS / "proxy_base")}, num_points)
    selection = SelectionConfig(selector="s2l", num_clusters=CLUSTERS, budget=BUDGET)
    return plan_run(recipe.model_copy(update={"selection": selection}), "select")


def stages_of(plan: RunPlan, tree: Tree) -> Iterator[dict[str, Any]]:
    """Run every step of the line and yield what it took."""
    with ray_session(plan.recipe.resources, plan.storage):
        for step in plan.steps:
            started = time.perf_counter()
            rows = step.run()["rows"]
            seconds = time.perf_counter() - started
            num_rows = max(rows.values(), default=0)
            yield {"stage": step.label, "rows": rows, "seconds": round(seconds, 1),
                   "rows_per_s": round(num_rows / seconds), **tree.take_peaks()}


def measured(num_rows: int, limit_mb: int, num_points: int) -> list[dict[str, Any]]:
    """Run the line below the limit and print a row of the table for each stage.

    Raises
    ------
    MemoryError
        All processes together took more than the limit.
    """
    stages = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background may have it ignored
    bound_each_process(limit_mb)
    print(f"{'stage':16}{'seconds':>9}{'rows/s':>9}{'driver MB':>11}{'worker MB':>11}{'all MB':>9}", flush=True)
    with tempfile.TemporaryDirectory() as folder, Tree(limit_mb) as tree:
        try:
            for stage in stages_of(plan_of(folder, num_rows, num_points), tree):
                stages.append(stage)
                print(f"{stage['stage']:16}{stage['seconds']:>9}{stage['rows_per_s']:>9,}{stage['driver_mb']:>11,}"
                      f"{stage['largest_worker_mb']:>11,}{stage['all_mb']:>9,}", flush=True)
        except (KeyboardInterrupt, Exception):
            if tree.is_over:
                raise MemoryError(f"{tree.peaks['all_mb']:,.0f} MB, the limit is {limit_mb:,} MB") from None
            raise
    return stages


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to generate (1,000,000)")
    parser.add_argument("--limit-mb", type=int, default=4096, help="most memory of all processes together (4096)")
    parser.add_argument("--points", type=int, default=4, help="trajectory points, one a step of the proxy (4)")
    asked = parser.parse_args()
    quiet()
    try:
        stages = measured(asked.rows, asked.limit_mb, asked.points)
    except MemoryError as error:
        sys.exit(f"over the limit: {error}")
    print(json.dumps({
        "benchmark": "load", **setting(), "rows": asked.rows, "points": asked.points, "limit_mb": asked.limit_mb,
        "torch": torch.__version__, "ray": ray.__version__, "peak_mb": max(stage["all_mb"] for stage in stages),
        "seconds": round(sum(stage["seconds"] for stage in stages), 1), "stages": stages,
    }))


if __name__ == "__main__":
    main()

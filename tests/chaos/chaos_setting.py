"""What is run under attack: a small pool, three commands over it, and what they come to when nothing disturbs them."""

import atexit
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from chaos_cluster import Cluster, wait_for
from chaos_places import Place

from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import write_files

ROOT = Path(__file__).resolve().parents[2]
LINE = ("prepare", "proxy", "trajectories", "embed", "select", "finetune", "evaluate")
STAGES = (*LINE, "sweep")
_SHARED = LINE[:3]  # what a sweep's trials start from
_COLD_S = 6.0  # evaluating finds warm workers in the undisturbed run, and starts them where it is attacked
_POOL_ROWS, _HELD_OUT_ROWS = 1200, 48


def command_of(stage: str) -> str:
    """Return the command in whose run a stage is attacked: no more trainings than its question needs."""
    if stage == "sweep":
        return "sweep"
    return "run" if stage in ("finetune", "evaluate") else "select"


def stages_before(stage: str) -> tuple[str, ...]:
    """Return the stages that are finished when an attacked run begins."""
    return _SHARED if stage == "sweep" else LINE[: LINE.index(stage)]


def recipe_of(data: Path, storage: str, controls: list[str], *, adapters: bool) -> dict[str, Any]:
    """Return a recipe that needs every stage and little time; both trainings have two workers and checkpoints."""
    training: dict[str, Any] = {"global_batch_size": 16, "micro_batch_size": 8, "learning_rate": 1e-3,
                                "precision": "fp32"}
    if adapters:
        training |= {"learning_rate": 1e-2, "lora": {"rank": 4}}
    return {
        "name": "chaos",
        "storage": storage,
        "data": {"path": str(data / "pool.jsonl"), "id_column": "id", "source_column": "source", "max_length": 64,
                 "shard_rows": 40, "prompt_style": "plain"},
        "proxy": {"model": {"path": str(ASSETS / "proxy_base")}, "max_steps": 60, "num_checkpoints": 2, **training},
        "trajectory": {"num_points": 3, "precision": "fp32"},
        "selection": {"budget": 0.1, "num_clusters": 8, "controls": controls},
        "target": {"model": {"path": str(ASSETS / "target_base")}, "max_steps": 12, "num_checkpoints": 1,
                   "zero_stage": 2, **training},
        "evaluation": {"tasks": [{"name": "problems", "path": str(data / "held_out.jsonl"),
                                  "metrics": ["loss", "exact_match"], "max_new_tokens": 8}]},
        "sweep": {"space": {"selection.budget": [0.1], "selection.num_clusters": [4], "seed": [0]},
                  "control_seeds": 1, "max_concurrent_trials": 2},
        "resources": {"num_workers": 2, "num_scoring_workers": 2, "max_failures": 2, "wait_timeout_s": 60},
    }


class Driver:
    """One run of a command as a process of its own, on the cluster, with its output kept."""

    def __init__(self, command: str, recipe: dict[str, Any], cluster: Cluster, environment: dict[str, str],
                 logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._out, self._err = logs / "stdout.txt", logs / "stderr.txt"
        (logs / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        code = "import sys; from s2l_ray.cli.main import main; main(sys.argv[1:])"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, command, str(logs / "recipe.yaml")], stdout=out, stderr=err,
                env={**environment, "RAY_ADDRESS": cluster.address},
            )
        atexit.register(self.kill)  # where the script is ended in the midst of a run
        self.started, self.ended = time.monotonic(), 0.0

    def wait_until_begun(self, place: Place, seconds: float) -> bool:
        """Wait until the cluster's nodes have been checked, when the first unfinished stage begins."""
        seen = wait_for(lambda: self.is_over() or place.has_preflight(), seconds, 0.03)
        return seen and wait_for(lambda: self.is_over() or not place.has_preflight(), seconds, 0.03)

    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return self.process.poll() is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False if the time is over before, and the process is killed then."""
        if not wait_for(self.is_over, seconds, 0.1):
            return False
        self.ended = time.monotonic()
        return True

    def kill(self) -> None:
        """Kill the process at once."""
        self.process.kill()
        self.process.wait()

    @property
    def seconds(self) -> float:
        """Return how long it ran."""
        return round((self.ended or time.monotonic()) - self.started, 1)

    @property
    def said(self) -> tuple[str, str]:
        """Return stdout and stderr."""
        return tuple(file.read_text(errors="replace") for file in (self._out, self._err))  # type: ignore[return-value]


@dataclass
class Undisturbed:
    """The runs that nothing disturbs: their artifacts, what they choose, and when in a run each stage is at work."""

    data: Path
    storage: Path
    adapters: bool = False
    """Whether proxy and target train adapters instead of all their weights."""
    selected: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Command -> selection -> chosen ids by rank."""
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    """Command -> evaluation -> held-out loss."""
    stage_s: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds that it takes, from the moment it begins."""
    command_s: dict[str, float] = field(default_factory=dict)

    def recipe(self, command: str, storage: str) -> dict[str, Any]:
        """Return the recipe of a command on a storage."""
        recipe = recipe_of(self.data, storage, ["random", "k_center"] if command == "select" else [],
                           adapters=self.adapters)
        if command == "sweep":  # its trials run side by side, one worker each
            recipe["resources"]["num_workers"] = 1
        return recipe


def run_undisturbed(
    folder: Path, commands: set[str], cluster: Cluster, environment: dict[str, str], *, adapters: bool = False
) -> Undisturbed:
    """Run the commands that are asked for and those that they build on, one after another.

    Raises
    ------
    RuntimeError
        One of them fails, undisturbed.
    """
    calm = Undisturbed(folder / "data", folder / "undisturbed", adapters)
    write_files(calm.data, _POOL_ROWS, _HELD_OUT_ROWS, seed=0)
    for command in ("select", "run", "sweep"):
        if command not in commands | {"select"}:
            continue
        storage = calm.storage if command != "sweep" else folder / "undisturbed-sweep"
        place = Place(str(storage), str(storage))
        if command == "sweep":
            place.fill(calm.storage, _SHARED)
        driver = Driver(command, calm.recipe(command, str(storage)), cluster, environment,
                        folder / "logs" / f"undisturbed-{command}")
        driver.wait_until_begun(place, 120)
        begun = time.monotonic()
        if not driver.wait(600) or driver.process.returncode:
            raise RuntimeError(f"the undisturbed {command} failed: {driver.said[1][-2000:]}")
        calm.command_s[command] = driver.seconds
        calm.selected[command], calm.losses[command] = selected_ids(place), held_out_losses(place)
        if command == "sweep":
            calm.stage_s["sweep"] = driver.ended - begun
            shutil.rmtree(storage)
        else:
            calm.stage_s |= _seconds_of_stages(storage, {"select": LINE[:5], "run": LINE[5:]}[command])
    if "evaluate" in calm.stage_s:
        calm.stage_s["evaluate"] += _COLD_S
    return calm


def _seconds_of_stages(storage: Path, stages: tuple[str, ...]) -> dict[str, float]:
    manifests = [json.loads(file.read_text()) for stage in stages for file in storage.glob(f"{stage}/*/manifest.json")]
    return {stage: sum(m["wall_s"] for m in manifests if m["stage"] == stage) for stage in stages}


def held_out_losses(place: Place) -> dict[str, float]:
    """Return the held-out loss of every finished evaluation that lies in a storage."""
    names = [name for name in place.storage.list_names("evaluate")
             if place.storage.exists(f"evaluate/{name}/manifest.json")]
    manifests = {name: place.storage.read_json(f"evaluate/{name}/manifest.json") for name in names}
    return {name: manifest["metrics"]["problems"]["loss"]["value"] for name, manifest in manifests.items()}


def selected_ids(place: Place) -> dict[str, list[str]]:
    """Return the chosen ids of every selection that lies in a storage, by rank."""
    found = {}
    for name in place.storage.list_names("select"):
        file = f"select/{name}/selection.parquet"
        if place.storage.exists(file):
            with place.storage.filesystem.open_input_file(place.storage.path(file)) as stream:
                found[name] = pq.read_table(stream, columns=["example_id"])["example_id"].to_pylist()
    return found

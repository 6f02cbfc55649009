"""Sweeps by Ray Tune, their trials' work on this machine beside it: .venv/bin/pytest tests/integration/test_sweep.py

tests/integration/test_submit.py runs one on a cluster.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pyarrow.parquet as pq
import pytest
import ray

from s2l_ray.cli.main import main
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.sweep.run import plan_sweep, run_sweep, trials_at_a_time
from s2l_ray.sweep.space import plan_trials
from s2l_ray.sweep.summary import estimates_of, results_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def space(*seeds):
    return {"selection.budget": [0.1], "selection.num_clusters": [4], "seed": list(seeds)}


@pytest.fixture(scope="module")
def run_here(ray_cluster, on_this_machine):
    """A function (recipe) -> the recipe's sweep, run."""

    def run(recipe):
        with on_this_machine():
            return run_sweep(plan_sweep(recipe, "test"))

    return run


@pytest.fixture(scope="module")
def swept(run_here, small_recipe, word_problems, tmp_path_factory):
    """A function (seeds, changes) -> recipe of one storage, and what its first sweep came to.

    Two workers of one CPU take both of the cluster's, and three trials at a time are asked for: no trial's own process
    may hold what another one's workers wait for. One trial cannot write its model.
    """
    folder = tmp_path_factory.mktemp("sweep")

    def recipe(*seeds, **changes):
        return small_recipe(word_problems, folder, **{
            "name": "tried", "sweep.space": space(*seeds), "sweep.control_seeds": 2, "sweep.max_concurrent_trials": 3,
            "evaluation.tasks": [{"name": "problems", "path": str(word_problems / "held_out.jsonl"), "metrics": ["loss"]}],
            "resources.max_failures": 0, **changes,
        })

    first = recipe(0, 1)
    broken = next(trial for trial in plan_trials(first) if trial.name == "random-b0.1-seed1")
    artifact = plan_run(broken.recipe).step("finetune", "random").artifact
    artifact.storage.write_bytes(artifact.file("model"), b"in the way")
    return recipe, run_here(first), artifact


def test_a_failed_trial_is_a_failure_with_its_error_and_the_rest_go_on(swept):
    _, sweep, _ = swept
    states = {trial.name: sweep.state(trial.name) for trial in sweep.trials}
    assert states == {
        "s2l-b0.1-k4-seed0": "finished", "s2l-b0.1-k4-seed1": "finished", "random-b0.1-seed0": "finished",
        "random-b0.1-seed1": "failed", "full-seed0": "finished",
    }
    assert list(sweep.errors) == ["random-b0.1-seed1"] and "random-b0.1-seed1" in sweep.errors["random-b0.1-seed1"]
    table = pq.read_table(f"{sweep.storage.uri}/sweeps/tried/trials.parquet").to_pylist()
    by_name = {row["trial"]: row for row in table}
    assert by_name["random-b0.1-seed1"]["metrics"] == [] and by_name["random-b0.1-seed1"]["error"]
    assert all(dict(row["metrics"])["problems.loss"] > 0 and row["wall_s"] > 0 for row in table if row["state"] == "finished")
    found = estimates_of(sweep)
    assert {point: e.num_seeds for point, e in found.items()} == {"s2l-b0.1-k4": 2, "random-b0.1": 1, "full": 1}
    assert list(found) == sorted(found, key=lambda point: found[point].value), "the lowest loss first"


def test_what_trials_share_is_made_once(swept):
    _, sweep, _ = swept
    assert [step.label for step in sweep.shared] == ["prepare", "prepare task problems", "proxy", "trajectories"]
    for stage in ("prepare", "proxy", "trajectories"):
        held_out = stage == "prepare"  # its own artifact beside the pool's
        assert len(sweep.storage.list_names(stage)) == 1 + held_out
    assert len(sweep.storage.list_names("select")) == 5


def test_tensorboard_files_are_written(swept):
    _, sweep, _ = swept
    trials = [name for name in sweep.storage.list_names("sweeps/tried/tune") if "-seed" in name]
    assert len(trials) == 5
    for name in trials:
        assert any("tfevents" in file for file in sweep.storage.list_names(f"sweeps/tried/tune/{name}"))


def test_the_record_is_json_that_says_what_ran(swept):
    _, sweep, _ = swept
    record = sweep.storage.read_json("sweeps/tried/sweep.json")
    assert (record["num_trials"], record["metric"], record["mode"]) == (5, "problems.loss", "min")
    assert [step["label"] for step in record["trials"][0]["steps"]] == [
        "prepare", "prepare task problems", "proxy", "trajectories", "select s2l", "finetune s2l", "evaluate s2l"
    ]
    json.dumps(results_of(sweep))


def test_a_sweep_goes_on_where_it_ended_and_may_be_moved_to_more_trials_at_a_time(swept, run_here):
    recipe, before, blocked = swept
    blocked.storage.delete(blocked.file("model"))
    kept = {t.name: before.plans[t.name].steps[-1].artifact.manifest() for t in before.trials if t.name != "random-b0.1-seed1"}
    moved = recipe(0, 1, **{"resources.num_workers": 1})
    assert trials_at_a_time(moved.resources, 3) == 2  # of one CPU each, on two
    sweep = run_here(moved)
    assert sweep.reused == set(kept) and not sweep.errors
    assert all(plan.is_finished for plan in sweep.plans.values())
    assert all(sweep.plans[name].steps[-1].artifact.manifest() == manifest for name, manifest in kept.items())


def test_asha_gives_up_points_between_their_seeds(swept, run_here):
    recipe, *_ = swept
    tried = recipe(0, 1, 2, **{
        "resources.num_workers": 1, "sweep.scheduler": "asha", "sweep.max_concurrent_trials": 1,
        "sweep.control_seeds": 1, "sweep.space": {**space(0, 1, 2), "selection.num_clusters": [4, 2]},
    })
    sweep = run_here(tried)
    states = {trial.name: sweep.state(trial.name) for trial in sweep.trials}
    assert not sweep.errors and "stopped" in states.values()
    by_point = {}
    for trial in sweep.trials:
        by_point.setdefault(trial.point, []).append(states[trial.name])
    for of_point in by_point.values():  # every point had its first seed, and what was given up is at the end
        assert of_point[0] == "finished" and of_point == sorted(of_point)


def test_the_command_says_what_it_found(swept, capsys):
    recipe, *_ = swept
    file = f"{recipe(0).storage}/recipe.json"
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(recipe(0, 1).model_dump(), stream)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", file])
    out = capsys.readouterr()
    assert ended.value.code == 0, out.err
    found = json.loads(out.out.splitlines()[-1])
    assert found["trials"] == {"finished": 5} and found["reused"] == 5
    assert "5 trials, 3 of them controls, 5 of them finished before" in out.err
    assert "s2l-b0.1-k4" in out.out and ray.is_initialized()


@pytest.fixture
def mlflow_server(tmp_path):
    """The address of an MLflow server that keeps its runs in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", (tmp_path / "mlruns").as_uri(),
               "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"},
                                  start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2):
                break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its own session: the server and its workers, and nothing else
        server.wait(timeout=30)


def test_mlflow_gets_settings_and_metrics(swept, run_here, mlflow_server, monkeypatch):
    recipe, *_ = swept
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    tracked = recipe(5, **{"name": "tracked", "sweep.tracking": "mlflow", "sweep.control_seeds": 1, "resources.num_workers": 1})
    sweep = run_here(tracked)
    assert not sweep.errors
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_server)
    runs = client.search_runs([client.get_experiment_by_name("tracked").experiment_id])
    logged = {run.data.params["settings/trial"]: run for run in runs}
    assert set(logged) == {"s2l-b0.1-k4-seed5", "random-b0.1-seed5", "full-seed5"}
    for name, run in logged.items():
        assert run.info.status == "FINISHED"
        row = next(row for row in sweep.table().to_pylist() if row["trial"] == name)
        assert run.data.metrics["problems.loss"] == pytest.approx(dict(row["metrics"])["problems.loss"])
    assert logged["s2l-b0.1-k4-seed5"].data.params["settings/selection.budget"] == "0.1"

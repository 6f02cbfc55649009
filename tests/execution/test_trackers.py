"""Trackers of a training, and the curve that it keeps: .venv/bin/pytest tests/execution/test_trackers.py"""

import dataclasses
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from s2l_ray.errors import InputError
from s2l_ray.execution import trackers
from s2l_ray.execution.trackers import check_trackers
from s2l_ray.execution.train_worker import fine_tune
from s2l_ray.modeling.tracked import tracked
from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.storage.files import Storage
from tests.execution.test_train_worker import Host, run_of

KEY = "0123456789abcdef" * 2 + "01234567"  # as long as a real one


def recipe_with(*names):
    model = {"path": "some/model"}
    return parse_recipe({"name": "mine", "report_to": list(names), "data": {"path": "pool.jsonl"}, "selection": {"budget": 0.25},
                         "proxy": {"model": model, "epochs": 1}, "target": {"model": model, "max_steps": 4}})


def train(folder, *names, storage=None, **changes):
    selection = {"selector": "s2l", "budget": 0.25, "rows": 16, "fingerprint": "abc"}
    about = tracked(recipe_with(*names), "s2l", "1a2b3c4d5e6f", {"selection": selection})
    run = dataclasses.replace(run_of(folder, **changes), tracked=about)
    return fine_tune(run if storage is None else dataclasses.replace(run, storage=storage), Host())


@pytest.fixture
def as_before():
    def own():
        return {name: value for name, value in os.environ.items() if name.startswith(("TENSORBOARD", "WANDB", "MLFLOW"))}

    before = own()
    yield
    assert own() == before


def test_tensorboard_has_the_losses_the_recipe_and_the_selection(tmp_path, as_before):
    outcome = train(tmp_path, "tensorboard")
    found = EventAccumulator(str(tmp_path / "tensorboard" / "mine" / "s2l-1a2b3c4d"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [
        (entry["step"], pytest.approx(entry["loss"])) for entry in outcome["history"] if "loss" in entry]
    texts = {name.partition("/")[0]: found.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in found.Tags()["tensors"]}
    assert '"budget": 0.25' in texts["selection"] and '"fingerprint": "abc"' in texts["selection"]
    assert '"path": "pool.jsonl"' in texts["recipe"]


def test_a_storage_elsewhere_gets_the_files_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(Storage, "is_local", property(lambda self: False))
    train(tmp_path, "tensorboard")
    assert any("tfevents" in name for name in Storage(str(tmp_path)).list_names("tensorboard/mine/s2l-1a2b3c4d"))


def test_mlflow_has_a_run_with_parameters_and_losses(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    outcome = train(tmp_path, "mlflow")
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine/s2l-1a2b3c4d", "FINISHED")
    said = {key: run.data.params[key] for key in ("selection.selector", "selection.rows", "recipe.selection.budget", "trained")}
    assert said == {"selection.selector": "s2l", "selection.rows": "16", "recipe.selection.budget": "0.25", "trained": "s2l"}
    losses = [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == pytest.approx([entry["loss"] for entry in outcome["history"] if "loss" in entry])


def test_wandb_offline_keeps_a_run_without_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    train(tmp_path, "wandb")
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    contents = [path.read_bytes() for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    (kept,) = folder.glob("*.wandb")
    for said in (b"mine/s2l-1a2b3c4d", b"pool.jsonl", b"train/loss"):
        assert said in kept.read_bytes()
    assert not any(KEY.encode() in content for content in contents)


def test_what_is_not_the_first_process_reports_nothing(tmp_path, monkeypatch):
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "process_index", property(lambda self: 1))
    train(tmp_path, "tensorboard")
    assert not (tmp_path / "tensorboard").exists()


def test_trackers_change_no_loss(tmp_path):
    one, other = train(tmp_path / "one", "tensorboard"), fine_tune(run_of(tmp_path / "other"), Host())
    assert one["curve"] == other["curve"]


@pytest.mark.parametrize(("tracker", "environment", "message"), [
    ("mlflow", {}, "report_to=mlflow needs MLFLOW_TRACKING_URI in the environment: set it and run again"),
    ("wandb", {}, "needs WANDB_API_KEY in the environment: set it, or WANDB_MODE=offline"),
    ("wandb", {"WANDB_MODE": "online"}, "needs WANDB_API_KEY"),
])
def test_a_tracker_without_an_address_or_key_is_refused(tracker, environment, message, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        check_trackers("report_to", [tracker])
    check_trackers("report_to", ["tensorboard"])


def test_a_tracker_that_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.setitem(trackers.NEEDS, "wandb", trackers.NEEDS["wandb"]._replace(packages=("no_such_package",)))
    with pytest.raises(InputError, match=r"report_to=wandb needs the package no_such_package: pip install 's2l-ray\[wandb\]'"):
        check_trackers("report_to", ["wandb"])

"""Secrets of the environment end nowhere: not in files, not on the screen, not in any process's arguments."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan

# Shaped like the real ones, and none of them is.
PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "plantedAwsSecret/1f0e9d8c7b6a5", "AWS_SESSION_TOKEN": "plantedAwsSession2f0e9d8c",
    "HF_TOKEN": "hf_plantedHubToken3f0e9d8c7b6a", "WANDB_API_KEY": "planted4wandb0123456789abcdef0123456789abc",
    "MLFLOW_TRACKING_PASSWORD": "plantedMlflow5f0e9d8c", "S2L_TEST_SECRET": "plantedOther6f0e9d8c",
}


def command_lines_below(pid):
    """Return the arguments of every process below one, itself included."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or another user's
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    below, grown = {pid}, True
    while grown:
        new = {child for child, parent in parents.items() if parent in below} - below
        below, grown = below | new, bool(new)
    return [lines[each] for each in below if each in lines]


def places_of_secrets(folder):
    """Return (file, name of the secret) for each file below a folder that holds one."""
    found = []
    for file in Path(folder).rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            found += [(str(file), name) for name, value in PLANTED.items() if value.encode() in content]
    return found


def run_watched(arguments, environment):
    """Run a command; returns (exit code, output, the command lines seen below it, the process's id)."""
    process = subprocess.Popen([sys.executable, "-c", "from s2l_ray.cli.main import main; main()", *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seen = set()
    deadline = time.monotonic() + 850
    while process.poll() is None and time.monotonic() < deadline:
        seen.update(command_lines_below(process.pid))
        time.sleep(0.5)
    output, _ = process.communicate(timeout=10)
    return process.returncode, output, seen, process.pid


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes by way of /proc")
@pytest.mark.parametrize(("until", "place"), [("report", "local"), ("report", None), ("broken", None)],
                         ids=["on Ray", "without Ray", "broken"])
def test_a_run_keeps_the_secrets_of_its_environment(until, place, on_this_machine, small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path / "out", **{
        "resources.num_workers": 1, "resources.ray_address": place, "selection.controls": []})
    if place:  # on Ray, training and evaluation are left to do
        with on_this_machine():
            run_plan(plan_run(recipe, "trajectories"), "test")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    environment = {**os.environ, **PLANTED}
    environment.pop("RAY_ADDRESS", None)
    more = ["--debug"] if until == "report" else ["--debug", "data.max_row_chars=1"]
    code, output, seen, pid = run_watched(["run", str(file), *more], environment)
    assert code == (0 if until == "report" else 2), output
    assert any("raylet" in line for line in seen) == (place == "local"), "the run did start Ray"
    assert place or sum("warm_server" in line for line in seen) == 1, "and its workers are forks, by the same command line"
    assert [name for name, value in PLANTED.items() if value in output] == []
    assert [line for line in seen for value in PLANTED.values() if value in line] == []
    assert places_of_secrets(tmp_path) == []
    kept = tmp_path / "out" / "runs" / "small" / ("report.html" if until == "report" else "run.json")
    assert kept.is_file()
    if place is None:
        return
    session = max(Path("/tmp/ray").glob(f"session_*_{pid}"))  # their names begin with the time
    assert any(session.glob("logs/*")) and places_of_secrets(session) == [], "nor in Ray's own logs"


@pytest.mark.parametrize("command", ["run", "status", "selectors", "recipes", "bad recipe"])
def test_no_command_says_a_secret(command, s2l, tmp_path, monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "recipe.yaml").write_text("storage: ${oc.env:HF_TOKEN}\ndata: {path: x}\n")
    arguments = {"run": ["run", tmp_path / "recipe.yaml"], "bad recipe": ["run", tmp_path / "recipe.yaml", "seed=${oc.env:HF_TOKEN}"],
                 "status": ["status", "x", "--storage", tmp_path]}.get(command, [command])
    _, out, err = s2l(*arguments)
    assert [name for name, value in PLANTED.items() if value in out + err] == []


def test_a_manifest_holds_no_environment(tmp_path, monkeypatch):
    from s2l_ray.storage.artifacts import Artifact
    from s2l_ray.storage.files import Storage

    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    manifest = Artifact(Storage.open(str(tmp_path)), "prepare", {"a": 1}).publish({"rows": {}}, started=0)
    assert not any(value in json.dumps(manifest) for value in PLANTED.values())
    assert places_of_secrets(tmp_path) == []

"""The state of a run, read from its storage alone: from any machine, while it runs or long after."""

from typing import Any

from s2l_ray.artifacts import read_manifest
from s2l_ray.errors import InputError
from s2l_ray.storage import Storage


def split_run(run: str, storage: str) -> tuple[Storage, str]:
    """Return the storage and the name of a run given as a folder (.../runs/NAME) or as a bare name."""
    folder, mark, query = run.partition("?") if "://" in run else (run, "", "")
    base, found, name = folder.rstrip("/").rpartition("/runs/")
    if found:
        return Storage(f"{base}{mark}{query}"), name
    return Storage(storage), run.rstrip("/").removeprefix("runs/")


def status_of(storage: Storage, run: str) -> dict[str, Any]:
    """Return the state of every step of a run or a sweep: finished, unfinished (work is kept) or waiting.

    Raises
    ------
    InputError
        There is no such run, or its record or a manifest is damaged.
    """
    files = [f"runs/{run}/run.json", f"runs/{run}/sweep.json"]
    file = next((file for file in files if storage.exists(file)), None)
    if file is None:
        known = ", ".join(storage.list_names("runs")) or "none"
        raise InputError(f"storage {storage.uri!r} has no run {run!r}; runs there: {known}")
    record = storage.read_json(file)
    if file == files[1]:
        record = _as_run(record)
    if not _is_record(record):
        raise InputError(f"{storage.uri_of(file)}: not a run's record; run the recipe again to write it anew")
    states = []
    for step in record["steps"]:
        folder = f"{step['stage']}/{step['fingerprint']}"
        state: dict[str, Any] = {**step, "state": "waiting"}
        if storage.exists(f"{folder}/manifest.json"):
            manifest = read_manifest(storage, step["stage"], step["fingerprint"])
            state |= {"state": "finished", "rows": manifest["rows"], "wall_s": manifest["wall_s"]}
        elif storage.exists(folder):
            state["state"] = "unfinished"
            state["finished_shards"] = len(storage.list_names(f"{folder}/shards"))
        states.append(state)
    left = [state["label"] for state in states if state["state"] != "finished"]
    return {"run": run, "storage": storage.uri, "command": record["command"], "steps": states, "left": left}


def _as_run(sweep: Any) -> Any:
    """Return a sweep's record as a run's: what all trials share, then what each has of its own."""
    try:
        steps = {step["fingerprint"]: step for step in sweep["shared"]}
        for trial in sweep["trials"]:
            for step in trial["steps"]:
                steps.setdefault(step["fingerprint"], {**step, "label": f"{trial['trial']}: {step['label']}"})
    except (TypeError, KeyError):
        return None
    return {**sweep, "steps": list(steps.values())}


def _is_record(record: Any) -> bool:
    """Tell whether this is what `record_run` writes; a stage or fingerprint that is a path would lead elsewhere."""
    if not isinstance(record, dict) or not isinstance(record.get("command"), str):
        return False
    steps = record.get("steps")
    names = ("label", "stage", "fingerprint")
    return isinstance(steps, list) and all(
        isinstance(step, dict) and all(isinstance(step.get(name), str) for name in names)
        and step["stage"].isalpha() and step["fingerprint"].isalnum() for step in steps
    )

"""The state of a run, read from its storage alone: from any machine, while it runs or long after."""

from typing import Any

from s2l_ray.results.record import Record
from s2l_ray.storage.artifacts import is_finished, read_manifest


def status_of(record: Record) -> dict[str, Any]:
    """Return the state of every step of a run or a sweep: finished, unfinished (work is kept) or waiting.

    Raises
    ------
    InputError
        A manifest is damaged.
    """
    storage, states = record.storage, []
    for step in record.steps:
        folder = f"{step['stage']}/{step['fingerprint']}"
        state: dict[str, Any] = {**step, "state": "waiting"}
        if is_finished(storage, step["stage"], step["fingerprint"]):
            manifest = read_manifest(storage, step["stage"], step["fingerprint"])
            state |= {"state": "finished", "rows": manifest["rows"], "wall_s": manifest["wall_s"]}
        elif storage.exists(folder):
            state["state"] = "unfinished"
            state["finished_shards"] = len(storage.list_names(f"{folder}/shards"))
        states.append(state)
    left = [state["label"] for state in states if state["state"] != "finished"]
    return {"run": record.name, "storage": storage.uri, "command": record.content["command"], "steps": states,
            "left": left}

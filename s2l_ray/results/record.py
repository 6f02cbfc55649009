"""A run's or a sweep's own account of what it consists of, read back from its storage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.storage.artifacts import is_name
from s2l_ray.storage.files import Storage

_FILES = {"runs": "run.json", "sweeps": "sweep.json"}
_STEP = ("label", "stage", "fingerprint")


@dataclass(frozen=True)
class Record:
    """What a run or a sweep wrote about itself."""

    storage: Storage
    folder: str
    """Its folder in the storage: runs/NAME or sweeps/NAME."""
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the run's name."""
        return str(self.content["name"])

    @property
    def is_sweep(self) -> bool:
        """Tell whether it is a sweep's."""
        return "trials" in self.content

    @property
    def uri(self) -> str:
        """Return the folder as people name it."""
        return self.storage.uri_of(self.folder)

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """Return all steps, each once; those that one trial alone has, with its name before theirs."""
        found = {_key(step): step for step in [*self.content.get("shared", []), *self.content.get("steps", [])]}
        for trial in self.content.get("trials", []):
            for step in trial["steps"]:
                found.setdefault(_key(step), {**step, "label": f"{trial['trial']}: {step['label']}"})
        return list(found.values())


def _key(step: Mapping[str, Any]) -> tuple[str, str]:
    return step["stage"], step["fingerprint"]


def find_record(run: str, storage: str) -> Record:
    """Return the record of a run or sweep given as its folder (.../runs/NAME, .../sweeps/NAME), or by its name alone.

    Parameters
    ----------
    storage
        Where a name is looked up.

    Raises
    ------
    InputError
        There is no such run, a run and a sweep bear that name, or the record is damaged.
    """
    place, kinds, name = split_run(run, storage)
    found = [kind for kind in kinds if is_name(name) and place.exists(f"{kind}/{name}/{_FILES[kind]}")]
    if not found:
        known = [f"{kind}/{known}" for kind in _FILES for known in place.list_names(kind)]
        raise InputError(f"storage {place.uri!r} has no run or sweep {name!r}; there: {', '.join(known) or 'none'}")
    if len(found) > 1:
        raise InputError(f"{name!r} is a run and a sweep: give runs/{name} or sweeps/{name}")
    file = f"{found[0]}/{name}/{_FILES[found[0]]}"
    content = place.read_json(file)
    if not _is_record(content):
        raise InputError(f"{place.uri_of(file)}: not the record of a run; run the recipe again to write it again")
    return Record(place, f"{found[0]}/{name}", content)


def fine_tuned(record: Record, arm: str | None) -> str:
    """Return the folder in the storage of a run's fine-tuned target; of a sweep's, that of a trial.

    Parameters
    ----------
    arm
        A selector or a trial's name; None takes what the run asked for.

    Raises
    ------
    InputError
        The run has none, or it is not clear which is meant.
    """
    found = {step["label"].replace("finetune ", ""): step for step in record.steps if step["stage"] == "finetune"}
    if arm is None and not record.is_sweep:
        arm = str(record.content["recipe"].get("selection", {}).get("selector", "s2l"))
    meant = [step for label, step in found.items() if arm is not None and arm in (label, label.partition(":")[0])]
    if len(meant) != 1:
        raise InputError(f"--arm {arm or 'is needed'}: {record.uri} has these fine-tuned targets: "
                         f"{', '.join(found) or 'none; run its recipe to the end, what is finished is reused'}")
    return f"finetune/{meant[0]['fingerprint']}"


def split_run(run: str, storage: str) -> tuple[Storage, list[str], str]:
    """Return the storage of a run, the folders that it may be in there, and its name."""
    path, mark, query = run.partition("?") if "://" in run else (run, "", "")
    for kind in _FILES:
        base, found, name = path.rstrip("/").rpartition(f"/{kind}/")
        if found:
            return Storage(f"{base}{mark}{query}"), [kind], name
        if path.startswith(f"{kind}/"):
            return Storage(storage), [kind], path.rstrip("/").removeprefix(f"{kind}/")
    return Storage(storage), list(_FILES), run.rstrip("/")


def _is_record(content: Any) -> bool:
    """Tell whether this is what a run or a sweep writes; a stage or fingerprint that is a path would lead elsewhere."""
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), dict):
        return False
    if not all(isinstance(content.get(key), str) for key in ("name", "command")):
        return False
    trials = content.get("trials", [])
    lists = [content.get("shared", content.get("steps"))]
    if not isinstance(content.get("started"), int | float) or not isinstance(trials, list):
        return False
    for trial in trials:
        if not isinstance(trial, dict) or not isinstance(trial.get("trial"), str):
            return False
        lists.append(trial.get("steps"))
    return all(isinstance(steps, list) and all(map(_is_step, steps)) for steps in lists)


def _is_step(step: Any) -> bool:
    return isinstance(step, dict) and all(isinstance(step.get(key), str) for key in _STEP) \
        and is_name(step["stage"]) and is_name(step["fingerprint"])

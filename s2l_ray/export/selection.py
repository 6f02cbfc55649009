"""Which selection is meant, and what lies behind it: its rows, its manifest, the pool's, the run's own record."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.loading import parse_part
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.results.record import Record, find_record
from s2l_ray.rows.chat_messages import Reading
from s2l_ray.rows.conversation import BadRow, Conversation
from s2l_ray.rows.leftovers import leftovers
from s2l_ray.storage.artifacts import is_finished, read_manifest
from s2l_ray.storage.files import Storage

_FOLDER = "/select/"


@dataclass(frozen=True)
class Selection:
    """A finished selection."""

    storage: Storage
    name: str
    """Of the run and, where it is not the one that the run asks for, the arm."""
    manifest: Mapping[str, Any]
    """Of the selection."""
    pool: Mapping[str, Any]
    """Of the prepared rows that it chose from."""
    recipe: Recipe | None
    """That makes it again; None where only the selection's folder was given."""

    def file(self, name: str) -> str:
        """Return the path of one of its files, relative to the storage."""
        return f"select/{self.manifest['fingerprint']}/{name}"

    @property
    def num_rows(self) -> int:
        """Return the number of rows chosen."""
        return int(self.manifest["rows"]["selected"])

    def conversations(self) -> Iterator[tuple[Conversation, list[str]]]:
        """Yield each chosen row's conversation by rank, with the names of what of the row is no part of it.

        Raises
        ------
        InputError
            The rows are not there, or changed since they were chosen.
        """
        about, reading = self.pool["identity"], Reading.recorded(self.pool)
        read_too = [name for field in ("id_column", "source_column") if (name := DataConfig.recorded(about, field))]
        place = self.storage.uri_of(self.file("subset.jsonl"))
        # By line feeds alone: texts may hold other characters that Python takes for ends of lines.
        lines = self.storage.read_bytes(self.file("subset.jsonl")).split(b"\n")[:-1]
        if len(lines) != self.num_rows:
            raise InputError(f"{place}: {len(lines):,} rows, {self.num_rows:,} were chosen: delete its folder and run "
                             "again")
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            try:
                conversation = reading.conversation(row)
            except BadRow as bad:
                raise InputError(f"{place} row {number}: {bad.detail}") from bad
            yield conversation, leftovers(row, reading.shape, reading.columns, read_too)


def find_selection(run: str, storage: str, arm: str | None) -> Selection:
    """Return a run's selection, or a control or trial of it.

    Parameters
    ----------
    run
        The run or sweep, by its folder or name; or the selection's own folder in a storage (.../select/FINGERPRINT).
    storage
        Where a name is looked up.
    arm
        A selector of the run, or a trial of the sweep; None takes the selector that the run asks for.

    Raises
    ------
    InputError
        There is no such run, arm or folder, or the selection is not finished.
    """
    base, is_folder, rest = f"/{run}".rpartition(_FOLDER) if run.startswith("select/") else run.rpartition(_FOLDER)
    if is_folder:
        if arm is not None:
            raise InputError(f"--arm {arm}: {run} is one selection; give its run to choose an arm")
        place = Storage(base or storage)
        fingerprint = rest.partition("/")[0]
        return _finished(place, fingerprint, f"selection-{fingerprint}", None, "select")
    record = find_record(run, storage)
    arms = _arms(record)
    asked = None if record.is_sweep else record.content["recipe"]["selection"]["selector"]
    wanted = arm or asked or (next(iter(arms)) if len(arms) == 1 else None)
    if wanted not in arms:
        what = f"--arm {arm}: no such selection" if arm else "several selections" if arms else "no selection"
        raise InputError(f"{record.uri}: {what}; name one with --arm: {', '.join(arms) or 'none'}")
    name = record.name if wanted == asked else f"{record.name}-{wanted}"
    return _finished(record.storage, arms[wanted], name, _recipe(record, wanted), str(record.content["command"]))


def _arms(record: Record) -> dict[str, str]:
    """Return the fingerprint of each arm's selection: of a run by selector, of a sweep by trial."""
    if record.is_sweep:
        return {trial["trial"]: step["fingerprint"] for trial in record.content["trials"]
                for step in trial["steps"] if step["stage"] == "select"}
    return {step["arm"]: step["fingerprint"] for step in record.steps if step["stage"] == "select" and step.get("arm")}


def _recipe(record: Record, arm: str) -> Recipe:
    """Return the recipe of one arm alone: the run's with that selector, the sweep's with the trial's settings."""
    trials = {trial["trial"]: trial for trial in record.content.get("trials", [])}
    settings = trials[arm]["overrides"] if record.is_sweep else {"selection.selector": arm}
    asked = [f"{key}={json.dumps(value)}" for key, value in {**settings, "selection.controls": []}.items()]
    return parse_part(Recipe, dict(record.content["recipe"]), asked)


def _finished(storage: Storage, fingerprint: str, name: str, recipe: Recipe | None, command: str) -> Selection:
    """Return the selection of this fingerprint after proving that it is whole and has its rows beside it."""
    place = storage.uri_of(f"select/{fingerprint}")
    if not is_finished(storage, "select", fingerprint):
        raise InputError(f"{place}: no finished selection; finish it with: {command}")
    manifest = read_manifest(storage, "select", fingerprint)
    if not storage.exists(f"select/{fingerprint}/subset.jsonl"):
        raise InputError(f"{place}: its rows (subset.jsonl) are not there: delete the folder and run again")
    pool = manifest["parents"].get("examples", "")
    if not is_finished(storage, "prepare", pool):
        raise InputError(f"{place}: the prepared rows that it chose from are gone (prepare/{pool}): run again")
    return Selection(storage, name, manifest, read_manifest(storage, "prepare", pool), recipe)

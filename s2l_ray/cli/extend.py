"""`s2l select --extend RUN MORE`: a finished selection grows by new rows, without another training."""

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.storage.artifacts import SEAL, is_finished, read_manifest

if TYPE_CHECKING:  # they take a second to load
    from s2l_ray.pipeline.plan import RunPlan
    from s2l_ray.recipe.recipe import Recipe
    from s2l_ray.results.record import Record


def extended(run: str, more: str, overrides: Sequence[str], budget: str | None) -> "Recipe":
    """Return a run's recipe with more rows: scored at the points that its proxy left, what was chosen being kept.

    Parameters
    ----------
    run
        Folder or name of a run whose selection is finished.
    more
        A file, a folder or a glob of new rows.
    budget
        Of the grown selection; None keeps a budget that is a share.

    Raises
    ------
    InputError
        There is no such run, its selection is not finished, its proxy is gone, or the budget has to be said.
    """
    from s2l_ray.recipe.loading import parse_tree  # heavy: OmegaConf
    from s2l_ray.results.record import find_record  # heavy: pyarrow

    record = find_record(run, "./out")
    if record.is_sweep:
        raise InputError(f"--extend {run}: this is a sweep, whose trials each chose for themselves: give a run")
    tree = dict(record.content["recipe"])
    selection, trajectory = tree["selection"], tree["trajectory"]
    if tree["data"].get("limit") is not None:
        raise InputError(f"--extend {run}: its data.limit={tree['data']['limit']:,} draws rows anew from all files, so "
                         "what was chosen would not be among them: select anew from a file of the rows that it had")
    given = {text.partition("=")[0] for text in overrides}
    if budget is None and "selection.budget" not in given and not isinstance(selection["budget"], float):
        raise InputError(f"--extend {run}: it chose {selection['budget']:,} examples; say with --budget how many it is "
                         "to have with the new rows")
    chosen = _step(record, "select", str(selection["selector"])).removeprefix("select/")
    points = trajectory.get("checkpoints") or (None if "trajectory.checkpoints" in given else _points(record))
    place = more if "://" in more else str(Path(more).expanduser().absolute())
    tree["data"] = {**tree["data"], "hub_revision": _revision(record), "more": [*tree["data"].get("more", []), place]}
    tree |= {"name": _free_name(record, tree["data"]["more"]), "storage": record.storage.uri}
    scored = next((step["fingerprint"] for step in record.steps if step["stage"] == "trajectories"
                   and is_finished(record.storage, step["stage"], step["fingerprint"])), None)
    tree["trajectory"] = {**trajectory, "checkpoints": points, "known": scored}
    tree["selection"] = {**selection, "extends": chosen, "controls": []}
    asked = [] if budget is None else [f"selection.budget={budget}"]
    return parse_tree(tree, [*overrides, *asked])


def _revision(record: "Record") -> str | None:
    """Return the commit that the run's rows are of, where they are the hub's: rows added there since are not meant."""
    from s2l_ray.recipe.data import DataConfig  # heavy: pydantic, as the next
    from s2l_ray.stages.prepare import commit_taken

    data = DataConfig.model_validate(record.content["recipe"]["data"])
    if data.hub_name is None or data.hub_revision is not None:
        return data.hub_revision
    commit = commit_taken(record.storage, data, _step(record, "prepare"))
    if commit is not None:
        note(f"--extend: {data.hub_name} is taken at {commit}, as the run had it")
    return commit


def _free_name(record: "Record", more: list[str]) -> str:
    """Return the run's name with -extended; a number behind it where that is a run by other rows."""
    def is_free(name: str) -> bool:
        file = f"runs/{name}/run.json"
        return not record.storage.exists(file) or record.storage.read_json(file)["recipe"]["data"].get("more") == more

    first = f"{record.name}-extended"
    return first if is_free(first) else next(name for number in itertools.count(2)
                                             if is_free(name := f"{first}-{number}"))


def origins(plan: "RunPlan") -> dict[str, Any]:
    """Return from which files the chosen rows are."""
    examples = plan.step("prepare").artifact
    selection = plan.step("select", plan.recipe.selection.selector).artifact
    chosen = selection.read_table("selection.parquet", ["example_id"])
    ids, files = set(chosen["example_id"].to_pylist()), Counter[str]()
    for name in examples.list_names("originals"):
        rows = examples.read_table(f"originals/{name}", ["example_id", "file"])
        files.update(file for one, file in zip(rows["example_id"].to_pylist(), rows["file"].to_pylist(), strict=True)
                     if one in ids)
    note(f"chosen by file: {', '.join(f'{count:,} of {file}' for file, count in sorted(files.items()))}")
    return {"extended": dict(sorted(files.items()))}


def _step(record: "Record", stage: str, selector: str | None = None) -> str:
    """Return the finished artifact's folder of a step of the run."""
    wanted = stage if selector is None else f"{stage} {selector}"
    found: Mapping[str, Any] | None = next((step for step in record.steps if step["label"] == wanted), None)
    folder = None if found is None else f"{stage}/{found['fingerprint']}"
    if found is None or folder is None or not is_finished(record.storage, stage, found["fingerprint"]):
        what = "selection" if stage == "select" else stage
        place = "" if folder is None else f" ({record.storage.uri_of(folder)})"
        raise InputError(f"--extend: the {what} of {record.uri}{place} is not there, unfinished or deleted: run its "
                         f"command again ({record.content['command']}), or start over on all rows with data.more=[...]")
    return folder


def _points(record: "Record") -> str | None:
    """Return the folder with the proxy's recorded points; None where the run had no proxy."""
    if not any(step["stage"] == "proxy" for step in record.steps):
        return None
    from s2l_ray.storage.files import resolve_local  # heavy: pyarrow

    folder = _step(record, "proxy")
    place = record.storage.uri_of(folder)
    local = resolve_local(place)
    if local is None:
        # By the hash of its manifest: another storage's proxy of this fingerprint has other last bits.
        manifest = read_manifest(record.storage, *folder.split("/"))
        local = cache_folder() / folder / manifest[SEAL]
        note(f"--extend: the proxy's points of {place} are brought to {local}, which may be deleted afterwards")
        record.storage.download_folder(folder, local)
    return str(local)


def cache_folder() -> Path:
    """Return where this user's programs keep what they can fetch again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s2l_ray"

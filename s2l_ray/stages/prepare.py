"""prepare: rows to tokenised examples in length-ordered shards, with every row accounted for."""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.work_units import run_units
from s2l_ray.modeling.identity import tokenizer_identity
from s2l_ray.progress.notes import note
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.rows.accounting import NARROW, Accounts, settle
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.held_out import HeldOutRows, held_out_of
from s2l_ray.rows.hub import fetched_commit, scan_pool
from s2l_ray.rows.leaks import SAME_ROW, index_held_out
from s2l_ray.rows.marks import mark_columns
from s2l_ray.rows.near_duplicates import check_installed
from s2l_ray.rows.scanning import ROWS_PER_UNIT
from s2l_ray.rows.shape import shape_identity
from s2l_ray.rows.typed import unify_schemas
from s2l_ray.rows.units import FileScan, Unit, sample_units
from s2l_ray.stages.planning import FOR_EMBEDDING, FOR_SAMPLING, FOR_TARGET, Output, Planning, Step, of_task, of_wanted
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Sizes, Work
from s2l_ray.stages.workers.held_out import keep_held_out
from s2l_ray.stages.workers.sharding import ShardWriter, part_file
from s2l_ray.storage.artifacts import Artifact, read_manifest
from s2l_ray.storage.files import Storage
from s2l_ray.tables.needs import VECTORS, Need
from s2l_ray.tables.schemas import QUARANTINE

QUARANTINE_FILE, NEAR_DUPLICATES_FILE, LEAKS_FILE = "quarantine.parquet", "near_duplicates.parquet", "leaks.parquet"


@dataclass(frozen=True)
class PreparePlan:
    """What prepare will do, known before any worker starts."""

    artifact: Artifact
    data: DataConfig
    model: ModelConfig
    shape: str
    """Of its rows."""
    scans: tuple[FileScan, ...]
    seed: int
    held_out: tuple[HeldOutRows, ...] = ()
    """Of each task whose questions the pool's rows are searched for."""

    @property
    def most_rows(self) -> int:
        """Return the number of examples, or the most that there can be where it has not run yet."""
        if self.artifact.is_finished:
            return int(self.artifact.manifest()["rows"]["examples"])
        num_rows = sum(scan.num_rows for scan in self.scans)
        return min(num_rows, self.data.limit or num_rows)


def outputs(planning: Planning) -> list[Output]:
    """Return the pool as proxy and target see it, and what the embedding model sees where a selector asks for it."""
    asked: list[str | None] = [None, FOR_TARGET]
    if planning.needs & VECTORS:
        asked.append(FOR_EMBEDDING)
    if Need.PASS_RATES in planning.needs:
        asked.append(FOR_SAMPLING)
    if Need.REPRESENTATIONS in planning.needs:
        asked += [of_wanted(task.name) for task in planning.recipe.selection.task_examples]
    return [("examples", of) for of in asked]


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of prepared examples: the pool through the proxy's tokenizer or another's, or a task's rows.

    Raises
    ------
    InputError
        As `plan_prepare`.
    """
    recipe = planning.recipe
    if of is not None:
        planning.step("examples")  # first: what is the same through another tokenizer is called as the pool is
    is_pool = of in (None, FOR_TARGET, FOR_EMBEDDING, FOR_SAMPLING)
    held_out = held_out_of(planning.storage, recipe) if is_pool else ()
    found = plan_prepare(planning.storage, *source_of(recipe, of), recipe.seed, held_out)
    run = partial(run_prepare, found, recipe.resources)
    return Step(stage_of("prepare"), found.artifact, run, of, partial(_check_template, found), found.most_rows)


def work(step: Step, sizes: Sizes) -> Work:
    """Return the tokens to be made."""
    pool = sizes.pool(step.of)
    return Work(pool.rows, pool.rows * pool.tokens)


def source_of(recipe: Recipe, of: str | None) -> tuple[DataConfig, ModelConfig]:
    """Return the rows of a step and the model whose tokenizer they are seen through."""
    embedding = recipe.embedding.model or recipe.proxy.model
    wanted = {of_wanted(task.name): task.data(recipe.data) for task in recipe.selection.task_examples}
    models: dict[str | None, ModelConfig] = {None: recipe.proxy.model, FOR_EMBEDDING: embedding}
    models[FOR_SAMPLING] = recipe.sampling_model
    models |= dict.fromkeys(wanted, embedding)
    tasks = {of_task(task.name): task.data(recipe.data) for task in recipe.evaluation.tasks}
    return {**tasks, **wanted}.get(of or "", recipe.data), models.get(of, recipe.target.model)


def plan_prepare(
    storage: Storage, data: DataConfig, model: ModelConfig, seed: int, held_out: tuple[HeldOutRows, ...] = ()
) -> PreparePlan:
    """Read the files once (content hash, number of rows), find out their format and name the tokenizer.

    Raises
    ------
    InputError
        A file is missing, empty or unreadable; no format fits; what finds near-duplicates is not installed.
    """
    if data.near_duplicates is not None:
        check_installed()
    scans = scan_pool(storage, data)
    unify_schemas(scans)  # refuses columns of types that do not fit, before any work
    shape = find_shape(scans, data)
    own = {name: value for name, value in data.identity().items() if name != "decontaminate"}  # `held_out` says it
    identity = {
        **own,
        "format": shape,
        "files": [[scan.name, scan.sha256] for scan in scans],
        **({"seed": seed} if data.limit else {}),
        **shape_identity(shape),
        **({"held_out": [rows.identity for rows in held_out]} if held_out else {}),
        **tokenizer_identity(model),
    }
    artifact = Artifact(storage, "prepare", identity)
    return PreparePlan(artifact, data, model, shape, scans, seed, held_out)


def commit_taken(storage: Storage, data: DataConfig, folder: str) -> str | None:
    """Return the commit of a data set of the hub that a finished prepare read; None where what was fetched is gone."""
    files = read_manifest(storage, *folder.split("/"))["identity"]["files"]
    return fetched_commit(storage, data, {digest for _, digest in files})


def _check_template(plan: PreparePlan) -> None:
    """Refuse chat style for a tokenizer that has no template."""
    from s2l_ray.modeling.models import load_tokenizer  # heavy: transformers, as the next
    from s2l_ray.modeling.tokenization import needs_chat_template

    if plan.data.prompt_style == "chat" and needs_chat_template(load_tokenizer(plan.model)):
        raise InputError(f"tokenizer {plan.model.tokenizer_path!r} has no chat template: use data.prompt_style=alpaca")


def run_prepare(plan: PreparePlan, resources: ResourcesConfig) -> dict[str, Any]:
    """Write the examples (`examples/`), the rows as they came (`originals/`), and tables of those that are none.

    Raises
    ------
    InputError
        No example is left, or more than `data.max_bad_fraction` of the rows are bad.
    """
    started, artifact = time.time(), plan.artifact
    sample = sample_units(plan.scans, ROWS_PER_UNIT, plan.data.limit, plan.seed)
    units = [(number, unit, keep) for number, (unit, keep) in enumerate(sample)]
    schema = unify_schemas(plan.scans)
    if plan.held_out:
        keep_held_out(artifact, lambda: index_held_out((rows.task, rows.read()) for rows in plan.held_out))
    arguments = {"artifact": artifact, "data": plan.data, "model": plan.model, "shape": plan.shape,
                 "schema": schema}
    run_units("prepare: tokenise", _part_writer, arguments, units, resources, unit_name="units", describe=_rows_of)
    columns = [*NARROW, *mark_columns(plan.data, has_held_out=bool(plan.held_out))]
    accounts = settle([artifact.read_table(part_file(n), columns) for n in range(len(units))], plan.data)
    artifact.write_table(QUARANTINE_FILE, accounts.quarantine.cast(QUARANTINE))
    for name, table in ((LEAKS_FILE, accounts.leaks), (NEAR_DUPLICATES_FILE, accounts.near_duplicates)):
        if table is not None:
            artifact.write_table(name, table)
    _refuse_bad_data(plan, accounts)
    shards = _plan_shards(accounts, plan.data.shard_rows)
    rows = run_units("prepare: shards", ShardWriter, {"artifact": artifact}, shards, resources,
                     describe=lambda shard: f"shard {shard['number']} (first example {shard['ids'][0].as_py()!r})")
    written = sum(row["num_examples"] for row in rows)
    assert written == accounts.num_examples, accounts.counts
    facts = {
        "rows": accounts.counts,
        "quarantine_reasons": _reason_counts(accounts),
        "num_shards": len(shards),
        "num_tokens": sum(row["num_tokens"] for row in rows),
        "num_supervised_tokens": sum(row["num_supervised_tokens"] for row in rows),
        "num_truncated": sum(row["num_truncated"] for row in rows),
        "format": plan.shape,
        **({"not_used": accounts.not_used} if accounts.not_used else {}),
        **({"learned_found_by": accounts.ways} if accounts.ways else {}),
        **({"leaks_of": _leaks_of(accounts)} if accounts.leaks is not None else {}),
    }
    _report(plan, accounts)
    artifact.storage.delete_folder(artifact.file("parts"))
    return artifact.publish(facts, started)


def _report(plan: PreparePlan, accounts: Accounts) -> None:
    """Say what became of the rows that are no examples, and what of the others nobody sees."""
    if accounts.not_used:
        names = ", ".join(f"{name} ({count:,} rows)" for name, count in accounts.not_used.items())
        note(f"prepare: not used: {names}. No model sees them; they stay in the rows")
    if accounts.num_quarantined:
        note(f"prepare: set aside: {_bad_rows(plan, accounts)}")
    if accounts.leaks is not None and accounts.leaks.num_rows:
        note(f"prepare: leaks left out: {_leaks(plan, accounts)}")
    if accounts.near_duplicates is not None and accounts.near_duplicates.num_rows:
        first = accounts.near_duplicates.slice(0, 1).to_pylist()[0]
        note(f"prepare: near-duplicates left out: {accounts.near_duplicates.num_rows:,}. First: {first['file']} row "
             f"{first['row']}, {first['similarity']:.0%} like {first['kept_file']} row {first['kept_row']}, which "
             f"stays. All are listed in {_place(plan, NEAR_DUPLICATES_FILE)}")


def _leaks(plan: PreparePlan, accounts: Accounts) -> str:
    """Return of which tasks there are leaks, the first of them, and where all are."""
    assert accounts.leaks is not None
    tasks = ", ".join(f"{count['rows']:,} of {task}, of which {count['own_rows']:,} are its own rows"
                      for task, count in _leaks_of(accounts).items())
    first = accounts.leaks.slice(0, 1).to_pylist()[0]
    what = f"{first['how']}, {first['shared']!r}, as" if first["shared"] else f"{first['how']} as"
    return (f"{tasks}. First: {first['file']} row {first['row']} has {what} {first['held_out_file']} row "
            f"{first['held_out_row']}. All are in {_place(plan, LEAKS_FILE)}; data.decontaminate=false keeps them")


def _leaks_of(accounts: Accounts) -> dict[str, dict[str, int]]:
    """Return the number of leaks of each task, and how many of them are rows of the task themselves."""
    assert accounts.leaks is not None
    pairs = list(zip(accounts.leaks["task"].to_pylist(), accounts.leaks["how"].to_pylist(), strict=True))
    rows, own = Counter(task for task, _ in pairs), Counter(task for task, how in pairs if how == SAME_ROW)
    return {task: {"rows": count, "own_rows": own[task]} for task, count in rows.most_common()}


def _place(plan: PreparePlan, name: str) -> str:
    return plan.artifact.storage.uri_of(plan.artifact.file(name))


def _rows_of(numbered: tuple[int, Unit, np.ndarray | None]) -> str:
    unit = numbered[1]
    return f"rows {unit.first_row + 1:,} to {unit.first_row + unit.num_rows:,} of {unit.name}"


def _refuse_bad_data(plan: PreparePlan, accounts: Accounts) -> None:
    bad, read, data = accounts.num_quarantined, accounts.num_read, plan.data
    if bad > data.max_bad_fraction * read:
        raise InputError(
            f"{bad:,} of {read:,} rows ({bad / read:.1%}) are bad, data.max_bad_fraction={data.max_bad_fraction:.1%} "
            f"allows fewer: {_bad_rows(plan, accounts)}. Fix the data, or raise data.max_bad_fraction."
        )
    if accounts.num_examples == 0:
        leaks = f"; leaks: {_leaks(plan, accounts)}" if accounts.leaks is not None and accounts.leaks.num_rows else ""
        raise InputError(f"no example is left of {read:,} rows: see {_place(plan, QUARANTINE_FILE)}{leaks}")


def _bad_rows(plan: PreparePlan, accounts: Accounts) -> str:
    """Return what is wrong with the rows that were set aside, the first of them, and where all are."""
    first = accounts.quarantine.slice(0, 1).to_pylist()[0]
    return (f"{_reason_counts(accounts)}. First: {first['file']} row {first['row']}: {first['reason']}, "
            f"{first['detail']}. All are listed in {_place(plan, QUARANTINE_FILE)}")


def _reason_counts(accounts: Accounts) -> dict[str, int]:
    return dict(Counter(accounts.quarantine["reason"].to_pylist()).most_common())


def _plan_shards(accounts: Accounts, shard_rows: int) -> list[dict[str, Any]]:
    """Cut the kept rows, in input order, into shards; each shard says which rows of which parts it takes."""
    shards = []
    for number, start in enumerate(range(0, accounts.num_examples, shard_rows)):
        kept = slice(start, start + shard_rows)
        parts, rows = accounts.parts_N[kept], accounts.rows_N[kept]
        takes = [(int(part), rows[parts == part]) for part in np.unique(parts)]
        # Taken, not sliced: a slice travels with the whole column behind it, and so once for each shard.
        ids = accounts.ids.take(np.arange(start, start + len(rows)))
        shards.append({"number": number, "takes": takes, "ids": ids})
    return shards


def _part_writer(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.tokenising import PartWriter  # heavy: transformers, which the driver does without

    return PartWriter(**arguments)

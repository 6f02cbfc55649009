"""Data health: rows set aside with examples, duplicates, truncation, undefined losses."""

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from s2l_ray.recipe.data import DataConfig
from s2l_ray.report.figures import Section, Table, counted, cut, percent
from s2l_ray.report.study import Study
from s2l_ray.rows.reasons import Reason
from s2l_ray.storage.files import Storage

_EXAMPLES_EACH = 3
_COMPARED = {"leaks": "leaks of held-out rows", "near_duplicates": "near-duplicates"}
"""Fates of rows that are compared with others -> in words."""
_MEANING = {
    Reason.NOT_JSON: "the line is no JSON",
    Reason.NOT_AN_OBJECT: "the JSON is no object",
    Reason.INVALID_UTF8: "the bytes are no UTF-8 text",
    Reason.MISSING_FIELD: "a field is missing",
    Reason.EMPTY_FIELD: "a field is empty",
    Reason.WRONG_TYPE: "a field has the wrong type",
    Reason.NO_SUPERVISED_TOKEN: "no token of the response is left, so the loss is undefined",
    Reason.TOO_LONG: "the row is too long to read",
    Reason.DUPLICATE_ID: "another row bears its id",
    Reason.TEMPLATE_ERROR: "the chat template refuses it",
}


def health_section(study: Study) -> Section:
    """Return the account of every prepared file, and examples of the pool's quarantined rows."""
    prepared = _prepared(study)
    if not prepared:
        return Section(("Nothing is known of the data's health: no rows are prepared yet.",))
    pool, storage = prepared[0][1], prepared[0][2]
    rows, reasons = pool["rows"], pool["quarantine_reasons"]
    undefined = reasons.get(Reason.NO_SUPERVISED_TOKEN, 0)
    sentences = [
        f"Of {counted(rows['read'], 'row')} read, {rows['examples']:,} are examples, {rows['duplicates']:,} were "
        f"dropped as duplicates{_left_out(rows)} and {rows['quarantined']:,} were quarantined.",
        f"{counted(pool['num_truncated'], 'example')} ({percent(pool['num_truncated'] / max(rows['examples'], 1))}) "
        f"are truncated to {DataConfig.recorded(pool['identity'], 'max_length'):,} tokens.",
        f"{counted(undefined, 'row')} would have had an undefined loss (no supervised token left) and "
        f"{'was' if undefined == 1 else 'were'} set aside; every example has a finite loss." if undefined else
        "No row had an undefined loss.",
    ]
    tables = [_accounts(prepared)]
    if reasons:
        tables += [_reasons(reasons, rows["read"]), _examples(storage, pool)]
    else:
        sentences.append("No row was quarantined.")
    return Section(tuple(sentences), tables=tuple(tables))


def _prepared(study: Study) -> list[tuple[str, Mapping[str, Any], Storage]]:
    """Return (label, manifest, storage) of each finished prepare, the shown arm's pool first."""
    primary = study.primary
    select = study.manifest_of(primary, "select") if primary is not None else None
    first = select["parents"]["examples"] if select else None
    found: dict[str, tuple[str, Mapping[str, Any], Storage]] = {}
    for record in study.records:
        for step in record.steps:
            manifest = study.manifest(record.storage, step["stage"], step["fingerprint"])
            if step["stage"] == "prepare" and manifest is not None:
                label = "pool" if step["label"] == "prepare" else step["label"].removeprefix("prepare ")
                found.setdefault(step["fingerprint"], (label, manifest, record.storage))
    return sorted(found.values(), key=lambda item: item[1]["fingerprint"] != first)


def _left_out(rows: Mapping[str, int]) -> str:
    """Return how many rows were left out for what they share with others, where that was looked for."""
    return "".join(f", {rows[key]:,} as {what}" for key, what in _COMPARED.items() if key in rows)


def _accounts(prepared: list[tuple[str, Mapping[str, Any], Storage]]) -> Table:
    compared = [key for key in _COMPARED if any(key in m["rows"] for _, m, _ in prepared)]
    fates = ("examples", "duplicates", *compared, "quarantined")
    rows = tuple(
        (label, *(f"{m['rows'].get(key, 0):,}" for key in ("read", *fates)),
         f"{m['num_truncated']:,}", f"{m['num_tokens']:,}", f"{m['num_supervised_tokens']:,}")
        for label, m, _ in prepared)
    names = [_COMPARED.get(fate, fate) for fate in fates]
    columns = ("data", "read", *names, "truncated", "tokens", "supervised tokens")
    return Table(f"Every row is accounted for: read = {' + '.join(names)}", columns, rows)


def _reasons(reasons: Mapping[str, int], num_read: int) -> Table:
    rows = tuple((reason, _MEANING.get(Reason(reason), ""), f"{count:,}", percent(count / max(num_read, 1)))
                 for reason, count in reasons.items())
    return Table("Quarantined rows of the pool by reason", ("reason", "meaning", "rows", "of rows read"), rows,
                 frozenset({0, 1}))


def _examples(storage: Storage, pool: Mapping[str, Any]) -> Table:
    """Return the first rows of each reason; the file is read batch by batch, since it may list a whole pool."""
    path = f"prepare/{pool['fingerprint']}/quarantine.parquet"
    found: dict[str, list[tuple[str, ...]]] = {reason: [] for reason in pool["quarantine_reasons"]}
    with storage.filesystem.open_input_file(storage.path(path)) as file:
        for batch in pq.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                kept = found[row["reason"]]
                if len(kept) < _EXAMPLES_EACH:
                    kept.append((row["reason"], cut(row["file"], 120), str(row["row"]), cut(row["detail"] or "", 300)))
            if all(len(kept) == _EXAMPLES_EACH for kept in found.values()):
                break
    rows = tuple(row for kept in found.values() for row in kept)
    return Table("Examples of quarantined rows", ("reason", "file", "row", "detail"), rows, frozenset({0, 1, 3}))

"""What a survey found, in words: for the terminal, the head of a recipe and the page."""

from collections.abc import Callable, Mapping
from typing import Any

from s2l_ray.starter.survey import Survey

_NAMED = 8  # of many sources or columns; the rest is counted
_LISTED = 20  # of rows that are left out; programs get them all


def findings(found: Survey, max_length: int) -> list[tuple[str, str]]:
    """Return (what, how it is), a line each."""
    look, lengths = found.look, found.lengths
    is_whole = found.num_rows == look.num_rows
    sample = "" if is_whole else f"; what follows is of {found.num_rows:,} of them, spread over the files"
    files = f" in {len(look.scans):,} files" if len(look.scans) > 1 else ""
    where = "by file name" if look.data.source_column is None and "source" not in found.fields else "by column"
    lines = [
        ("rows", f"{look.num_rows:,}{files}{sample}"),
        ("shape", look.shape.replace("+", " and ")),
        ("columns", _listed(found.fields, lambda count: f"{count:,}")),
        ("sources", f"{_listed(found.sources, lambda count: f'{count:,}')} ({where})"),
        ("tokens", _tokens(found, max_length)),
        ("scripts", f"{_listed(found.scripts, lambda share: f'{share:.1%}') or 'no letters'} (shares of the letters)"),
        ("duplicates", f"{found.num_duplicates:,} (rows that repeat an earlier one)" if look.data.drop_duplicates
         else "kept: data.drop_duplicates is off"),
    ]
    lines += _compared(found)
    lines += [("quarantined", f"{bad.count:,} {reason}, e.g. {bad.file} row {bad.row}: {bad.detail}")
              for reason, bad in found.bad.items()]
    without = lengths.num_without_response(max_length)
    if without:
        what = f"no_supervised_token: nothing to learn within max_length {max_length:,}"
        lines.append(("quarantined", f"{without:,} of {len(lengths.num_tokens_N):,} {what}"))
    if not found.bad and not without:
        lines.append(("quarantined", "none"))
    lines.append(("not used", _listed(found.not_used, lambda count: f"{count:,}") or "none: all columns are read"))
    return lines


def facts(found: Survey, max_length: int) -> dict[str, Any]:
    """Return the same for programs."""
    lengths = found.lengths
    return {
        "rows": found.look.num_rows, "looked_at": found.num_rows, "shape": found.look.shape,
        "columns": dict(found.fields), "sources": dict(found.sources),
        "scripts": {script: round(share, 4) for script, share in found.scripts.items()},
        "duplicates": found.num_duplicates,
        **({} if found.leaks is None else {"leaks": list(found.leaks)}),
        **({} if found.near_duplicates is None else {"near_duplicates": list(found.near_duplicates)}),
        "quarantined": {reason: bad.count for reason, bad in found.bad.items()},
        "without_response": lengths.num_without_response(max_length), "not_used": dict(found.not_used),
        "tokens": {"of_rows": len(lengths.num_tokens_N), "median": lengths.at(0.5), "p95": lengths.at(0.95),
                   "longest": lengths.at(1.0), "share_longer": round(lengths.share_longer(max_length), 4)},
        "max_length": max_length,
    }


def _compared(found: Survey) -> list[tuple[str, str]]:
    """Return what is left out for what it shares with held-out rows or with earlier ones, where that is looked for."""
    lines = []
    if found.leaks is not None:
        lines.append(("leaks", f"{len(found.leaks):,} (rows that hold text of a task's questions)"))
        lines += [("leak", "{file} row {row}: {how} with {task}, {held_out_file} row {held_out_row}: ".format_map(one)
                   + repr(one["shared"])) for one in found.leaks[:_LISTED]]
    if found.near_duplicates is not None:
        lines.append(("near-duplicates", f"{len(found.near_duplicates):,} (rows that are nearly an earlier one)"))
        lines += [("near-duplicate", "{file} row {row} is {similarity:.0%} like {kept_file} row {kept_row}"
                   .format_map(one)) for one in found.near_duplicates[:_LISTED]]
    return lines


def _tokens(found: Survey, max_length: int) -> str:
    lengths = found.lengths
    of = "" if len(lengths.num_tokens_N) >= found.num_rows else f" (of {len(lengths.num_tokens_N):,} rows)"
    return (f"median {lengths.at(0.5):,}, 95% within {lengths.at(0.95):,}, longest {lengths.at(1.0):,}{of}; "
            f"{lengths.share_longer(max_length):.1%} of them longer than max_length {max_length:,}")


def _listed(counts: Mapping[str, Any], shown: Callable[[Any], str]) -> str:
    named = [f"{name} ({shown(count)})" for name, count in list(counts.items())[:_NAMED]]
    return ", ".join([*named, f"{len(counts) - _NAMED:,} more"] if len(counts) > _NAMED else named)

"""What each selector takes of one pool: a table of all of them, from one run on one proxy.

    python tests/benchmarks/chosen.py --data ../shared/data/math_mixture.parquet --task ../shared/data/gsm8k_test.parquet \
        --tokenizer ../shared/models/gpt2_tokenizer --rows 2000 --storage /tmp/chosen
    python tests/benchmarks/chosen.py --data ... --trajectories losses.parquet     # writes these, too

A proxy of two layers from nothing learns the pool for one epoch (recipe tests/recipes/math-cpu.yaml); further losses are
the finished proxy's. 32 rows of the task are what `representation` looks for. Left out: `external`, whose scores come from
elsewhere, and `pass_rate`, which a model from nothing has none of. Prints a table in Markdown, of the budget of 11 %: the
median of supervised tokens, the mean loss at the first recorded point and the last, the share of the pool's largest
source, and what each has in common with `s2l` and with `random` of one seed; 11 % would be chance. Then one JSON line.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.cli.main import main as s2l
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.storage.artifacts import git_commit
from s2l_ray.tables.schemas import with_metadata

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = {"external", "pass_rate"}
_FIRST = "s2l"
_TASK_ROWS = 32


def run(*arguments: str) -> dict[str, Any]:
    """Run a command of ours and return the JSON that it prints last."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            s2l(list(arguments))
    except SystemExit as ended:
        if ended.code:
            raise
    found: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return found


def select_all(asked: argparse.Namespace) -> tuple[pa.Table, list[str]]:
    """Select by every selector and return the scores of every row, with the selectors' names."""
    names = [_FIRST, *(name for name in SELECTORS.names if name not in {*_LEFT_OUT, _FIRST})]
    task = {"name": "wanted", "path": str(asked.task), "limit": _TASK_ROWS}
    fields = set(pq.read_schema(asked.data).names)
    columns = {"id": "data.id_column", "source": "data.source_column"}
    settings = [f"{key}={column if column in fields else 'null'}" for column, key in columns.items()]
    run("select", str(ROOT / "tests" / "recipes" / "math-cpu.yaml"), f"storage={asked.storage}", "name=chosen",
        f"data.path={asked.data}", f"data.limit={asked.rows}", *settings, f"proxy.model.tokenizer={asked.tokenizer}",
        f"target.model.tokenizer={asked.tokenizer}", "evaluation.tasks=[]", "probe.point=final",
        f"selection.controls={json.dumps(names[1:])}", f"selection.task_examples={json.dumps([task])}",
        f"proxy.epochs={asked.epochs}", f"trajectory.num_points={asked.points}",
        f"selection.num_clusters={asked.clusters}")
    file = Path(asked.storage) / "scores.parquet"
    run("scores", "chosen", "--storage", str(asked.storage), "--output", str(file))
    return pq.read_table(file), names


def row_of(table: pa.Table, name: str, names: list[str], sources: list[str]) -> dict[str, Any]:
    """Return what a selector's choice is made of; of the whole pool for `full`."""
    is_chosen = pc.is_valid(table[f"{name}_rank"])
    own = table.filter(is_chosen)
    losses = [column for column in table.column_names if column.startswith("loss_") and column != "loss_fall"]
    common = {other: int(pc.sum(pc.and_(is_chosen, pc.is_valid(table[f"{other}_rank"]))).as_py() or 0)
              for other in (_FIRST, "random")}
    source = np.array(own["source"].to_pylist(), dtype=object)
    return {
        "selector": name, "rows": own.num_rows, "tokens": float(np.median(own["num_supervised_tokens"].to_numpy())),
        "first_loss": float(pc.mean(own[losses[0]]).as_py()), "last_loss": float(pc.mean(own["last_loss"]).as_py()),
        "largest_source": float((source == sources[0]).mean()), "num_sources": len(set(source)),
        **{f"share_of_{other}": count / own.num_rows for other, count in common.items()},
    }


def losses_table(table: pa.Table) -> pa.Table:
    """Return the trajectories, as `s2l select --trajectories` takes them."""
    names = sorted((name for name in table.column_names if name.removeprefix("loss_").isdigit()),
                   key=lambda name: int(name.removeprefix("loss_")))
    losses_NC = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)
    steps = [int(name.removeprefix("loss_")) for name in names]
    made = pa.table({"example_id": table["example_id"], "source": table["source"], "num_supervised_tokens":
                     table["num_supervised_tokens"], "losses": pa.FixedSizeListArray.from_arrays(
                         pa.array(losses_NC.reshape(-1)), len(names))})
    return with_metadata(made, {"points": [{"step": step, "fraction": step / steps[-1]} for step in steps]})


def main() -> None:
    """Select by all and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the pool, a Parquet file")
    parser.add_argument("--task", type=Path, required=True, help="rows of a task, of which some are looked for")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    parser.add_argument("--storage", required=True, help="folder for what is made")
    parser.add_argument("--rows", type=int, default=2000, help="rows of the pool (2000)")
    parser.add_argument("--epochs", type=float, default=1, help="of the proxy (1)")
    parser.add_argument("--points", type=int, default=6, help="trajectory points (6)")
    parser.add_argument("--clusters", type=int, default=50, help="k-means clusters (50)")
    parser.add_argument("--trajectories", type=Path, help="Parquet file for the trajectories")
    asked = parser.parse_args()
    table, names = select_all(asked)
    if asked.trajectories:
        pq.write_table(losses_table(table), asked.trajectories)
    counts = pc.value_counts(table["source"]).to_pylist()
    sources = [entry["values"] for entry in sorted(counts, key=lambda entry: -entry["counts"])]
    rows = [row_of(table, name, names, sources) for name in ("full", *sorted(set(names) - {"full"}))]
    print(f"| selector | tokens, median | loss at first | at last | {sources[0]} | sources | in common with s2l | random |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| `{row['selector']}` | {row['tokens']:,.0f} | {row['first_loss']:.2f} | {row['last_loss']:.2f} | "
              f"{row['largest_source']:.0%} | {row['num_sources']} | {row['share_of_s2l']:.0%} | {row['share_of_random']:.0%} |")
    print(json.dumps({"benchmark": "chosen", "commit": git_commit(), "pool": str(asked.data), "rows": rows}))


if __name__ == "__main__":
    main()

"""Tokens a second of the loss pass, beside what users run today and beside the machine's roof.

    python tests/benchmarks/scoring.py --data ../shared/data/math_mixture.parquet \
        --tokenizer ../shared/models/gpt2_tokenizer [--rows 2000] [--models 14m 70m] [--repeats 3]

Of each model, on the same weights and rows, in turns: (a) the reference's way, one example at a time with
model(labels=...) in fp32; (b) batches of 16 in the rows' order, padded, with full logits; (c) this engine, in fp32 and
bf16; (d) the roof: the measured rate of matrix products over those that scoring needs. (a) and (b) use all threads in
one process, (c) one process for each core, as the product does. The weights are trained for some steps, so that losses
differ; the agreement of bf16 is measured over the points of that training. Prints a table, then one JSON line.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from s2l_ray.modeling.batching import ExampleTable, padded_tokens
from s2l_ray.modeling.examples import ExampleMaker
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.modeling.throughput import matmul_rate, scoring_operations
from s2l_ray.numerics.kmeans import cluster_rows
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.units import plan_units
from s2l_ray.storage.artifacts import git_commit
from tests.benchmarks.reference import one_by_one, padded

SHAPES = {"14m": (128, 6, 4), "70m": (512, 6, 8)}  # Pythia: width, layers, heads
VOCABULARY = 50_304
BATCH_TOKENS = 8192
NUM_POINTS, STEPS_BETWEEN = 4, 10
CORES = os.cpu_count() or 1


def examples(data: Path, tokenizer: Path, num_rows: int) -> pa.Table:
    """Return tokenised examples of rows drawn evenly over the file, in the file's order."""
    config = DataConfig(path=str(data))
    scan = scan_file(str(data), rows_per_unit=10**9, name=data.name)
    keep = np.unique(np.linspace(0, scan.num_rows - 1, num_rows).astype(np.int64))
    model = ModelConfig(path=str(tokenizer), eos_token="<|endoftext|>")
    maker = ExampleMaker(config, "alpaca", load_tokenizer(model), None)
    (unit,) = plan_units([scan], 10**9)
    table = maker.make(unit, keep)
    columns = ["input_ids", "supervised", "num_tokens", "num_supervised_tokens"]
    return table.filter(pa.compute.is_null(table["reason"])).select(columns)


def fresh(name: str) -> PreTrainedModel:
    """Return a model of Pythia's shape with weights of its own."""
    width, layers, heads = SHAPES[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers,
                                  num_attention_heads=heads, intermediate_size=4 * width)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def trained(name: str, table: pa.Table, folder: Path) -> None:
    """Save a model at the points of a short training."""
    model = fresh(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = ExampleTable(table)
    for point in range(NUM_POINTS):
        model.save_pretrained(folder / f"{name}-{point}")
        for step in range(STEPS_BETWEEN if point < NUM_POINTS - 1 else 0):
            first = (point * STEPS_BETWEEN + step) * 8 % (len(rows) - 8)
            batch = rows.batch(slice(first, first + 8), pad_id=0)
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


_models: dict[tuple[Path, str], Any] = {}


def load(folder: Path) -> PreTrainedModel:
    """Return a saved model in fp32."""
    transformers.utils.logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def run(way: str, folder: Path, rows_file: str, part: int, parts: int) -> tuple[float, np.ndarray]:
    """Score a part of the rows in this process; return seconds without loading, and the losses."""
    keep_freed_memory()
    torch.set_num_threads(CORES if parts == 1 else 1)
    table = pq.read_table(rows_file)
    order = np.argsort(table["num_tokens"].to_numpy(), kind="stable") if parts > 1 else np.arange(table.num_rows)
    table = table.take(pa.array(order[part::parts]))
    key = (folder, way)
    if key not in _models:
        _models.clear()
        _models[key] = load(folder) if way in ("reference", "padded") else LossScorer(load(folder), way)  # type: ignore[arg-type]
    model = _models[key]
    score: Callable[[pa.Table], np.ndarray] = {
        "reference": lambda t: one_by_one(model, t), "padded": lambda t: padded(model, t),
    }.get(way, lambda t: table_losses([model], t, BATCH_TOKENS)[:, 0])
    score(table.slice(0, 4))
    started = time.perf_counter()
    losses = score(table)
    return time.perf_counter() - started, losses


def measure(way: str, folder: Path, rows_file: str, pool: Any) -> tuple[float, np.ndarray]:
    """Return seconds of the slowest process and the losses in the rows' order."""
    parts = 1 if way in ("reference", "padded") else CORES
    found = pool.starmap(run, [(way, folder, rows_file, part, parts) for part in range(parts)], chunksize=1)
    table = pq.read_table(rows_file)
    order = np.argsort(table["num_tokens"].to_numpy(), kind="stable") if parts > 1 else np.arange(table.num_rows)
    losses_N = np.empty(table.num_rows, dtype=np.float32)
    for part, (_, losses) in enumerate(found):
        losses_N[order[part::parts]] = losses
    return max(seconds for seconds, _ in found), losses_N


def same_clusters(exact_NC: np.ndarray, rough_NC: np.ndarray) -> float:
    """Return the share of rows nearest to the same centroid, of clusters of the exact trajectories."""
    found = cluster_rows(exact_NC, min(100, len(exact_NC)), np.random.default_rng(0), fit_rows=10**6, iterations=20)
    exact, rough = (((rows_NC[:, None] - found.centroids_KC) ** 2).sum(2).argmin(1) for rows_NC in (exact_NC, rough_NC))
    return float((exact == rough).mean())


def benchmark(name: str, folder: Path, rows_file: str, repeats: int, pool: Any) -> dict[str, Any]:
    """Return one model's figures."""
    table = pq.read_table(rows_file)
    lengths = np.sort(table["num_tokens"].to_numpy())
    num_tokens, num_supervised = int(lengths.sum()), int(table["num_supervised_tokens"].to_numpy().sum())
    last = folder / f"{name}-{NUM_POINTS - 1}"
    seconds: dict[str, list[float]] = {"reference": [], "padded": [], "fp32": [], "bf16": []}
    losses = {}
    for _ in range(repeats):
        for way, times in seconds.items():
            took, losses[way] = measure(way, last, rows_file, pool)
            times.append(took)
    rates = {way: num_tokens / statistics.median(times) for way, times in seconds.items()}
    torch.set_num_threads(CORES)
    operations = scoring_operations(load(last), num_tokens, num_supervised) / num_tokens
    cpu = torch.device("cpu")
    roofs = {precision: matmul_rate(cpu, precision) / operations for precision in ("fp32", "bf16")}  # type: ignore[arg-type]
    exact, rough = (
        np.stack([measure(way, folder / f"{name}-{p}", rows_file, pool)[1] for p in range(NUM_POINTS)], axis=1)
        for way in ("fp32", "bf16")
    )
    return {
        "model": name, "rows": table.num_rows, "tokens": num_tokens, "supervised_share": num_supervised / num_tokens,
        "padding_share": 1 - num_tokens / padded_tokens(lengths, BATCH_TOKENS),
        "tokens_per_s": rates, "roof_tokens_per_s": roofs,
        "times_reference": {way: rate / rates["reference"] for way, rate in rates.items()},
        "share_of_roof": {way: rates[way] / roofs[way] for way in roofs},
        "fp32_from_reference": float(np.abs(losses["fp32"] - losses["reference"]).max()),
        "bf16_from_fp32": {"mean": float(np.abs(rough - exact).mean()), "largest": float(np.abs(rough - exact).max())},
        "same_cluster": same_clusters(exact, rough),
    }


def show(one: dict[str, Any]) -> None:
    """Print one model's table."""
    print(f"\n{one['model']}: {one['rows']:,} rows, {one['tokens']:,} tokens, {one['supervised_share']:.0%} "
          f"supervised, {one['padding_share']:.1%} padding")
    for way, rate in one["tokens_per_s"].items():
        share = f"{one['share_of_roof'][way]:.0%} of the roof {one['roof_tokens_per_s'][way]:,.0f}" \
            if way in one["share_of_roof"] else ""
        print(f"  {way:10} {rate:>10,.0f} tokens/s  {one['times_reference'][way]:5.2f} x  {share}")
    print(f"  fp32 is within {one['fp32_from_reference']:.1e} nats of the reference; bf16 within "
          f"{one['bf16_from_fp32']['largest']:.4f} (mean {one['bf16_from_fp32']['mean']:.4f}) of fp32, "
          f"{one['same_cluster']:.1%} of examples in the same cluster", flush=True)


def main() -> None:
    """Run every model and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    results = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(CORES) as pool:
        rows_file = f"{folder}/rows.parquet"
        pq.write_table(examples(asked.data, asked.tokenizer, asked.rows), rows_file)
        for name in asked.models:
            trained(name, pq.read_table(rows_file), Path(folder))
            results.append(benchmark(name, Path(folder), rows_file, asked.repeats, pool))
            show(results[-1])
    machine = torch.cpu.get_capabilities()
    print(json.dumps({
        "benchmark": "scoring", "commit": git_commit(), "cpu": machine.get("cpu_name", platform.processor()),
        "cores": CORES, "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "results": results,
    }))


if __name__ == "__main__":
    main()

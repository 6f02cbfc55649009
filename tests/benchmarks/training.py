"""Tokens a second of the proxy's training beside transformers.Trainer as the reference uses it.

    python tests/benchmarks/training.py --data ../shared/data/math_mixture.parquet \
        --tokenizer ../shared/models/gpt2_tokenizer [--model 70m] [--steps 8] [--repeats 3]

Both train the same fresh weights on the same rows for the same number of steps of 32 examples, in one process with all
threads: transformers.Trainer at its defaults (fp32, random order, full logits) with the reference's micro-batches of 4,
and this project's trainer in fp32 and in what `precision: auto` means here, with micro-batches of 8 (or as many as
`--micro-batch` says), padded and packed. Each run is a process of its own; the seconds are of the steps, without loading. The losses of both are printed beside each other, and
the loss on rows that neither has seen. Prints a table, then one JSON line.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from scoring import examples, fresh
from transformers import Trainer, TrainerCallback, TrainingArguments

from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.modeling.throughput import has_fast_bf16
from s2l_ray.modeling.training import Collator, build_trainer
from s2l_ray.modeling.training_arguments import training_arguments
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig
from s2l_ray.storage.artifacts import git_commit

GLOBAL_BATCH, HELD_OUT = 32, 64
CORES = os.cpu_count() or 1


class Clock(TrainerCallback):
    """Takes the time of the steps, the first left out: it pays for what is made once."""

    def __init__(self, collator: Collator) -> None:
        self._collator, self._first = collator, (0.0, 0)
        self.seconds, self.num_tokens = 0.0, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time."""
        now = (time.perf_counter(), self._collator.num_tokens)
        if state.global_step == 1:
            self._first = now
        self.seconds, self.num_tokens = now[0] - self._first[0], now[1] - self._first[1]


def train(way: str, name: str, rows_file: str, steps: int, micro_batch: int) -> dict[str, Any]:
    """Train in this process; return seconds, tokens and losses. Ours is called by its precision, then `packed`."""
    precision, _, packed = way.partition(" ")
    keep_freed_memory()
    torch.set_num_threads(CORES)
    table = pq.read_table(rows_file)
    rows = ExampleTable(table.slice(HELD_OUT))
    model, collator = fresh(name), Collator(0, packs=bool(packed))
    clock = Clock(collator)
    with tempfile.TemporaryDirectory() as folder:
        if way == "trainer":
            arguments = TrainingArguments(
                output_dir=folder, max_steps=steps, per_device_train_batch_size=4, learning_rate=5e-4,
                gradient_accumulation_steps=GLOBAL_BATCH // 4, use_cpu=True, report_to="none", save_strategy="no",
                logging_steps=1, disable_tqdm=True, remove_unused_columns=False, seed=0, lr_scheduler_type="cosine",
            )
            trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator,  # type: ignore[arg-type]
                              callbacks=[clock])
        else:
            config = ProxyConfig(
                model=ModelConfig(path="fresh"), max_steps=steps, global_batch_size=GLOBAL_BATCH,
                micro_batch_size=micro_batch, learning_rate=5e-4, warmup_fraction=0.0, num_checkpoints=0,
                precision=precision, packing=bool(packed),  # type: ignore[arg-type]
            )
            plan = plan_training(config, len(rows))
            arguments = training_arguments(config, plan, num_workers=1, output_dir=Path(folder), seed=0, use_gpu=False)
            trainer = build_trainer(model, arguments, rows, collator, [clock])
        trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    held_out = table_losses([LossScorer(fresh_copy(model, name))], table.slice(0, HELD_OUT), 8192)
    account = {"seconds": clock.seconds, "tokens": clock.num_tokens}
    return {**account, "losses": losses, "held_out": float(np.mean(held_out))}


def fresh_copy(model: transformers.PreTrainedModel, name: str) -> transformers.PreTrainedModel:
    """Return the trained weights in a model as it was made, without what the trainer did to its head."""
    copy = fresh(name)
    copy.load_state_dict(model.state_dict())
    return copy


def main() -> None:
    """Run every way in turns and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--model", default="70m")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=8, help="examples of ours that are computed together (8)")
    asked = parser.parse_args()
    own = ["fp32", *(["bf16"] if has_fast_bf16() else [])]
    ways = ["trainer", *own, *(f"{precision} packed" for precision in own)]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        rows_file = f"{folder}/rows.parquet"
        table: pa.Table = examples(asked.data, asked.tokenizer, GLOBAL_BATCH * asked.steps + HELD_OUT)
        pq.write_table(table.take(np.random.default_rng(0).permutation(table.num_rows)), rows_file)
        for _ in range(asked.repeats):
            for way, runs in found.items():
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    runs.append(process.apply(train, (way, asked.model, rows_file, asked.steps, asked.micro_batch)))
    rates = {way: statistics.median(r["tokens"] / r["seconds"] for r in runs) for way, runs in found.items()}
    print(f"{asked.model}, {asked.steps} steps of {GLOBAL_BATCH} examples, {CORES} threads")
    for way, rate in rates.items():
        last = found[way][-1]
        print(f"  {way:11} {rate:>8,.0f} tokens/s {rate / rates['trainer']:6.2f} x  last step's loss "
              f"{last['losses'][-1]:.3f}  held-out loss {last['held_out']:.3f}")
    print(json.dumps({
        "benchmark": "training", "commit": git_commit(), "cpu": torch.cpu.get_capabilities().get("cpu_name"),
        "cores": CORES, "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": asked.model, "steps": asked.steps, "tokens_per_s": rates,
        "times_trainer": {way: rate / rates["trainer"] for way, rate in rates.items()},
        "held_out_loss": {way: [run["held_out"] for run in runs] for way, runs in found.items()},
    }))


if __name__ == "__main__":
    main()

"""What a GPU makes of the engine: the same losses as a CPU, and how fast, without Ray.

    python tests/gpu/check.py [--shapes 70m 410m] [--rows 4000] [--limit-s 220]

Of each shape of Pythia's, with fresh weights, on examples made up with the lengths of instruction data: scoring as S2L's
authors do it (one by one, fp32), in padded batches of 16 with all logits (bf16), and by this engine in fp32 and bf16;
training by transformers' Trainer and by ours, at one global batch. Each is done twice, since a GPU loads kernels for
what it meets first. Beside the tokens a second stand the memory at its peak and the share of the rate of matrix
products measured here that the needed products come to. Without a GPU the sizes are tiny, so that CI runs the code.
Prints a table, then one JSON line; ends with 1 where losses are not equal. What the time does not suffice for is said.
"""

import argparse
import functools
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Trainer
from transformers.trainer_callback import PrinterCallback

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import ExampleTable, padding_multiple
from s2l_ray.modeling.losses import LossScorer, fitted_losses
from s2l_ray.modeling.sampling import StepSampler
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.modeling.throughput import matmul_rate, scoring_operations
from s2l_ray.modeling.training import Collator, build_trainer
from s2l_ray.modeling.training_arguments import training_arguments
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig
from s2l_ray.storage.artifacts import git_commit
from tests.benchmarks.reference import one_by_one, padded

SHAPES = {"tiny": (32, 2, 2), "70m": (512, 6, 8), "410m": (1024, 24, 16), "1b": (2048, 16, 8)}  # width, layers, heads
VOCABULARY = {"tiny": 512}
FP32_TOLERANCE, BF16_TOLERANCE = 1e-3, 0.05
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STARTED = time.monotonic()
transformers.utils.logging.set_verbosity_error()


def examples(num_rows: int, vocabulary: int, longest: int) -> pa.Table:
    """Return made-up examples: lengths as in instruction data (half of them below 128 tokens), the last 46 % learned."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(128), 0.7, num_rows), 8, longest).astype(int)
    ids = [rng.integers(0, vocabulary, length).astype(np.int32) for length in lengths]
    masks = [np.arange(len(row)) >= 0.54 * len(row) for row in ids]
    return pa.table({"example_id": [f"{i:07d}" for i in range(num_rows)], "input_ids": ids, "supervised": masks})


def fresh(shape: str, device: torch.device = DEVICE) -> PreTrainedModel:
    """Return a model of Pythia's shape with weights of its own."""
    width, layers, heads = SHAPES[shape]
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", vocab_size=VOCABULARY.get(shape, 50_304), hidden_size=width,
                                  num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what work makes, and the seconds of a first and a second time with the memory at its peak."""
    facts: dict[str, float] = {}
    for which in ("first_s", "second_s"):
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        made = work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        facts[which] = time.perf_counter() - started
    facts["peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6) if DEVICE.type == "cuda" else 0
    return made, facts


def scorings(shape: str, table: pa.Table, few: pa.Table) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for each way to score, and how far losses are from those of a CPU in fp32, one by one."""
    exact = one_by_one(fresh(shape, torch.device("cpu")), few)
    rows, away, batch_tokens = [], {}, {}
    for way in ("one by one fp32", "padded 16 bf16", "engine fp32", "engine bf16"):
        model = fresh(shape)
        over = few if way.startswith("one") else table
        if way.startswith("engine"):
            scorer, size = LossScorer(model, way.split()[1]), BatchSize("auto", DEVICE)  # type: ignore[arg-type]
            losses, facts = measured(lambda scorer=scorer, size=size: fitted_losses([scorer], table, size)[:, 0])
            away[way] = float(np.abs(losses[: few.num_rows] - exact).max())
            batch_tokens[way] = size.tokens
        elif way.startswith("padded"):
            model = model.to(torch.bfloat16)
            _, facts = measured(lambda model=model: padded(model, table))
        else:
            losses, facts = measured(lambda model=model: one_by_one(model, few))
            away[way] = float(np.abs(losses - exact).max())
        rows.append({"shape": shape, "what": f"score, {way}", **rates(facts, over, model, 1),
                     "batch_tokens": batch_tokens.get(way)})
    return rows, away


@functools.cache
def roof() -> float:
    """Return the device's rate of matrix products in bf16."""
    return matmul_rate(DEVICE, "bf16")


def rates(facts: dict[str, float], table: pa.Table, model: PreTrainedModel, passes: int) -> dict[str, Any]:
    """Return tokens a second of both times, and the share of the measured rate of products that the second reached."""
    num_tokens = sum(len(row) for row in table["input_ids"])
    num_learned = sum(int(np.sum(mask.values.to_numpy(zero_copy_only=False)[1:])) for mask in table["supervised"])
    needed = scoring_operations(model, num_tokens, num_learned) * passes
    return {"first": round(num_tokens / facts["first_s"]), "second": round(num_tokens / facts["second_s"]),
            "peak_mb": facts["peak_mb"], "share": round(needed / facts["second_s"] / roof(), 4)}


def trainings(
    shape: str, table: pa.Table, global_batch: int, micro: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for transformers' Trainer with all logits and one for ours, and how far their losses are apart."""
    precision = "bf16" if DEVICE.type == "cuda" else "fp32"
    config = ProxyConfig(model=ModelConfig(path="."), epochs=1, global_batch_size=global_batch, micro_batch_size=micro,
                         num_checkpoints=0, precision=precision)
    plan, found = plan_training(config, table.num_rows), []
    curves: dict[str, list[float]] = {}
    for what in ("Trainer", "engine"):
        def train(what: str = what) -> PreTrainedModel:
            model = fresh(shape)
            with tempfile.TemporaryDirectory() as folder:
                arguments = training_arguments(config, plan, num_workers=1, output_dir=Path(folder), seed=0,
                                               use_gpu=DEVICE.type == "cuda")
                collator, rows = Collator(0, padding_multiple(DEVICE)), ExampleTable(table)
                trainer: Trainer = build_trainer(model, arguments, rows, collator, []) if what == "engine" else InOrder(
                    model=model, args=arguments, train_dataset=rows,  # type: ignore[arg-type]
                    data_collator=without_positions(collator))
                trainer.remove_callback(PrinterCallback)
                trainer.train()
            curves[what] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            return model

        model, facts = measured(train)
        found.append({"shape": shape, "what": f"train, {what} {precision}, {micro} of {global_batch}",
                      **rates(facts, table, model, 3)})  # backward takes twice the products of forward
    apart = max(abs(float(one) - float(other)) for one, other in zip(*curves.values(), strict=True))
    return found, {f"train {precision}": apart}


class InOrder(Trainer):
    """transformers' own, with the examples in our order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        arguments, rows = self.args, self.train_dataset
        size = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
        return StepSampler(rows.lengths_N, size, arguments.seed)  # type: ignore[union-attr]


def without_positions(collator: Collator) -> Callable[[Any], dict[str, torch.Tensor]]:
    """Return the collator of a plain Trainer, whose model takes what it is given."""
    return lambda items: {name: tensor for name, tensor in collator(items).items() if name != "positions"}


def shown(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    table = Table("shape", "what", "tokens/s, first", "second", "peak MB", "of the roof", title=f"{DEVICE}")
    for row in rows:
        table.add_row(row["shape"], row["what"], f"{row['first']:,}", f"{row['second']:,}", f"{row['peak_mb']:,}",
                      f"{row['share']:.1%}")
    return table


def main() -> None:
    """Check and measure."""
    is_gpu = DEVICE.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["70m", "410m"] if is_gpu else ["tiny"])
    parser.add_argument("--rows", type=int, default=4000 if is_gpu else 96)
    parser.add_argument("--limit-s", type=float, default=220)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    away: dict[str, dict[str, float]] = {}
    left_out = []
    for shape in given.shapes:
        table = examples(given.rows, VOCABULARY.get(shape, 50_304), 512)
        few = table.slice(0, 64 if is_gpu else 16)
        sizes = (128, 32) if is_gpu else (16, 4)
        for part in ("score", "train"):
            if time.monotonic() - STARTED > 0.6 * given.limit_s:
                left_out.append(f"{shape}: {part}")
            elif part == "score":
                found, away[shape] = scorings(shape, table, few)
                rows = rows + found
            else:
                found, apart = trainings(shape, table.slice(0, 1024 if is_gpu else 64), *sizes)
                away[shape], rows = away.get(shape, {}) | apart, rows + found
    Console(width=120).print(shown(rows))
    wrong = [f"{shape}, {way}: losses are {far:.2g} nats apart" for shape, ways in away.items()
             for way, far in ways.items() if not far <= (BF16_TOLERANCE if "bf16" in way else FP32_TOLERANCE)]
    card = torch.cuda.get_device_name() if is_gpu else platform.processor()
    print(json.dumps({"check": "gpu", "device": card, "commit": git_commit(), "torch": torch.__version__,
                      "transformers": transformers.__version__, "rows": rows, "away": away, "left_out": left_out,
                      "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

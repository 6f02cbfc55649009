"""The memory that a large target takes: loaded, fine-tuned under ZeRO-3 by two workers, evaluated. No Ray.

    python tests/benchmarks/model_memory.py [--shape 1b] [--precision fp32] [--stored bf16] [--workers 2] [--steps 2]
    python tests/benchmarks/model_memory.py --steps 0  # no training: the weights as they are evaluated

Weights of their own in Llama's shape are written once, as published ones are (safetensors, bf16). Then each of the
workers does what a training worker does (`train_worker.fine_tune`) on a few short examples, and one process evaluates
the result: losses and answers. A process's memory is its private pages (RssAnon and RssShmem of /proc/self/status, seen
every 10 ms): the files that it maps are the system's to drop. Prints one JSON line: MB at the peak of each phase, of the
largest worker, and what its weights alone would take.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from s2l_ray.execution.train_worker import fine_tune
from s2l_ray.modeling.generation import generate_answers
from s2l_ray.modeling.losses import table_losses
from s2l_ray.modeling.schedule import TrainingRun, plan_training
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import TargetConfig
from s2l_ray.stages.workers.evaluating import UnitEvaluator
from s2l_ray.storage.artifacts import git_commit
from s2l_ray.storage.files import Storage

TOKENIZER = Path(__file__).resolve().parents[2] / "s2l_ray" / "quickstart" / "assets" / "target_base"
SHAPES = {"tiny": (32, 2), "quarter": (1024, 12), "half": (1536, 14), "1b": (2048, 16)}  # width, layers
EVERY_S = 0.01
disable_progress_bar()


class Memory:
    """This process's private memory, in MB, as time goes on."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            kilobytes = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))]
            self._seen.append((time.time(), sum(kilobytes) / 1024))
            time.sleep(EVERY_S)

    def peak(self, since: float, until: float) -> float:
        """Return the peak between two times of the clock."""
        return round(max(megabytes for when, megabytes in list(self._seen) if since <= when <= until))


class Alone:
    """`train_worker.Host` without checkpoints."""

    callbacks = ()
    stops_for_resize = False

    def __init__(self, table: pa.Table) -> None:
        self._table, self.num_workers = table, torch.distributed.get_world_size()

    def examples(self) -> list[pa.Table]:
        return [self._table]

    def report(self, step: int, facts: dict[str, float]) -> None:
        pass  # nobody watches

    @contextlib.contextmanager
    def resume_folder(self) -> Iterator[None]:
        yield None

    def keep_checkpoint(self, step: int, folder: Path) -> None:
        raise AssertionError("none is asked for")


def write_model(folder: Path, shape: str, stored: str) -> int:
    """Write weights of their own, and return their number."""
    width, layers = SHAPES[shape]
    vocabulary = 8192 if shape == "tiny" else 32_000
    config = AutoConfig.for_model("llama", vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
                                  num_attention_heads=width // 16 if shape == "tiny" else width // 64,
                                  num_key_value_heads=1 if shape == "tiny" else width // 256,
                                  intermediate_size=4 * width, max_position_embeddings=2048)
    dtype = torch.bfloat16 if stored == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def examples() -> pa.Table:
    """Return eight short examples."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 200, length).astype(np.int32) for length in (40, 36, 32, 24, 20, 16, 12, 8)]
    return pa.table({"example_id": [str(i) for i in range(8)], "input_ids": ids,
                     "supervised": [np.arange(len(row)) > len(row) // 2 for row in ids]})


def train(folder: Path, given: argparse.Namespace) -> None:
    """Be one of the workers; rank 0 leaves the model, each its peaks."""
    torch.distributed.init_process_group("gloo")
    memory = Memory()
    config = TargetConfig.model_validate({
        "model": {"path": str(folder / "base"), "tokenizer": str(TOKENIZER)}, "max_steps": given.steps,
        "zero_stage": 3, "num_checkpoints": 0, "global_batch_size": 8, "micro_batch_size": 8 // given.workers,
        "precision": given.precision})
    run = TrainingRun("memory", config, plan_training(config, 8), 0, Storage(str(folder)), "trained", 1, False)
    started = time.time()
    times = fine_tune(run, Alone(examples()))["times"]
    peaks = {"load": memory.peak(started, times["model"]), "train": memory.peak(times["model"], times["trained"]),
             "save": memory.peak(times["trained"], times["saved"])}
    (folder / f"peaks-{torch.distributed.get_rank()}.json").write_text(json.dumps(peaks))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def evaluate(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Return the peaks of an evaluation of the trained model."""
    memory, started = Memory(), time.time()
    path = folder / "trained" / "model" if given.steps else folder / "base"
    model = ModelConfig(path=str(path), tokenizer=str(TOKENIZER))
    evaluator = UnitEvaluator(None, model, {}, given.precision, 8, 0)  # type: ignore[arg-type]
    loaded = time.time()
    table_losses([evaluator._scorer], examples(), 8192)
    generate_answers(evaluator._model, evaluator._tokenizer, [np.arange(3, 11)] * 4, 8)
    return {"evaluation's load": memory.peak(started, loaded), "evaluate": memory.peak(loaded, time.time())}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--stored", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--part", choices=["train", "evaluate"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "train":
        train(given.folder, given)
    elif given.part == "evaluate":
        print(json.dumps(evaluate(given.folder, given)))
    else:
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Run the parts, each in processes of its own, and print what they took."""
    options = [f"--{name}={getattr(given, name)}" for name in ("shape", "precision", "stored", "workers", "steps")]
    with tempfile.TemporaryDirectory(prefix="s2l-memory-") as scratch:
        folder = Path(scratch)
        num_weights = write_model(folder / "base", given.shape, given.stored)
        part = [__file__, *options, f"--folder={folder}"]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={given.workers}"]
        if given.steps:
            subprocess.run([sys.executable, *launcher, *part, "--part=train"], check=True, stdout=sys.stderr,
                           env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"})
        workers = [json.loads(path.read_text()) for path in folder.glob("peaks-*.json")]
        peaks = {phase: max(worker[phase] for worker in workers) for phase in (workers or [{}])[0]}
        done = subprocess.run([sys.executable, *part, "--part=evaluate"], check=True, stdout=subprocess.PIPE, text=True)
        peaks |= json.loads(done.stdout.splitlines()[-1])
    weights = {name: round(num_weights * size / 2**20) for name, size in (("fp32", 4), ("bf16", 2))}
    print(json.dumps({"benchmark": "model_memory", **vars(given), "folder": None, "num_weights": num_weights,
                      "weights_mb": weights, "peak_mb": peaks, "commit": git_commit()}))


if __name__ == "__main__":
    main()

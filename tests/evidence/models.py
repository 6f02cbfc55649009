"""Bases, proxies and targets: trained by the package's own engine, in this process, without Ray."""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import ExampleTable, padding_multiple
from s2l_ray.modeling.embedding import fitted_embeddings
from s2l_ray.modeling.generation import fitted_answers, prompt_length
from s2l_ray.modeling.lora import adapt
from s2l_ray.modeling.losses import LossScorer, fitted_losses
from s2l_ray.modeling.models import load_model
from s2l_ray.modeling.schedule import TrajectoryPoint, plan_training
from s2l_ray.modeling.training import Collator, PointCallback, build_trainer
from s2l_ray.modeling.training_arguments import training_arguments
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.recipe.scoring import Pooling, TrajectoryConfig
from s2l_ray.recipe.training import ProxyConfig
from tests.evidence.setting import Setting, Shape

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION: Precision = "bf16" if DEVICE.type == "cuda" else "fp32"
_ANSWER_TOKENS = 24  # "The answer is 12421."
logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@dataclass(frozen=True)
class Training:
    """How a model is trained."""

    learning_rate: float
    batch: int
    seed: int
    steps: int | None = None
    epochs: float | None = None


def fresh(shape: Shape, vocabulary: int, end: int, setting: Setting) -> PreTrainedModel:
    """Return an untrained model of this shape."""
    config = ModelConfig(config=shape.config(vocabulary, end, setting.max_length), tokenizer="-")
    return load_model(config, vocab_size=vocabulary, seed=0, device=DEVICE)


def loaded(folder: Path | str) -> PreTrainedModel:
    """Return a model of a folder."""
    return load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0, device=DEVICE)


def copied(model: PreTrainedModel) -> PreTrainedModel:
    """Return its weights in a model that no trainer has changed."""
    copy: PreTrainedModel = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32).to(DEVICE)
    copy.load_state_dict(model.state_dict())
    return copy


def adapted(model: PreTrainedModel, rank: int, seed: int) -> Any:
    """Return the model frozen in bf16, with fresh adapters of this rank."""
    return adapt(model.to(torch.bfloat16), LoraConfig(rank=rank, alpha=2.0 * rank), seed)


def merged(model: Any) -> PreTrainedModel:
    """Return the model with what its adapters learned in its weights, in fp32: small steps get lost in bf16."""
    plain: PreTrainedModel = model.float().merge_and_unload()
    return plain


def answers_of(model: PreTrainedModel, rows: pa.Table, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what the model says to the question of each row."""
    prompts = [np.array(ids[: prompt_length(np.array(learned))]) for ids, learned in
               zip(rows["input_ids"].to_pylist(), rows["supervised"].to_pylist(), strict=True)]
    return fitted_answers(copied(model).eval(), tokenizer, prompts, _ANSWER_TOKENS, "auto")


def losses_of(model: PreTrainedModel, rows: pa.Table, precision: Precision = PRECISION) -> np.ndarray:
    """Return each row's mean loss over its supervised tokens, (N,) float32 in nats."""
    return fitted_losses([LossScorer(copied(model), precision)], rows, BatchSize("auto", DEVICE))[:, 0]


def embeddings_of(model: PreTrainedModel, rows: pa.Table, pooling: Pooling = "mean") -> np.ndarray:
    """Return each row's embedding at unit length, (N, D) float32."""
    order = np.argsort(rows["num_tokens"].to_numpy(), kind="stable")
    found_ND = fitted_embeddings(copied(model).eval(), rows.take(pa.array(order)), BatchSize("auto", DEVICE), pooling)
    embeddings_ND = np.empty_like(found_ND)
    embeddings_ND[order] = found_ND
    return embeddings_ND


def train(
    model: PreTrainedModel, rows: pa.Table, training: Training, num_points: int = 0,
    at_point: Callable[[PreTrainedModel, TrajectoryPoint], None] | None = None,
) -> dict[str, float]:
    """Train on rows, calling `at_point` at the untouched model and at points evenly spread, the last one included."""
    is_adapted = hasattr(model, "peft_config")
    config = ProxyConfig(
        model=ModelConfig(path="-"), max_steps=training.steps, epochs=training.epochs,
        learning_rate=training.learning_rate, global_batch_size=training.batch, micro_batch_size=training.batch,
        num_checkpoints=0, precision="bf16" if is_adapted else PRECISION)
    trajectory = TrajectoryConfig(num_points=num_points, include_initial=True) if at_point else None
    plan = plan_training(config, rows.num_rows, trajectory)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, plan, num_workers=1, output_dir=Path(folder), seed=training.seed,
                                       use_gpu=DEVICE.type == "cuda")
        collator = Collator(0, padding_multiple(DEVICE), packs=is_adapted)
        callbacks = [PointCallback(plan.points, at_point)] if at_point else []
        trainer = build_trainer(model, arguments, ExampleTable(rows), collator, callbacks)
        trainer.train()
    return {"steps": plan.total_steps, "tokens": collator.num_tokens}

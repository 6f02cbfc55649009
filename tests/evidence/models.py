"""Bases, proxies and targets: trained by the package's own engine, in this process, without Ray."""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import ExampleTable, padding_multiple
from s2l_ray.modeling.embedding import fitted_embeddings
from s2l_ray.modeling.losses import LossScorer, fitted_losses
from s2l_ray.modeling.models import load_model
from s2l_ray.modeling.schedule import TrajectoryPoint, plan_training
from s2l_ray.modeling.training import Collator, PointCallback, build_trainer
from s2l_ray.modeling.training_arguments import training_arguments
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.scoring import Pooling, TrajectoryConfig
from s2l_ray.recipe.training import ProxyConfig
from tests.evidence.setting import Setting, Shape

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION = "bf16" if DEVICE.type == "cuda" else "fp32"
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


def losses_of(model: PreTrainedModel, rows: pa.Table) -> np.ndarray:
    """Return each row's mean loss over its supervised tokens, (N,) float32 in nats."""
    return fitted_losses([LossScorer(copied(model), PRECISION)], rows, BatchSize("auto", DEVICE))[:, 0]


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
    config = ProxyConfig(
        model=ModelConfig(path="-"), max_steps=training.steps, epochs=training.epochs,
        learning_rate=training.learning_rate, global_batch_size=training.batch, micro_batch_size=training.batch,
        num_checkpoints=0, precision=PRECISION)
    trajectory = TrajectoryConfig(num_points=num_points, include_initial=True) if at_point else None
    plan = plan_training(config, rows.num_rows, trajectory)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, plan, num_workers=1, output_dir=Path(folder), seed=training.seed,
                                       use_gpu=DEVICE.type == "cuda")
        collator = Collator(0, padding_multiple(DEVICE))
        callbacks = [PointCallback(plan.points, at_point)] if at_point else []
        trainer = build_trainer(model, arguments, ExampleTable(rows), collator, callbacks)
        trainer.train()
    return {"steps": plan.total_steps, "tokens": collator.num_tokens}

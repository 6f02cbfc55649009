"""finetune: the target model on a selection, with DeepSpeed; ends as a Hugging Face folder."""

import time
from typing import Any

from s2l_ray.artifacts import Artifact
from s2l_ray.config import ResourcesConfig
from s2l_ray.execution.datasets import read_examples
from s2l_ray.execution.training import train
from s2l_ray.modeling.models import model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import TrainingRun, plan_training
from s2l_ray.training_config import TargetConfig


def finetune_artifact(config: TargetConfig, seed: int, selection: Artifact, examples: Artifact) -> Artifact:
    """Name a fine-tuned target: the model, how it is trained, and on which rows; `seed` is the one it comes to."""
    training = {**config.identity(), "model": model_identity(config.model)}
    del training["seed"]  # null, where it is the recipe's
    identity = {"training": training, **tokenizer_identity(config.model), "seed": seed}
    parents = {"selection": selection.fingerprint, "examples": examples.fingerprint}
    return Artifact(selection.storage, "finetune", identity, parents)


def run_finetune(
    artifact: Artifact, config: TargetConfig, seed: int, selection: Artifact, examples: Artifact,
    resources: ResourcesConfig, label: str,
) -> dict[str, Any]:
    """Train the target; `model/` is a folder that AutoModelForCausalLM.from_pretrained loads then.

    Raises
    ------
    RuntimeError
        A selected example is not among the target's examples.
    """
    started, storage = time.time(), artifact.storage
    ids = storage.read_table(selection.file("selection.parquet"), ["example_id"])["example_id"].combine_chunks()
    dataset = read_examples(examples, ids).materialize()
    if dataset.count() != len(ids):
        raise RuntimeError(f"{dataset.count()} of {len(ids)} selected examples are among the target's examples")
    plan = plan_training(config, len(ids))
    run = TrainingRun(f"finetune on {label}", config, plan, seed, storage, artifact.folder,
                      resources.cpus_per_worker, resources.use_gpu)
    result = train(run, dataset, resources)
    if not storage.exists(artifact.file("model/config.json")):
        raise RuntimeError(f"the training on {label} ended without a model in {artifact.folder}/model")
    facts = {
        "rows": {"examples": len(ids)},
        "total_steps": plan.total_steps,
        "zero_stage": config.zero_stage,
        "resources": resources.model_dump(),
        **result,
    }
    return artifact.publish(facts, started)

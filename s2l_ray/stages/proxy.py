"""proxy: fine-tune the small model on the whole pool and keep its weights at the trajectory points."""

import time
from typing import Any

from s2l_ray.artifacts import Artifact
from s2l_ray.config import ResourcesConfig
from s2l_ray.execution.datasets import read_examples
from s2l_ray.execution.training import train
from s2l_ray.modeling.models import model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import TrainingRun, plan_training
from s2l_ray.progress import note
from s2l_ray.training_config import ProxyConfig, TrajectoryConfig


def proxy_artifact(examples: Artifact, config: ProxyConfig, trajectory: TrajectoryConfig, seed: int) -> Artifact:
    """Name the proxy: what it is trained on, how, and where it is recorded."""
    identity = {
        "training": {**config.identity(), "model": model_identity(config.model)},
        **tokenizer_identity(config.model),
        "num_points": trajectory.num_points,
        "include_initial": trajectory.include_initial,
        "seed": seed,
    }
    return Artifact(examples.storage, "proxy", identity, {"examples": examples.fingerprint})


def run_proxy(
    artifact: Artifact, examples: Artifact, config: ProxyConfig, trajectory: TrajectoryConfig, seed: int,
    resources: ResourcesConfig,
) -> dict[str, Any]:
    """Train the proxy; its points lie in `point-<step>/` then, the finished model in `model/`.

    Raises
    ------
    InputError
        There are fewer optimizer steps than trajectory points.
    """
    started = time.time()
    num_examples = examples.manifest()["rows"]["examples"]
    plan = plan_training(config, num_examples, trajectory)
    run = TrainingRun("proxy: train", config, plan, seed, artifact.storage, artifact.folder,
                      resources.cpus_per_worker, resources.use_gpu)
    result = train(run, read_examples(examples), resources)
    if len(result["num_workers_used"]) > 1:
        used = ", then ".join(map(str, result["num_workers_used"]))
        note(f"proxy: train: {used} workers. Sums were rounded in another order than by one number of them throughout, "
             "so this is not bit for bit the proxy of an undisturbed run; the manifest says so too")
    missing = [p.folder for p in plan.points if not artifact.storage.exists(artifact.file(f"{p.folder}/config.json"))]
    if missing:
        raise RuntimeError(f"the proxy's training ended without the trajectory points {missing}")
    facts = {
        "points": [{"step": point.step, "fraction": point.fraction} for point in plan.points],
        "rows": {"examples": num_examples},
        "total_steps": plan.total_steps,
        "resources": resources.model_dump(),
        **result,
    }
    return artifact.publish(facts, started)

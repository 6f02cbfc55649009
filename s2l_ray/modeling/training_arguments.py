"""How a training is set up: the Trainer's arguments, DeepSpeed's config, the model as it holds it."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from s2l_ray.modeling.lora import adapt
from s2l_ray.modeling.models import CPU, DTYPES, load_model
from s2l_ray.modeling.schedule import TrainingPlan
from s2l_ray.recipe.training import TrainingConfig, Zero


def training_arguments(
    config: TrainingConfig, plan: TrainingPlan, *, num_workers: int, output_dir: Path, seed: int, use_gpu: bool
) -> TrainingArguments:
    """Return the Trainer's arguments. Make them before the model: under ZeRO-3 they decide how it is loaded.

    A step has the same examples for any number of workers: the fewer there are, the more micro-batches each takes.
    """
    assert config.precision != "auto", "what auto means is decided before (settle_precision)"
    saves, micro = config.num_checkpoints, config.unmeasured_micro_batch(num_workers)
    return TrainingArguments(
        output_dir=str(output_dir),
        max_steps=plan.total_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.global_batch_size // (micro * num_workers),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_schedule,
        warmup_steps=math.ceil(config.warmup_fraction * plan.total_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bf16",
        gradient_checkpointing=config.gradient_checkpointing,
        # One kernel for all weights, where they are on a GPU.
        optim="adamw_torch_fused" if use_gpu and not (config.zero and config.zero.offload_optimizer) else "adamw_torch",
        save_strategy="steps" if saves else "no",
        save_steps=math.ceil(plan.total_steps / (saves + 1)),
        logging_steps=max(1, plan.total_steps // 50),
        logging_nan_inf_filter=not use_gpu,  # to look at each micro-batch's loss, the host would wait for the GPU
        seed=seed,
        data_seed=seed,
        use_cpu=not use_gpu,
        dataloader_pin_memory=use_gpu,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        deepspeed=deepspeed_config(config.zero) if config.zero else None,
    )


def deepspeed_config(zero: Zero) -> dict[str, Any]:
    """Return DeepSpeed's config; `auto` values are filled in by the Trainer from its arguments."""
    settings: dict[str, Any] = {"stage": zero.stage}
    if zero.stage == 3:
        # Without it DeepSpeed writes no weights that from_pretrained could load.
        settings["stage3_gather_16bit_weights_on_model_save"] = True
        # DeepSpeed's buckets of half a billion numbers take gigabytes of each worker; auto fits them to the model. Its
        # optimizer goes over a share of the weights at a time, with copies of that.
        settings |= dict.fromkeys(("reduce_bucket_size", "stage3_prefetch_bucket_size",
                                   "stage3_param_persistence_threshold"), "auto")
        settings["sub_group_size"] = 50_000_000
    if zero.offload_optimizer:
        settings["offload_optimizer"] = {"device": "cpu"}
    return {
        "zero_optimization": settings,
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
    }


def load_for_training(config: TrainingConfig, arguments: TrainingArguments, *, vocab_size: int, seed: int) -> Any:
    """Return the model as its training holds it, on the device it is trained on, with its adapters if it has any.

    DeepSpeed's bf16 keeps weights in bf16, and makes its fp32 copies, a share on each worker, from those; so in fp32
    they would be loaded for nothing. Frozen weights need no fp32 either. Those that DDP trains are fp32 themselves.
    """
    assert config.precision != "auto"
    is_low = config.zero is not None or config.lora is not None
    model = load_model(
        config.model, vocab_size=vocab_size, seed=seed, quantize=config.quantize,
        dtype=DTYPES[config.precision] if is_low else torch.float32,
        device=CPU if config.zero and config.zero.stage == 3 else arguments.device)
    if config.lora is None:
        return model
    return adapt(model, config.lora, seed, is_quantized=config.quantize is not None,
                 recomputes=config.gradient_checkpointing)


def disable_deepspeed_compiler() -> None:
    """Let DeepSpeed's CPU backend use plain gloo instead of compiling its shared-memory operator on first use.

    The compilation takes up to a minute on each node and needs g++ and ninja; gloo needs neither. DeepSpeed has
    no public switch for it. Call it before DeepSpeed is initialised, on machines without a GPU.
    """
    import deepspeed  # heavy

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

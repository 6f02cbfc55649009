"""Adapters of frozen models: put on to be trained, or merged into their base (LoRA, arXiv 2106.09685)."""

import os
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from s2l_ray.errors import InputError
from s2l_ray.recipe.lora import LoraConfig, Quantized

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel  # heavy: most commands start without a model

def adapt(
    model: "PreTrainedModel", config: LoraConfig, seed: int, *, is_quantized: bool = False, recomputes: bool = False
) -> "PeftModel":
    """Return the model with fresh adapters, which change nothing yet, and everything else frozen.

    Parameters
    ----------
    recomputes
        Whether gradients go through recomputed activations, which frozen embeddings would end.

    Raises
    ------
    InputError
        No layer is called as `target_modules` says.
    """
    import peft  # heavy

    if is_quantized:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=recomputes)
    elif recomputes:
        model.enable_input_require_grads()
    torch.manual_seed(seed)
    whole, is_tied = embedding_names(model) if config.save_embeddings else ([], False)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,  # type: ignore[arg-type]
        target_modules=config.target_modules, use_rslora=config.rslora, use_dora=config.dora,
        modules_to_save=whole or None, ensure_weight_tying=is_tied,
    )
    linear = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    try:
        adapted: Any = peft.get_peft_model(model, settings)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"lora={config.model_dump(exclude_defaults=True)} cannot be put on a "
                         f"{model.config.model_type} model: {str(error).strip() or type(error).__name__}. Its linear "
                         f"layers are called {', '.join(sorted(linear))}") from error
    return adapted


def embedding_names(model: "PreTrainedModel") -> tuple[list[str], bool]:
    """Return what the layers are called that hold a vector for each token, and whether two share one, named once."""
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and head.weight is inputs.weight
    wanted = [inputs] if is_tied or head is None else [inputs, head]
    names = [name.rpartition(".")[2] for name, layer in model.named_modules() if any(layer is one for one in wanted)]
    return names, is_tied


def plain_model(model: Any) -> "PreTrainedModel":
    """Return the transformers model in which the adapters are, or the model itself where there are none."""
    inner: PreTrainedModel = model.get_base_model() if hasattr(model, "peft_config") else model
    return inner


def quantization(kind: Quantized, dtype: torch.dtype) -> Any:
    """Return how transformers loads weights in 4 or 8 bits (QLoRA, arXiv 2305.14314).

    Raises
    ------
    InputError
        The package for it is not installed.
    """
    from transformers import BitsAndBytesConfig  # heavy

    try:
        import bitsandbytes  # noqa: F401 (optional)
    except ImportError as error:
        raise InputError(f"quantize={kind} needs the package bitsandbytes: pip install 's2l-ray[quantize]'") from error
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=dtype)


def put_on(base: "PreTrainedModel", path: str) -> "PreTrainedModel":
    """Return a base model with the adapter of a folder merged into its weights.

    Raises
    ------
    InputError
        The adapter does not fit the base, or lacks some of its weights.
    """
    import peft  # heavy

    folder = os.path.expanduser(path)
    try:
        adapted = peft.PeftModel.from_pretrained(base, folder, use_safetensors=True)
        saved = peft.load_peft_weights(folder, device="cpu")
        missing = sorted(set(peft.get_peft_model_state_dict(adapted)) - set(saved))
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, SafetensorError) as error:
        said = str(error).strip().splitlines()
        raise InputError(f"the adapter in {path!r} cannot be put on its base model "
                         f"({said[0][:300] if said else type(error).__name__})") from error
    if missing:  # peft takes fresh ones in their place
        raise InputError(f"the adapter in {path!r} lacks {len(missing)} of its weights, for example {missing[0]}")
    return merged

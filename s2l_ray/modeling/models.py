"""Load a causal language model or its tokenizer, and name its content for fingerprints."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from s2l_ray.errors import InputError
from s2l_ray.modeling.adapters import base_of, is_adapter, write_base
from s2l_ray.modeling.lora import put_on, quantization
from s2l_ray.recipe.lora import Quantized
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.storage.artifacts import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

# What transformers raises for folders whose files are there but hold something else; it checks little by itself.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
            StrictDataclassError)
_MAKES_NONE = (ValueError, TypeError, AssertionError, ImportError)  # an assertion is how torch refuses padding_idx

CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_model(
    config: ModelConfig, *, vocab_size: int, seed: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU,
    quantize: Quantized | None = None,
) -> "PreTrainedModel":
    """Return the model, whose weights are never in another precision or elsewhere on the way; an adapter's is merged.

    Under ZeRO-3 (transformers knows) each process gets its part of them, wherever DeepSpeed wants it.

    Parameters
    ----------
    vocab_size
        Smallest vocabulary a fresh config is given; pretrained weights are never resized.
    seed
        Seed of freshly initialised weights, which are drawn in fp32 on the CPU whatever they end as.

    Raises
    ------
    InputError
        The model cannot be found, has no safetensors weights (pickles are not loaded), or its config makes none.
    """
    from transformers import AutoModelForCausalLM  # heavy: most commands start without a model

    if config.config is not None:
        torch.manual_seed(seed)
        fresh = fresh_config(config, vocab_size)
        try:
            drawn: Any = AutoModelForCausalLM.from_config(fresh, dtype=torch.float32, **_attention(config))
        except _MAKES_NONE as error:
            raise InputError(f"config {config.config} makes no causal language model: {error}") from error
        for weight in drawn.parameters():  # not the buffers: those of positions need their fp32
            weight.data = weight.data.to(device, dtype)
        return drawn.to(device)
    assert config.path is not None
    if is_adapter(config.path):
        base = load_model(_base(config), vocab_size=vocab_size, seed=seed, dtype=dtype, device=device)
        return put_on(base, config.path)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            os.path.expanduser(config.path), revision=config.revision, trust_remote_code=config.trust_remote_code,
            use_safetensors=True, dtype=dtype, output_loading_info=True,
            device_map=None if device == CPU else {"": device},  # straight to where they are used
            quantization_config=None if quantize is None else quantization(quantize, dtype), **_attention(config),
        )
    except (*_DAMAGED, ImportError) as error:
        raise InputError(_refusal("model", config.path, error)) from error
    model, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:  # they would be random numbers, silently
        raise InputError(
            f"model {config.path!r} cannot be loaded: its files lack {len(missing)} of the weights that its config "
            f"asks for, for example {missing[0]}"
        )
    return model


def _attention(config: ModelConfig) -> dict[str, str]:
    return {} if config.attn_implementation == "auto" else {"attn_implementation": config.attn_implementation}


def load_from(
    artifact: Artifact, folder: str = "model", *, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> "PreTrainedModel":
    """Return the model that an artifact holds in one of its folders, as `load_model` does."""
    with artifact.local_folder(folder) as local:
        return load_model(ModelConfig(path=str(local)), vocab_size=0, seed=0, dtype=dtype, device=device)


def load_tokenizer_from(artifact: Artifact) -> PreTrainedTokenizerBase:
    """Return the tokenizer beside an artifact's finished model."""
    with artifact.local_folder("model") as local:
        return load_tokenizer(ModelConfig(path=str(local)))


def fresh_config(config: ModelConfig, vocab_size: int) -> Any:
    """Return the transformers config of a fresh model; `vocab_size` is filled in where the recipe leaves it out."""
    assert config.config is not None
    fields = {"vocab_size": vocab_size, **config.config}
    try:
        fresh = AutoConfig.for_model(**fields)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"config {config.config} is not a transformers model config: {error}") from error
    if fields["vocab_size"] < vocab_size:
        raise InputError(f"config.vocab_size={fields['vocab_size']} is below the tokenizer's {vocab_size} tokens")
    return fresh


def _base(model: ModelConfig) -> ModelConfig:
    """Return the model, of an adapter the one that it is put on, with the attention that is asked for."""
    if model.path is None or not is_adapter(model.path):
        return model
    return _base(base_of(model.path).model_copy(update={"attn_implementation": model.attn_implementation}))


def whole_config(model: ModelConfig, vocab_size: int) -> Any:
    """Return the transformers config of a model, of an adapter its base's; `vocab_size` is for a fresh one."""
    if model.config is not None:
        return fresh_config(model, vocab_size)
    model = _base(model)
    assert model.path is not None
    return AutoConfig.from_pretrained(os.path.expanduser(model.path), revision=model.revision,
                                      trust_remote_code=model.trust_remote_code)


def model_without_weights(model: ModelConfig, vocab_size: int) -> "PreTrainedModel":
    """Return a model whose weights have shapes and no content, so that one of 70B takes no memory.

    Raises
    ------
    InputError
        Its config makes no causal language model, or not with the attention that is asked for.
    """
    from transformers import AutoModelForCausalLM  # heavy: most commands start without a model

    model = _base(model)
    config = whole_config(model, vocab_size)
    try:
        with torch.device("meta"):
            made: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, trust_remote_code=model.trust_remote_code, **_attention(model))
    except _MAKES_NONE as error:
        raise InputError(f"{model.path or model.config} makes no causal language model: {error}") from error
    return made


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Return the model's fast tokenizer.

    Raises
    ------
    InputError
        It cannot be found, is not a fast tokenizer, or has no end-of-sequence token; or `config.eos_token` is not
        one of its tokens.
    """
    path = config.tokenizer_path
    revision = config.revision if config.tokenizer is None else None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            os.path.expanduser(path), revision=revision, trust_remote_code=config.trust_remote_code, use_fast=True
        )
    except _DAMAGED as error:
        raise InputError(_refusal("tokenizer", path, error)) from error
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {path!r} has no fast (tokenizer.json) form, which character offsets need")
    if config.eos_token is not None:
        if config.eos_token not in tokenizer.get_vocab():
            raise InputError(f"model.eos_token={config.eos_token!r} is not one of the tokens of tokenizer {path!r}")
        tokenizer.eos_token = config.eos_token
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"tokenizer {path!r} has no end-of-sequence token ({tokenizer.eos_token!r}): set model.eos_token to one of "
            "its tokens, or eos_token in its tokenizer_config.json"
        )
    return tokenizer


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an id to pad with; padding is masked, so end-of-sequence serves where there is no pad token."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)  # type: ignore[arg-type]


def _refusal(what: str, path: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if Path(path).expanduser().is_dir():
        return f"{what} folder {path!r} cannot be loaded ({reason})"
    return f"{what} {path!r} is neither a folder here nor reachable on the hub ({reason})"


def save_weights(model: "PreTrainedModel", folder: Path) -> None:
    """Write config and safetensors weights; of a model with adapters these alone."""
    model.save_pretrained(folder, safe_serialization=True)


def finish_folder(folder: Path, base: ModelConfig) -> None:
    """Leave nothing in a saved model's folder but the model; an adapter gets the name of its base."""
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; the manifest has the config
    if is_adapter(folder):
        (folder / "README.md").unlink(missing_ok=True)  # peft's form of a card, not filled in
        write_base(folder, base)


def parameter_count(folder: Path) -> int:
    """Return the number of stored weights in a folder's safetensors files, from their headers alone.

    Of an adapter it is the number of its base's, into which it is merged.
    """
    if is_adapter(folder):
        base = base_of(folder).path or ""
        local = Path(base).expanduser()
        return parameter_count(local if local.is_dir() else Path(snapshot_download(base, local_files_only=True)))
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        total += sum(int(torch.Size(shape).numel()) for shape in shapes)
    return total


def write_merged(adapter: Path, output: Path, name: str, precision: Literal["base", "fp32"] = "base") -> dict[str, Any]:
    """Write an adapter's folder as one whole model with its tokenizer. Merged in fp32. Returns what it is made of.

    Parameters
    ----------
    name
        What people call the adapter's folder.
    precision
        What it is stored in: what the base is, which may round away part of what the adapter changes; or fp32.

    Raises
    ------
    InputError
        It holds no adapter, the folder to write has something in it, or the adapter or its base cannot be loaded.
    """
    if not is_adapter(adapter):
        raise InputError(f"{name} is a whole model already: it was trained without lora, and nothing is to be merged")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{str(output)!r} is not empty: give another folder")
    base = base_of(adapter)
    model = load_model(ModelConfig(path=str(adapter)), vocab_size=0, seed=0)
    stored = None if precision == "fp32" else AutoConfig.from_pretrained(
        os.path.expanduser(base.path or ""), revision=base.revision, trust_remote_code=base.trust_remote_code).dtype
    with tempfile.TemporaryDirectory(prefix=f"{output.name}-", dir=output.parent) as scratch:
        save_weights(model.to(stored or torch.float32), Path(scratch))  # type: ignore[arg-type]
        load_tokenizer(ModelConfig(path=str(adapter))).save_pretrained(scratch)
        output.mkdir(exist_ok=True)
        for file in Path(scratch).iterdir():
            file.replace(output / file.name)
    return {"base": base.path, "dtype": str(stored or torch.float32).removeprefix("torch."),
            "num_weights": sum(weight.numel() for weight in model.parameters())}

"""Whether a model has room for the examples: positions for their lengths, and a vector for each of their tokens."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from s2l_ray.errors import InputError
from s2l_ray.modeling.models import model_without_weights, whole_config
from s2l_ray.recipe.model import ModelConfig

_BY_ANGLE = ("rope_parameters", "rope_theta", "rotary_dim", "alibi")
"""Settings of models whose positions have no table that ends."""


def settings_of(model: ModelConfig, num_tokens: int) -> Any:
    """Return the transformers config of a model's text part, without its weights."""
    return whole_config(model, num_tokens).get_text_config()


def check_positions(key: str, settings: Any, max_length: int) -> str | None:
    """Refuse examples that are longer than a model's table of positions; return what to say of longer than learned.

    Raises
    ------
    InputError
        With the length that fits.
    """
    limit = getattr(settings, "max_position_embeddings", None)
    if limit is None or max_length <= limit:
        return None
    if any(getattr(settings, name, None) for name in _BY_ANGLE):
        return (f"data.max_length={max_length}: {key} was made for {limit} tokens; it computes what lies beyond, but "
                "has not learned to")
    raise InputError(f"data.max_length={max_length} is more than the {limit} positions that {key} has: set "
                     f"data.max_length={limit} or less, or take a model with more")


def check_attention(key: str, model: ModelConfig, num_tokens: int) -> None:
    """Refuse an attention that a model does not have, or that lacks its package here.

    Raises
    ------
    InputError
        With what transformers says of it.
    """
    if model.attn_implementation == "auto":
        return
    try:
        model_without_weights(model, num_tokens)
    except InputError as error:
        reason = str(error.__cause__).strip().splitlines()[0]
        raise InputError(f"{key}.attn_implementation={model.attn_implementation}: {reason} Set it to auto, or to sdpa "
                         "or eager") from error


def check_ids(largest_id: int, num_vectors: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a token that a model has no vector for, as where a tokenizer was given tokens and its model not resized.

    Raises
    ------
    InputError
        With its name.
    """
    if largest_id >= num_vectors:
        token = tokenizer.convert_ids_to_tokens(largest_id)
        raise InputError(f"the examples hold token {token!r}, number {largest_id}, and the model has vectors for "
                         f"{num_vectors} tokens: resize it (model.resize_token_embeddings(len(tokenizer))) and save it "
                         "again, or take the model that belongs to the tokenizer")

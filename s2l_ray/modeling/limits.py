"""Whether a model has room for the examples: positions for their lengths, and a vector for each of their tokens."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
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


def check_learned(layers: Sequence[Any], used: Collection[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse added tokens whose frozen vectors the base never learned, as a chat's are in some base models.

    Those are zero, or such as several tokens share, in all of the layers, which hold a weight (V, D) each: embeddings
    and head. A model that cannot tell the end of a turn from another token does not learn to end one.

    Raises
    ------
    InputError
        With their names.
    """
    added = sorted(token for token in tokenizer.added_tokens_decoder if token in used)
    unlearned = [token for token in added if all(_is_unlearned(layer.weight, token) for layer in layers)]
    if unlearned:
        names = ", ".join(map(str, tokenizer.convert_ids_to_tokens(unlearned)))
        raise InputError(f"the examples hold {names}, whose vectors the model has not learned (they are zero, or equal "
                         "to another token's), and adapters leave them as they are: set save_embeddings=true beside "
                         "lora's rank, take a model that was trained with them, or a data.prompt_style without them")


def _is_unlearned(weight_VD: torch.Tensor, token: int) -> bool:
    if token >= len(weight_VD):  # under ZeRO-3 no row is at hand
        return False
    own = weight_VD[token]
    alike = (weight_VD[:, 0] == own[0]).nonzero()[:, 0]  # few: the rest need no look at all their numbers
    return not bool(own.any()) or int((weight_VD[alike] == own).all(dim=1).sum()) > 1

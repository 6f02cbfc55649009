"""The part of the recipe that names a model and its tokenizer."""

from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from s2l_ray.recipe.settings import WHERE, Section

Precision = Literal["fp32", "bf16"]
AskedPrecision = Literal["auto", "fp32", "bf16"]
Attention = Literal["auto", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"]


class ModelConfig(Section):
    """A causal language model: pretrained weights, or fresh ones from a config."""

    path: Annotated[str | None, WHERE] = None
    """Hub name or local folder of the pretrained model."""
    revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch on the hub; null takes the newest."""
    config: dict[str, Any] | None = None
    """Instead of `path`: model_type and its fields, for freshly initialised weights (seeded)."""
    tokenizer: Annotated[str | None, WHERE] = None
    """Hub name or local folder of the tokenizer; null takes the model's."""
    eos_token: str | None = None
    """End-of-sequence token, for a tokenizer that names none itself; for example <|endoftext|>."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; off unless you trust its authors."""
    attn_implementation: Attention = "auto"
    """Attention that it is loaded with; auto is the fastest that the model has without more packages."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of path (pretrained weights) and config (fresh weights)")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config needs model_type, for example {model_type: gpt_neox, hidden_size: 128}")
        if self.config is not None and self.tokenizer is None:
            raise ValueError("a fresh config brings no tokenizer: set tokenizer to a hub name or a folder")
        return self

    @property
    def tokenizer_path(self) -> str:
        """Return where the tokenizer comes from."""
        origin = self.tokenizer or self.path
        assert origin is not None
        return origin

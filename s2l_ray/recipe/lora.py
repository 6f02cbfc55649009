"""The part of a training that says which adapter is trained in place of the weights themselves."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.settings import Count, Section

Quantized = Literal["nf4", "int8"]


class LoraConfig(Section):
    """Low-rank adapters (LoRA, arXiv 2106.09685) beside frozen weights, through the package peft."""

    rank: Count = 16
    """Rank r of each adapter."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """What an adapter adds is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of what goes into an adapter."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Layers with an adapter, by the ends of their names; all-linear is every linear layer but the head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (arXiv 2312.03732)."""
    dora: bool = False
    """Train each layer's magnitude apart from its direction (DoRA, arXiv 2402.09353)."""
    save_embeddings: bool = False
    """Train embeddings and head whole too, for tokens that the base model has not learned."""

    @model_validator(mode="after")
    def _names_layers(self) -> Self:
        if not self.target_modules:
            raise ValueError('target_modules=[]: name a layer at least, for example [q_proj, v_proj], or "all-linear"')
        return self

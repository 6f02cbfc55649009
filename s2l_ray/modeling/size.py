"""How large a model is, and what one token through it takes: from its config alone, without its weights."""

from dataclasses import dataclass

from torch import nn

from s2l_ray.modeling.lora import adapt
from s2l_ray.modeling.models import model_without_weights
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig


@dataclass(frozen=True)
class ModelSize:
    """Numbers of weights, and the shape that activations have."""

    weights: int
    active: int
    """Weights of the body that a token goes through: of a mixture's experts, those that it is sent to."""
    head: int
    adapters: int
    """What is trained beside frozen weights; 0 where the weights themselves are."""
    layers: int
    width: int
    """Numbers of a token between two layers."""

    @property
    def trained(self) -> int:
        """Return the number of weights that have gradients."""
        return self.adapters or self.weights

    def forward_operations(self, num_tokens: float, num_supervised: float, length: float) -> float:
        """Return floating-point operations of one pass over so many tokens, in examples of a length.

        2 a weight and token; the head's for supervised tokens alone; and attention's 2 * layers * width for each
        token that one looks back on, half the length in the mean (arXiv 2001.08361, table 1).
        """
        return num_tokens * (2 * self.active + 2 * self.layers * self.width * length) + 2 * num_supervised * self.head

    def training_operations(
        self, num_tokens: float, num_supervised: float, length: float, *, recomputes: bool = False
    ) -> float:
        """Return those of learning from them: the way back is twice the way there, and once where weights are frozen
        (no gradients of their own); what is recomputed is one more way there.
        """
        passes = (2 if self.adapters else 3) + int(recomputes)
        return passes * self.forward_operations(num_tokens, num_supervised, length)


def model_size(model: ModelConfig, num_tokens: int, lora: LoraConfig | None = None) -> ModelSize:
    """Return the size of a model, fresh or pretrained, with adapters if it is given any.

    Parameters
    ----------
    num_tokens
        Vocabulary of the tokenizer, for a fresh config that names none.

    Raises
    ------
    InputError
        Its config makes no causal language model.
    """
    made = model_without_weights(model, num_tokens)
    head, embedding = made.get_output_embeddings(), made.get_input_embeddings()
    outside = {id(weight) for layer in (head, embedding) if layer is not None for weight in layer.parameters()}
    text = made.config.get_text_config()
    body = sum(weight.numel() * _share_used(name, text)
               for name, weight in made.named_parameters() if id(weight) not in outside)
    adapters = 0
    weights = _count(made)
    if lora is not None:
        adapted: nn.Module = adapt(made, lora, seed=0)
        adapters = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    return ModelSize(weights, int(body), 0 if head is None else _count(head), adapters,
                     int(text.num_hidden_layers), int(text.hidden_size))


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _share_used(name: str, config: object) -> float:
    """Return the share of a weight that a token meets: of experts those that it is sent to, of others all."""
    if ".experts." not in name:
        return 1.0
    sent_to = getattr(config, "num_experts_per_tok", None)
    there_are = next((found for key in ("num_local_experts", "num_experts", "n_routed_experts")
                      if (found := getattr(config, key, None))), None)
    return sent_to / there_are if sent_to and there_are else 1.0

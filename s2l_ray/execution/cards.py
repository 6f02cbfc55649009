"""What GPUs can do, by their makers' data sheets, for plans made before there is one."""

from dataclasses import dataclass

from s2l_ray.errors import InputError


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU: dense matrix products in 10^12 operations a second, memory as its driver reports it."""

    name: str
    bf16_tflops: float
    """0 where it has none."""
    fp32_tflops: float
    memory_gib: float

    def rate(self, precision: str) -> float:
        """Return floating-point operations a second in fp32, or in bf16 where it has it."""
        return 1e12 * (self.bf16_tflops if precision == "bf16" and self.bf16_tflops else self.fp32_tflops)


CARDS = {card.name: card for card in (
    Card("t4", 0, 8.1, 14.6),
    Card("v100-16", 0, 15.7, 15.8),
    Card("v100-32", 0, 15.7, 31.7),
    Card("rtx3090", 71, 35.6, 23.6),
    Card("a10g", 70, 31.5, 22.0),
    Card("rtx4090", 165, 82.6, 23.5),
    Card("l4", 121, 30.3, 22.2),
    Card("l40s", 362, 91.6, 44.4),
    Card("rtx5090", 210, 104.8, 31.4),
    Card("a100-40", 312, 19.5, 39.4),
    Card("a100-80", 312, 19.5, 79.2),
    Card("h100-pcie", 756, 51.2, 79.2),
    Card("h100", 989, 66.9, 79.2),
    Card("h200", 989, 66.9, 139.8),
    Card("b200", 2250, 80.0, 178.4),
)}
"""By the names that people call them."""


def find_card(name: str) -> Card:
    """Return a card by its name, written anyhow.

    Raises
    ------
    InputError
        It is unknown.
    """
    plain = name.lower().replace(" ", "").replace("_", "-").removeprefix("nvidia-")
    plain = plain.removesuffix("gb")
    if plain not in CARDS:
        raise InputError(f"--card {name}: known are {', '.join(CARDS)}")
    return CARDS[plain]


def card_here() -> Card:
    """Return the card of this machine, by the name that its driver gives it.

    Raises
    ------
    InputError
        It has none, or one that is not in the table.
    """
    import torch  # heavy

    remedy = f"name the GPU that it will run on with --card: {', '.join(CARDS)}"
    if not torch.cuda.is_available():
        raise InputError(f"resources.use_gpu=true, and this machine has no GPU: {remedy}")
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / 2**30
    plain = name.lower().replace(" ", "")
    like = [card for key, card in CARDS.items() if key.partition("-")[0] in plain]
    if not like:
        raise InputError(f"this machine's {name} is not in the table of GPUs: {remedy}, the nearest to it")
    return min(like, key=lambda card: abs(card.memory_gib - memory))

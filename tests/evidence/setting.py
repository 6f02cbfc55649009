"""What is compared, on which rows, with which models: one setting for each size of machine."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

RANDOM, FULL, S2L = "random", "full", "s2l"
STEPS, TOKENS, EPOCHS = "steps", "tokens", "epochs"
"""What two arms have alike: optimizer steps, tokens seen, or passes over what was selected."""


@dataclass(frozen=True)
class Shape:
    """A Llama of this size."""

    width: int
    layers: int
    heads: int

    def config(self, vocabulary: int, end: int, longest: int) -> dict[str, Any]:
        """Return the fields of its transformers config."""
        return {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": self.width,
                "intermediate_size": 3 * self.width, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.heads, "max_position_embeddings": longest, "tie_word_embeddings": True,
                "bos_token_id": None, "eos_token_id": end, "pad_token_id": end}


@dataclass(frozen=True)
class Rows:
    """A pool and what its targets are asked: files below the data folder."""

    pool: str
    tasks: tuple[str, ...]
    """Held-out files beside the rows of the pool's own file that are held out."""
    base: tuple[str, ...]
    """Files that the models have read before they are fine-tuned."""
    has_sources: bool = True
    """Whether the pool's rows come from several."""


@dataclass(frozen=True)
class Setting:
    """Everything that decides a cell's figures, but the files' bytes and the code."""

    size: str
    pools: tuple[str, ...]
    num_pool: int
    num_held_out: int
    """Rows of each task."""
    num_wanted: int
    """Solved examples of each task for `representation`, none of which is held out."""
    max_length: int
    """Tokens; longer rows are left out, so that nothing is cut."""
    vocabulary: int
    target: Shape
    proxy: Shape
    other_proxies: tuple[Shape, ...]
    """Whose choices are compared with the proxy's."""
    base_tokens: int
    base_learning_rate: float
    batch: int
    steps: int
    learning_rate: float
    proxy_epochs: int
    proxy_learning_rate: float
    num_points: int
    num_clusters: int
    budgets: tuple[float, ...]
    main_budget: float
    seeds: tuple[int, ...]
    model: str | None = None
    """Folder of a pretrained model in place of one of ours."""
    adapters: int = 0
    """Rank of what targets learn beside frozen weights (LoRA), in bf16 and packed; 0 trains all weights, in fp32 on CPUs."""
    arms: tuple[str, ...] = ()
    """What is compared, where that is not every arm."""
    answered: tuple[str, ...] = ()
    """Tasks whose held-out questions targets answer in words, too."""

    def told(self) -> dict[str, Any]:
        """Return what decides figures; a field that came later is left out where it changes nothing."""
        values = asdict(self)
        return {field.name: values[field.name] for field in fields(self)
                if field.default is MISSING or field.name == "model" or values[field.name] != field.default}

    def name(self) -> str:
        """Return what results of this setting are kept under."""
        told = json.dumps(self.told(), sort_keys=True).encode()
        return f"{self.size}-{hashlib.sha256(told).hexdigest()[:8]}"


ROWS = {
    "math": Rows("math_mixture", ("gsm8k_test", "math_test", "numglue_test", "simuleq_test"), ("alpaca", "flan_cot")),
    "alpaca": Rows("alpaca", ("seed_tasks",), ("math_mixture", "flan_cot"), has_sources=False),
    "clinical": Rows("clinical", ("clinical_val",), ("alpaca", "flan_cot")),
    "flan_cot": Rows("flan_cot", ("nli_test",), ("alpaca", "math_mixture")),
}

_CPU = Setting(
    size="cpu", pools=("math", "alpaca"), num_pool=3000, num_held_out=200, num_wanted=16, max_length=128,
    vocabulary=2048, target=Shape(96, 3, 4), proxy=Shape(48, 2, 2), other_proxies=(Shape(24, 1, 1), Shape(96, 3, 4)),
    base_tokens=2_000_000, base_learning_rate=3e-3, batch=16, steps=150, learning_rate=1e-3, proxy_epochs=3,
    proxy_learning_rate=2e-3, num_points=6, num_clusters=100, budgets=(0.01, 0.03, 0.11, 0.3), main_budget=0.11,
    seeds=(0, 1, 2, 3, 4),
)
SIZES = {
    "cpu": _CPU,
    "gpu": replace(_CPU, size="gpu", pools=("math", "alpaca", "clinical", "flan_cot"), num_pool=8000, num_held_out=300,
                   max_length=512, batch=32, steps=250, learning_rate=2e-5, proxy=Shape(256, 6, 4),
                   other_proxies=(Shape(64, 2, 4), Shape(128, 4, 4)), base_tokens=20_000_000, model="smollm2"),
    # A pretrained model on 2 cores: LoRA of SmolLM2-135M, as many rows and steps as an hour and a half allows.
    "pretrained": replace(
        _CPU, size="pretrained", pools=("math",), num_pool=800, num_held_out=60, max_length=96, proxy=Shape(64, 2, 4),
        other_proxies=(), base_tokens=500_000, steps=17, learning_rate=5e-4, num_clusters=35, budgets=(0.11,),
        model="smollm2", adapters=16, answered=("numglue_test", "simuleq_test"),
        arms=(RANDOM, S2L, "loss_bins", "quota_of_lengths", "random_by_source", "representation")),
    "tiny": replace(_CPU, size="tiny", pools=("math",), num_pool=120, num_held_out=8, num_wanted=4, max_length=256,
                    vocabulary=512, target=Shape(16, 1, 2), proxy=Shape(16, 1, 2), other_proxies=(Shape(8, 1, 1),),
                    base_tokens=6_000, batch=8, steps=4, proxy_epochs=3, num_points=3, num_clusters=5,
                    budgets=(0.11, 0.3), seeds=(0, 1)),
}

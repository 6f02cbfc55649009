"""Train the quickstart's tokenizer and its two base models: `python tests/quickstart/make_base.py`.

Fine-tuning supposes a model that has already learned something. These two know the words, the digits and
the sums, and no task: the corpus holds drills ("7 + 5 = 12"), sentences torn out of their problems, and notes
whose sums follow from no question. No problem is posed with its answer, and the prompt of fine-tuning never
occurs, so what a fine-tuned model can do beyond its base it learned from the examples it was given.

Run once, on one CPU core in about 15 minutes; `assets/` ships the result. A rerun on another machine or
version of torch gives other bits and the same kind of models.
"""

import re
import time
from collections.abc import Iterator

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import generate
from s2l_ray.quickstart.skills import NAMES, SKILLS, THINGS

END = "<|endoftext|>"
VOCAB_SIZE = 768
SEED = 20240311  # of the corpus: the quickstart's pool must be drawn with another one
NUM_POSITIONS = 512
SEQUENCE_LENGTH = 96  # tokens
BATCH_SIZE = 24  # sequences

_TASK = "Below is an instruction that describes a task"
_ORDER = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
BOILERPLATE = (
    f"{_TASK}. {_ORDER}",
    f"{_TASK}, paired with an input that provides further context. {_ORDER}",
    "\n\n### Input:\n",
    "\n\n### Response:",
)
"""The fixed parts of the Alpaca prompt: one token each, so that a prompt costs what its problem costs."""


def main() -> None:
    rng = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    documents = list(corpus(rng, num_documents=200_000))
    tokenizer = train_tokenizer(documents)
    tokens = torch.tensor(
        [token for ids in tokenizer(documents)["input_ids"] for token in (*ids, tokenizer.eos_token_id)]
    )
    for name, hidden_size, num_layers, num_steps, learning_rate in (
        ("proxy_base", 48, 2, 5000, 4e-3),
        ("target_base", 96, 4, 4000, 2.5e-3),
    ):
        model = new_model(tokenizer, hidden_size, num_layers)
        pretrain(model, tokens, num_steps=num_steps, learning_rate=learning_rate, rng=rng, name=name)
        model.half().save_pretrained(ASSETS / name)
        tokenizer.save_pretrained(ASSETS / name)


def corpus(rng: np.random.Generator, num_documents: int) -> Iterator[str]:
    """Half drills, a quarter loose sentences, a quarter notes; a document is 5 to 60 tokens long."""
    sentences = _loose_sentences(num_problems_per_skill=500)
    for _ in range(num_documents):
        kind = rng.random()
        if kind < 0.5:
            yield "\n".join(_sum(rng) for _ in range(rng.integers(1, 5)))
        elif kind < 0.75:
            yield " ".join(sentences[i] for i in rng.integers(len(sentences), size=rng.integers(1, 4)))
        else:
            yield _note(rng)


def _loose_sentences(num_problems_per_skill: int) -> list[str]:
    """The sentences of random problems, each for itself: no text they are mixed into poses a problem."""
    rows = generate(num_problems_per_skill * len(SKILLS), SEED, balanced=True)
    texts = [" ".join(filter(None, (row["instruction"], row["input"]))) for row in rows]
    return [sentence for text in texts for sentence in re.split(r"(?<=[.?]) ", text)]


def _sum(rng: np.random.Generator) -> str:
    """One correct sum of the sizes that the problems need."""
    a, b = (int(n) for n in rng.integers(2, 61, size=2))
    small, factor = (int(n) for n in rng.integers(2, 13, size=2))
    quotient = int(rng.integers(2, 21))
    weight_of = {
        _addition(a, b): 0.3,
        _subtraction(a, b): 0.25,
        _subtraction((10, 20, 50, 100)[a % 4], b): 0.1,
        f"{small} * {factor} = {small * factor}": 0.13,
        f"{small} * {10 * factor} = {small * 10 * factor}": 0.03,
        f"{10 * small} * {factor} = {10 * small * factor}": 0.03,
        f"{a} * 2 = {2 * a}": 0.05,
        f"{small * quotient} / {small} = {quotient}": 0.11,
    }
    threshold = np.cumsum(list(weight_of.values())) / sum(weight_of.values())
    return list(weight_of)[np.searchsorted(threshold, rng.random(), side="right")]


def _addition(a: int, b: int) -> str:
    return f"{a} + {b} = {a + b}"


def _subtraction(a: int, b: int) -> str:
    high, low = max(a, b), min(a, b)
    return f"{high} - {low} = {high - low}"


def _note(rng: np.random.Generator) -> str:
    """Two or three counts, then the same counts again or a sum that nothing asked for."""
    names = [NAMES[i] for i in rng.choice(len(NAMES), size=3, replace=False)]
    counts = [int(n) for n in rng.integers(2, 61, size=rng.integers(2, 4))]
    things = THINGS[rng.integers(len(THINGS))]
    told = [f"{name} has {count} {things}." for name, count in zip(names, counts, strict=False)]
    a, b = (counts[i] for i in rng.choice(len(counts), size=2, replace=False))
    tail = (
        " ".join(told[i] for i in rng.permutation(len(told))),
        f"{_addition(a, b)}.",
        f"{_subtraction(a, b)}.",
        f"{_sum(rng)} and {_sum(rng)}.",
    )[rng.integers(4)]
    return f"{' '.join(told)} {tail}"


def train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the corpus and the skills' outputs; a digit and the space before it are a token."""
    outputs = [row["output"] for row in generate(100 * len(SKILLS), SEED, balanced=True)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [*documents[:50_000], *outputs],
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE - len(BOILERPLATE),
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.add_tokens([AddedToken(text, normalized=False) for text in BOILERPLATE])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, model_max_length=NUM_POSITIONS
    )


def new_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int, num_layers: int) -> PreTrainedModel:
    """An untrained Llama in float32 whose input and output embeddings are one matrix."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 24,
        num_key_value_heads=hidden_size // 24,
        max_position_embeddings=NUM_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForCausalLM.from_config(config)


def pretrain(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    *,
    num_steps: int,
    learning_rate: float,
    rng: np.random.Generator,
    name: str,
) -> None:
    """Next-token training on random windows of the corpus `tokens`; linear warm-up, then cosine to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    num_warmup = num_steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / num_warmup, 0.5 + 0.5 * np.cos(np.pi * step / num_steps)),
    )
    window = torch.arange(SEQUENCE_LENGTH)
    start = time.monotonic()
    model.train()
    for step in range(num_steps):
        first = torch.from_numpy(rng.integers(len(tokens) - SEQUENCE_LENGTH, size=BATCH_SIZE))
        batch = tokens[first[:, None] + window]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 200 == 0 or step == num_steps - 1:
            print(
                f"{name} step {step} loss {loss.item():.3f} nats, {time.monotonic() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

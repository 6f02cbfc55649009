"""Small tokenizers made on the spot, and GPT-2's own where the checkout has it."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END, BOS, CHAT_START, CHAT_END = SPECIAL = ["<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>"]
GPT2 = Path(__file__).parents[3] / "shared" / "models" / "gpt2_tokenizer"
CORPUS = [
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction:\nAdd 12 and 30.\n\n### Response:\n12 + 30 = 42",
    "the answer   is\n\n\n42, thé ansẅer: naïve, 漢字, 🙂🙂",
]


def byte_pair_backend(trim_offsets: bool = False) -> Tokenizer:
    """A byte-level tokenizer; the special tokens are 0 to 3, the 256 bytes follow, then some merges."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=SPECIAL, show_progress=False, min_frequency=1,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    backend.train_from_iterator(CORPUS, trainer)
    return backend


@pytest.fixture(scope="session")
def new_tokenizer():
    """Return a maker of such tokenizers; further settings, as `chat_template`, go to transformers."""

    def make(*, trim_offsets=False, adds_bos=False, **settings):
        backend = byte_pair_backend(trim_offsets)
        if adds_bos:
            template = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, SPECIAL.index(BOS))])
            backend.post_processor = processors.Sequence([backend.post_processor, template])
            settings["bos_token"] = BOS
        return PreTrainedTokenizerFast(tokenizer_object=backend, **{"eos_token": END, **settings})

    return make


@pytest.fixture(scope="session")
def tokenizer(new_tokenizer):
    """Return a byte-level tokenizer of 360 tokens whose end-of-sequence is `<|endoftext|>`, id 0."""
    return new_tokenizer()


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory):
    """Return the folder where `tokenizer` is saved."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    """Return GPT-2's own tokenizer, 50,257 tokens."""
    if not GPT2.is_dir():
        pytest.skip(f"GPT-2's tokenizer is not at {GPT2}")
    return PreTrainedTokenizerFast(tokenizer_file=str(GPT2 / "tokenizer.json"), eos_token=END)

"""The shipped base models and tokenizer: they load, fit each other, spell every problem and stay small."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import generate

_made = runpy.run_path(str(Path(__file__).with_name("make_base.py")))
BOILERPLATE, END, corpus = (_made[name] for name in ("BOILERPLATE", "END", "corpus"))
BASES = ("proxy_base", "target_base")
MAX_ASSETS_BYTES = 6_000_000


@pytest.fixture(scope="module", params=BASES)
def base(request):
    folder = ASSETS / request.param
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rows = generate(1200, seed=4, balanced=True)
    return [text for row in rows for text in (row["instruction"], row["input"], row["output"]) if text]


def test_model_and_tokenizer_fit_each_other(base):
    tokenizer, model = base
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token == tokenizer.pad_token == END
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_loaded_in_float32_the_model_gives_finite_losses(base, texts):
    tokenizer, model = base
    ids = torch.tensor([tokenizer(texts[0])["input_ids"]])
    loss = model(input_ids=ids, labels=ids).loss
    assert model.dtype == torch.float32
    assert 0 < loss.item() < np.log(len(tokenizer))  # better than uniform: the base has learned something


def test_every_text_survives_encoding_and_decoding(base, texts):
    tokenizer, _ = base
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_each_digit_is_a_token_and_each_part_of_the_prompt_too(base):
    tokenizer, _ = base
    assert len(tokenizer("12 + 345")["input_ids"]) == 6
    assert [len(tokenizer(part)["input_ids"]) for part in BOILERPLATE] == [1] * len(BOILERPLATE)


def test_prompt_and_output_encode_the_same_apart_and_together(base, texts):
    tokenizer, _ = base
    prompt = BOILERPLATE[0] + texts[0] + BOILERPLATE[-1]
    together = tokenizer(prompt + texts[1])["input_ids"]
    assert together == tokenizer(prompt)["input_ids"] + tokenizer(texts[1])["input_ids"]


def test_both_bases_share_one_tokenizer():
    proxy, target = ((ASSETS / name / "tokenizer.json").read_bytes() for name in BASES)
    assert proxy == target


def test_the_target_is_several_times_the_proxy():
    proxy, target = (AutoModelForCausalLM.from_pretrained(ASSETS / name).num_parameters() for name in BASES)
    assert 4 * proxy <= target <= 10 * proxy


def test_the_assets_stay_small_enough_to_ship():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*")) < MAX_ASSETS_BYTES


def test_the_corpus_poses_no_problem_with_its_answer():
    documents = list(corpus(np.random.default_rng(0), num_documents=2000))
    assert not any("answer" in document or "###" in document for document in documents)

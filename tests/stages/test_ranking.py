"""Options of multiple-choice rows, ranked by their losses: .venv/bin/pytest tests/stages/test_ranking.py"""

import json

import numpy as np
import pytest
import torch

from s2l_ray.errors import InputError
from s2l_ray.metrics.metric import Options
from s2l_ray.modeling.losses import LossScorer
from s2l_ray.modeling.models import load_model, load_tokenizer
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.registry import METRICS
from s2l_ray.stages.tasks import Task
from s2l_ray.stages.workers.ranking import rank_options
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage

ROWS = [
    {"question": "What is 2 plus 3?", "choices": ["5", "23", "none of these numbers"], "answer": 0},
    {"question": "Which swims?", "choices": {"text": ["cat", "whale"], "label": ["1", "2"]}, "answer": "2"},
    {"question": "Which is a fruit?", "choices": ["apple", "stone"], "answer": "A", "explanation": "Stones are no food."},
]
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>\n{% endfor %}" \
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"


@pytest.fixture(scope="module")
def model():
    """The quickstart's proxy and its tokenizer."""
    config = ModelConfig(path=str(ASSETS / "proxy_base"))
    tokenizer = load_tokenizer(config)
    tokenizer.chat_template = TURNS
    return load_model(config, vocab_size=len(tokenizer), seed=0), tokenizer


@pytest.fixture
def task_of(tmp_path):
    """A function (rows, shape, **settings of the data) -> their task."""

    def make(rows, shape, **settings):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        examples = Artifact(Storage(str(tmp_path)), "prepare", {"shape": shape, **settings})
        examples.publish({"format": shape, "rows": {"examples": len(rows)}}, 0.0)
        config = TaskConfig(name="own", path=str(path), metrics=["acc", "acc_norm"])
        pool = DataConfig(path=str(path), **{"prompt_style": "plain", **settings})
        return Task(config, examples, config.data(pool))

    return make


def summed_loss(model, tokenizer, before, option, behind=""):
    """The loss of an option's tokens by the model itself, one text at a time."""
    start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    stop = len(tokenizer(before + option, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(before + option + behind, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        each = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1).gather(1, ids[0, 1:, None])[:, 0]
    return -float(each[start - 1 : stop - 1].sum())


LETTERED = [["(A) 5", "(B) 23", "(C) none of these numbers"], ["(A) cat", "(B) whale"], ["(A) apple", "(B) stone"]]


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_losses_are_those_of_the_options_own_tokens_after_the_question(model, task_of, style):
    found = rank_options(LossScorer(model[0]), model[1], ROWS, task_of(ROWS, "multiple_choice", prompt_style=style), 512)
    assert [each.right for each in found] == [0, 1, 0]
    assert [each.lengths for each in found] == [(5, 6, 25), (7, 9), (9, 9)]
    for row, options, each in zip(ROWS, LETTERED, found, strict=True):
        asked = "\n".join([row["question"], *options])
        before = f"{asked}\n" if style == "plain" else f"<|user|>{asked}<|end|>\n<|assistant|>"
        expected = [summed_loss(*model, before, option) for option in options]
        assert each.losses == pytest.approx(expected, rel=1e-4)


def test_rows_of_another_shape_are_ranked_by_their_options_texts(model, task_of):
    rows = [{"prompt": "The sea is", "completion": "blue", "choices": ["blue", "a kind of stone"], "answer": 0}]
    (found,) = rank_options(LossScorer(model[0]), model[1], rows, task_of(rows, "prompt_completion"), 512)
    expected = [summed_loss(*model, "The sea is\n", text) for text in rows[0]["choices"]]
    assert found == Options(pytest.approx(expected, rel=1e-4), (4, 15), 0)


def test_of_a_question_that_is_too_long_the_end_stays_and_every_option_is_whole(model, task_of):
    row = {"question": "word " * 200 + "end?", "choices": ["yes", "no, not at all"], "answer": 0}
    (found,) = rank_options(LossScorer(model[0]), model[1], [row], task_of([row], "multiple_choice", max_length=24), 512)
    tokenizer = model[1]
    asked = "\n".join([row["question"], "(A) yes", "(B) no, not at all", ""])
    for option, loss in zip(("(A) yes", "(B) no, not at all"), found.losses, strict=True):
        ids = torch.tensor([[*tokenizer(asked + option, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][-24:]])
        size = len(tokenizer(asked + option)["input_ids"]) - len(tokenizer(asked)["input_ids"])
        with torch.no_grad():
            each = torch.log_softmax(model[0](input_ids=ids).logits[0, :-1].float(), -1).gather(1, ids[0, 1:, None])[:, 0]
        assert loss == pytest.approx(-float(each[-size - 1 : -1].sum()), rel=1e-4)


def test_acc_takes_the_lowest_loss_and_acc_norm_the_lowest_a_character():
    # Summed losses 6 and 4; a character 6/10 and 4/5.
    options = Options((6.0, 4.0), (10, 5), right=0)
    assert [METRICS.find(name).rank(options) for name in ("acc", "acc_norm")] == [0.0, 1.0]
    # Of equally likely options the first is taken, as numpy's and so the harness's argmax does.
    assert METRICS.find("acc").rank(Options((4.0, 4.0), (1, 1), right=1)) == 0.0


def test_rows_without_options_are_refused_before_any_work(task_of):
    with pytest.raises(InputError, match=r"task own: acc, acc_norm ranks the choices of each row, and these rows have none"):
        assert task_of([{"question": "q", "answer": "#### 7"}], "question_answer").gold


def test_proportions_have_wilson_s_interval():
    import pyarrow as pa

    rng = np.random.default_rng(0)
    table = pa.table({"acc": [1.0, 0.0, 1.0, 1.0]})
    assert METRICS.find("acc").estimate(table, rng).to_dict()["value"] == 0.75

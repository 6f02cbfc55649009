"""Which proxy a recipe for rows has, and why: .venv/bin/pytest tests/starter/test_proxy.py"""

import json
from dataclasses import replace

import pytest

from s2l_ray.recipe.loading import parse_text
from s2l_ray.starter import proxy, recipe
from s2l_ray.starter.look import look_at
from s2l_ray.starter.proxy import HUB_PROXY, Proxy, choose_proxy
from s2l_ray.storage.hub import has_model

PLAIN = {"instruction": "Double 2.", "output": "4"}
THINKING = {"messages": [{"role": "user", "content": "Hi"},
                         {"role": "assistant", "content": "Hey", "reasoning_content": "a greeting"}]}


@pytest.fixture
def look_of(tmp_path, monkeypatch):
    """Return a function that looks at some rows, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)

    def look(row):
        (tmp_path / "mine.jsonl").write_text(f"{json.dumps(row)}\n" * 30)
        return look_at("mine.jsonl")

    return look


def test_without_a_gpu_the_hub_is_not_asked(look_of, monkeypatch):
    monkeypatch.setattr(proxy, "has_gpu", lambda: False)
    monkeypatch.setattr(proxy, "has_model", lambda name, seconds: pytest.fail("asked"))
    chosen = choose_proxy(look_of(PLAIN))
    assert chosen.hub_name == "" and chosen.prompt_style == "chat" and "for 2 cores, no download" in chosen.why


def test_with_a_gpu_the_hub_is_asked_and_its_silence_is_said(look_of, monkeypatch):
    assert not has_model(HUB_PROXY, 1.0), "the tests are offline"
    monkeypatch.setattr(proxy, "has_gpu", lambda: True)
    chosen = choose_proxy(look_of(PLAIN))
    assert chosen.hub_name == "" and "the hub does not answer" in chosen.why
    monkeypatch.setattr(proxy, "has_model", lambda name, seconds: True)
    chosen = choose_proxy(look_of(PLAIN))
    assert chosen == Proxy(HUB_PROXY, chosen.why) and chosen.prompt_style == "alpaca" and "there is a GPU" in chosen.why
    chosen = choose_proxy(look_of(THINKING))
    assert chosen.hub_name == "" and "tools and thoughts" in chosen.why


def test_the_recipe_of_a_published_proxy_is_one(look_of, monkeypatch):
    look_of(PLAIN)
    start = recipe._begin("mine.jsonl", "./out")
    text = recipe._yaml(replace(start, proxy=Proxy("a/small-model", "of the hub")))
    made = parse_text(text, "mine", [])
    assert made.proxy.model.path == "a/small-model" and made.data.prompt_style == "alpaca"
    assert (made.proxy.learning_rate, made.proxy.global_batch_size) == (2e-5, 128)
    assert made.target.model.config is not None

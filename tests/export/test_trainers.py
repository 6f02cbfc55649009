"""Every trainer gets every row whole, or says what it has no place for: .venv/bin/pytest tests/export/test_trainers.py"""

import json
import re

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from s2l_ray.errors import InputError
from s2l_ray.export.selection import find_selection
from s2l_ray.export.writing import export_selection
from s2l_ray.recipe.registry import TRAINERS
from s2l_ray.rows.shape import to_conversation

CASES = ("alpaca", "sharegpt", "prompt_completion", "question_answer", "ultrachat", "preference", "messages", "thinking",
         "weights", "tools", "not_in_turn")
REFUSED = {("llamafactory", "weights"), ("trl", "weights"), ("verl", "weights"), ("verl", "tools"), ("llamafactory", "not_in_turn"), ("ms_swift", "not_in_turn")}
SHAPES = {"thinking": "messages", "weights": "messages", "tools": "messages", "not_in_turn": "messages"}


@pytest.fixture
def exported(runs, tmp_path):
    """A function that exports a run on rows, and returns what was said of it and the rows written."""
    return lambda *given, **options: _exported(runs, tmp_path, *given, **options)


def _exported(runs, tmp_path, trainer, rows, shape, **options):
    selection = find_selection(runs.run(rows, shape), "", None)
    found = export_selection(selection, TRAINERS.find(trainer), tmp_path / "export" / trainer, **options)
    file = found.folder / TRAINERS.find(trainer).data_file
    if file.suffix == ".parquet":
        return found, pq.read_table(file).to_pylist()
    return found, [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def texts_of(value):
    """Return all texts in a row, those of JSON texts within it too."""
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in [key, *texts_of(item)]]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return [value, *texts_of(json.loads(value))]
    return [str(value)]


def test_the_cases_are_all_there_are(rows):
    assert set(CASES) == set(rows) and TRAINERS.names == ("axolotl", "llamafactory", "ms_swift", "openai", "trl", "verl")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("trainer", TRAINERS.names)
def test_a_row_is_written_whole_or_refused_by_name(exported, rows, trainer, case, tmp_path):
    shape = SHAPES.get(case, case)
    if (trainer, case) in REFUSED:
        part = {"weights": "answers that are not to be learned", "tools": "tools", "not_in_turn": "turns that are not"}[case]
        with pytest.raises(InputError, match=rf"has no place for: .*{part}.*\(12 rows\).*First: row 1 of subset.jsonl.*--leave-out"):
            exported(trainer, [rows[case]] * 12, shape)
        assert list((tmp_path / "export").iterdir()) == [], "nothing half-written"
        return
    found, written = exported(trainer, [rows[case]] * 12, shape)
    assert found.rows == len(written) == 12 and not found.left_out
    conversation, said = to_conversation(rows[case], shape), "\n".join(texts_of(written[0]))
    missing = [turn.content for turn in conversation.turns if turn.content not in said or turn.context not in said]
    missing += [turn.thinking for turn in conversation.turns if turn.thinking not in said and trainer != "openai"]
    assert missing == []
    for call in re.findall(r'"name": "(\w+)"', conversation.tools + "".join(turn.calls for turn in conversation.turns)):
        assert call in said
    for note in ("thoughts have no place", "rejected is no part"):
        wanted = (trainer == "openai" and case == "thinking") if note.startswith("thoughts") else case == "preference"
        assert any(what.startswith(note) and count == 12 for what, count in found.changed.items()) == wanted


@pytest.mark.parametrize("trainer", TRAINERS.names)
def test_rows_with_no_place_are_left_out_when_asked_and_counted(exported, rows, trainer):
    mixed = [rows["messages"]] * 10 + [rows["weights"], rows["tools"], rows["not_in_turn"]]
    found, written = exported(trainer, mixed, "messages", leave_out=True)
    refused = sum((trainer, case) in REFUSED for case in ("weights", "tools", "not_in_turn"))
    assert found.rows == len(written) == len(mixed) - refused and sum(found.left_out.values()) == refused


@pytest.mark.parametrize("trainer", TRAINERS.names)
def test_the_config_is_the_targets_own_and_the_command_starts_there(exported, rows, trainer):
    found, _ = exported(trainer, [rows["messages"]] * 12, "messages")
    files = {path.name: path.read_text() for path in found.folder.iterdir() if path.suffix in (".yaml", ".json")}
    config = yaml.safe_load(files.get("train.yaml") or files["job.json"])
    said = texts_of(config)
    assert found.command.startswith(f"cd {found.folder} && ") and "s2l" not in found.command.split("&&")[1]
    assert ("some/model" in said) == (trainer != "openai")
    if trainer == "openai":
        assert config["training_file"] == "FILE-ID" and config["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2}
        assert "@train.jsonl" in (found.folder / "start.sh").read_text()
        return
    assert {"96", "2e-05", "0.03"} <= set(said), "max_length, learning rate, warm-up"
    flat = {key: value for part in (config, *(v for v in config.values() if isinstance(v, dict))) for key, value in part.items()}
    if trainer == "verl":
        assert flat["train_batch_size"] == 8 and flat["micro_batch_size_per_gpu"] == 2 and flat["total_epochs"] == 2
    else:
        assert flat["gradient_accumulation_steps"] == 4 and 2 in (flat.get("num_train_epochs"), flat.get("num_epochs"))


LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "rslora": True}
ADAPTERS = {
    "trl": {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_modules": ["all-linear"],
            "use_rslora": True, "load_in_4bit": True},
    "llamafactory": {"finetuning_type": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target": "all",
                     "use_rslora": True, "quantization_bit": 4},
    "axolotl": {"adapter": "qlora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_linear": True,
                "peft_use_rslora": True, "load_in_4bit": True},
    "ms_swift": {"tuner_type": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["all-linear"],
                 "use_rslora": True, "quant_method": "bnb", "quant_bits": 4},
    "verl": {"lora_rank": 4, "lora_alpha": 8, "target_modules": "all-linear"},
}
"""What each trainer is told of those adapters over weights in 4 bits."""


def config_of(runs, rows, trainer, folder, **target):
    """Return the text of a trainer's config, and its keys: of verl those of its model."""
    selection = find_selection(runs.run([rows["messages"]] * 12, "messages", **target), "", None)
    found = export_selection(selection, TRAINERS.find(trainer), folder / trainer)
    text = (found.folder / "train.yaml").read_text()
    return text, yaml.safe_load(text)["model"] if trainer == "verl" else yaml.safe_load(text)


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_adapters_are_trained_there_as_the_target_s(runs, rows, trainer, tmp_path):
    _, plain = config_of(runs, rows, trainer, tmp_path / "plain")
    text, config = config_of(runs, rows, trainer, tmp_path / "adapters", lora=LORA, quantize="nf4")
    if trainer != "verl":
        assert plain.get("tuner_type", plain.get("finetuning_type", "full")) == "full"
    assert {key: value for key, value in config.items() if plain.get(key) != value} == ADAPTERS[trainer]
    unsaid = ["lora.rslora", "quantize"] if trainer == "verl" else []
    assert re.findall(r"# target\.(\S+) has no key here", text) == unsaid


@pytest.mark.parametrize(("trainer", "layers", "whole"), [
    ("trl", ("lora_target_modules", ["q_proj", "v_proj"]), ("lora_modules_to_save", ["embed_tokens", "lm_head"])),
    ("llamafactory", ("lora_target", "q_proj,v_proj"), ("additional_target", "embed_tokens,lm_head")),
    ("axolotl", ("lora_target_modules", ["q_proj", "v_proj"]), ("lora_modules_to_save", ["embed_tokens", "lm_head"])),
    ("ms_swift", ("target_modules", ["q_proj", "v_proj"]), ("modules_to_save", ["embed_tokens", "lm_head"])),
    ("verl", ("target_modules", ["q_proj", "v_proj"]), None),
])
def test_layers_that_are_named_and_weights_that_are_trained_whole_are_too(runs, rows, trainer, layers, whole, tmp_path):
    lora = {"rank": 4, "target_modules": ["q_proj", "v_proj"], "save_embeddings": True}
    text, config = config_of(runs, rows, trainer, tmp_path, lora=lora)
    for key, value in filter(None, (layers, whole)):
        assert config[key] == value
    assert ("target.lora.save_embeddings has no key here" in text) == (whole is None)
    assert not any("bit" in key and value for key, value in config.items()), "no weights in fewer bits"


def test_llamafactory_names_the_data_set_and_every_row_alternates(exported, rows):
    found, (row,) = exported("llamafactory", [rows["tools"]], "messages")
    info = json.loads((found.folder / "dataset_info.json").read_text())
    assert yaml.safe_load((found.folder / "train.yaml").read_text())["dataset"] in info
    said = row["conversations"]
    assert [turn["from"] for turn in said] == ["human", "function_call", "observation", "gpt", "human", "function_call"]
    text, _, calls = said[1]["value"].partition("<tool_call>")
    assert text == "I look." and json.loads(calls.removesuffix("</tool_call>")) == [
        {"name": "add", "arguments": {"a": 1, "b": [2]}}, {"name": "look_up", "arguments": {"a": "who"}}]
    assert said[2]["value"] == "Anna\n</tool_response>\n<tool_response>\n3" and json.loads(said[5]["value"])[0]["name"] == "add"
    assert row["system"] == "" and json.loads(row["tools"]) == rows["tools"]["tools"]


def test_switches_of_single_answers_are_kept_where_a_layout_has_them(exported, rows):
    learned = {}
    for trainer, key, off in (("axolotl", "train", False), ("ms_swift", "loss", False), ("openai", "weight", 0)):
        _, written = exported(trainer, [rows["weights"]] * 10, "messages")
        learned[trainer] = [message.get(key) for message in written[0]["messages"]]
        assert learned[trainer] == [None, off, None, None]


def test_swift_has_a_message_for_each_call(exported, rows):
    _, (row,) = exported("ms_swift", [rows["tools"]], "messages")
    assert [m["role"] for m in row["messages"]] == ["user", "assistant", "tool_call", "tool_call", "tool_response", "tool_response", "assistant", "user", "tool_call"]
    assert json.loads(row["messages"][2]["content"]) == {"name": "add", "arguments": {"a": 1, "b": [2]}}


def test_openai_finds_each_tools_answer_by_its_name(exported, rows):
    _, written = exported("openai", [rows["tools"]] * 10, "messages")
    _, called, first, second, *_, last = written[0]["messages"]
    ids = {call["function"]["name"]: call["id"] for call in called["tool_calls"]}
    assert [first["tool_call_id"], second["tool_call_id"]] == [ids["look_up"], ids["add"]] and ids["look_up"] != ids["add"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"a": 1, "b": [2]}
    assert last["content"] is None and last["tool_calls"][0]["id"] not in ids.values()
    assert [tool["function"]["name"] for tool in written[0]["tools"]] == ["add", "look_up"] and {tool["type"] for tool in written[0]["tools"]} == {"function"}


def test_openai_wants_ten_rows_and_answers_to_calls(exported, rows):
    with pytest.raises(InputError, match="at least 10 rows, these are 9"):
        exported("openai", [rows["messages"]] * 9, "messages")
    alone = {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}, {"role": "assistant", "content": "c"}]}
    with pytest.raises(InputError, match="tool calls that are not each answered"):
        exported("openai", [alone] * 10, "messages")


def test_the_datasets_library_reads_what_trl_and_axolotl_are_given(exported, rows, tmp_path):
    """It is the loader that both of them call on these files, mixed as they are."""
    mixed = [rows["tools"], rows["messages"], rows["thinking"]]
    for trainer in ("trl", "axolotl"):
        found, written = exported(trainer, mixed, "messages")
        read = load_dataset("json", data_files=str(found.folder / "train.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
        for got, row in zip(read, written, strict=True):
            messages = [{key: value for key, value in message.items() if value is not None} for message in got["messages"]]
            assert messages == row["messages"] and got["tools"] == row.get("tools")

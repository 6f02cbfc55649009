"""Each trainer's released loader, in an environment of its own, reads what is exported for it: make test-long

Installing them takes most of the time. `S2L_LOADERS=FOLDER` takes environments that are there: FOLDER/trl/bin/python, ...
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2l_ray.export.selection import find_selection
from s2l_ray.export.writing import export_selection
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.registry import TRAINERS

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]  # of neither test-unit nor CI
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.reasoning_content or '' }}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

TRL = """
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser, get_dataset
parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
_, training, model, mixture = parser.parse_args_and_config(["--config", "train.yaml"], fail_with_unknown_args=True)
assert training.assistant_only_loss and training.max_length == 96 and model.model_name_or_path == "some/model"
say([[strip(m) for m in row["messages"]] for row in get_dataset(mixture)["train"]])
"""
LLAMAFACTORY = """
import datasets, yaml
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.formatter import FunctionFormatter
from llamafactory.data.parser import get_dataset_list
config = yaml.safe_load(open("train.yaml"))
(attributes,) = get_dataset_list([config["dataset"]], config["dataset_dir"])
converter = get_dataset_converter(attributes.formatting, attributes, None)
rows = datasets.load_dataset("json", data_files=attributes.dataset_name, split="train")
words = {"thought_words": ("<think>\\n", "\\n</think>\\n\\n"), "tool_call_words": ("<tool_call>", "</tool_call>")}
found = []
for row in map(converter, rows):
    turns = row["_prompt"] + row["_response"]
    assert len(row["_prompt"]) % 2 == 1 and len(row["_response"]) == 1, "what it would skip"
    for turn in turns:
        if turn["role"] == "function":
            turn["content"] = "".join(FunctionFormatter(slots=["{{content}}"], tool_format="qwen").apply(content=turn["content"], **words))
    found.append([{"role": "system", "content": row["_system"]}] * bool(row["_system"]) + turns)
say(found)
"""
AXOLOTL = """
import datasets, yaml
from axolotl.prompt_strategies.chat_template import ChatTemplatePrompter, ChatTemplateStrategy
from transformers import AutoTokenizer
(data,) = yaml.safe_load(open("train.yaml"))["datasets"]
tokenizer = AutoTokenizer.from_pretrained(ASSETS)
# It keeps the keys of a message that the template reads.
template = "{% for message in messages %}{{ message.role }}{{ message.content }}{{ message.tool_calls }}{{ message.name }}{% endfor %}"
prompter = ChatTemplatePrompter(tokenizer, template, message_field_training=data["message_field_training"])
strategy = ChatTemplateStrategy(prompter, tokenizer=tokenizer, train_on_inputs=False, sequence_len=96, roles_to_train=data["roles_to_train"])
say([strategy.get_conversation_thread(row) for row in datasets.load_dataset("json", data_files=data["path"], split="train")])
"""
MS_SWIFT = """
from swift.dataset import load_dataset
rows, _ = load_dataset(["train.jsonl"])
say([[strip(m) for m in row["messages"]] for row in rows])
"""
VERL = """
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
data = OmegaConf.load("train.yaml").data
tokenizer = AutoTokenizer.from_pretrained(ASSETS)
tokenizer.chat_template = CHATML
rows = MultiTurnSFTDataset(data.train_files, tokenizer, OmegaConf.merge(data, {"max_length": 4096}))
learned = [rows[i] for i in range(len(rows))]  # it compares its tokens with those of the whole conversation
assert all(row["loss_mask"].sum() > 0 for row in learned)
say([[strip(m) for m in messages] for messages in rows.messages])
"""
PROGRAMS = {"trl": TRL, "llamafactory": LLAMAFACTORY, "axolotl": AXOLOTL, "ms_swift": MS_SWIFT, "verl": VERL}
HEAD = f"""
import json
ASSETS, CHATML = {str(ASSETS / "target_base")!r}, {CHATML!r}
def strip(message):
    return {{key: value for key, value in message.items() if value is not None}}
def say(rows):
    print("\\n" + json.dumps(rows))
"""


def environment(package, folder):
    """Return the Python of an environment that holds the package; skip where it cannot be installed."""
    ready = os.environ.get("S2L_LOADERS")
    if ready:
        python = Path(ready) / package / "bin" / "python"
        return str(python) if python.exists() else pytest.skip(f"no {python}")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", package], capture_output=True, text=True, check=False)
    return pytest.skip(f"{package} does not install: {done.stderr[-300:]}") if done.returncode else python


@pytest.mark.parametrize("trainer", PROGRAMS)
def test_the_released_loader_reads_every_row(runs, rows, trainer, tmp_path):
    python = environment(trainer.replace("_", "-"), tmp_path / "env")
    mixed = [row for case, row in rows.items() if "messages" in row and case != "not_in_turn"] * 3
    selection = find_selection(runs.run(mixed, "messages", precision="fp32"), "", None)
    found = export_selection(selection, TRAINERS.find(trainer), tmp_path / "export", leave_out=True)
    env = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([python, "-c", HEAD + PROGRAMS[trainer]], cwd=found.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(read) == found.rows >= 6
    said = json.dumps(read, ensure_ascii=False)
    kept = [conversation for conversation, _ in selection.conversations() if not TRAINERS.find(trainer).lacks(conversation)]
    missing = [turn.content for conversation in kept for turn in conversation.turns if json.dumps(turn.content, ensure_ascii=False)[1:-1] not in said]
    assert missing == []
    assert all(turn.thinking in said for conversation in kept for turn in conversation.turns)
    if trainer in ("axolotl", "ms_swift"):
        key, off = {"axolotl": ("training", False), "ms_swift": ("loss", False)}[trainer]
        assert sum(message.get(key) is off for messages in read for message in messages) == 3
    if trainer != "verl":
        assert "look_up" in said

"""Rows of real files as examples: the pool, what is held out, solved examples of the tasks, text for the bases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from s2l_ray.modeling.tokenization import Tokenization
from s2l_ray.rows.compared import texts_of
from s2l_ray.rows.conversation import Conversation, digest
from s2l_ray.rows.held_out import HeldOutRow
from s2l_ray.rows.leaks import index_held_out
from s2l_ray.rows.shape import to_conversation
from tests.evidence.setting import ROWS, Setting

END = "<|endoftext|>"
_SPLIT_SEED = 20261130
_SPARE = 8  # rows read for each that is wanted: many are longer than the setting allows
_TOKENS_A_ROW = 50  # of the bases' files, at least


@dataclass(frozen=True)
class PoolRows:
    """What one pool's cells are about, as tables of example_id, source, input_ids, supervised and both counts."""

    pool: pa.Table
    held_out: pa.Table
    """With a column `task`; of every task as many rows."""
    wanted: pa.Table
    """With a column `task`."""
    facts: dict[str, Any]


def _read(data: Path, name: str, most: int) -> list[dict[str, Any]]:
    """Return so many rows of a file, in an order that is none."""
    rows = pq.read_table(data / f"{name}.parquet")
    order = np.random.default_rng(_SPLIT_SEED).permutation(rows.num_rows)[:most]
    found: list[dict[str, Any]] = rows.take(pa.array(order)).to_pylist()
    return found


def tokenizer_of(data: Path, names: Sequence[str], setting: Setting) -> PreTrainedTokenizerBase:
    """Return byte-level BPE of the files that the bases read."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    texts = (f"{row['instruction']}\n{row['input']}\n{row['response']}" for name in names
             for row in _read(data, name, setting.base_tokens // _TOKENS_A_ROW))
    core.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=setting.vocabulary, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)


def base_examples(data: Path, pool: str, tokenizer: PreTrainedTokenizerBase, setting: Setting) -> pa.Table:
    """Return what the pool's bases read, about `base_tokens` of it: other files' rows, every token learned."""
    names, found = ROWS[pool].base, []
    for name in names:
        num_tokens = 0
        for table in _tables(_read(data, name, setting.base_tokens // _TOKENS_A_ROW), tokenizer, setting):
            found.append(table)
            num_tokens += int(np.sum(table["num_tokens"]))
            if num_tokens >= setting.base_tokens / len(names):
                break
    rows = pa.concat_tables(found)
    learned = pa.array([np.arange(count) > 0 for count in rows["num_tokens"].to_pylist()], pa.list_(pa.bool_()))
    return rows.set_column(rows.schema.get_field_index("supervised"), "supervised", learned)


def pool_rows(data: Path, pool: str, tokenizer: PreTrainedTokenizerBase, setting: Setting) -> PoolRows:
    """Return a pool with its tasks; no row of it holds text of a held-out or a wanted question."""
    files = ROWS[pool]
    parts: dict[str, list[pa.Table]] = {"held_out": [], "wanted": []}
    questions: list[tuple[str, list[HeldOutRow]]] = []
    asked = setting.num_held_out + setting.num_wanted
    own = _all(_read(data, files.pool, _SPARE * (asked + setting.num_pool)), tokenizer, setting)
    for name in (*files.tasks, files.pool):
        rows = own if name == files.pool else _all(_read(data, name, _SPARE * asked), tokenizer, setting)
        count = min(setting.num_held_out, max(1, rows.num_rows - setting.num_wanted))
        tables = {"held_out": rows.slice(0, count), "wanted": rows.slice(count, setting.num_wanted)}
        for kind, table in tables.items():
            parts[kind].append(table.append_column("task", pa.array([name] * table.num_rows, pa.string())))
        questions.append((name, [_held_out(row, name) for table in tables.values() for row in table["row"].to_pylist()]))
    rest = own.slice(min(asked, own.num_rows))
    index = index_held_out(questions)
    conversations = [_conversation(row) for row in rest["row"].to_pylist()]
    leaks = index.find([texts_of(one) for one in conversations], [digest(one) for one in conversations])
    kept = rest.filter(pa.array([leak is None for leak in leaks.to_pylist()])).slice(0, setting.num_pool)
    held_out = pa.concat_tables(parts["held_out"])
    facts = {"rows": kept.num_rows, "leaks": len(leaks) - leaks.null_count, "searched": rest.num_rows,
             "tokens": int(np.sum(kept["num_tokens"])), "supervised_tokens": int(np.sum(kept["num_supervised_tokens"])),
             "held_out": {name: held_out["task"].to_pylist().count(name) for name in (*files.tasks, files.pool)},
             "sources": len(set(kept["source"].to_pylist()))}
    return PoolRows(*(table.drop_columns(["row"]) for table in (kept, held_out, pa.concat_tables(parts["wanted"]))), facts)


def _conversation(row: dict[str, Any]) -> Conversation:
    return to_conversation(row, "alpaca", {}, {})


def _held_out(row: dict[str, Any], name: str) -> HeldOutRow:
    conversation = _conversation(row)
    return HeldOutRow(name, 0, digest(conversation), texts_of(conversation))


def _all(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, setting: Setting) -> pa.Table:
    return pa.concat_tables(list(_tables(rows, tokenizer, setting)))


def _tables(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, setting: Setting) -> Iterator[pa.Table]:
    """Yield rows as examples, in plain style, without those that are longer than the setting allows."""
    tokenization = Tokenization(tokenizer, "plain", 2**31)
    for start in range(0, len(rows), 1000):
        some = rows[start : start + 1000]
        made = tokenization.tokenize([tokenization.render(_conversation(row)) for row in some])
        kept = [(row, one) for row, one in zip(some, made, strict=True)
                if len(one.input_ids) <= setting.max_length and one.learned.any()]
        yield pa.table({
            "example_id": pa.array([row["id"] for row, _ in kept], pa.string()),
            "source": pa.array([row["source"] for row, _ in kept], pa.string()),
            "input_ids": pa.array([one.input_ids for _, one in kept], pa.list_(pa.int32())),
            "supervised": pa.array([one.learned for _, one in kept], pa.list_(pa.bool_())),
            "num_tokens": pa.array([len(one.input_ids) for _, one in kept], pa.int32()),
            "num_supervised_tokens": pa.array([int(one.learned.sum()) for _, one in kept], pa.int32()),
            "answer": pa.array([row["answer"] for row, _ in kept], pa.string()),
            "row": pa.array([{name: row[name] for name in ("instruction", "input", "response")} for row, _ in kept],
                            pa.struct([(name, pa.string()) for name in ("instruction", "input", "response")])),
        })

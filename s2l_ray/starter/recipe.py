"""The recipe for a file: written with a comment beside every choice, and run as it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.loading import parse_text
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.starter.findings import findings
from s2l_ray.starter.look import Look, look_at
from s2l_ray.starter.proxy import HUB_PROXY, Proxy, choose_proxy
from s2l_ray.starter.survey import HELD, MAX_LENGTHS, Lengths, measure, survey
from s2l_ray.starter.vocabulary import learn_tokenizer
from s2l_ray.storage.files import Storage, resolve_local
from s2l_ray.storage.secrets import redacted

_POINTS = 6  # of the trajectories
_FEW_ROWS = 5_000
_COMMENT_CHARS = 600
_STYLES = {
    "chat": "the tokenizer's template: system texts, tools and several turns have their places in it",
    "alpaca": "the paper's: the proxy has no chat template",
}


def starter_recipe(source: str, overrides: Sequence[str]) -> Recipe:
    """Return the recipe for rows, its tokenizer made, and say what was chosen.

    Raises
    ------
    InputError
        The rows cannot be read, or an override is wrong.
    """
    text = _yaml(_begin(source, _given(overrides, "storage") or "./out", overrides))
    return parse_text(text, name_of(source), overrides)


def recipe_text(source: str, settings: Sequence[str] = (), *, storage: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the YAML of the recipe for rows read by some `data.key=value`, and what was found in them, its head.

    The tokenizer lies below the storage then.

    Raises
    ------
    InputError
        The rows cannot be read, a setting is not of `data`, or the storage is not a local folder.
    """
    others = [setting for setting in settings if not setting.startswith("data.")]
    if others:
        raise InputError(f"{', '.join(others)}: only data.KEY=VALUE, which says how the rows are read, is taken here; "
                         "change the rest in the recipe that is written")
    start = _begin(source, storage, settings)
    found = findings(survey(start.look, start.model, start.lengths), start.max_length)
    return _yaml(start, found), found


@dataclass(frozen=True)
class _Start:
    """What a recipe for rows depends on."""

    source: str
    storage: str
    look: Look
    tokenizer: Path
    proxy: Proxy
    lengths: Lengths

    @property
    def max_length(self) -> int:
        """Return the tokens kept of an example: as asked, else what holds nearly all rows whole."""
        asked = "max_length" in self.look.data.model_fields_set
        return self.look.data.max_length if asked else self.lengths.fitting

    @property
    def model(self) -> ModelConfig:
        """Return what the proxy's tokenizer is loaded from."""
        return ModelConfig(path=self.proxy.hub_name or str(self.tokenizer))


def _begin(source: str, storage: str, overrides: Sequence[str] = ()) -> _Start:
    """Look at the rows, learn their tokenizer and measure them; InputError as `starter_recipe`.

    Of the overrides, those of `data` say how the rows are read.
    """
    folder = None if "://" in storage and not storage.startswith("file://") else resolve_local(storage)
    if folder is None:
        raise InputError(f"storage={storage!r}: the tokenizer that is learned from your rows is written to a local "
                         "folder: give one, or write a recipe that names a model that all nodes can reach")
    Storage.open(storage)  # before anything is written there
    look = look_at(source, overrides)
    proxy = choose_proxy(look)
    if not any(setting.startswith("data.prompt_style=") for setting in overrides):
        look = replace(look, data=look.data.model_copy(update={"prompt_style": proxy.prompt_style}))
    tokenizer = learn_tokenizer(look, folder.absolute() / "models")
    given = _given(overrides, "proxy.model.path")
    what = given or f"{proxy.why} (another: `s2l init`, then proxy.model)"
    note(f"{source}: {look.num_rows:,} rows, {look.shape}; proxy: {what}")
    seen_by = _given(overrides, "proxy.model.tokenizer") or given or proxy.hub_name or str(tokenizer)
    lengths = measure(look, ModelConfig(path=seen_by))
    return _Start(source, storage, look, tokenizer, proxy, lengths)


def name_of(source: str) -> str:
    """Return a run's name for a path: its last part, in the letters that names may have."""
    stem = re.sub(r"(\.[A-Za-z0-9]+)+$", "", source.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "mine"


def _given(overrides: Sequence[str], key: str) -> str | None:
    """Return what the last setting of a key says; None without one, and where it is null."""
    given = [text.partition("=")[2].strip("\"'") for text in overrides if text.startswith(f"{key}=")]
    return given[-1] if given and given[-1] != "null" else None


def _yaml(start: _Start, found: Sequence[tuple[str, str]] = ()) -> str:
    """Return the recipe with a comment beside every choice, headed by what was found."""
    look, lengths, tokenizer, source = start.look, start.lengths, start.tokenizer, start.source
    max_length = start.max_length
    micro = max(1, 8 * MAX_LENGTHS[0] // max_length)
    head = "".join(f"# {_comment(f'{what}: {how}')}\n" for what, how in found)
    return f"""\
# Written by `s2l init` for {_comment(source)}: {look.num_rows:,} rows in the shape {look.shape}.
{head}# Every setting: docs/recipe.md. Run it with `s2l run THIS_FILE`; `s2l select THIS_FILE` stops at the subset.
storage: {_text(start.storage)}  # artifacts and runs; another budget or number of clusters reuses what is there
data:
  path: {_text(source)}
{_read_by(look)}\
  prompt_style: {start.proxy.prompt_style}  # {_STYLES[start.proxy.prompt_style]}
  max_length: {max_length}  # {_why(lengths) if max_length == lengths.fitting else "tokens of an example, as asked"}
{_proxy_part(start, micro)}trajectory:
  num_points: {_POINTS}  # losses are taken at so many points of the proxy's training
selection:
  selector: s2l  # `s2l selectors` lists all
  budget: 0.1  # a share of the rows, or a number of them
  num_clusters: auto  # the square root of half the rows
  controls: [random]  # a random choice of the same size, to compare with
target:  # only `s2l run` needs it. Give yours: --target microsoft/phi-2, or model: {{path: ...}}
  model:
    config: {_gpt_neox(128, 4, 512, max_length)}
    tokenizer: {_text(str(tokenizer))}
  max_steps: 60
  learning_rate: 1.0e-3
  global_batch_size: 32
  micro_batch_size: {micro}
  zero_stage: 2
evaluation:
  tasks: []  # --eval held_out.jsonl, or - {{name: held_out, path: held_out.jsonl, metrics: [loss]}}
resources:
  num_workers: 2
"""


def _read_by(look: Look) -> str:
    """Return the lines of the settings that say how the rows are read, beside those that the recipe has anyway."""
    asked = look.data.model_fields_set - {"path", "prompt_style", "max_length"}
    given = look.data.model_dump(mode="json", include=asked)
    lines = yaml.safe_dump(given, sort_keys=False, allow_unicode=True).splitlines() if given else []
    return "".join(f"  {line}\n" for line in lines)


def _proxy_part(start: _Start, micro: int) -> str:
    """Return the recipe's proxy: published weights as in the paper, or fresh ones sized for CPUs."""
    few = start.look.num_rows <= _FEW_ROWS
    head = "proxy:  # the small model whose losses tell the rows apart\n"
    many = "many rows: once tells them apart"
    if start.proxy.hub_name:
        epochs, why = (3, "as in the paper") if few else (1, many)
        duration = _duration(start.look.num_rows, 128, epochs, why)
        return f"""{head}\
  model: {{path: {start.proxy.hub_name}}}  # {start.proxy.why}
  {duration}
  learning_rate: 2.0e-5  # the paper's, as are the schedule and the batch
  warmup_fraction: 0.03
  global_batch_size: 128
  num_checkpoints: 1
"""
    epochs, why = (2, "few rows: seen twice") if few else (1, many)
    duration = _duration(start.look.num_rows, 32, epochs, why)
    return f"""{head}\
  model:  # of our own making. Published weights know more: {{path: {HUB_PROXY}}}
    config: {_gpt_neox(64, 2, 256, start.max_length)}
    tokenizer: {_text(str(start.tokenizer))}
  {duration}
  learning_rate: 1.0e-3
  warmup_fraction: 0.05
  global_batch_size: 32
  micro_batch_size: {micro}  # rows of max_length tokens that 2 cores hold at once
  num_checkpoints: 1
"""


def _duration(num_rows: int, batch: int, epochs: int, why: str) -> str:
    """Return the line that says how long the proxy trains: at least twice as many steps as it has points."""
    if epochs * num_rows < 2 * _POINTS * batch:
        return f"max_steps: {2 * _POINTS}  # very few rows: seen as often as it takes for two steps a point"
    return f"epochs: {epochs}  # {why}"


def _gpt_neox(width: int, layers: int, inner: int, positions: int) -> str:
    return (f"{{model_type: gpt_neox, hidden_size: {width}, num_hidden_layers: {layers}, num_attention_heads: 4, "
            f"intermediate_size: {inner}, max_position_embeddings: {positions}, tie_word_embeddings: true}}")


def _why(lengths: Lengths) -> str:
    """Return why a recipe has its max_length, for a comment."""
    longer = lengths.share_longer(lengths.fitting)
    if longer > 1 - HELD:
        return f"tokens of an example; {longer:.0%} of the rows are longer and cut: more than this is slow on 2 cores"
    sizes = ", ".join(map(str, MAX_LENGTHS))
    return (f"tokens of an example, the rest is cut on the right; of {sizes} the smallest that holds {HELD:.0%} of the "
            f"rows whole (here {1 - longer:.1%}): short is fast on 2 cores")


def _comment(text: str) -> str:
    """Return a text that stays within a comment: what begins a line, for YAML too, is shown instead."""
    shown = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in redacted(text))
    return shown if len(shown) <= _COMMENT_CHARS else f"{shown[:_COMMENT_CHARS]}..."


def _text(value: str) -> str:
    """Return a text as YAML takes any: in double quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'



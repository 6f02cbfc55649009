"""Arithmetic word problems with checkable answers: a pool of very unequal skills, a balanced held-out set.

The held-out set asks every skill equally often, so it shows what a model lacks that saw few of the rare ones.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from s2l_ray.quickstart.skills import BOXES, NAMES, SKILLS, THINGS, Numbers, Skill

MAX_REJECTED_DRAWS = 1000  # consecutive repeats after which a skill counts as used up


def generate(num_rows: int, seed: int, *, balanced: bool = False) -> list[dict[str, str]]:
    """Draw `num_rows` distinct problems in random order, each skill by its share (equally if `balanced`).

    A row has `id`, `instruction`, `input` (mostly empty), `output` (ending in "The answer is N."), `source`
    (the skill) and `answer` (N). The same arguments give the same rows.

    Raises ValueError where `num_rows` is below 1 or above what a skill can give without repeating itself.
    """
    return _draw_rows(num_rows, np.random.default_rng([seed, 0]), balanced=balanced, taken=set())


def write_files(folder: Path, num_pool: int, num_held_out: int, seed: int) -> None:
    """Write `pool.jsonl` and the balanced `held_out.jsonl` into `folder`; no problem is in both."""
    pool = generate(num_pool, seed)
    taken = {(row["instruction"], row["input"]) for row in pool}
    held_out = _draw_rows(num_held_out, np.random.default_rng([seed, 1]), balanced=True, taken=taken)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("pool.jsonl", pool), ("held_out.jsonl", held_out)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8", newline="\n")


def _draw_rows(
    num_rows: int, rng: np.random.Generator, *, balanced: bool, taken: set[tuple[str, str]]
) -> list[dict[str, str]]:
    """Rows of every skill, shuffled; `taken` holds the (instruction, input) pairs not to use, and grows."""
    if num_rows < 1:
        raise ValueError(f"num_rows={num_rows} must be at least 1; ask for one problem or more.")
    rows = []
    for skill, count in zip(SKILLS, _skill_counts(num_rows, balanced), strict=True):
        rows.extend(_draw_skill(skill, count, rng, taken))
    return [rows[i] for i in rng.permutation(len(rows))]


def _skill_counts(num_rows: int, balanced: bool) -> list[int]:
    """Rows per skill, adding up to `num_rows`; the largest fractions get what rounding leaves."""
    exact = np.array([num_rows / len(SKILLS) if balanced else num_rows * skill.share for skill in SKILLS])
    counts = np.floor(exact + 1e-9).astype(int)
    by_fraction = np.argsort(counts - exact, kind="stable")
    counts[by_fraction[: num_rows - counts.sum()]] += 1
    return [int(count) for count in counts]


def _draw_skill(
    skill: Skill, count: int, rng: np.random.Generator, taken: set[tuple[str, str]]
) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    drawn: list[tuple[str, Numbers]] = []
    num_rejected = 0
    while len(rows) < count:
        if drawn and rng.random() < skill.copy_rate:
            template, numbers = drawn[rng.integers(len(drawn))]
        else:
            template, numbers = skill.templates[rng.integers(len(skill.templates))], skill.draw(rng)
        row = _write_row(skill, template, numbers, rng)
        text = (row["instruction"], row["input"])
        if text in taken:
            num_rejected += 1
            if num_rejected == MAX_REJECTED_DRAWS:
                raise ValueError(
                    f"The skill {skill.name!r} gave {len(rows)} of {count} distinct problems and then only "
                    "repeats; ask for fewer rows."
                )
            continue
        num_rejected = 0
        taken.add(text)
        drawn.append((template, numbers))
        rows.append(row)
    return rows


def _write_row(skill: Skill, template: str, numbers: Numbers, rng: np.random.Generator) -> dict[str, str]:
    name, other = (NAMES[i] for i in rng.choice(len(NAMES), size=2, replace=False))
    words = {
        "name": name,
        "other": other,
        "things": THINGS[rng.integers(len(THINGS))],
        "boxes": BOXES[rng.integers(len(BOXES))],
    }
    instruction, _, extra = template.format(**words, **numbers).partition("\n")
    digest = hashlib.blake2b(f"{instruction}\n{extra}".encode(), digest_size=6).hexdigest()
    return {
        "id": f"{skill.name}-{digest}",
        "instruction": instruction,
        "input": extra,
        "output": skill.rationale.format(**words, **numbers),
        "source": skill.name,
        "answer": str(numbers["answer"]),
    }

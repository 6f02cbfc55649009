"""The cells of the table: what each is called, what it needs, and where what is known of it lies."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.evidence.arms import ARMS, MAIN, ONE_SOURCE, ONE_TASK
from tests.evidence.setting import EPOCHS, FULL, RANDOM, ROWS, S2L, STEPS, TOKENS, Setting

_EQUAL_PASSES_SEEDS = 3
_OTHER_PROXY_SEEDS = 2
_AT_EQUAL_TOKENS = (RANDOM, S2L, "s2l_as_in_code", "quota_of_lengths", "high_loss", "lp_lowest")


@dataclass(frozen=True)
class Cell:
    """One thing to be made."""

    kind: str
    """rows, base, proxy, inputs or target."""
    pool: str
    seed: int = 0
    shape: int = 0
    """Of a proxy or a proxy's base: 0 is the proxy, from 1 the other proxies; -1 is the target's base."""
    arm: str = ""
    budget: float = 1.0
    alike: str = STEPS

    @property
    def name(self) -> str:
        """Return what its files are called."""
        if self.kind == "target":
            return f"{self.pool}-{self.arm}-b{self.budget:g}-{self.alike}-s{self.seed}"
        parts = {"rows": "", "inputs": "", "base": f"-{self.shape}", "proxy": f"-{self.shape}-s{self.seed}"}
        return f"{self.pool}-{self.kind}{parts[self.kind]}"

    @property
    def needs(self) -> list["Cell"]:
        """Return the cells that have to be there before."""
        rows, own = Cell("rows", self.pool), Cell("base", self.pool, shape=max(self.shape, 0))
        return {"rows": [], "base": [rows], "proxy": [rows, own],
                "inputs": [rows, Cell("base", self.pool), Cell("base", self.pool, shape=-1)],
                "target": [Cell("inputs", self.pool), Cell("base", self.pool, shape=-1),
                           Cell("proxy", self.pool, self.seed)]}[self.kind]


def cells_of(setting: Setting) -> Iterator[Cell]:
    """Yield the cells, those that say whether the setting proves anything first, then seed by seed."""
    for pool in setting.pools:
        yield from (Cell("rows", pool), Cell("base", pool, shape=-1), Cell("base", pool), Cell("inputs", pool))
    for pool in setting.pools:
        yield from _gate(setting, pool)
    parts = (_main_budget, _equal_passes, _sizes, _other_budgets, _equal_tokens)
    for cells, seed in itertools.product(parts, setting.seeds):
        for pool in setting.pools:
            yield from cells(setting, pool, seed)


def _gate(setting: Setting, pool: str) -> Iterator[Cell]:
    """Yield what says whether more data helps, and how far seeds are apart."""
    for seed in setting.seeds:
        yield Cell("proxy", pool, seed)
        yield Cell("target", pool, seed, arm=FULL)
        yield Cell("target", pool, seed, arm=RANDOM, budget=setting.main_budget)


def _main_budget(setting: Setting, pool: str, seed: int) -> Iterator[Cell]:
    for arm in arms_of(setting, pool):
        if arm != RANDOM:
            yield Cell("target", pool, seed, arm=arm, budget=setting.main_budget)


def _equal_passes(setting: Setting, pool: str, seed: int) -> Iterator[Cell]:
    """Yield all of the data as often as the budget is seen, which takes as much longer as there is more of it."""
    if seed in setting.seeds[:_EQUAL_PASSES_SEEDS]:
        yield Cell("target", pool, seed, arm=FULL, alike=EPOCHS)


def _sizes(setting: Setting, pool: str, seed: int) -> Iterator[Cell]:
    """Yield proxies of other sizes, of the first seeds."""
    for shape in range(1, len(setting.other_proxies) + 1) if seed in setting.seeds[:_OTHER_PROXY_SEEDS] else ():
        if seed == setting.seeds[0]:
            yield Cell("base", pool, shape=shape)
        yield Cell("proxy", pool, seed, shape)


def _other_budgets(setting: Setting, pool: str, seed: int) -> Iterator[Cell]:
    for budget in setting.budgets:
        for arm in MAIN if budget != setting.main_budget else ():
            if arm in arms_of(setting, pool):
                yield Cell("target", pool, seed, arm=arm, budget=budget)
    if "gsm8k_test" in ROWS[pool].tasks and not setting.arms:
        yield Cell("target", pool, seed, arm=ONE_TASK, budget=setting.budgets[0])


def _equal_tokens(setting: Setting, pool: str, seed: int) -> Iterator[Cell]:
    for arm in _AT_EQUAL_TOKENS:
        if arm in arms_of(setting, pool):
            yield Cell("target", pool, seed, arm=arm, budget=setting.main_budget, alike=TOKENS)


def arms_of(setting: Setting, pool: str) -> list[str]:
    """Return the arms with a budget that tell something on a pool."""
    left_out = {FULL, ONE_TASK, *(() if ROWS[pool].has_sources else ONE_SOURCE)}
    return [arm for arm in setting.arms or ARMS if arm not in left_out]


@dataclass(frozen=True)
class Place:
    """Where cells are kept, and what they are made from."""

    folder: Path
    data: Path
    setting: Setting
    model: Path | None = None

    def file(self, cell: Cell, ending: str = ".json") -> Path:
        """Return a file of a cell; the one of the facts is written last."""
        return self.folder / f"{cell.name}{ending}"

    def is_done(self, cell: Cell) -> bool:
        """Tell whether the cell was made."""
        return self.file(cell).exists()

    def facts(self, cell: Cell) -> dict[str, Any]:
        """Return what is known of a cell that was made."""
        found: dict[str, Any] = json.loads(self.file(cell).read_text())
        return found

"""The tables a study's statistics read, and contrasts between its cells and states.

The tables are tidy frames, collected from the run folders of a study's chains; COLUMNS declares them. A chain is one
fine-tuned model: a cell (level, size, method) and a seed. Shares and accuracies lie in 0 to 1, k in percent of the
region, KL in nats.

One `Grid` is one way of asking: prompt, split, domain and score. Contrasts are over the same questions and the same
seeds: numbers over different questions are never subtracted. A study may ask more questions at some sizes than at
others, the smaller set within the larger: a contrast is over those that all sizes in it were asked. What is not there
gives a `Gap` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import Contrast, contrast

BASE = "base"
"""`chain` of the answers of the model before fine-tuning, which all chains share."""
LEVELS = ("0", "1", "2", "3", "4")
Array = NDArray[np.float64]

COLUMNS: dict[str, dict[str, str]] = {
    "chains": {
        "chain": "run id of the chain",
        "level": 'mastery level of the train set: "0" to "4", "mixed" or "natural"',
        "size": 'N as the plan names it: "60", "240", "1920" or "all"',
        "n": "facts the train set really has",
        "seed": "draws the train set and drives the fine-tuning; equal seeds pair",
        "method": '"full" or "lora"',
    },
    "states": {
        "chain": "as in chains",
        "state_id": "as in the store",
        "kind": "tuned, restored or hybrid (100% of the region)",
        "strategy": 'what is restored first: "top", "bottom", "random", "interpolation", "block"; None: tuned',
        "k_percent": "0: tuned; 100: hybrid; NaN: not chosen by count",
        "layers": 'restored block of layers, e.g. "0-3"; None otherwise',
        "share_of_r": "restored share of the sum of relative changes, 0 to 1; 0: tuned",
        "energy_taken_back": "1 - ||out - p||^2 / ||s - p||^2, 0 to 1; 0: tuned",
        "chosen": "the k that was chosen on dev (the tuned model where that is 0); one a chain",
    },
    "answers": {
        "chain": 'as in chains; "base" for the model before fine-tuning',
        "state_id": "as in states",
        "prompt": '"qa", "completion" or "five-shot"',
        "split": "train, dev or test",
        "domain": "in or out",
        "level": "mastery level 0 to 4 of the fact under the base",
        "topic": "relation",
        "fact_id": "hash of topic and question",
        "right": "by the study's matcher",
        "exact": "the completion is an answer",
        "stopped": "the answer ended by itself",
    },
    "shifts": {
        "chain": "as in chains",
        "state_id": "as in states",
        "measure": '"shift" (the first token, as published), "aligned", ...',
        "split": "train, dev or test",
        "domain": "in or out",
        "level": "mastery level 0 to 4",
        "fact_id": "hash of topic and question",
        "kl_nats": "KL of this question; what was not scored has no row",
    },
    "concentration": {
        "chain": "as in chains",
        "k_percent": "the most changed k percent of the region",
        "share": "their share of the sum of relative changes, 0 to 1",
        "null_share": "the same with changes permuted within each tensor, mean, 0 to 1; NaN: not taken",
        "energy_share": "their share of the squared changes, 0 to 1",
        "changed_share": "share of the region's weights whose bits differ, 0 to 1",
    },
    "enrichment": {
        "chain": "as in chains",
        "k_percent": "the most changed k percent of the region",
        "by": '"layer", "module" or "kind"',
        "group": 'layer number from 0 as text; "attn.q", "mlp.up", ...; or "mlp", "attention"',
        "n": "weights of the group in the region",
        "n_restored": "of them among the most changed",
        "n_restored_null": "the same with changes permuted within each tensor, mean; NaN: not taken",
    },
}
"""Table -> column -> meaning. Beyond these, `answers` and `shifts` may hold `borderline` (the fact's mastery interval
crosses the limit of a level), `level_even` and `level_odd` (its level by one half of the completion templates alone,
NULL: no counts by template), `answers` `gold_rank` (after the question, the rank from 1 of the answer's first token;
NaN: not scored), `concentration` `top_20_share` and the spread of the null over permutations (`null_sd`, `null_low`,
`null_high`, `n_permutations`, `p_more`, `p_two_sided`: store/schema.py; NaN: one permutation alone), and `states`
`alpha` (of an interpolation; 0: base, 1: tuned), `region`, `projection_taken_back` (1 - <out - p, s - p> / ||s - p||^2;
NaN: not measured), `beside_k` (the k that takes back the same energy), `beside_k_projection` (the same of projection)
and `mask` (seed of a random draw). States that differ in `mask` alone are draws of one thing, and are averaged within
their chain."""

_OTHER_QUESTIONS = "the chains of this study did not answer the same questions; they cannot be compared"
_KEYS = {
    "chains": ["chain"],
    "answers": ["chain", "state_id", "prompt", "fact_id"],
    "shifts": ["chain", "state_id", "measure", "fact_id"],
}


class Cell(NamedTuple):
    """What a model was fine-tuned on, seeds aside."""

    level: str
    size: str
    method: str = "full"

    def __str__(self) -> str:
        name = f"level {self.level}" if self.level.isdigit() else self.level
        return f"{name}, N = {self.size}" + (", LoRA" if self.method == "lora" else "")


def empty(table: str) -> pd.DataFrame:
    """A table without rows: nothing of this kind was measured."""
    return pd.DataFrame(columns=list(COLUMNS[table]))


@dataclass(frozen=True)
class StudyTables:
    """A study's results. Raises SpecError for a missing column, rows that stand twice, or an unknown chain."""

    chains: pd.DataFrame
    states: pd.DataFrame
    answers: pd.DataFrame
    shifts: pd.DataFrame = field(default_factory=lambda: empty("shifts"))
    concentration: pd.DataFrame = field(default_factory=lambda: empty("concentration"))
    enrichment: pd.DataFrame = field(default_factory=lambda: empty("enrichment"))

    def __post_init__(self) -> None:
        known = {*self.chains.get("chain", ()), BASE}
        for name, columns in COLUMNS.items():
            frame: pd.DataFrame = getattr(self, name)
            if missing := [column for column in columns if column not in frame.columns]:
                raise SpecError(f"study table {name}: lacks {', '.join(missing)}; see analysis/grid.py")
            if name in _KEYS and frame.duplicated(_KEYS[name]).any():
                raise SpecError(f"study table {name}: rows stand twice for the same {', '.join(_KEYS[name])}")
            if strange := sorted(set(frame["chain"].dropna()) - known):
                raise SpecError(f"study table {name}: unknown chains {', '.join(map(str, strange[:3]))}")
        if self.chains.duplicated(["level", "size", "method", "seed"]).any():
            raise SpecError("study table chains: two chains of the same level, size, method and seed")

    def chains_of(self, cell: Cell) -> list[str]:
        """The chains of a cell, by seed."""
        own = (self.chains[list(Cell._fields)] == list(cell)).all(axis=1)
        return [str(chain) for chain in self.chains[own].sort_values("seed")["chain"]]

    def states_of(self, cell: Cell) -> pd.DataFrame:
        """The states of a cell's chains."""
        return self.states[self.states["chain"].isin(self.chains_of(cell))]


class Which(NamedTuple):
    """Which state of a chain."""

    kind: str
    """base, tuned, chosen (by dev), hybrid or restored."""
    strategy: str = "top"
    k_percent: float | None = None
    layers: str | None = None
    alpha: float | None = None
    """Of an interpolation: 0 is base, 1 is tuned."""
    beside_k: float | None = None
    """Instead of an amount: as much of the update's energy as this k takes back."""
    beside_k_projection: float | None = None
    """Instead of an amount: as much of its projection."""


TUNED, CHOSEN, HYBRID, BASE_STATE = Which("tuned"), Which("chosen"), Which("hybrid"), Which("base")


def at_k(k_percent: float, strategy: str = "top") -> Which:
    """k percent restored; 0 is the tuned model."""
    return TUNED if k_percent == 0 else Which("restored", strategy, k_percent)


@dataclass(frozen=True)
class Gap:
    """Why a contrast could not be taken."""

    reason: str


class Term(NamedTuple):
    """One summand of a contrast."""

    weight: float
    cell: Cell
    which: Which = TUNED


class Grid:
    """Right answers by chain, state and question; the questions are those that all sizes were asked (more: `on`).

    value: the column summed, `right`, `exact` or `stopped` (or `kl_nats` of a shifts table). shared: False for
    questions of which every seed has its own; all of them stay then, with NaN where a state was not asked.
    """

    facts: list[str]
    """The questions."""
    levels: NDArray[np.int64]
    """Their mastery levels."""

    def __init__(
        self, tables: StudyTables, answers: pd.DataFrame, value: str = "right", *, shared: bool = True
    ) -> None:
        self.tables, self.value = tables, value
        self.chains: dict[tuple[Cell, int], str] = {
            (Cell(str(row["level"]), str(row["size"]), str(row["method"])), int(row["seed"])): str(
                row["chain"]
            )
            for row in tables.chains.to_dict("records")
        }
        self._states = state_index(tables.states)
        used = answers[["chain", "state_id", "fact_id", "level", value]]
        wide = used.pivot(index=["chain", "state_id"], columns="fact_id", values=value).astype(float)
        levels = used.drop_duplicates("fact_id").set_index("fact_id")["level"]
        self._all_facts = np.array(wide.columns, dtype=object)
        self._all_levels: NDArray[np.int64] = levels.reindex(wide.columns).to_numpy(np.int64)
        values = wide.to_numpy(np.float64)
        self._all_rows: dict[tuple[str, str], Array] = dict(zip(wide.index, values, strict=True))
        self._asked = self._asked_by_size() if shared else {}
        self._views: dict[bytes, Grid] = {}
        self._restrict(self._common(self._asked))

    def _asked_by_size(self) -> dict[str, NDArray[np.bool_]]:
        """Size -> which questions any of its states was asked."""
        size_of = {chain: cell.size for (cell, _), chain in self.chains.items()}
        asked: dict[str, NDArray[np.bool_]] = {}
        for (chain, _), row in self._all_rows.items():
            if (size := size_of.get(chain)) is not None:
                asked[size] = asked.get(size, False) | ~np.isnan(row)
        return asked

    def _common(self, sizes: Iterable[str]) -> NDArray[np.bool_]:
        keep = np.ones(len(self._all_facts), dtype=bool)
        for size in sizes:
            keep &= self._asked.get(size, True)
        return keep

    def _restrict(self, keep: NDArray[np.bool_]) -> None:
        every = bool(keep.all())
        self.facts = list(self._all_facts[keep])
        self.levels = self._all_levels[keep]
        self._rows = self._all_rows if every else {key: row[keep] for key, row in self._all_rows.items()}
        self._base = next((row for (chain, _), row in self._rows.items() if chain == BASE), None)
        self._views[keep.tobytes()] = self

    def on(self, cells: Iterable[Cell]) -> Grid:
        """The same over the questions that these cells were asked; no cells: over all that base was asked.

        Raises SpecError where the questions of one size are not among those of another.
        """
        sizes = {cell.size for cell in cells}
        for one, other in combinations([self._asked[size] for size in sizes if size in self._asked], 2):
            if (one & ~other).any() and (other & ~one).any():
                raise SpecError(_OTHER_QUESTIONS)
        keep = self._common(sizes)
        if (found := self._views.get(keep.tobytes())) is None:
            found = copy(self)  # shares the views and all rows
            found._restrict(keep)
        return found

    @classmethod
    def of(
        cls, tables: StudyTables, *, split: str, domain: str, prompt: str = "qa", value: str = "right"
    ) -> Grid:
        """The grid of one way of asking."""
        answers = tables.answers
        place = (answers["split"] == split) & (answers["domain"] == domain) & (answers["prompt"] == prompt)
        return cls(tables, answers[place], value, shared=split != "train")

    def cells(self) -> list[Cell]:
        """Cells that have a chain, in order of level and size."""
        return sorted(
            {cell for cell, _ in self.chains}, key=lambda c: (c.method, c.level, size_number(c.size))
        )

    def seeds(self, cell: Cell) -> set[int]:
        """Seeds of a cell."""
        return {seed for found, seed in self.chains if found == cell}

    def row(self, cell: Cell, seed: int, which: Which) -> Array | None:
        """Values by question [Q], of several random masks their mean; None where this state was not asked."""
        if which.kind == "base":
            return self._base
        rows = self.masks(cell, seed, which)
        return None if rows is None else rows[0] if len(rows) == 1 else rows.mean(axis=0)

    def masks(self, cell: Cell, seed: int, which: Which) -> Array | None:
        """Values by random mask and question [M, Q], one row for what is no random draw; None where one is lacking."""
        chain = self.chains.get((cell, seed))
        states = self._states.get((chain, which), ())
        rows = [self._rows.get((str(chain), state)) for state in states]
        there = [row for row in rows if row is not None]
        return np.array(there) if there and len(there) == len(rows) else None

    def sums(self, terms: Sequence[Term]) -> tuple[list[int], Array] | Gap:
        """(seeds that have all terms, weighted sum [S, Q])."""
        of_terms = [self.seeds(t.cell) for t in terms if t.which.kind != "base"]
        common = set.intersection(*of_terms) if of_terms else set()
        seeds, rows = [], []
        for seed in sorted(common):
            found = [self.row(t.cell, seed, t.which) for t in terms]
            if all(row is not None for row in found):
                seeds.append(seed)
                rows.append(
                    sum(t.weight * row for t, row in zip(terms, found, strict=True) if row is not None)
                )
        if not seeds:
            missing = [t for t in terms if not self._has(t)]
            return Gap(_named("not run", missing) if missing else _named("no seed has all of", terms))
        table = np.array(rows, dtype=np.float64)
        if np.isnan(table).any():
            raise SpecError(_OTHER_QUESTIONS)
        return seeds, table

    def _has(self, term: Term) -> bool:
        """Whether any seed of the term's cell has it; seeds that other cells lack count too."""
        seeds = {0} if term.which.kind == "base" else self.seeds(term.cell)
        return any(self.row(term.cell, seed, term.which) is not None for seed in seeds)

    def contrast(
        self,
        terms: Sequence[Term],
        levels: Sequence[int] | None = None,
        null: float = 0.0,
        *,
        among: Iterable[Cell] = (),
    ) -> Contrast | Gap:
        """The level-balanced contrast over the questions that all its cells were asked.

        levels: only questions of these mastery levels. among: cells that were asked them too, for values that are
        compared with theirs.
        """
        grid = self.on_terms(terms, among)
        found = grid.sums(terms)
        if isinstance(found, Gap):
            return found
        keep = np.isin(grid.levels, grid.levels if levels is None else list(levels))
        if keep.sum() < 2:
            return Gap(f"no questions of level {', '.join(map(str, levels or []))}")
        step = None if self.value == "kl_nats" else max(abs(t.weight) for t in terms)
        try:
            return contrast(found[1][:, keep], grid.levels[keep], null=null, step=step)
        except SpecError as error:
            return Gap(str(error))

    def on_terms(self, terms: Iterable[Term], among: Iterable[Cell] = ()) -> Grid:
        """`on` the cells of these terms and others; the base was asked all questions."""
        return self.on([*(term.cell for term in terms if term.which.kind != "base"), *among])

    def by_seed(self, cell: Cell, which: Which) -> dict[int, Array]:
        """Seed -> values by question, of the seeds that have this state."""
        rows = {seed: self.row(cell, seed, which) for seed in sorted(self.seeds(cell))}
        return {seed: row for seed, row in rows.items() if row is not None}


def size_number(size: str) -> float:
    """ "240" -> 240; "all" lies above every number."""
    return float(size) if size.isdigit() else np.inf


def state_index(states: pd.DataFrame) -> dict[tuple[Any, Which], tuple[str, ...]]:
    """(chain, which) -> state_ids, one a random mask, and one of what is no random draw.

    Where a study restored in several regions, the first one listed counts.
    """
    index: dict[tuple[Any, Which], tuple[str, ...]] = {}
    regions: dict[tuple[Any, Which], Any] = {}

    def note(key: tuple[Any, Which], state_id: str, region: Any, drawn: bool) -> None:
        if key not in index:
            index[key], regions[key] = (state_id,), region
        elif drawn and region == regions[key]:
            index[key] = (*index[key], state_id)

    for row in states.to_dict("records"):
        chain, state_id = row["chain"], str(row["state_id"])
        if row["kind"] in ("tuned", "hybrid"):
            which = Which(str(row["kind"]))
        else:
            layers = None if pd.isna(row["layers"]) else str(row["layers"])
            # a block is found by its layers, whatever share of the weights they are
            block = row["strategy"] == "block"
            k = None if block or pd.isna(row["k_percent"]) else float(row["k_percent"])
            alpha = None if pd.isna(row.get("alpha")) else float(row["alpha"])
            which = Which("restored", str(row["strategy"]), k, layers, alpha)
        region, drawn = row.get("region"), which.kind == "restored" and not pd.isna(row.get("mask"))
        for name in ("beside_k", "beside_k_projection"):
            if not pd.isna(beside := row.get(name)):
                instead: dict[str, Any] = {"k_percent": None, "alpha": None, name: float(beside)}
                note((chain, which._replace(**instead)), state_id, region, drawn)
        note((chain, which), state_id, region, drawn)
        if row["chosen"]:
            index[chain, CHOSEN] = (state_id,)
    return index


def mask_spread(rows: Array, levels: NDArray[np.int64]) -> float | None:
    """Standard deviation over random masks of the level-balanced mean: rows [M, Q], levels [Q]; None for one mask."""
    if len(rows) < 2:
        return None
    means = np.mean([rows[:, levels == level].mean(axis=1) for level in np.unique(levels)], axis=0)
    return float(np.std(means, ddof=1))


def _named(lead: str, terms: Sequence[Term]) -> str:
    seen = dict.fromkeys(
        str(t.cell) if t.which == TUNED else f"{t.cell} ({t.which.strategy} {t.which.k_percent:g}%)"
        if t.which.k_percent is not None else f"{t.cell} ({t.which.kind})"
        for t in terms
    )  # fmt: skip
    return f"{lead}: {'; '.join(seen)}"

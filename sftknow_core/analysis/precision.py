"""Which effect a study can detect, before it runs: the expected half-width of the 95% interval of its comparisons.

The interval is that of stats/contrast.py: half-width^2 = t(S - 1)^2 V_s + t(df)^2 V_q, for S seeds and n_l questions in
each of L levels. For a difference whose parts have the variances v_seed (of the difference over seeds), v_q (over
questions, alike for all seeds) and v_e (of seed and question together),

    V_q = sum_l (v_q + v_e / S) / (L^2 n_l)
    V_s = max(0, s^2 / S - r / S),   r = sum_l v_e / (L^2 n_l),   s^2 ~ (v_seed + r) chi^2(S - 1) / (S - 1)

and the expectation is over s^2: with three seeds it lies a tenth below the half-width at the mean of s^2. The variances
come from earlier cells of the same base in the cache, else from assumptions that are printed with the result.

An effect larger than the half-width is expected to have an interval clear of zero; NOT SHOWN needs a half-width below
the margin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftknow_core.analysis.context import Study, gain, minus
from sftknow_core.analysis.grid import CHOSEN, Array, Gap, Grid, StudyTables, Term
from sftknow_core.errors import SftknowError
from sftknow_core.results.studies import list_studies
from sftknow_core.results.study_frames import study_frames
from sftknow_core.specs import StudySpec, sizes_as_json
from sftknow_core.stats.contrast import trend_weights
from sftknow_core.store.cache import Cache

N_LEVELS = 5
SEEDS_TRIED = (3, 5, 8, 12)
"""Numbers of seeds for which the questions that a margin needs are worked out, beside the study's own."""
MOST_QUESTIONS = 5_000
"""A level; more are not looked for."""
_GRID = 400


@dataclass(frozen=True)
class Variances:
    """Of a difference of two answers, 0 or 1 each, by where they come from (see above)."""

    seed: float
    question: float
    both: float

    def times(self, factor: float) -> Variances:
        """Of a sum of independent differences whose squared weights sum to this."""
        return Variances(self.seed * factor, self.question * factor, self.both * factor)


@dataclass(frozen=True)
class Assumed:
    """What the half-widths rest on."""

    accuracy: float
    """Of tuned models on test questions."""
    seed_sd: float
    """Of a tuned model's accuracy over seeds, drawing of questions aside."""
    cells: Variances
    """Of a tuned model minus another."""
    restored: Variances
    """Of a restored model minus its tuned one."""
    source: str
    """Where they come from."""


def assumed(accuracy: float = 0.4, seed_sd: float = 0.02) -> Assumed:
    """Without earlier cells: answers to the same question correlate .6 between two seeds of a cell, .4 between cells,
    and .7 between tuned and restored, two thirds of whose changes differ between seeds."""
    of_answer = accuracy * (1 - accuracy)
    cells = Variances(2 * seed_sd**2, 2 * of_answer * (0.6 - 0.4), 2 * of_answer * (1 - 0.6))
    changed = 2 * of_answer * (1 - 0.7)
    restored = Variances(seed_sd**2, changed / 3, changed * 2 / 3)
    return Assumed(
        accuracy, seed_sd, cells, restored, "assumed: no earlier cells of this base are in the cache"
    )


# -- from earlier cells


def earlier(cache: Cache, base_id: str) -> Assumed:
    """What the newest study of this base with two seeds of a cell has found; else the assumptions."""
    for info in list_studies(cache):
        if info.base_id != base_id or info.n_done < 2:
            continue
        try:
            tables = StudyTables(**study_frames(cache, info.run_id, enrichment=False))
        except SftknowError:  # a run of it was deleted or damaged: the next one may tell
            continue
        if (found := measured(Study(tables), f"study {info.name} ({info.run_id[:6]})")) is not None:
            return found
    return assumed()


def measured(study: Study, name: str) -> Assumed | None:
    """The variances in a study's cells; None where no cell has two seeds and its neighbour too."""
    grid = study.grid()
    cells = [cell for cell in grid.cells() if cell.method == "full"]
    alone = list(_tables(grid, ([Term(1, cell)] for cell in cells)))
    pairs = [minus(one, other) for one, other in pairwise(cells) if one.size == other.size]
    pairs = pairs or [minus(one, other) for one, other in pairwise(cells)]
    apart = list(_tables(grid, pairs))
    restored = list(_tables(grid, (gain(cell, CHOSEN) for cell in cells)))
    if not apart or not restored:
        return None
    accuracy = float(np.mean([table.mean() for table, _ in alone]))
    seed_sd = sqrt(variances(alone).seed)
    source = f"measured in {name}: {len(alone)} cells with two seeds or more"
    return Assumed(accuracy, seed_sd, variances(apart), variances(restored), source)


def _tables(grid: Grid, contrasts: Iterable[Sequence[Term]]) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """([S, Q], question levels [Q]) of those contrasts that two seeds have."""
    for terms in contrasts:
        own = grid.on_terms(terms)
        found = own.sums(terms) if own.facts else Gap("not asked")
        if not isinstance(found, Gap) and len(found[0]) > 1:
            yield found[1], own.levels


def variances(tables: Iterable[tuple[ArrayLike, ArrayLike]]) -> Variances:
    """Mean over contrasts (x [S >= 2, Q], question levels [Q]) of the three parts, by two-way analysis of variance."""
    found = []
    for given, at in tables:
        x, levels = np.asarray(given, dtype=np.float64), np.asarray(at)
        parts = [x[:, levels == level] for level in np.unique(levels) if (levels == level).sum() > 1]
        if not parts:
            continue
        n_seeds = len(x)
        both, question, drawn = [], [], 0.0
        for part in parts:
            rest = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
            both.append(float((rest**2).sum()) / ((n_seeds - 1) * (part.shape[1] - 1)))
            question.append(float(np.var(part.mean(axis=0), ddof=1)) - both[-1] / n_seeds)
            drawn += both[-1] / part.shape[1] / len(parts) ** 2
        of_seed = np.mean([part.mean(axis=1) for part in parts], axis=0)
        found.append((float(np.var(of_seed, ddof=1)) - drawn, float(np.mean(question)), float(np.mean(both))))
    means = np.mean(found, axis=0) if found else np.zeros(3)
    return Variances(*(max(0.0, float(value)) for value in means))


# -- half-widths


def half_width(n_by_level: Sequence[int], n_seeds: int, of: Variances, level: float = 0.95) -> float:
    """Expected half-width of the interval of a level-balanced difference, in shares. n_by_level: at least 2 each."""
    n = np.asarray(n_by_level, dtype=np.float64)
    of_level = (of.question + of.both / n_seeds) / (n * len(n) ** 2)
    questions = float(of_level.sum())
    df = questions**2 / float((of_level**2 / (n - 1)).sum()) if questions > 0 else 1.0
    tail = (1 - level) / 2
    from_questions = float(stats.t.isf(tail, df)) ** 2 * questions
    if n_seeds == 1:
        return sqrt(from_questions)
    drawn = float((of.both / (n * len(n) ** 2)).sum())
    shares = (np.arange(_GRID) + 0.5) / _GRID
    spread = (of.seed + drawn) * stats.chi2.ppf(shares, n_seeds - 1) / (n_seeds - 1)
    seeds = np.maximum(0.0, spread - drawn) / n_seeds
    return float(np.sqrt(float(stats.t.isf(tail, n_seeds - 1)) ** 2 * seeds + from_questions).mean())


def questions_needed(n_levels: int, n_seeds: int, of: Variances, wanted: float) -> int | None:
    """Fewest questions a level for an expected half-width of at most `wanted` (in shares); None: more than
    MOST_QUESTIONS, or never, because the seeds differ by more."""

    def enough(n: int) -> bool:
        return half_width([n] * n_levels, n_seeds, of) <= wanted

    low, high = 2, MOST_QUESTIONS
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


# -- a study's comparisons


@dataclass(frozen=True)
class Compared:
    """One kind of comparison that claims rest on."""

    claims: str
    compares: str
    sizes: tuple[str, ...]
    """Train-set sizes in it."""
    n_levels: int
    """Levels of questions it is over."""
    of: Variances
    n_seeds: int | None = None
    """Seeds that all these sizes have; None: one of them is not in the study."""
    n_by_level: tuple[int, ...] = ()
    """Questions that all of them are asked, by level; empty: not known before mastery."""

    @property
    def half_width(self) -> float | None:
        """Expected, in shares; None where it is not known."""
        counted = [n for n in self.n_by_level if n > 1]
        if not self.n_seeds or not counted:
            return None
        if self.n_levels == 1:
            return half_width([min(counted)], self.n_seeds, self.of)
        return half_width(counted, self.n_seeds, self.of)


def comparisons(spec: StudySpec, asked: Mapping[str, Sequence[int]], given: Assumed) -> list[Compared]:
    """Each kind, with its half-width. asked: size -> in-domain test questions by level, of those known."""
    roles = spec.fixed_rule.roles
    small, middle, large = str(roles.small), str(roles.middle), str(roles.large)
    numbers = tuple(str(size) for size in sizes_as_json(spec.sizes) if size != "all")
    trained = [float(level) for level in spec.levels if level.isdigit()]
    over_levels = float((trend_weights(trained) ** 2).sum()) if len(trained) > 1 else 1.0
    over_sizes = 1.0
    if len(numbers) > 1 and trained:
        over_sizes = float((trend_weights([log2(float(n)) for n in numbers]) ** 2).sum()) / len(trained)
    cells, restored = given.cells, given.restored
    kinds = [
        Compared("P1a", f"N = {middle} vs. {small}, by training level", (small, middle), N_LEVELS, cells),
        Compared("P1b", f"N = {large} vs. {middle}, by training level", (middle, large), N_LEVELS, cells),
        Compared("P2b", "fall of one training level vs. another", (middle, large), N_LEVELS, cells.times(2)),
        Compared("P2d", "two training levels, one question level", (large,), 1, cells),
        Compared("P2e, S1", "two training levels or strategies", (large,), N_LEVELS, cells),
        Compared("R1, R2, R6, U1", "restored vs. tuned, by training level", (large,), N_LEVELS, restored),
        Compared("R3", "recovery over N", numbers, N_LEVELS, restored.times(over_sizes)),
        Compared("R4", "recovery over training levels", (large,), N_LEVELS, restored.times(over_levels)),
        Compared("R5", "restored vs. tuned, by level and N", numbers, N_LEVELS, restored),
        Compared(
            "U2", "two rankings, mean over levels", (large,), N_LEVELS,
            restored.times(1 / max(1, len(trained))),
        ),
    ]  # fmt: skip
    return [_in_study(one, spec, asked) for one in kinds]


def _in_study(one: Compared, spec: StudySpec, asked: Mapping[str, Sequence[int]]) -> Compared:
    known = {str(text): n for n, text in zip(spec.sizes, sizes_as_json(spec.sizes), strict=True)}
    if not one.sizes or any(size not in known for size in one.sizes):
        return one
    seeds = set.intersection(*(set(spec.seeds_of(known[size])) for size in one.sizes))
    counts = [tuple(asked[size]) for size in one.sizes if size in asked]
    complete = len(counts) == len(one.sizes) and len({len(of) for of in counts}) == 1
    common = tuple(map(min, zip(*counts, strict=True))) if complete else ()
    return Compared(one.claims, one.compares, one.sizes, one.n_levels, one.of, len(seeds), common)


def precision(spec: StudySpec, asked: Mapping[str, Sequence[int]], given: Assumed) -> dict[str, Any]:
    """What a dry run says: assumed, margin_pp, claims (one row a kind) and needed (what the margin takes).

    asked: as in `comparisons`; where it lacks a size, the questions per level that the study asks for, at most.
    """
    texts = [str(size) for size in sizes_as_json(spec.sizes)]
    wish = {size: spec.questions_of(n).per_level for n, size in zip(spec.sizes, texts, strict=True)}
    counts = {size: [n] * N_LEVELS for size, n in wish.items() if n is not None} | dict(asked)
    rule, found = spec.fixed_rule, comparisons(spec, counts, given)
    margin = rule.margin_pp / 100
    needed = []
    for one in found:
        if one.half_width is None or one.claims not in ("P1b", "P2e, S1", "R1, R2, R6, U1"):
            continue
        for n_seeds in sorted({*SEEDS_TRIED, one.n_seeds or 1}):
            questions = questions_needed(one.n_levels, n_seeds, one.of, margin)
            needed.append({"claims": one.claims, "seeds": n_seeds, "per_level": questions})
    return {
        "assumed": asdict(given),
        "counted": all(size in asked for size in wish),
        "margin_pp": rule.margin_pp,
        "claims": [
            {
                "claims": one.claims, "compares": one.compares, "seeds": one.n_seeds,
                "per_level": min((n for n in one.n_by_level), default=None),
                "half_width_pp": None if (half := one.half_width) is None else 100 * half,
                "decides": _decides(one, rule.min_seeds, rule.min_questions),
            }
            for one in found
        ],
        "needed": needed,
    }  # fmt: skip


def _decides(one: Compared, min_seeds: int, min_questions: int) -> str:
    """ "yes", or why the rule leaves such claims UNDECIDED whatever is found; questions are those of a level."""
    if one.n_seeds is None:
        return "no: not run"
    if one.n_seeds < min_seeds:
        return f"no: fewer than {min_seeds} seeds"
    if not one.n_by_level:
        return "not known before mastery"
    return "yes" if min(one.n_by_level) >= min_questions else f"no: fewer than {min_questions} questions"

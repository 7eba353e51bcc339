"""A study -> the tidy rows its figures and tables read: over N, over k, over the update taken back, by mastery level.

Accuracies and shares are 0 to 1, k in percent, KL in nats. Seeds are replicates: one row is a cell (train level, N) and
a state, with the interval of estimates.py. What was not asked has no row.

Equal k of two ways of restoring take back different parts of the update, so only equal parts compare them: hence
`energy_rows`, over the part of the update that is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.analysis import estimates as est
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import COMPLETION, FIVE_SHOT, QA, Estimate
from sftknow_core.analysis.grid import CHOSEN, HYBRID, TUNED, Array, Cell, Grid, Which, at_k, mask_spread
from sftknow_core.results.chains import LEVEL_ORDER

_STATES = {"tuned": TUNED, "restored": CHOSEN}
Row = dict[str, Any]
OVER_N = ["train_level", "size", "n_train", "state", "domain", "level", "k_percent", "accuracy", "low", "high", "sd",
          "n", "n_seeds"]  # fmt: skip
KL_OVER_N = ["train_level", "size", "n_train", "state", "domain", "level", "k_percent", "kl_nats", "kl_low", "kl_high",
             "kl_sd", "n_scored", "n_seeds"]  # fmt: skip
OF_SEEDS = ["train_level", "size", "n_train", "seed", "state", "domain", "level", "k_percent"]
CURVE = ["train_level", "size", "state", "k_percent", "domain", "accuracy", "low", "high", "n", "n_seeds", "n_chosen",
         "gain", "gain_low", "gain_high", "share_of_r", "energy_taken_back"]  # fmt: skip
HEALED = ["train_level", "size", "level", "n", "n_wrong", "n_healed", "n_broken", "share_healed", "share_broken",
          "part_of_healed", "n_seeds"]  # fmt: skip
TOP_TOKENS = 10
FORMAT = ["k_percent", "measure", "share", "low", "high", "n", "n_seeds"]
ENERGY = ["line", "state", "strategy", "region", "layers", "k_percent", "alpha", "beside_k", "beside_k_projection",
          "energy_taken_back", "projection_taken_back", "split", "domain", "accuracy", "low", "high", "n", "n_seeds",
          "n_masks", "mask_sd"]  # fmt: skip
_TAKEN_BACK = ["energy_taken_back", "projection_taken_back"]
_AMOUNT = ["k_percent", "alpha", "beside_k", "beside_k_projection"]
_WAY = ["strategy", "region", "layers", *_AMOUNT]
_USUAL_REGION = "transformer"


def cells_of(study: Study, method: str = "full") -> list[Cell]:
    """Cells of one method by level (mixed and natural last) and size."""
    found = [cell for cell in study.grid().cells() if cell.method == method]
    order = {level: place for place, level in enumerate(LEVEL_ORDER)}
    return sorted(found, key=lambda cell: order.get(cell.level, len(order)))


def _base(
    study: Study, domain: str, prompt: str, test_level: int | None = None, split: str = "test"
) -> Iterator[Row]:
    """The base under the prompt, of a domain: state, domain and an estimate; without a k."""
    found = est.base_accuracy(study, prompt=prompt, domain=domain, test_level=test_level, split=split)
    if found is not None:
        yield {"state": "base", "domain": domain, **found.as_row()}


def accuracy_rows(
    study: Study,
    test_level: int | None = None,
    states: Sequence[str] = ("tuned",),
    prompt: str = QA,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(one row a cell, domain and state: OVER_N; one row a seed, and base once a domain), all under one prompt.

    test_level None: the mean over mastery levels.
    """
    cells: list[Row] = []
    seeds: list[Row] = []
    for domain in study.domains():
        seeds += [{**row, "level": test_level} for row in _base(study, domain, prompt, test_level)]
        for cell in cells_of(study):
            for state in states:
                which = _STATES[state]
                found = est.accuracy(study, cell, which, domain=domain, test_level=test_level, prompt=prompt)
                k = 0.0 if state == "tuned" else chosen_k(study, cell)
                if found is not None and (state == "tuned" or k):
                    place = _place(study, cell, state, domain, test_level, k)
                    cells.append({**place, **found.as_row()})
                    seeds += _of_seeds(place, found, "accuracy", "n")
    return _typed(cells, OVER_N), _typed(seeds, [*OF_SEEDS, "accuracy", "low", "high", "n"])


def kl_rows(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `accuracy_rows`: mean KL on in-domain level-4 test questions; (KL_OVER_N, one row a seed)."""
    cells: list[Row] = []
    seeds: list[Row] = []
    for cell in cells_of(study):
        found = est.kl(study, cell)
        if found is None:
            continue
        place = _place(study, cell, "tuned", "in", 4, 0.0)
        numbers = {"kl_nats": found.value, "kl_low": found.low, "kl_high": found.high, "kl_sd": found.sd}
        cells.append({**place, **numbers, "n_scored": found.n, "n_seeds": len(found.per_seed)})
        seeds += _of_seeds(place, found, "kl_nats", "n_scored")
    ends = ["kl_nats", "kl_low", "kl_high", "n_scored"]
    return _typed(cells, KL_OVER_N), _typed(seeds, [*OF_SEEDS, *ends])


def curve_rows(study: Study, size: str | None = None, split: str = "test", prompt: str = QA) -> pd.DataFrame:
    """Accuracy over k (strategy top) of all cells of a size (None: all sizes), with the paired gain over tuned: CURVE.

    All under one prompt. Base stands there once a domain, without a k. n_chosen: seeds whose dev chose this k.
    """
    rows: list[Row] = []
    for domain in study.domains():
        rows += _base(study, domain, prompt, split=split)
        for cell in cells_of(study):
            if size in (None, cell.size):
                rows += _curve(study, cell, domain, split, prompt)
    found_rows = pd.DataFrame(rows, columns=CURVE)
    whole = ["n", "n_seeds", "n_chosen"]
    floats = [name for name in CURVE[5:] if name not in whole] + ["k_percent"]
    return found_rows.astype({**dict.fromkeys(floats, "float64"), **dict.fromkeys(whole, "Int64")})


def _curve(study: Study, cell: Cell, domain: str, split: str, prompt: str) -> Iterator[Row]:
    states = own_states(study, cell)
    for k, which in points_of(study):
        found = est.accuracy(study, cell, which, domain=domain, split=split, prompt=prompt)
        if found is None:
            continue
        gained = est.gain(study, cell, which, domain=domain, split=split, prompt=prompt) if k else None
        at = states[states["k_percent"] == k]
        yield {
            "train_level": cell.level,
            "size": cell.size,
            "state": {0.0: "tuned", 100.0: "hybrid"}.get(k, "restored"),
            "k_percent": k,
            "domain": domain,
            **found.as_row(),
            "n_chosen": int(at["chosen"].astype(bool).sum()),
            "gain": gained.value if gained else None,
            "gain_low": gained.low if gained else None,
            "gain_high": gained.high if gained else None,
            "share_of_r": at["share_of_r"].astype(float).mean(),
            "energy_taken_back": at["energy_taken_back"].astype(float).mean(),
        }


def format_rows(study: Study, cell: Cell, domain: str = "in") -> pd.DataFrame:
    """Knowledge or format? Over k: right answers to questions, after five exemplars and to completion prompts, how
    often the right first token is among the ten most probable ones, and answers that end: FORMAT.

    Lines across (no k): the base under each of the prompts that the curves have.
    """
    rows: list[Row] = []
    ended = Grid.of(study.tables, split="test", domain=domain, value="stopped")
    ranked = _ranked(study, domain)
    for k, which in points_of(study):
        measured = {
            "questions, right": est.accuracy(study, cell, which, domain=domain),
            "after five examples, right": _right(study, cell, which, domain, FIVE_SHOT),
            "completion prompts, right": _right(study, cell, which, domain, COMPLETION),
            "right token among the ten": est.share_in(study, ranked, cell, which, domain) if ranked else None,
            "answers that end": est.share_in(study, ended, cell, which, domain),
        }
        rows += [
            {"k_percent": k, "measure": name, **found.as_row("share")}
            for name, found in measured.items()
            if found is not None
        ]
    drawn = {row["measure"] for row in rows}
    ends = {
        "base": ("questions, right", QA),
        "base after five examples": ("after five examples, right", FIVE_SHOT),
        "base, completion prompts": ("completion prompts, right", COMPLETION),
    }
    for name, (beside, prompt) in ends.items():
        found = est.base_accuracy(study, prompt=prompt, domain=domain)
        if found is not None and beside in drawn:
            rows.append({"measure": name, **found.as_row("share")})
    return pd.DataFrame(rows, columns=FORMAT).astype({"k_percent": "float64"})


def _ranked(study: Study, domain: str) -> Grid | None:
    """Whether the answer's first token is among the ten most probable after the question, where that was measured."""
    answers = study.tables.answers
    if "gold_rank" not in answers:
        return None
    there = (answers["split"] == "test") & (answers["domain"] == domain) & (answers["prompt"] == "qa")
    rows = answers[there & answers["gold_rank"].notna()]
    return (
        Grid(study.tables, rows.assign(in_ten=rows["gold_rank"] <= TOP_TOKENS), "in_ten")
        if len(rows)
        else None
    )


def _right(study: Study, cell: Cell, which: Which, domain: str, prompt: str) -> Estimate | None:
    asked = (study.tables.answers["prompt"] == prompt).any()
    return est.accuracy(study, cell, which, domain=domain, prompt=prompt) if asked else None


def recovered_rows(
    study: Study, size: str | None = None, domain: str = "in", prompt: str = QA
) -> pd.DataFrame:
    """Which mastery levels restoring (k chosen on dev) heals and breaks, both states under one prompt; counts add up
    the seeds: HEALED.

    n_wrong: wrong in tuned. share_healed: of these, right after restoring. share_broken: of the right ones, wrong
    after. part_of_healed: of all questions the cell healed, those of this level (sums to 1).
    """
    rows: list[Row] = []
    for cell in cells_of(study):
        grid = study.grid(domain, prompt).on([cell])
        was, now = grid.by_seed(cell, TUNED), grid.by_seed(cell, CHOSEN)
        seeds = sorted(set(was) & set(now))
        if size not in (None, cell.size) or not seeds:
            continue
        before, after = (np.array([one[s] for s in seeds]) for one in (was, now))
        rows += _flips_by_level(cell, before, after, grid.levels)
    return pd.DataFrame(rows, columns=HEALED)


def _flips_by_level(cell: Cell, before: Array, after: Array, levels: Any) -> list[Row]:
    healed, broken = (before == 0) & (after == 1), (before == 1) & (after == 0)
    rows = []
    for level in np.unique(levels):
        at = levels == level
        n, n_wrong = int(before[:, at].size), int((before[:, at] == 0).sum())
        n_healed, n_broken = int(healed[:, at].sum()), int(broken[:, at].sum())
        rows.append(
            {
                "train_level": cell.level, "size": cell.size, "level": int(level), "n": n, "n_wrong": n_wrong,
                "n_healed": n_healed, "n_broken": n_broken, "share_healed": n_healed / n_wrong if n_wrong else None,
                "share_broken": n_broken / (n - n_wrong) if n > n_wrong else None,
                "part_of_healed": n_healed / healed.sum() if healed.any() else None, "n_seeds": len(before),
            }
        )  # fmt: skip
    return rows


def points_of(study: Study) -> list[tuple[float, Which]]:
    """(k, state) from tuned (0) to the hybrid (100), where the study restored it."""
    ends = [(100.0, HYBRID)] if (study.tables.states["kind"] == "hybrid").any() else []
    return [(0.0, TUNED), *((k, at_k(k)) for k in study.ks()), *ends]


def own_states(study: Study, cell: Cell) -> pd.DataFrame:
    """States of a cell's chains on the first curve: tuned, then what `points_of` names."""
    own = study.tables.states_of(cell)
    on_curve = own["strategy"].isna() | (own["strategy"] == "top")
    return own[on_curve].drop_duplicates(["chain", "k_percent"])


def chosen_k(study: Study, cell: Cell) -> float:
    """The k chosen on dev, median over seeds, percent."""
    states = study.tables.states_of(cell)
    return float(states.loc[states["chosen"].astype(bool), "k_percent"].astype(float).median())


def _place(study: Study, cell: Cell, state: str, domain: str, level: int | None, k: float) -> Row:
    chains = study.tables.chains
    n = int(chains.loc[chains["chain"].isin(study.tables.chains_of(cell)), "n"].max())
    about = {"train_level": cell.level, "size": cell.size, "n_train": n}
    return {**about, "state": state, "domain": domain, "level": level, "k_percent": k}


def _of_seeds(place: Row, found: Estimate, value: str, n: str) -> list[Row]:
    pairs = zip(found.seeds, found.per_seed, strict=True)
    return [{**place, "seed": seed, value: one, n: found.n} for seed, one in pairs]


def _typed(rows: Iterable[Row], columns: Sequence[str]) -> pd.DataFrame:
    whole = {"n_train", "level", "seed", "n", "n_scored", "n_seeds"}
    text = {"train_level", "size", "state", "domain"}
    frame = pd.DataFrame(list(rows), columns=list(columns))
    kinds = {name: "Int64" if name in whole else "float64" for name in columns if name not in text}
    return frame.astype(kinds)


def energy_rows(study: Study, cell: Cell) -> pd.DataFrame:
    """One row a state (averaged over the seeds that have it) and domain, on test questions: ENERGY.

    energy_taken_back, projection_taken_back: 0 to 1, mean over seeds; so are k and alpha of what was set to the energy
    (`beside_k`) or the projection (`beside_k_projection`) of a k of the most changed weights. Random draws are averaged
    within a seed; n_masks: draws of a seed, mask_sd: their standard deviation, mean over seeds. `line` names what is
    drawn as one curve; empty for the ends. Also the columns k_of_changed_percent and block, which are empty here.
    """
    own = study.tables.states_of(cell)
    lacking = ("region", "alpha", "beside_k", "beside_k_projection", "projection_taken_back", "mask")
    own = own.assign(**{name: None for name in lacking if name not in own})
    rows = [row for domain in study.domains() for row in _of_domain(study, domain, own)]
    found = pd.DataFrame(rows, columns=ENERGY)
    numbers = [*_AMOUNT, *_TAKEN_BACK, "accuracy", "low", "high", "mask_sd"]
    whole = ("n", "n_seeds", "n_masks")
    found = found.astype({**dict.fromkeys(numbers, "float64"), **dict.fromkeys(whole, "Int64")})
    return found.assign(k_of_changed_percent=float("nan"), block=None)


def _of_domain(study: Study, domain: str, states: pd.DataFrame) -> list[Row]:
    rows = [{"line": "", "split": "test", **row} for row in _base(study, domain, QA)]
    answers = study.tables.answers
    asked = (answers["prompt"] == "qa") & (answers["split"] == "test") & (answers["domain"] == domain)
    asked &= answers["chain"].isin(states["chain"])
    right = answers[asked].astype({study.plan.score: float})
    wide = right.pivot(index=["chain", "state_id"], columns="fact_id", values=study.plan.score)
    levels = right.drop_duplicates("fact_id").set_index("fact_id")["level"].reindex(wide.columns)
    seeds = study.tables.chains.set_index("chain")["seed"]
    ways = states[_WAY].astype(object).where(states[_WAY].notna(), None)
    matched = ways[["beside_k", "beside_k_projection"]].notna().any(axis=1)
    ways.loc[matched, ["k_percent", "alpha"]] = None  # they differ between seeds
    keys = [states["kind"], *(ways[name] for name in _WAY)]
    grouped = states.assign(_key=pd.Series(list(zip(*keys, strict=True)), index=states.index))
    for _, group in grouped.groupby("_key", sort=False):
        masks: dict[int, list[Array]] = {}
        for key in zip(group["chain"], group["state_id"], strict=True):
            if key in wide.index:
                masks.setdefault(int(seeds[key[0]]), []).append(wide.loc[key].to_numpy(float))
        drawn = [np.array(of_seed) for of_seed in masks.values()]
        found = est.of_rows([one.mean(axis=0) for one in drawn], masks, levels.to_numpy())
        if found is not None:
            spreads = [mask_spread(one, levels.to_numpy()) for one in drawn]
            about = _masks([len(one) for one in drawn], spreads) if group["mask"].notna().any() else {}
            rows.append(_row(group, found, domain) | about)
    return rows


def _masks(counts: Sequence[int], spreads: Sequence[float | None]) -> Row:
    known = [one for one in spreads if one is not None]
    return {"n_masks": min(counts), "mask_sd": float(np.mean(known)) if known else None}


def _row(group: pd.DataFrame, found: Estimate, domain: str) -> Row:
    first = group.iloc[0]
    tuned = first["kind"] == "tuned"
    return {
        "line": "" if tuned else _line(first),
        "state": first["kind"],
        **{name: first[name] for name in _WAY},
        **{name: group[name].astype(float).mean() for name in _AMOUNT},
        **{name: float(group[name].astype(float).mean()) for name in _TAKEN_BACK},
        "split": "test",
        "domain": domain,
        **found.as_row(),
    }


def _line(state: pd.Series[Any]) -> str:
    parts = [str(state["strategy"])]
    if pd.notna(state["region"]) and state["region"] != _USUAL_REGION:
        parts.append(str(state["region"]))
    if pd.notna(state["layers"]):
        parts.append(f"layers {state['layers']}")
    return ", ".join(parts)

"""Flips of a study: questions that change sides between two states of one run, beside what another seed changes.

    flips, seed_churn -> one row a run and test level -> PaperTable

Exact McNemar by run and level, Holm over all of them. The only place for McNemar: over runs or over levels it would
count the same question, or unlike questions, as one sample. A model trained with another seed answers some questions
differently as well; only what lies beyond this churn is restoring's doing. All rows are in the CSV and JSON; printed
are those of the largest N, seeds side by side.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import PROMPT_NAMES, QA, prompts_of
from sftknow_core.analysis.grid import CHOSEN, TUNED, Which, size_number
from sftknow_core.analysis.paper_table import (
    COLUMNS,
    COUNT,
    PLAIN,
    SHARE,
    Column,
    PaperTable,
    not_run,
    range_said,
    said,
    seeds_said,
)
from sftknow_core.stats.paired import holm, mcnemar

TEST_COLUMNS = ["level", "size", "method", "seed", "test_level", "n", "n_lost", "n_gained", "p", "p_holm"]
"""Columns of `flips`: one McNemar test a row."""


def flips(
    study: Study, before: Which = TUNED, after: Which = CHOSEN, domain: str = "in", prompt: str = QA
) -> pd.DataFrame:
    """One row a chain and test level (TEST_COLUMNS), both states under the prompt; chains that lack a state have none.

    p_holm: over all rows. n_lost: right before and wrong after; n_gained: the other way round.
    """
    rows = []
    for cell in study.grid(domain).cells():
        grid = study.grid(domain, prompt).on([cell])
        was, now = grid.by_seed(cell, before), grid.by_seed(cell, after)
        for seed in sorted(set(was) & set(now)):
            for level in np.unique(grid.levels):
                at = grid.levels == level
                found = mcnemar(was[seed][at] == 1, now[seed][at] == 1)
                counts = (int(at.sum()), found.n_lost, found.n_gained)
                rows.append((*cell, seed, int(level), *counts, found.p_value))
    table = pd.DataFrame(rows, columns=TEST_COLUMNS[:-1])
    return table.assign(p_holm=pd.Series(holm(table["p"].tolist()), index=table.index, dtype="float64"))


def seed_churn(study: Study, which: Which = TUNED, domain: str = "in", prompt: str = QA) -> pd.DataFrame:
    """level, size, method, test_level, churn: share of questions on which two seeds disagree, mean over their pairs."""
    rows = []
    for cell in study.grid(domain).cells():
        grid = study.grid(domain, prompt).on([cell])
        pairs = list(combinations(grid.by_seed(cell, which).values(), 2))
        for level in np.unique(grid.levels) if pairs else ():
            at = grid.levels == level
            rows.append((*cell, int(level), float(np.mean([np.mean(a[at] != b[at]) for a, b in pairs]))))
    return pd.DataFrame(rows, columns=["level", "size", "method", "test_level", "churn"])


FLIP_COLUMNS: dict[str, Column] = {
    **{name: COLUMNS[name] for name in ("prompt", "domain", "train_level", "size")},
    "method": ("method", "full: all weights; lora: an adapter", None),
    **{name: COLUMNS[name] for name in ("seed", "level", "n")},
    "n_lost": ("lost", "questions: right in tuned, wrong after restoring", COUNT),
    "n_gained": ("gained", "questions: wrong in tuned, right after restoring", COUNT),
    "p": ("p", "exact McNemar within this run and test level", "{:.2g}"),
    "p_holm": ("p, Holm", "adjusted for all rows of the prompt and domain", "{:.2g}"),
    "changed": ("changed", "share of the questions lost or gained", SHARE),
    "churn": ("churn", "share on which two seeds of tuned disagree, mean over pairs of seeds", SHARE),
    "beyond_churn": ("beyond churn", "changed minus churn", "{:+.1%}"),
}
_CELL = ["prompt", "domain", "train_level", "size", "method"]
_TITLE = "Which questions restoring changes, run by run"
_CAPTION = (
    "Test questions that change sides between tuned and restored (k chosen on dev), both under the row's prompt: lost "
    "or gained. {n} questions a number, {seeds}, split test, matcher '{matcher}'. p: exact McNemar within one run and "
    "one test level: it speaks for other questions put to this run; Holm over all {tests} tests of a prompt and "
    "domain, each a family of its own. Churn: what tuned models of two seeds disagree on; only changes beyond it are "
    "restoring's. {printed}"
)


def flip_table(study: Study, matcher: str) -> PaperTable:
    """One row a run, domain and test level; shares 0 to 1. NOT RUN where no chain chose a k."""
    frame = _rows(study)
    if frame.empty:
        return PaperTable(
            "flips", _TITLE, "", frame, pd.DataFrame(), not_run("no k was chosen on dev"), FLIP_COLUMNS
        )
    largest = max(frame["size"], key=size_number)
    tests = range_said(frame.groupby(["prompt", "domain"]).size())
    caption = _CAPTION.format(
        n=range_said(frame["n"]), seeds=seeds_said(study), matcher=matcher, tests=tests,
        printed=f"Printed: N = {largest}; the CSV has every N.",
    )  # fmt: skip
    shown = _printed(frame[frame["size"] == largest], study.rule.alpha)
    return PaperTable("flips", _TITLE, caption, frame, shown, columns=FLIP_COLUMNS)


def _rows(study: Study) -> pd.DataFrame:
    parts = []
    for prompt, domain in product(prompts_of(study), study.domains()):
        found = flips(study, domain=domain, prompt=prompt)
        if len(found):
            floor = seed_churn(study, domain=domain, prompt=prompt)
            found = found.merge(floor, on=["level", "size", "method", "test_level"], how="left")
            parts.append(found.assign(prompt=PROMPT_NAMES[prompt], domain=domain))
    if not parts:
        return pd.DataFrame(columns=list(FLIP_COLUMNS))
    rows = pd.concat(parts, ignore_index=True).rename(columns={"level": "train_level", "test_level": "level"})
    rows["changed"] = (rows["n_lost"] + rows["n_gained"]) / rows["n"]
    # with one seed there is no churn, and nothing is known to lie beyond it
    rows["churn"] = rows["churn"].astype("float64")
    rows["beyond_churn"] = rows["changed"] - rows["churn"]
    return rows[list(FLIP_COLUMNS)]


def _printed(rows: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Texts, one row a cell, domain and test level: the seeds' counts side by side, shares as their mean."""
    lines: list[dict[str, Any]] = []
    for place, of in rows.groupby([*_CELL, "level"], sort=False):
        by_seed = of.sort_values("seed")
        line = {FLIP_COLUMNS[name][0]: said(value, FLIP_COLUMNS[name][2])
                for name, value in zip([*_CELL, "level"], place, strict=True)}  # fmt: skip
        line["questions"] = COUNT.format(of["n"].iloc[0])
        line["seeds"] = ", ".join(PLAIN.format(seed) for seed in by_seed["seed"])
        for name in ("n_lost", "n_gained"):
            line[f"{FLIP_COLUMNS[name][0]}, by seed"] = ", ".join(map(str, by_seed[name]))
        line[f"p (Holm) < {alpha:g}"] = f"{int((of['p_holm'] < alpha).sum())} of {len(of)}"
        for name in ("changed", "churn", "beyond_churn"):
            line[FLIP_COLUMNS[name][0]] = said(of[name].mean(), FLIP_COLUMNS[name][2])
        lines.append(line)
    return pd.DataFrame(lines)

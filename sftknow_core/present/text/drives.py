"""Texts of the page "What drives it", its part of the report and its commands: captions, names, what is lacking."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.analysis.drives import Drives
from sftknow_core.analysis.forgetting import KNOWN_R, Forgetting, reference_level
from sftknow_core.analysis.rates import MEAN
from sftknow_core.present import columns
from sftknow_core.present.terminal import Result, print_lines, table_of

ABOUT = (
    "Is restoring more than a cure for a learning rate that was too high? Which weights does it pick, which facts are "
    "forgotten, and is an unanswered fact lost? Four analyses of one **study**."
)
EMPTY = (
    "No study in `{root}` yet. `sftknow study run objections` runs all four analyses on the shipped small model; "
    "`--dry-run` lists its cells and the expected time."
)
TITLES = {
    "rates": "Learning rate, steps and N",
    "masks": "Reverted weights",
    "forgotten": "Forgotten facts",
    "access": "Lost or inaccessible",
}
"""Section -> its heading."""
CAPTIONS = {
    "rates": "Test accuracy by learning rate (as a multiple of the study's) and N. **R**: restored minus the "
    "fine-tuned model at its best rate, in pp; rate and k chosen on dev.",
    "norms": "Each point is one run: accuracy over the size of its update. Restoring also makes the update smaller.",
    "steps": "Few facts repeated until they take as many steps as many facts once, in pp of accuracy with 95% CI.",
    "masks": "Jaccard index of the reverted weights. **Chance**: independent masks. **From |p|**: independent within "
    "deciles of the base weight's size in each tensor. Bars: range over pairs of seeds, no CI.",
    "forgotten": "Change in the log-odds of an incorrect answer, known facts, with 95% CI. Right of 0: forgotten more.",
    "probabilities": "Share of known facts forgotten and recovered, minus the share that another seed changes as well.",
    "access": "Questions correct before and incorrect after tuning: share still correct in another way of asking, 95% "
    "CI (Wilson).",
}
"""Figure -> caption."""
HELP = {
    "rates": "R = A(restored, rate, k chosen on dev) − A(fine-tuned, best rate on dev), paired on the same test "
    "questions and seeds. Below zero, an untouched model at a better rate beats the restored one. Not included: early "
    "stopping and averaged checkpoints.",
    "masks": "Ranking by relative change |d| / |p| is largely ranking by small |p|, which all seeds share. Overlap "
    "beyond “from |p|” is agreement about the change itself. Conclusions hold for this base model.",
    "forgotten": f"Known: mastery R of at least {KNOWN_R:.0%}. Within questions: conditional logit; fixed properties "
    "of a question cancel. Between questions: logit with an intercept per run. Standard errors clustered by seed and "
    "by question, t with the smaller number of clusters minus 1. KL is measured after training, so it has a model of "
    "its own.",
    "access": "Inaccessible: correct with the other prompt. Lost: incorrect with both. Compare with the same share "
    "among questions still correct: a prompt that fails there cannot show that a fact is lost.",
}
"""Section -> help."""
NOT_RUN = {
    "rates": "This study has one learning rate. Add `rates = [0.25, 0.5, 1, 2]` and `match_steps = true` under "
    "`[grid]` in its file, or run `sftknow study run objections`.",
    "steps": "No repeated train sets. Add `match_steps = true` under `[grid]` in the study's file.",
    "norms": "The size of the updates was not measured.",
    "masks": 'Not compared yet. Run `sftknow masks {run}`. It needs the fine-tuned weights: `checkpoints = "all"` '
    "under `[work]` in the study's file.",
    "donors": "Models restored with another seed's mask were not evaluated. Run `sftknow masks {run} --ask 20`.",
    "forgotten": "The mastery scores of this study were deleted; `sftknow mastery` makes them again.",
    "access": "Not evaluated: {reason}. Set `completions = true` under `[evaluation]` in the study's file and run it "
    "again.",
}
"""What is lacking -> what to do. {run}: the study; {reason}: what was not asked."""
TERMS = {
    "topic_share_tenths": "topic's share of the train set, per 10 pp",
    "seen": "object seen in training",
    "kl_nats": "KL (nats), after training",
    "log_frequency": "object frequency, per doubling",
    "r_tenths": "mastery R, per 10 pp",
    "length_tens": "answer length, per 10 characters",
}
"""Term of a model -> its name."""
STATES = {"tuned": "fine-tuned", "restored": "restored"}
BEFORE = {
    "five-shot": "base, 5-shot, correct",
    "completion": "base with completion prompt, correct",
    "qa": "base, zero-shot, correct",
}
"""How the base was asked -> what "before" means."""


def level_name(level: str) -> str:
    """ "level 2", "mixed levels", "mean over training levels"."""
    if level == MEAN:
        return "mean over training levels"
    return f"level {level}" if level.isdigit() else f"{level} levels"


def size_name(size: str, repeats: float = 1.0) -> str:
    """ "N = 240 × 8 epochs": passes as a multiple of the study's."""
    return (
        f"N = {int(size):,}" * size.isdigit()
        + "all facts" * (not size.isdigit())
        + (f" × {repeats:g}" if repeats != 1 else "")
    )


def term_name(term: str, levels: list[str]) -> str:
    """A term of the models of forgetting; levels: training levels there are."""
    if term.startswith("level_"):
        return f"training {level_name(term.removeprefix('level_'))} vs. {level_name(reference_level(levels))}"
    return TERMS.get(term, term)


def named_terms(coefficients: pd.DataFrame, levels: list[str]) -> pd.DataFrame:
    """The table of coefficients with terms in words."""
    return coefficients.assign(
        term=coefficients["term"].map(lambda term: term_name(term, levels), na_action="ignore")
    )


def levels_of(drives: Drives) -> list[str]:
    """Training levels whose runs are compared question by question."""
    found = drives.forgetting
    return sorted({cell.level for cell in found.cells(drives.large)}) if found else []


def not_run(what: str, drives: Drives) -> str:
    """What the study lacks, and the command that adds it."""
    about = drives.results.about
    reason = drives.accessibility.missing() if what == "access" else None
    return NOT_RUN[what].format(run=about.run_id[:8], reason=reason)


def lacking(drives: Drives) -> dict[str, str]:
    """Section -> what the study lacks for it, and the command; sections that have all they need are left out."""
    missing = {
        "rates": not drives.rates.varied,
        "masks": drives.overlaps.empty,
        "donors": drives.donor_test.empty,
        "forgotten": drives.forgetting is None,
        "access": bool(drives.accessibility.missing()),
    }
    return {name: not_run(name, drives) for name, is_missing in missing.items() if is_missing}


def rate_answer(drives: Drives, level: str) -> str:
    """The result of the first section in one sentence, at the study's rate and largest N."""
    gains = drives.rates.gains()
    own = gains[(gains["train_level"] == level) & (gains["rate"] == 1) & (gains["repeats"] == 1)]
    if not drives.rates.varied or own.empty or pd.isna(own.iloc[-1]["effect"]):
        return ""
    row = own.iloc[-1]
    interval = "" if pd.isna(row["low"]) else f" (95% CI {100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    return (
        f"{size_name(str(row['size']))}, {level_name(level)}: restored minus the best untouched rate "
        f"(× {row['best_rate']}): **{100 * row['effect']:+.1f} pp**{interval}; vs. the same rate: "
        f"{100 * row['same_rate']:+.1f} pp."
    )


def forgotten_note(drives: Drives, found: Forgetting) -> str:
    """How many facts and runs the models rest on."""
    n_runs = sum(len(found.study.tables.chains_of(cell)) for cell in found.cells(drives.large))
    return (
        f"{found.n_known:,} known facts, {n_runs} runs, {size_name(drives.large)}; in-domain test questions."
    )


def access_note(drives: Drives) -> str:
    """What counts as before."""
    return f"Before: {BEFORE[drives.accessibility.before]}." if drives.accessibility.before else ""


# -- terminal


def drives_result(drives: Drives) -> dict[str, Any]:
    """run_id, name and the tables as lists of rows: plain values; `not_run`: section -> what to do."""
    about, forgetting = drives.results.about, drives.forgetting
    tables = {
        "accuracies": drives.rates.accuracies(),
        "gains": drives.rates.gains(),
        "steps": drives.rates.steps(),
        "masks": drives.overlaps,
        "donors": drives.donor_test,
        "coefficients": forgetting.coefficients(drives.large) if forgetting else pd.DataFrame(),
        "probabilities": forgetting.probabilities() if forgetting else pd.DataFrame(),
        "access": drives.accessibility.outcomes() if not drives.accessibility.missing() else pd.DataFrame(),
    }
    plain = {name: _plain(table) for name, table in tables.items()}
    named = {"run_id": about.run_id, "name": about.name, "levels": levels_of(drives)}
    return {**named, **plain, "not_run": lacking(drives)}


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


_SHOWN = {
    "gains": (
        "rates",
        ("train_level", "size", "repeats", "rate", "best_rate", "effect", "low", "high", "n", "n_seeds"),
    ),
    "steps": (
        "rates",
        ("train_level", "size", "repeats", "rate", "state", "comparison", "effect", "low", "high"),
    ),
    "masks": (
        "masks",
        ("cell", "k_percent", "with", "jaccard", "chance_jaccard", "expected_jaccard", "energy_share"),
    ),
    "donors": ("masks", ("cell", "k_percent", "own", "other", "difference", "n")),
    "coefficients": ("forgotten", ("model", "term", "value", "low", "high", "p", "n", "reason")),
    "probabilities": (
        "forgotten",
        ("train_level", "size", "outcome", "share", "churn", "net", "net_low", "net_high"),
    ),
    "access": (
        "access",
        ("train_level", "size", "level", "n", "inaccessible", "lost", "share", "share_kept"),
    ),
}
"""Table of a result -> the kind of its columns, and those that a terminal has room for."""
_HEADS = {
    "gains": "rates",
    "steps": "rates",
    "masks": "masks",
    "donors": "masks",
    "coefficients": "forgotten",
    "probabilities": "forgotten",
    "access": "access",
}


def show_drives(result: Result) -> None:
    """The tables of `sftknow study drives`, and what the study lacks."""
    rows = dict(result)
    rows["coefficients"] = [
        {**row, "term": term_name(str(row["term"]), list(result["levels"])) if row["term"] else None}
        for row in result["coefficients"]
    ]
    for name in _SHOWN:
        if rows[name]:
            print_lines(_table(name, rows[name]))
    print_lines(f"Study {result['name']}, run {result['run_id']}")
    for name, text in result["not_run"].items():
        print_lines(f"{TITLES.get(name, 'Masks of other seeds')}: {text}")


def show_masks(result: Result) -> None:
    """The tables of `sftknow masks`: one a group of models."""
    for group in result["groups"]:
        print_lines(_table("masks", group["overlaps"]))
        if group.get("donors"):
            print_lines(_table("donors", group["donors"]))
        print_lines(f"{group['label']}: run {group['run_id']}")


def _table(name: str, rows: list[dict[str, Any]]) -> Any:
    kind, shown = _SHOWN[name]
    known = columns.table(kind)
    keys = [f"{kind}.{one}" if f"{kind}.{one}" in columns.COLUMNS else one for one in shown]
    table = table_of(TITLES[_HEADS[name]], *keys)
    for row in rows:
        table.add_row(*(_said(row.get(one), known[one].format) for one in shown))
    return table


def _said(value: Any, form: str | None) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return form.format(value) if form and not isinstance(value, str) else str(value)

"""Figures 2, 4 and 5 and Tables 2, 4, 6 and 7 of the paper, for a study: what models answer rightly, and KL."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pandas as pd

from sftknow_core.analysis import estimates as est
from sftknow_core.analysis import published
from sftknow_core.analysis.claims_strategy import picked_strategies
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import POPULATION, PROMPT_NAMES, QA, beside_points, prompts_of
from sftknow_core.analysis.grid import TUNED, Cell
from sftknow_core.analysis.paper_table import (
    BESIDE,
    NATS,
    NOTHING,
    NUMBERS,
    OURS,
    PAPER,
    PaperTable,
    caption_of,
    level_name,
    not_run,
    numbers,
    percent,
    prompts_said,
    range_said,
    seeds_said,
    stacked,
    wide,
    with_sd,
)
from sftknow_core.analysis.rows import (
    accuracy_rows,
    cells_of,
    curve_rows,
    kl_rows,
    own_states,
    points_of,
)
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.stats.seeds import MIN_SEEDS, over_seeds

_OF = ["source", "prompt", "state", "train_level", "size", "n_train", "domain", *NUMBERS]


def figure2(study: Study, matcher: str, majority: Mapping[str, Any] | None = None) -> PaperTable:
    """Accuracy over N by train level, mean over test levels, under each prompt; the base and a baseline."""
    base = [_baseline("majority answer", domain, share) for domain, share in (majority or {}).items()]
    paper = published.over_n(published.MODEL)
    paper = paper.assign(source=PAPER, state="tuned", size=paper["n_train"].astype(str))
    return _over_n(study, "figure2", "Accuracy by size and train level", matcher, None, base, paper)


def figure4(study: Study, matcher: str) -> PaperTable:
    """As figure 2, on questions of mastery level 4."""
    paper = published.at_level(published.MODEL, 4)
    paper = paper.assign(source=PAPER, state="tuned", size=paper["n_train"].astype(str))
    title = "Accuracy on the questions the base knew best (mastery level 4)"
    return _over_n(study, "figure4", title, matcher, 4, [], paper)


def _over_n(
    study: Study,
    name: str,
    title: str,
    matcher: str,
    test_level: int | None,
    base: list[dict[str, Any]],
    paper: pd.DataFrame,
) -> PaperTable:
    ours = []
    for prompt in prompts_of(study):
        cells, seeds = accuracy_rows(study, test_level, prompt=prompt)
        about = {"source": OURS, "prompt": PROMPT_NAMES[prompt]}
        ours += [cells.assign(**about), seeds[seeds["state"] == "base"].assign(**about)]
    ours.append(pd.DataFrame(base, columns=["source", "state", "domain", "accuracy"]))
    paper = paper.assign(prompt=PROMPT_NAMES[QA])
    frame = stacked([*ours, paper[paper["domain"].isin(study.domains())]], _OF)
    rows = ["domain", "source", "prompt", "state", "size"]
    shown = wide(frame, rows, "train_level", percent(), name=level_name)
    caption = f"{prompts_said(study)}. {caption_of(study, matcher, cells)}"
    return PaperTable(name, title, caption, frame, shown, "" if len(cells) else _NOTHING_RUN)


def table2(study: Study, matcher: str) -> PaperTable:
    """Accuracy by train level and test level at the largest N: mean ± standard deviation over seeds."""
    size = study.plan.large
    rows = []
    cells = [cell for cell in cells_of(study) if cell.size == size]
    for prompt, cell, domain in product(prompts_of(study), cells, study.domains()):
        for level in (*range(5), None):
            found = est.accuracy(study, cell, TUNED, domain=domain, test_level=level, prompt=prompt)
            asked = {"prompt": PROMPT_NAMES[prompt], "train_level": cell.level, "domain": domain}
            if found is not None or prompt == QA:
                rows.append({**asked, "level": level, **numbers(found)})
    place = ["prompt", "train_level", "domain", "level"]
    ours = pd.DataFrame(rows, columns=[*place, *NUMBERS]).assign(source=OURS)
    paper = published.by_test_level(published.MODEL).assign(source=PAPER, prompt=PROMPT_NAMES[QA])
    of = ["source", *place, *NUMBERS]
    frame = stacked([ours, paper[paper["domain"].isin(study.domains())]], of).astype({"level": "Int64"})
    named = frame.assign(level=frame["level"].astype("string").fillna("mean"))
    shown = wide(
        named,
        ["domain", "source", "prompt", "train_level"],
        "level",
        with_sd,
        (*"01234", "mean"),
        _test_level,
    )
    title = f"Accuracy by train level and test level, N = {size}"
    about = f"{prompts_said(study)}. {caption_of(study, matcher, ours)}"
    caption = f"Mean ± standard deviation over seeds, percent. {about}"
    return PaperTable(
        "table2", title, caption, frame, shown, "" if rows else not_run(f"no chain has N = {size}")
    )


def figure5(study: Study, matcher: str) -> PaperTable:
    """Mean KL over N by train level, in-domain test questions of level 4."""
    del matcher  # KL does not depend on it
    cells, _ = kl_rows(study)
    frame = cells.assign(source=OURS)
    shown = wide(frame, ["size"], "train_level", _nats, name=level_name)
    n = range_said(cells["n_scored"]) if len(cells) else "no"
    caption = (
        f"Mean KL of the first token between tuned and base, nats (measure '{study.plan.kl_measure}'); in-domain test "
        f"questions of mastery level 4; {n} questions that could be scored, {seeds_said(study)}. {POPULATION}. The "
        "paper prints this as a figure only."
    )
    reason = (
        ""
        if len(cells)
        else not_run("token shifts were not measured, or no level-4 question could be scored")
    )
    return PaperTable(
        "figure5", "How far first tokens moved, by size and train level", caption, frame, shown, reason
    )


def table4(study: Study, matcher: str) -> PaperTable:
    """Accuracy over k by N and train level, in and out of domain."""
    by_prompt = [curve_rows(study, prompt=p).assign(prompt=PROMPT_NAMES[p]) for p in prompts_of(study)]
    rows = beside_points(pd.concat(by_prompt, ignore_index=True)).assign(source=OURS)
    paper = published.restoration().assign(source=PAPER, state="restored", prompt=PROMPT_NAMES[QA])
    paper = paper[paper["domain"].isin(study.domains())]
    frame = stacked([rows, paper], ["source", *rows.columns.drop("source")])
    curves = frame[frame["k_percent"].notna()]
    order = sorted(curves["size"].unique(), key=lambda size: float(size) if size.isdigit() else float("inf"))
    place = ["domain", "size", "source", "prompt", "k_percent"]
    curves = curves.sort_values(place, kind="stable",
                                key=lambda c: c.map(order.index) if c.name == "size" else
                                (c == PAPER) if c.name == "source" else c)  # fmt: skip
    shown = wide(curves, place, "train_level", percent(), name=level_name)
    restored = rows[rows["k_percent"] > 0]
    caption = (
        f"Accuracy in percent after putting back the k% most changed weights (0: tuned, 100: hybrid). "
        f"{prompts_said(study)}. {caption_of(study, matcher, rows)} Read no k off this table: it is test; the k to use "
        "was chosen on dev. Log-odds, and which part of the way back to base is gained after five examples, stand in "
        "the CSV."
    )
    reason = "" if len(restored) else not_run("nothing was restored")
    return PaperTable("table4", "Accuracy after restoring", caption, frame, shown, reason)


def table6(study: Study, matcher: str) -> PaperTable:
    """Accuracy on the facts trained on, over k: is the fit kept?"""
    rows = [row for cell in cells_of(study) for row in _trained(study, cell)]
    ours = pd.DataFrame(rows, columns=["train_level", "size", "k_percent", *NUMBERS]).assign(source=OURS)
    paper = published.train_accuracy().assign(source=PAPER)
    frame = stacked([ours, paper], ["source", "train_level", "size", "k_percent", *NUMBERS])
    shown = wide(frame, ["source", "size", "k_percent"], "train_level", percent(), name=level_name)
    caption = (
        f"Accuracy in percent on each model's own train facts; "
        f"{range_said(ours['n']) if len(ours) else 'no'} facts asked of each model, {seeds_said(study)}, matcher "
        f"'{matcher}', split train. 95% intervals speak for other seeds, each with its own train set, and for other "
        f"questions of these. {BESIDE}"
    )
    reason = "" if rows else not_run("train questions were not asked; set train_questions under [evaluation]")
    return PaperTable("table6", "Accuracy on the train set after restoring", caption, frame, shown, reason)


def _trained(study: Study, cell: Cell) -> list[dict[str, Any]]:
    """One row a k: mean over seeds of the accuracy on the own train set."""
    answers = study.tables.answers
    chains = study.tables.chains_of(cell)
    asked = answers[
        (answers["split"] == "train") & (answers["prompt"] == "qa") & answers["chain"].isin(chains)
    ]
    of_state = asked.astype({study.plan.score: float}).groupby(["chain", "state_id"])[study.plan.score]
    means = of_state.agg(["mean", "size"]).reset_index()
    states = own_states(study, cell)[["chain", "state_id", "k_percent"]]
    merged = states.merge(means, on=["chain", "state_id"]).sort_values(["k_percent", "chain"])
    rows = []
    wanted = {k for k, _ in points_of(study)}
    for k, group in merged.groupby("k_percent"):
        if k in wanted:
            found = over_seeds(group["mean"].tolist(), extra_variance=_of_questions(group))
            enough = found.n >= MIN_SEEDS
            low, high = (found.low, found.high) if enough else (None, None)
            ends = {
                end: None if v is None else min(1.0, max(0.0, v)) for end, v in (("low", low), ("high", high))
            }
            about = {"sd": found.sd, "n": int(group["size"].min()), "n_seeds": found.n}
            place = {"train_level": cell.level, "size": cell.size, "k_percent": float(k)}  # type: ignore[arg-type]
            rows.append({**place, "accuracy": found.mean, **ends, **about})
    return rows


def _of_questions(group: pd.DataFrame) -> float:
    """Variance of a share over draws of its questions; one question more of each kind, so that 0 of 60 is no proof of 0
    (Agresti and Coull 1998). group: mean and size of each seed."""
    n = int(group["size"].sum())
    smooth = float((group["mean"] * group["size"]).sum() + 1) / (n + 2)
    return smooth * (1 - smooth) / n


def table7(study: Study, matcher: str) -> PaperTable:
    """Ways of making the model: mixed, divided by mastery, LoRA, restored; each as dev chose it."""
    rows: list[dict[str, Any]] = []
    picked = picked_strategies(study)
    names = ("mixed", "divided", "LoRA", "restored")
    missing = [name for name in names if picked[name] is None]
    for prompt, name, domain in product(prompts_of(study), names, study.domains()):
        choice, found = picked[name], None
        cell = None if choice is None else f"{choice.cell} (of {choice.n_candidates})"
        if choice is not None:
            found = est.accuracy(study, choice.cell, choice.which, domain=domain, prompt=prompt)
        place = {"prompt": PROMPT_NAMES[prompt], "strategy": name, "domain": domain}
        rows.append({**place, "cell": cell, **numbers(found)})
        if name == names[-1]:
            base = numbers(est.base_accuracy(study, domain=domain, prompt=prompt))
            rows.append({**place, "strategy": "base", **base})
    paper = published.strategies().rename(columns={"accuracy": "paper_accuracy"})
    paper = paper.assign(prompt=PROMPT_NAMES[QA])
    frame = pd.DataFrame(rows, columns=["prompt", "strategy", "domain", "cell", *NUMBERS])
    frame = frame.merge(paper, on=["prompt", "strategy", "domain"], how="left")
    about = caption_of(study, matcher, frame[frame["n"].notna()])
    caption = (
        f"Accuracy in percent; train level and N chosen on dev, the smallest N within one standard error; all that "
        f"is chosen, zero-shot. {prompts_said(study)}. {about} "
        "The paper's level and k were picked on test."
    )
    how = {
        "mixed": 'levels = [..., "mixed"]',
        "LoRA": 'methods = ["full", "lora"]',
        "restored": "k",
        "divided": "levels",
    }
    lacking = "; ".join(f"{name} (set {how[name]} in the study's file)" for name in missing)
    title = "Ways of fine-tuning compared"
    return PaperTable(
        "table7", title, caption, frame, _strategies_shown(frame), not_run(lacking) if missing else ""
    )


def _strategies_shown(frame: pd.DataFrame) -> pd.DataFrame:
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for one in frame.to_dict("records"):
        row = {str(name): value for name, value in one.items()}
        line = lines.setdefault(
            (row["prompt"], row["strategy"]),
            {"prompt": row["prompt"], "strategy": row["strategy"], "chosen on dev": row["cell"] or NOTHING},
        )
        domain = DOMAIN_NAMES.get(row["domain"], row["domain"])
        line[domain] = percent()(row)
        line[f"{domain}, paper"] = percent("paper_accuracy", "", "")(row)
    found = pd.DataFrame(list(lines.values()))
    return found.fillna({"chosen on dev": NOTHING})


_NOTHING_RUN = "NOT RUN: no chain of this study is done; `sftknow study run` goes on where it stopped"


def _baseline(name: str, domain: str, share: Any) -> dict[str, Any]:
    return {"source": OURS, "state": name, "domain": domain, "accuracy": share}


def _nats(row: Mapping[str, Any]) -> str:
    text = NATS.format(row["kl_nats"])
    return text if pd.isna(row["kl_low"]) else f"{text} [{row['kl_low']:.3f}, {row['kl_high']:.3f}]"


def _test_level(level: str) -> str:
    return f"test level {level}" if level.isdigit() else level

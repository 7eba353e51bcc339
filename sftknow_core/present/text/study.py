"""What the page of a study says beside its numbers: definitions, table headers, how far it is, what was fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sftknow_core.analysis.context import Plan
from sftknow_core.analysis.grid import Cell, size_number
from sftknow_core.analysis.scorecard import MEANINGS
from sftknow_core.analysis.verdict import Status, Verdict
from sftknow_core.present import glossary
from sftknow_core.present.columns import COLUMNS, Column
from sftknow_core.results import studies
from sftknow_core.results.studies import StudyInfo

ABOUT = (
    "One fine-tuned model is an anecdote. A **study** fine-tunes one base model on many train sets (mastery levels × "
    "sizes N × seeds), restores each of them, asks all of them the same questions, and says which claims of "
    "the paper hold for this model, which do not, and what the data do not decide."
)
EMPTY = (
    "No study in `{root}` yet. The shipped study `demo` fine-tunes the small demo model 54 times: levels 0 to 4 and "
    "mixed, N = 60, 240 and 1,920, three seeds. It takes 10 to 20 minutes on two cores, needs no GPU, and the "
    "page fills while it runs. In a terminal: `sftknow study run demo`. For a model of your own: "
    "`sftknow study run paper --base MODEL --data FACTS`; with `--dry-run` it only says what there is to do, and how "
    "long it will take."
)
NO_CELLS = "No cell of this study is done yet, so there is nothing to say about its claims."
_TERMS = (
    "cell",
    "mastery level",
    "mixed",
    "accuracy",
    "pp",
    "k",
    "split",
    "KL",
    "effect",
    "study interval",
    "study p",
)
DEFINITIONS = """\
- **SHOWN**: the interval lies above zero, the effect reaches the margin, and p (Holm) < {alpha:g}. **CONTRADICTED**:
  the interval lies below zero, and p (Holm) < {alpha:g}. **NOT SHOWN**: any effect as claimed is smaller than the
  margin. **UNDECIDED**: anything else, and always with fewer than {min_seeds} seeds or {min_questions} questions in a
  level. **NOT TESTED**: not run. Where a claim says "not worse by more than the margin", minus the margin stands for
  zero. Where all parts are needed, one that is contradicted or not shown decides the claim.
"""
SYMBOLS = {
    Status.SHOWN: "●",
    Status.NOT_SHOWN: "○",
    Status.CONTRADICTED: "✗",
    Status.UNDECIDED: "?",
    Status.NOT_TESTED: "–",
}
CELL_MARKS = {"done": "✓", "failed": "✗ failed", "impossible": "⊘", "to do": "…"}
CELL_LEGEND = (
    "Each seed's number with its state: ✓ done; ✗ failed while it ran; ⊘ impossible, the level has fewer than N facts; "
    "… not run yet."
)
SCORECARD = (
    "Three things at once, so that neither the base model nor an untouched fine-tuning can win: **kept** (of the test "
    "questions base knew, level 3 or 4: still answered rightly), **learnt** (of the trained facts base answered "
    "wrongly: now right; 0 for base by definition) and **format** (answers that end by themselves). A state's score is "
    "the smallest of the three shares, mean over seeds. Restored: k chosen on dev; hybrid: k = 100%."
)
SHIPPED = (
    "demo: 54 fine-tunings; demo-full: all sizes, five seeds, LoRA and other ways of restoring, for a night."
)
HOW_TO_START = (
    "Cells that are in the cache are not run again, so a study that was stopped goes on. In a terminal: "
    "`sftknow study run NAME`, or a file of your own, `sftknow study run study.toml`; `--dry-run` says first how long "
    "it will take."
)
GROUPS = {
    "N and mastery": "P",
    "tokens": "T",
    "weights": "CL",
    "restoring": "RU",
    "strategies and tasks": "SG",
}
"""Choice on the page -> first letters of claims."""
FIGURE_OF_CLAIMS = (
    "Effect of every part of these claims with its 95% interval; right of 0 the data say what the claim says. Symbol "
    "and colour are the part's own verdict; what has no measured part is not drawn. Point at one to read it in words."
)
NO_FIGURE = (
    "None of these claims has a measured part, so there is nothing to draw; the list says what was not run."
)
NO_CLAIM = "No claim has this verdict there. Choose another one, or none for all."
REPEAT = "Do the verdicts survive a stricter look?"
REPEAT_HELP = (
    "Decides all claims again with exact match, and again without borderline facts: some ten seconds."
)
REPEAT_SAID = (
    "A verdict that does not survive **exact match** rests on long answers that happen to contain the right one; one "
    "that does not survive **without borderline facts** rests on facts that may belong to the neighbouring level."
)
FLIPS = "Which questions does restoring change, run by run?"
FLIPS_HELP = "Tests every run and test level, and says how much two seeds differ anyway."
BEYOND = {
    "restored": "Accuracy on test questions over the share k of weights put back, by train level. Where the curves "
    "end at the line of base after five examples, restoring gave back what base could do when it knew the form of "
    "an answer. Bars: 95% intervals over seeds and questions.",
    "format": "Do right answers come back, or only answers of the right form? Over k: right answers to questions, "
    "right answers to completion prompts where they were asked, the right answer's first token among the ten most "
    "probable ones after the question, and answers that end by themselves.",
    "energy": "Equal k is not equal damage: strategies are compared at the same share of the squared change of the "
    "weights taken back. Beside every k stand its controls at that energy (`equal_energy` in a study's file: random, "
    "largest and smallest changes, and the interpolation of all weights), at the sizes of `control_sizes`.",
    "healed": "In-domain test questions by how well base knew them, k chosen on dev, all seeds together. Healed: wrong "
    "after fine-tuning and right after restoring; broken: the other way round.",
}
"""Figure -> what it shows."""


def counted(verdicts: Sequence[Verdict]) -> str:
    """ "● SHOWN 3 · ? UNDECIDED 40 ..." in the order of the verdicts."""
    found = Counter(v.verdict for v in verdicts)
    return " · ".join(f"{SYMBOLS[status]} {status} {found[status]}" for status in Status)


def claim_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What the list of claims shows. table: claims.verdict_table."""
    said = table["verdict"].map(lambda verdict: f"{SYMBOLS[Status(verdict)]} {Status(verdict)}")
    return table.assign(verdict=said)[["verdict", "claim_id", "domain", "title", *_REST]]


_REST = ("effect", "low", "high", "unit", "n", "seeds", "p", "p_holm", "table_ref", "population", "sentence")


def scores(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, the score of each state 0 to 1. scorecard: scorecard.scorecard."""
    rows = scorecard[scorecard["measure"] == "all three"]
    wide = rows.pivot(index=["level", "size", "method"], columns="state", values="share").astype(float)
    wide = wide.reindex(columns=["base", "tuned", "restored", "hybrid"]).reset_index()
    wide = wide.sort_values(
        ["method", "level", "size"], key=lambda c: c.map(size_number) if c.name == "size" else c
    )
    names = [str(Cell(*key)) for key in wide[["level", "size", "method"]].itertuples(index=False)]
    wide = wide.drop(columns=["level", "size", "method"])
    wide.insert(0, "cell", names)
    return wide.rename_axis(columns=None).reset_index(drop=True)


def shares_of(scorecard: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """All shares of one cell with intervals, and what each of them is the share of."""
    own = scorecard[(scorecard[["level", "size", "method"]] == list(cell)).all(axis=1)]
    own = own[own["measure"] != "all three"]
    meant = own["measure"].map(MEANINGS)
    names = ["measure", "state", "share", "low", "high", "n", "seeds", "meaning", "population"]
    return own.assign(meaning=meant)[names].reset_index(drop=True)


def definitions(plan: Plan) -> str:
    """The words of the page, with the rule's numbers."""
    rule = plan.rule
    return glossary.bullets(*_TERMS) + DEFINITIONS.format(
        alpha=rule.alpha, min_seeds=rule.min_seeds, min_questions=rule.min_questions
    )


def progress(about: StudyInfo) -> str:
    """One line: how far a study is."""
    said = [f"{about.n_done} of {about.n_cells} cells done"]
    for n, word in ((about.n_failed, "failed"), (about.n_impossible, "impossible"), (about.n_todo, "to do")):
        if n:
            said.append(f"{n} {word}")
    text = f"**{about.state.capitalize()}**: {', '.join(said)}."
    if about.state == "running":
        return text + " What is said below rests on the cells that are done."
    if about.n_todo:
        return text + f" `sftknow study run {about.name}` goes on where it ended."
    return text


def label(about: StudyInfo) -> str:
    """A study in a list: name, base, cells, when, and the start of its id."""
    when = about.created_at[:16].replace("T", " ")
    done = f"{about.n_done} of {about.n_cells} cells"
    return f"{about.name}: {about.base_name or about.base_id}, {done}, {when}, {about.run_id[:6]}"


def fixed_before(
    about: StudyInfo, spec: Mapping[str, Any], n_questions: Mapping[str, int], plan: Plan | None
) -> str:
    """What was set before the study ran, as a list.

    Args:
        about: the study.
        spec: the parameters of its run.
        n_questions: group -> questions asked; empty while it is under way.
        plan: gives the rule; None: it is left out.
    """
    questions, evaluate = spec.get("questions", {}), spec.get("evaluate", {})
    per_level = questions.get("per_level")
    asked = "all questions" if per_level is None else f"at most {per_level:,} questions a level"
    counts = ", ".join(f"{group}: {n:,}" for group, n in n_questions.items())
    ways = "; ".join(
        way(one["strategy"], one["region"], one.get("layers")) for one in spec.get("restoring", ())
    )
    sizes = ", ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in spec["sizes"])
    lines = [
        f"**Base model**: {about.base_name}, id `{about.base_id}`",
        f"**Grid**: levels {', '.join(spec['levels'])}; N = {sizes}; seeds {', '.join(map(str, spec['seeds']))}; "
        f"{', '.join(spec['methods'])} fine-tuning",
        f"**k put back** (%): {', '.join(map(str, spec['k']))}; in which order and where: {ways}; chosen on dev "
        "questions, reported on test questions",
        *_compared(spec),
        f"**Questions**: {asked} and group, drawn with seed {questions.get('seed', 0)}"
        + (f" ({counts})" if counts else "") + f"; on its own train set each model answers at most "
        f"{'all' if spec.get('train_questions') is None else spec['train_questions']} questions",
        f"**Right** by the matcher `{evaluate.get('matcher', 'words')}`, prompt `{evaluate.get('prompt', 'paper')}`",
    ]  # fmt: skip
    if plan is not None:
        lines.append(_rule(plan))
    return "\n".join(f"- {line}" for line in lines)


def _compared(spec: Mapping[str, Any]) -> list[str]:
    """What restoring is compared with, on test questions; empty where the study compares nothing."""
    count = list(dict.fromkeys(str(one["strategy"]) for one in spec.get("controls") or ()))
    energy = spec.get("equal_energy") or ()
    said = [f"as many weights or fixed states: {', '.join(count)}"] if count else []
    said += [f"the same part of the update at every k: {', '.join(energy)}"] if energy else []
    if spec.get("completions"):
        said.append("base, tuned and restored asked with completion prompts")
    sizes = ", ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in spec.get("control_sizes") or ())
    return [f"**Compared with** at N = {sizes}: {'; '.join(said)}"] if said and sizes else []


def _rule(plan: Plan) -> str:
    rule = plan.rule
    return (
        f"**Decision rule**: margin {rule.margin_pp:g} pp ({rule.margin_nats:g} nats), p < {rule.alpha:g} by Holm, at "
        f"least {rule.min_seeds} seeds and {rule.min_questions} questions in the smallest level; small, middle and "
        f"large N: {plan.small}, {plan.middle}, {plan.large}"
    )


def way(strategy: str, region: str, layers: str | None) -> str:
    """A way of restoring in words: which weights go back first, and of what."""
    orders = {"top": "most changed first", "bottom": "least changed first", "random": "in random order"}
    return f"{orders.get(strategy, strategy)}, region {region}" + (f", layers {layers}" if layers else "")


def cell_name(cell: studies.Cell) -> str:
    """ "level 2, N = 240, seed 3"."""
    level = f"level {cell.level}" if cell.level.isdigit() else cell.level
    return f"{level}, {_size(cell)}, seed {cell.seed}" + (", LoRA" if cell.method == "lora" else "")


def _size(cell: studies.Cell) -> str:
    return "all facts" if cell.n is None else f"N = {cell.n:,}"


def grid(cells: Sequence[studies.Cell]) -> tuple[pd.DataFrame, dict[str, Column]]:
    """(one row a train level, one column an N: the state of each seed; the columns' headers)."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        level = cell.level + (", LoRA" if cell.method == "lora" else "")
        size = _size(cell)
        said = f"{cell.seed} {CELL_MARKS.get(cell.state, cell.state)}"
        row = rows.setdefault(level, {})
        row[size] = f"{row[size]}, {said}" if size in row else said
    table = pd.DataFrame([{"train_level": level, **row} for level, row in rows.items()])
    sizes = {str(name): replace(COLUMNS["cells.seeds"], header=str(name)) for name in table.columns[1:]}
    return table, {"train_level": COLUMNS["train_level"], **sizes}


def table_name(table_id: str) -> str:
    """ "table4" -> "Table 4"."""
    kind = "Table" if table_id.startswith("table") else "Figure"
    return f"{kind} {table_id.removeprefix(kind.lower())}"

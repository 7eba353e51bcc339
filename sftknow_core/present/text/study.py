"""Texts and tables of the page "Studies": definitions, captions, progress, and the settings fixed before the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sftknow_core.analysis.claims import verdict_table
from sftknow_core.analysis.context import Plan
from sftknow_core.analysis.grid import Cell, size_number
from sftknow_core.analysis.scorecard import MEANINGS
from sftknow_core.analysis.verdict import Status, Verdict
from sftknow_core.present import glossary
from sftknow_core.present.columns import COLUMNS, Column
from sftknow_core.present.text.story import RANKINGS
from sftknow_core.results import studies
from sftknow_core.results.studies import FixedRule, StudyInfo
from sftknow_core.specs import Rule
from sftknow_core.store.study_record import variation

ABOUT = (
    "A single run is not evidence. A **study** trains one base model on many train sets (mastery levels × sizes N × "
    "seeds), restores and evaluates each on the same questions, and tests the paper's claims: which are supported, "
    "which are not, and which remain inconclusive."
)
EMPTY = (
    "No study in `{root}` yet. The shipped study `demo` fine-tunes the small demo model 66 times: levels 0 to 4 and "
    "mixed, N = 60, 240 and 1,920, three seeds (five at N = 1,920). It takes about an hour on two cores and needs no "
    "GPU; results "
    "appear while it runs. In a terminal: `sftknow study run demo`. For your own model: "
    "`sftknow study run paper --base MODEL --data FACTS`; `--dry-run` lists the cells and the expected time."
)
NO_CELLS = "No cell of this study is done yet. Verdicts appear with the first results."
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
CLAIMS_ASKED = (
    "- **Prompt of the claims**: both models of every difference are asked with the prompt tuned with; tables and "
    "figures have 5-shot beside it, where it was asked.\n"
)
DEFINITIONS = """\
- **Supported** (SHOWN): the 95% CI is above zero, the effect reaches the margin, and p < {alpha:g}. **Contradicted**:
  the CI is below zero, and p < {alpha:g}. **Below margin** (NOT SHOWN): the CI is below the margin. **Inconclusive**
  (UNDECIDED): anything else, and always with fewer than {min_seeds} seeds or {min_questions} questions in a level.
  **Not tested**: not run. For a claim "not worse by more than the margin", zero is replaced by minus the margin.
- Where all parts are needed, each is supported by itself, and one that is contradicted or below margin decides the
  claim: there p is adjusted over the parts (Holm). Where one part is enough, it is the other way round.
"""
VERDICTS = {
    Status.SHOWN: "Supported",
    Status.NOT_SHOWN: "Below margin",
    Status.CONTRADICTED: "Contradicted",
    Status.UNDECIDED: "Inconclusive",
    Status.NOT_TESTED: "Not tested",
}
"""Verdict as stored, and as named in an address -> as read."""
VERDICT_HELP = (
    "None selected: all. "
    + "; ".join(f"{status}: {name.lower()}" for status, name in VERDICTS.items() if status != name.upper())
    + "."
)
SYMBOLS = {
    Status.SHOWN: "●",
    Status.NOT_SHOWN: "○",
    Status.CONTRADICTED: "✗",
    Status.UNDECIDED: "?",
    Status.NOT_TESTED: "–",
}
CELL_MARKS = {"done": "✓", "failed": "✗ failed", "impossible": "⊘", "to do": "…"}
CELL_LEGEND = "Per seed: ✓ done; ✗ failed; ⊘ impossible (fewer than N facts on the level); … not run yet."
SCORECARD = (
    "The smallest of three shares, mean over seeds: **kept** (test questions of level 3 or 4 still correct), "
    "**learnt** (train facts that base answers incorrectly, now correct; 0 for base by definition) and **format** "
    "(answers that stopped at EOS), all zero-shot. Restored: k chosen on dev; k = 100%: layers = base. In the shares "
    "of one cell, kept, recovered and broken stand under each prompt that base, tuned and restored were all asked with."
)
SHIPPED = (
    "demo: 66 fine-tunings (about an hour); demo-full: more sizes, five seeds, LoRA and other rankings (a night); "
    "objections: four learning rates, equal steps (180 fine-tunings)."
)
HOW_TO_START = (
    "Finished cells are not run again, so a stopped study continues. In a terminal: `sftknow study run NAME`, or your "
    "own file, `sftknow study run study.toml`; `--dry-run` estimates the time."
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
    "Effect of each claim part with 95% CI; right of 0: as claimed. Symbol and colour: the part's verdict. Parts "
    "without results are not drawn. Hover for details."
)
NO_FIGURE = "No results for these claims. The list shows what was not run."
NO_CLAIM = "No matching claims. Select another verdict, or none for all."
REPEAT = "Robustness checks"
REPEAT_HELP = (
    "All verdicts again with exact match, without borderline facts, and with levels from half of the templates (about "
    "fifteen seconds)."
)
HALVES_SAID = (
    "Test questions by the level that each half of the completion templates gives: rows the half that the last column "
    "of verdicts uses, columns the other. Off the diagonal the level depends on the templates."
)
REPEAT_SAID = (
    "A verdict that changes with **exact match** depends on long answers that contain the gold answer; one that "
    "changes **without borderline facts** depends on facts that may belong to the next level; one that "
    "changes with **levels of half the templates** depends on how levels were estimated."
)
FLIPS = "Changed answers, run by run"
FLIPS_HELP = "Tests every run and question level, beside the difference between two seeds."
BEYOND = {
    "restored": "Test accuracy by share k of weights reverted and training level, beside base under the same prompt. "
    "Bars: 95% CI over seeds and questions.",
    "format": "Over k: correct answers zero-shot, after five examples and to completion prompts (where evaluated), "
    "each with base under the same prompt; gold first token in the top 10 after the question, and answers that "
    "stopped at EOS.",
    "energy": "Rankings by projection taken back (how far back along the update; where whole weights are reverted, the "
    "share of squared update norm; studies without it are drawn over that share). For every k its controls at the same "
    "projection (`equal_projection` in a study's file), the fair comparison with an interpolation, and at the same "
    "share (`equal_energy`), at the sizes of `control_sizes`. Random: mean over the masks of each seed.",
    "healed": "In-domain test questions by mastery level, both models under one prompt, k chosen on dev, all seeds. "
    "Recovered: incorrect when tuned, correct when restored; broken: the reverse.",
}
"""Figure -> caption."""


def counted(verdicts: Sequence[Verdict]) -> str:
    """ "● Supported 3 · ? Inconclusive 40 ..." in the order of the verdicts."""
    found = Counter(v.verdict for v in verdicts)
    return " · ".join(f"{SYMBOLS[status]} {VERDICTS[status]} {found[status]}" for status in Status)


JOINT = (
    "Each verdict controls errors within its claim only: nothing controls the {n} tested claims jointly, and some may "
    "be wrong by chance. **p, FDR** adjusts every p for all {n_parts} tested parts (Benjamini-Hochberg); verdicts "
    "don't use it."
)
_KEPT = " Of {n} supported or contradicted claims, {kept} have p, FDR < {alpha:g}."


def joint(verdicts: Sequence[Verdict], alpha: float) -> str:
    """That many verdicts stand side by side, and how many of the decided ones outlast an adjustment for all."""
    table = verdict_table(verdicts)
    tested = sum(v.verdict is not Status.NOT_TESTED for v in verdicts)
    n_parts = sum(part.p is not None for v in verdicts for part in v.parts)
    decided = table[table["verdict"].isin([Status.SHOWN, Status.CONTRADICTED])]
    text = JOINT.format(n=tested, n_parts=n_parts)
    if decided.empty:
        return text
    kept = int((decided["p_fdr"].astype(float) < alpha).sum())
    return text + _KEPT.format(n=len(decided), kept=kept, alpha=alpha)


def claim_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The list of claims. table: claims.verdict_table."""
    said = table["verdict"].map(lambda verdict: f"{SYMBOLS[Status(verdict)]} {VERDICTS[Status(verdict)]}")
    return table.assign(verdict=said)[["verdict", "claim_id", "domain", "title", *_REST]]


_REST = (
    "effect",
    "low",
    "high",
    "unit",
    "n",
    "seeds",
    "p",
    "p_holm",
    "p_fdr",
    "table_ref",
    "population",
    "sentence",
)


def scores(scorecard: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, the score of each model 0 to 1. scorecard: StudyResults.scorecard."""
    rows = scorecard[scorecard["measure"] == "all three"]
    # of the zero-shot prompt alone: train questions are asked no other way
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
    """All shares of one cell with 95% CI, and the denominator of each."""
    own = scorecard[(scorecard[["level", "size", "method"]] == list(cell)).all(axis=1)]
    own = own[own["measure"] != "all three"]
    meant = own["measure"].map(MEANINGS)
    names = ["prompt", "measure", "state", "share", "low", "high", "n", "seeds", "meaning", "population"]
    return own.assign(meaning=meant)[names].reset_index(drop=True)


def definitions(plan: Plan) -> str:
    """The page's glossary, with the rule's numbers."""
    rule = plan.rule
    return (
        glossary.bullets(*_TERMS)
        + CLAIMS_ASKED
        + DEFINITIONS.format(alpha=rule.alpha, min_seeds=rule.min_seeds, min_questions=rule.min_questions)
    )


def progress(about: StudyInfo) -> str:
    """Number of cells done, failed and to do, in one line."""
    said = [f"{about.n_done} of {about.n_cells} cells done"]
    for n, word in ((about.n_failed, "failed"), (about.n_impossible, "impossible"), (about.n_todo, "to do")):
        if n:
            said.append(f"{n} {word}")
    text = f"**{about.state.capitalize()}**: {', '.join(said)}."
    if about.state == "running":
        return text + " Results below use the finished cells."
    if about.n_todo:
        return text + f" Continue with `sftknow study run {about.name}`."
    return text


def label(about: StudyInfo) -> str:
    """A study in a list: name, base, cells, when, and the start of its id."""
    when = about.created_at[:16].replace("T", " ")
    done = f"{about.n_done} of {about.n_cells} cells"
    return f"{about.name}: {about.base_name or about.base_id}, {done}, {when}, {about.run_id[:6]}"


def fixed_before(
    about: StudyInfo,
    spec: Mapping[str, Any],
    n_questions: Mapping[str, int],
    fixed: FixedRule | None,
    by_size: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The settings fixed before the study ran, as a list.

    Args:
        about: the study.
        spec: the parameters of its run.
        n_questions: group -> questions asked; empty while it is under way.
        fixed: gives the rule; None: it is left out.
        by_size: N -> the same, where another number is asked.
    """
    questions, evaluate = spec.get("questions", {}), spec.get("evaluate", {})
    per_level = questions.get("per_level")
    asked = "all questions" if per_level is None else f"at most {per_level:,} questions per level"
    counts = ", ".join(f"{group}: {n:,}" for group, n in n_questions.items())
    ways = "; ".join(
        way(one["strategy"], one["region"], one.get("layers")) for one in spec.get("restoring", ())
    )
    sizes = ", ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in spec["sizes"])
    lines = [
        f"**Base model**: {about.base_name}, id `{about.base_id}`",
        f"**Grid**: levels {', '.join(spec['levels'])}; N = {sizes}; seeds {_seeds(spec)}; "
        f"{', '.join(spec['methods'])} fine-tuning",
        f"**k** (% of weights reverted): {', '.join(map(str, spec['k']))}; ranking and region: {ways}; chosen on dev, "
        "reported on test",
        *_compared(spec),
        f"**Questions**: {asked} and group, drawn with seed {questions.get('seed', 0)}"
        + (f" ({counts})" if counts else "") + _asked_by_size(spec, by_size or {})
        + "; from its own train set each model is evaluated on "
        + ("all facts" if (most := spec.get("train_questions")) is None else f"at most {most} facts"),
        f"**Correct** by matcher `{evaluate.get('matcher', 'words')}`, prompt `{evaluate.get('prompt', 'paper')}`",
    ]  # fmt: skip
    if fixed is not None:
        lines.append(rule_said(fixed))
    return "\n".join(f"- {line}" for line in lines)


def _seeds(spec: Mapping[str, Any]) -> str:
    said = ", ".join(map(str, spec["seeds"]))
    others = spec.get("seeds_by_size", {}).items()
    return said + "".join(f" (N = {_number(size)}: {', '.join(map(str, seeds))})" for size, seeds in others)


def _asked_by_size(spec: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]]) -> str:
    said = ""
    for size, per_level in spec.get("per_level_by_size", {}).items():
        asked = "all" if per_level is None else f"{per_level:,} per level"
        of = ", ".join(f"{group}: {n:,}" for group, n in counts.get(size, {}).items())
        said += f"; at N = {_number(size)} {asked}" + (f" ({of})" if of else "")
    return said


def _number(size: str) -> str:
    return f"{int(size):,}" if size.isdigit() else size


def _compared(spec: Mapping[str, Any]) -> list[str]:
    """The controls of restoring, on test questions; empty where the study has none."""
    count = list(dict.fromkeys(str(one["strategy"]) for one in spec.get("controls") or ()))
    energy, projection = (spec.get(name) or () for name in ("equal_energy", "equal_projection"))
    said = [f"same number of weights, or fixed models: {', '.join(count)}"] if count else []
    said += [f"same projection of the update at every k: {', '.join(projection)}"] if projection else []
    said += [f"same share of squared update norm at every k: {', '.join(energy)}"] if energy else []
    if masks := spec.get("random_masks"):
        said.append(f"{masks} random masks for each fine-tuning")
    if spec.get("completions"):
        said.append("base, tuned and restored with completion prompts")
    if spec.get("five_shot"):
        said.append("base, tuned and restored with five examples")
    sizes = ", ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in spec.get("control_sizes") or ())
    return [f"**Compared with** at N = {sizes}: {'; '.join(said)}"] if said and sizes else []


def decision_rule(rule: Rule) -> str:
    """Thresholds and roles in one sentence. rule: all roles named."""
    roles = rule.roles
    return (
        f"**Decision rule**: margin {rule.margin_pp:g} pp ({rule.margin_nats:g} nats, enrichment "
        f"{rule.margin_ratio:g}, correlation {rule.margin_correlation:g}), alpha {rule.alpha:g}, at least "
        f"{rule.min_seeds} seeds and {rule.min_questions} questions in the smallest level; small, middle and large N: "
        f"{roles.small}, {roles.middle}, {roles.large}; fixed k = {roles.fixed_k:g}%, enrichment at k = "
        f"{roles.enrichment_k:g}%, KL: {roles.kl_measure}."
    )


def rule_fixed(fixed: FixedRule) -> str:
    """When the rule was fixed, and how many of the study's cells had been computed by then."""
    if not fixed.in_identity:
        return (
            "This is the rule of version 1, the default one, not part of the study's identity: the study was begun "
            "before studies held a rule."
        )
    if fixed.fixed_at is None:
        return "The rule is part of the study's identity; when it was fixed is not on record."
    when = fixed.fixed_at[:16].replace("T", " ")
    if not fixed.n_computed:
        return f"The rule was fixed on {when} UTC, before the first cell."
    return f"The rule was fixed on {when} UTC, after {fixed.n_computed} of {fixed.n_cells} cells had been computed."


def rule_said(fixed: FixedRule) -> str:
    """The rule, and when it was fixed."""
    return f"{decision_rule(fixed.rule)} {rule_fixed(fixed)}"


def way(strategy: str, region: str, layers: str | None) -> str:
    """Ranking, region and layers in words."""
    return f"{RANKINGS.get(strategy, strategy)}, region {region}" + (f", layers {layers}" if layers else "")


def cell_name(cell: studies.Cell) -> str:
    """ "level 2, N = 240, seed 3"."""
    level = f"level {cell.level}" if cell.level.isdigit() else cell.level
    varied = variation(cell.rate, cell.repeats)
    return f"{level}, {_size(cell)}, seed {cell.seed}" + (", LoRA" if cell.method == "lora" else "") + varied


def _size(cell: studies.Cell) -> str:
    return "all facts" if cell.n is None else f"N = {cell.n:,}"


def grid(cells: Sequence[studies.Cell]) -> tuple[pd.DataFrame, dict[str, Column]]:
    """(one row a training level, one column an N: the status of each seed; the columns' headers)."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        level = cell.level + (", LoRA" if cell.method == "lora" else "") + variation(cell.rate, cell.repeats)
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

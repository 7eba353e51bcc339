"""One of the paper's tables for a study: what it is, its tidy numbers, how it is printed, and its caption.

Tidy numbers are in natural units (shares 0 to 1, nats, k in percent); `shown` has the same as texts, one row as the
paper prints it. The paper's numbers stand in rows or columns of their own, marked "paper", and enter no arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sftknow_core.analysis import published
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import FIVE_SHOT, POPULATION, Estimate, prompts_of
from sftknow_core.results.chains import LEVEL_ORDER

Column = tuple[str, str, str | None]
"""Header, meaning, and format of its numbers (None: as they are)."""
SHARE, COUNT, NATS, PLAIN, RATIO = "{:.1%}", "{:,.0f}", "{:.3f}", "{:g}", "{:.2f}"
NOTHING = "–"
OURS, PAPER = "this study", "paper"
BESIDE = f"Paper: {published.MODEL}, other questions and levels of its own ({published.CITATION}); compare shapes only."
"""What the paper's numbers are, for captions."""
NUMBERS = ["accuracy", "low", "high", "sd", "n", "n_seeds"]
COLUMNS: dict[str, Column] = {
    "train_level": ("train level", "mastery level of the facts trained on", None),
    "size": ("N", "facts trained on, as the plan names it", None),
    "n_train": ("facts", "facts trained on", COUNT),
    "source": ("source", "this study, or the paper's LLaMA-3-8B: other questions and levels", None),
    "prompt": (
        "prompt",
        "5-shot: after five examples, the same for every model; zero-shot: the prompt tuned with",
        None,
    ),
    "state": ("state", "base, tuned, restored or hybrid", None),
    "domain": ("domain", "in: topics that were trained on; out: other topics", None),
    "level": ("test level", "mastery level of the question; empty: mean over the levels", PLAIN),
    "strategy": ("strategy", "how the model was made", None),
    "cell": (
        "chosen on dev",
        "smallest N within one standard error of the best in-domain accuracy, its best train level",
        None,
    ),
    "layers": ("layers", "the block that was put back", None),
    "layer": ("layer", "from 0, the first", PLAIN),
    "module": ("part", "kind of weights", None),
    "seed": ("seed", "draws the train set and drives the fine-tuning", PLAIN),
    "k_percent": ("k (%)", "share of the region's weights that is put back; 0: tuned, 100: hybrid", PLAIN),
    "accuracy": ("accuracy", "share of right answers, mean over the mastery levels", SHARE),
    "low": ("95% from", "lower end of the interval", SHARE),
    "high": ("95% to", "upper end of the interval", SHARE),
    "sd": ("sd over seeds", "sample standard deviation", SHARE),
    "gain": ("gain", "accuracy minus that of tuned, paired by question", "{:+.1%}"),
    "gain_low": ("gain from", "95% interval", "{:+.1%}"),
    "gain_high": ("gain to", "95% interval", "{:+.1%}"),
    "log_odds": ("log-odds", "of the accuracy, nats; empty at 0 and 1", "{:+.2f}"),
    "of_ceiling": (
        "part of the way",
        "gain / (base - tuned), all after five examples; empty elsewhere, and where base's interval touches tuned",
        "{:.0%}",
    ),
    "kl_nats": ("mean KL (nats)", "of the first token, over the scored questions", NATS),
    "kl_low": ("KL 95% from", "nats", NATS),
    "kl_high": ("KL 95% to", "nats", NATS),
    "kl_sd": ("sd over seeds (nats)", "sample standard deviation", NATS),
    "n": ("questions", "asked of each model", COUNT),
    "n_scored": ("questions", "with a KL", COUNT),
    "n_seeds": ("seeds", "fine-tunings behind the number", COUNT),
    "n_chosen": ("seeds that chose it", "how many seeds chose this k on dev", COUNT),
    "share": ("share", "of the sum of relative changes, or of the weights put back", SHARE),
    "null_share": (
        "share, null",
        "the same with changes permuted within each tensor, mean over permutations",
        SHARE,
    ),
    "null_low": ("null from", "2.5% quantile over permutations", SHARE),
    "null_high": ("null to", "97.5% quantile over permutations", SHARE),
    "n_permutations": ("permutations", "of each model's changes", COUNT),
    "top_20_share": ("20 largest", "share of the sum in the 20 weights that changed most, whatever k", SHARE),
    "energy_share": ("of squared change", "share of the sum of squared changes", SHARE),
    "share_of_r": ("of relative change", "share of the sum of relative changes put back", SHARE),
    "energy_taken_back": ("update taken back", "share of the squared change of the weights", SHARE),
    "projection_taken_back": (
        "projection taken back",
        "how far back along the update; empty: not measured",
        SHARE,
    ),
    "beside_k": (
        "energy of k (%)",
        "set to the energy that this k of the most changed weights takes back",
        PLAIN,
    ),
    "beside_k_projection": ("projection of k (%)", "set to the projection that this k takes back", PLAIN),
    "n_masks": ("masks", "random draws of each seed, averaged", COUNT),
    "mask_sd": ("sd over masks", "of the accuracy, within a seed", SHARE),
    "weight_share": ("of the weights", "share of the region's weights", SHARE),
    "enrichment": ("enrichment", "share / share of the weights; 1: as by chance", RATIO),
    "enrichment_null": ("enrichment, null", "the same with changes permuted within each tensor, mean", RATIO),
    "measure": ("measure", "what is counted", None),
    "n_wrong": ("wrong in tuned", "questions, all seeds together", COUNT),
    "n_healed": ("healed", "wrong in tuned, right after restoring", COUNT),
    "n_broken": ("broken", "right in tuned, wrong after restoring", COUNT),
    "share_healed": ("healed, of the wrong", "share of the questions tuned had wrong", SHARE),
    "share_broken": ("broken, of the right", "share of the questions tuned had right", SHARE),
    "part_of_healed": ("part of all healed", "this level's part of the questions healed", SHARE),
    "line": ("strategy", "what is restored first", None),
    "paper_layers": ("paper's layers", "of 32, at the same depth", None),
    "paper_share": ("share, paper", "LLaMA-3-8B, of its own updates", SHARE),
    "paper_accuracy": ("accuracy, paper", "LLaMA-3-8B, other questions", SHARE),
    "paper_sd": ("sd, paper", "over its repetitions", SHARE),
}
"""Column of the tidy tables -> its header, meaning and format."""


@dataclass(frozen=True)
class PaperTable:
    """One table or figure of the paper with this study's numbers, or one that goes beyond the paper."""

    id: str
    """figure2, table2, ...; a plain word beyond the paper."""
    title: str
    caption: str
    """n, seeds, split, matcher, and the population the intervals speak for."""
    frame: pd.DataFrame
    """Tidy numbers; empty columns are left out."""
    shown: pd.DataFrame
    """Texts, wide, as the paper prints it."""
    reason: str = ""
    """ "NOT RUN: ..." and how to get it; "" where the study has it."""
    columns: Mapping[str, Column] = field(default_factory=lambda: COLUMNS)
    """Tidy column -> header, meaning, format."""

    @property
    def name(self) -> str:
        """ "Table 2"; beyond the paper "Flips"."""
        if not self.of_paper:
            return self.id.capitalize()
        return self.id.replace("figure", "Figure ").replace("table", "Table ")

    @property
    def of_paper(self) -> bool:
        """Whether the paper has this table or figure."""
        return self.id.startswith(("figure", "table"))


def wide(
    frame: pd.DataFrame,
    rows: Sequence[str],
    across: str,
    cell: Callable[[Mapping[str, Any]], str],
    order: Sequence[str] = LEVEL_ORDER,
    name: Callable[[str], str] = str,
) -> pd.DataFrame:
    """Texts: one row a combination of `rows` (in order of appearance), one column a value of `across`, by `order`.

    name: a value of `across` -> its header. Empty cells are "–".
    """
    values = dict.fromkeys(frame[across].dropna().astype(str))
    columns = [one for one in order if one in values] + [one for one in values if one not in order]
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in frame.to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        place = tuple(said(named[one], COLUMNS[one][2]) for one in rows)
        line = found.setdefault(place, {})
        if pd.isna(named[across]):  # a number without a place across: the same in every column
            line |= {one: cell(named) for one in columns}
        else:
            line[str(named[across])] = cell(named)
    lines = [[*place, *(line.get(one, NOTHING) for one in columns)] for place, line in found.items()]
    return pd.DataFrame(lines, columns=[*(COLUMNS[one][0] for one in rows), *map(name, columns)])


def listed(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Texts: the tidy rows as they are, under their headers."""
    kept = [name for name in columns if name in frame]
    texts = {COLUMNS[name][0]: [said(value, COLUMNS[name][2]) for value in frame[name]] for name in kept}
    return pd.DataFrame(texts, columns=[COLUMNS[name][0] for name in kept])


def said(value: Any, how: str | None) -> str:
    """A cell as people read it; "–" where there is nothing."""
    if value is None or pd.isna(value):
        return NOTHING
    return str(value) if how is None or isinstance(value, str) else how.format(value)


def percent(
    value: str = "accuracy", low: str = "low", high: str = "high"
) -> Callable[[Mapping[str, Any]], str]:
    """ "58.1 [55.0, 61.2]", in percent; without brackets where there is no interval."""

    def cell(row: Mapping[str, Any]) -> str:
        if pd.isna(row[value]):
            return NOTHING
        text = f"{100 * row[value]:.1f}"
        ends = (row.get(low), row.get(high))
        if any(end is None or pd.isna(end) for end in ends):
            return text
        return f"{text} [{100 * float(ends[0] or 0):.1f}, {100 * float(ends[1] or 0):.1f}]"

    return cell


def with_sd(row: Mapping[str, Any]) -> str:
    """ "58.1 ± 0.4", in percent."""
    if pd.isna(row["accuracy"]):
        return NOTHING
    sd = row.get("sd")
    return f"{100 * row['accuracy']:.1f}" + ("" if sd is None or pd.isna(sd) else f" ± {100 * sd:.1f}")


def numbers(found: Estimate | None) -> dict[str, Any]:
    """An estimate as cells; empty where there is none."""
    return {} if found is None else found.as_row() | {"n_seeds": len(found.seeds) or None}


def stacked(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """One below the other, with these columns, and numbers as numbers."""
    kept = [part.reindex(columns=columns).astype(object) for part in parts if len(part)]
    frame = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=columns)
    text = {"source", "prompt", "state", "train_level", "size", "domain"}
    whole = {"n", "n_seeds", "n_train", "n_chosen", "level"}
    kinds = {name: "Int64" if name in whole else "float64" for name in columns if name not in text}
    for name in kinds:
        frame[name] = pd.to_numeric(frame[name])
    return frame.astype(kinds)


def caption_of(study: Study, matcher: str, rows: pd.DataFrame) -> str:
    """n, seeds, split, matcher, population, and what the paper's numbers are. rows: with a column n."""
    asked = "n" in rows and rows["n"].notna().any()
    n = f"{range_said(rows['n'])} questions" if asked else "No question"
    return f"{n} a number, {seeds_said(study)}, split test, matcher '{matcher}'. {POPULATION}. {BESIDE}"


def prompts_said(study: Study) -> str:
    """Which prompts a table holds, and what may be compared."""
    if FIVE_SHOT in prompts_of(study):
        return (
            "5-shot: after five examples, the same for every model; zero-shot: the prompt tuned with, which base never "
            "saw; compare within one prompt"
        )
    return (
        "Zero-shot: the prompt tuned with, which base never saw; tuned and restored models were not asked with five "
        "examples"
    )


def seeds_said(study: Study) -> str:
    """How many seeds a cell has: "3 seeds a cell"."""
    counts = study.tables.chains.groupby(["level", "size", "method"]).size()
    return "no seed" if counts.empty else f"{range_said(counts)} seeds a cell"


def range_said(numbers: pd.Series[Any]) -> str:
    """The range of whole numbers: "20" or "20 to 60"."""
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def not_run(why: str) -> str:
    """Why a table has nothing of this study."""
    return f"NOT RUN: {why}"


def level_name(level: str) -> str:
    """A header for a train level: "level 2", "mixed"."""
    return f"level {level}" if level.isdigit() else level

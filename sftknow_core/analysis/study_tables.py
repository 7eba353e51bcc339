"""The tables a study's statistics read, column by column: the one place where they are declared.

Tidy frames in memory; a study collects them from the run folders of its chains. A chain is one fine-tuned model: a
cell (level, size, method) and a seed. Shares and accuracies lie in 0 to 1, k in percent of the region, KL in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from sftknow_core.errors import SpecError

BASE = "base"
"""`chain` of the answers of the model before fine-tuning, which all chains share."""
LEVELS = ("0", "1", "2", "3", "4")

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
        "null_share": "the same with changes permuted within each tensor, 0 to 1; NaN: not taken",
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
        "n_restored_null": "the same with changes permuted within each tensor; NaN: not taken",
    },
    "other_tasks": {
        "chain": "as in chains",
        "state_id": "as in states",
        "task": '"gsm8k", "xsum"',
        "item": "question of the task",
        "score": "0 to 1",
    },
}
"""Table -> column -> meaning. Beyond these, `answers` and `shifts` may hold `borderline` (the fact's mastery interval
crosses the limit of a level), `answers` `gold_rank` (after the question, the rank from 1 of the answer's first token;
NaN: not scored), and `states` `alpha` (of an interpolation; 0: base, 1: tuned), `region` and `beside_k` (the k that
takes back the same part of the update)."""

_KEYS = {
    "chains": ["chain"],
    "answers": ["chain", "state_id", "prompt", "fact_id"],
    "shifts": ["chain", "state_id", "measure", "fact_id"],
}


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
    other_tasks: pd.DataFrame = field(default_factory=lambda: empty("other_tasks"))

    def __post_init__(self) -> None:
        known = {*self.chains.get("chain", ()), BASE}
        for name, columns in COLUMNS.items():
            frame: pd.DataFrame = getattr(self, name)
            if missing := [column for column in columns if column not in frame.columns]:
                raise SpecError(
                    f"study table {name}: lacks {', '.join(missing)}; see analysis/study_tables.py"
                )
            if name in _KEYS and frame.duplicated(_KEYS[name]).any():
                raise SpecError(f"study table {name}: rows stand twice for the same {', '.join(_KEYS[name])}")
            if strange := sorted(set(frame["chain"].dropna()) - known):
                raise SpecError(f"study table {name}: unknown chains {', '.join(map(str, strange[:3]))}")
        if self.chains.duplicated(["level", "size", "method", "seed"]).any():
            raise SpecError("study table chains: two chains of the same level, size, method and seed")

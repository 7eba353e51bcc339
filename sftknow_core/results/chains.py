"""All chains of a cache: what there is, which may be compared, and what is under way; chain.py is about one of them.

Accuracies and probabilities are shares (0 to 1), k is in percent, shifts are in nats. A chain's numbers are those
under its own matcher.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import DONE, EVENTS, SPEC
from sftknow_core.store.run_spec import canonical_json
from sftknow_core.store.run_state import RunState

DOMAINS = {"test_in": "in", "test_out": "out"}
"""Name in a summary -> domain."""
LEVEL_ORDER = ("0", "1", "2", "3", "4", "mixed", "natural")
_FINISHED = ["run_id", "label", "setting"]
_RESULTS = [
    "run_id", "label", "train_level", "n_train", "seed", "prompt", "domain", "state", "k_percent",
    "accuracy", "low", "high", "n",
]  # fmt: skip
_UNFINISHED = ["run_id", "kind", "what", "state", "reason", "progress"]
_NUMBERS = ["accuracy", "low", "high", "n"]


@dataclass(frozen=True)
class Survey:
    """The chains of a cache."""

    finished: pd.DataFrame
    """One row a finished chain, newest first: run_id, label, setting (equal where numbers may be compared)."""
    results: pd.DataFrame
    """One row a chain, prompt, test domain and state (base, tuned, restored by the k chosen on dev)."""
    unfinished: pd.DataFrame
    """Runs of any kind that are under way or did not reach their end; stages of a listed run are left out."""


def catalogue_stamp(cache: Cache) -> str:
    """Changes whenever a run is added, gets further or is removed: the key of everything read from the cache."""
    digest = hashlib.sha256()
    for spec in sorted(cache.runs.glob(f"*/{SPEC}")):
        for name in (DONE, EVENTS):
            if (file := spec.with_name(name)).exists():
                stat = file.stat()
                digest.update(f"{file}:{stat.st_mtime_ns}:{stat.st_size}\n".encode())
                break
    return digest.hexdigest()[:16]


def survey(cache: Cache) -> Survey:
    """What there is. Runs whose folder is not readable are passed over."""
    runs = list_runs(cache)
    done = [
        info
        for info in runs
        if info.kind == "chain" and info.status.state is RunState.DONE and "table" in info.summary
    ]
    labels = _distinct(_with_rates(done))
    finished = [(i.run_id, labels[i.run_id], _setting(i)) for i in done]
    results = [
        {"run_id": i.run_id, "label": labels[i.run_id], **row} for i in done for row in _results(i.summary)
    ]
    order = {level: number for number, level in enumerate(LEVEL_ORDER)}
    table = pd.DataFrame(results, columns=_RESULTS).astype({"n_train": "Int64", "seed": "Int64"})
    return Survey(
        finished=pd.DataFrame(finished, columns=_FINISHED),
        results=table.sort_values(
            ["train_level", "n_train", "seed"],
            key=lambda c: c.map(order) if c.name == "train_level" else c,
            kind="stable",
            ignore_index=True,
        ),
        unfinished=pd.DataFrame(_unfinished(runs), columns=_UNFINISHED).astype({"progress": "float64"}),
    )


def comparable(found: Survey, run_id: str, prompt: str = ZERO_SHOT) -> pd.DataFrame:
    """The results under one prompt of the chains that asked the same base the same questions in this one's way.

    Only their numbers may stand in one figure.
    """
    settings = found.finished.set_index("run_id")["setting"]
    same = settings.index[settings == settings[run_id]]
    results = found.results[found.results["prompt"] == prompt]
    return results[results["run_id"].isin(same)].reset_index(drop=True)


def chain_label(info: RunInfo) -> str:
    """ "demo · level 2 · N = 1,920 · seed 0"; "base against tuned" where nothing was trained.

    What is not the usual way is added: LoRA, another strategy or region.
    """
    summary, params = info.summary, info.spec.params
    parts = [f"{summary['base_name']} against {summary['tuned_name']}"]
    if train := summary.get("train_set"):
        level = train["level"]
        which = f"level {level}" if level.isdigit() else f"{level} levels"
        parts = [summary["base_name"], which, f"N = {train['n']:,}", f"seed {train['seed']}"]
    if (params.get("sft") or {}).get("method") == "lora":
        parts.append("LoRA")
    restore = (params.get("restore") or [{}])[0]
    usual = {"strategy": "top", "region": "transformer", "layers": None}
    parts += [str(restore[name]) for name, value in usual.items() if restore.get(name, value) != value]
    return " · ".join(parts)


def _setting(info: RunInfo) -> str:
    """Base, questions, their levels and how they were asked: what must be equal for numbers to be compared."""
    inputs = {name: info.spec.inputs.get(name) for name in ("base", "questions", "mastery")}
    return canonical_json([inputs, info.spec.params.get("evaluate")])


def _with_rates(chains: Sequence[RunInfo]) -> dict[str, str]:
    """Run id -> label, with the learning rate where runs of one label were trained at different ones."""
    labels = {info.run_id: chain_label(info) for info in chains}
    rates = {info.run_id: (info.spec.params.get("sft") or {}).get("lr") for info in chains}
    of_label: dict[str, set[float | None]] = defaultdict(set)
    for run_id, label in labels.items():
        of_label[label].add(rates[run_id])
    return {
        run_id: f"{label} · rate {rates[run_id]:.1e}" if len(of_label[label]) > 1 and rates[run_id] else label
        for run_id, label in labels.items()
    }


def _distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """Equal labels are told apart by the beginning of the run's id."""
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {
        run_id: f"{label} · {run_id[:6]}" if label in twice else label for run_id, label in labels.items()
    }


def _results(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    of = {row["state_id"]: row for row in summary["table"]}
    train = summary["train_set"] or {}
    about = {"train_level": train.get("level"), "n_train": train.get("n"), "seed": train.get("seed")}
    states = {
        "base": summary["base_id"],
        "tuned": summary["tuned_id"],
        "restored": summary["chosen"]["state_id"],
    }
    for prompt, name in product((ZERO_SHOT, FIVE_SHOT), DOMAINS):
        for state, state_id in states.items():
            scores = of[state_id] if prompt == ZERO_SHOT else of[state_id].get("five_shot") or {}
            if (numbers := scores.get(name)) is not None:
                place = {"prompt": prompt, "domain": DOMAINS[name], "state": state}
                row = {key: numbers[key] for key in _NUMBERS}
                yield {**about, **place, "k_percent": of[state_id]["k_percent"], **row}


def _unfinished(runs: list[RunInfo]) -> list[dict[str, Any]]:
    left = [info for info in runs if info.status.state is not RunState.DONE]
    stages = {run_id for info in left for run_id in info.status.uses}
    return [
        {
            "run_id": info.run_id,
            "kind": info.kind,
            "what": info.about.get("title")
            or ", ".join(str(v) for v in info.about.values() if isinstance(v, str)),
            "state": str(info.status.state),
            "reason": info.status.reason or info.status.note,
            "progress": info.status.done / info.status.total if info.status.total else None,
        }
        for info in left
        if info.run_id not in stages
    ]

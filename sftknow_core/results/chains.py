"""Tidy tables about chains for the overview: what there is, one chain's curve, levels and questions.

Accuracies and probabilities are shares (0 to 1), k is in percent, shifts are in nats. A chain's numbers are those
under its own matcher. `state` is base, tuned, restored, hybrid (100% of the region restored) or five-shot (the base
after five exemplars).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sftknow_core.errors import CacheError
from sftknow_core.results.views import accuracy_by_level, chain_summary, most_shifted, restoration_curve
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import DONE, EVENTS, SPEC, RunFolder
from sftknow_core.store.run_spec import canonical_json
from sftknow_core.store.run_state import RunState

DOMAINS = {"test_in": "in", "test_out": "out"}
"""Name in a summary -> domain."""
LEVEL_ORDER = ("0", "1", "2", "3", "4", "mixed", "natural")
_FINISHED = ["run_id", "label", "setting"]
_RESULTS = [
    "run_id", "label", "train_level", "n_train", "seed", "domain", "state", "k_percent", "accuracy", "low",
    "high", "n",
]  # fmt: skip
_UNFINISHED = ["run_id", "kind", "what", "state", "reason", "progress"]
_NUMBERS = ["accuracy", "low", "high", "n"]


@dataclass(frozen=True)
class Survey:
    """The chains of a cache."""

    finished: pd.DataFrame
    """One row a finished chain, newest first: run_id, label, setting (equal where numbers may be compared)."""
    results: pd.DataFrame
    """One row a chain, test domain and state (base, tuned, restored by the k chosen on dev)."""
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


def chain_stamp(cache: Cache, run_id: str) -> str:
    """Changes when the chain or one of its stages is removed or made anew, and not when anything else happens.

    Raises SpecError when it is no finished chain.
    """
    digest = hashlib.sha256()
    for made_by in chain_summary(cache, run_id)["stages"].values():
        for stage in made_by.values() if isinstance(made_by, Mapping) else [made_by]:
            digest.update(f"{stage}:{_when_done(cache, stage)}\n".encode())
    digest.update(_when_done(cache, run_id).encode())
    return digest.hexdigest()[:16]


def _when_done(cache: Cache, run_id: str | None) -> str:
    if run_id is None:
        return "not asked for"
    try:
        stat = (cache.run_folder(run_id) / DONE).stat()
    except OSError:
        return "gone"
    return f"{stat.st_mtime_ns}:{stat.st_size}"


def survey(cache: Cache) -> Survey:
    """What there is. Runs whose folder is not readable are passed over."""
    runs = list_runs(cache)
    done = [
        info
        for info in runs
        if info.kind == "chain" and info.status.state is RunState.DONE and "table" in info.summary
    ]
    labels = _distinct({info.run_id: chain_label(info) for info in done})
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


def comparable(found: Survey, run_id: str) -> pd.DataFrame:
    """The results of the chains that asked the same base the same questions in the same way as this one.

    Only their numbers may stand in one figure.
    """
    settings = found.finished.set_index("run_id")["setting"]
    same = settings.index[settings == settings[run_id]]
    return found.results[found.results["run_id"].isin(same)].reset_index(drop=True)


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


def chain_details(cache: Cache, run_id: str) -> dict[str, Any]:
    """The chain's summary, and under "params" what was asked for. Raises SpecError when it is no finished chain."""
    return {**chain_summary(cache, run_id), "params": RunFolder(cache, run_id).spec.params}


def curve(cache: Cache, run_id: str, split: str) -> pd.DataFrame:
    """Accuracy over k of one split, by domain: tuned (k 0), restored, hybrid, then base and five-shot (k NaN).

    `chosen` marks the k that was chosen on dev. Raises SpecError when the run is no finished chain, CacheError
    when a stage of it is gone.
    """
    summary = _with_stages(cache, run_id)
    rows = restoration_curve(cache, run_id, matcher=summary["matcher"]).rename(
        columns={"state_kind": "state"}
    )
    rows = rows[rows["split"] == split].sort_values(["domain", "k_percent"], kind="stable")
    rows["chosen"] = rows["state_id"] == summary["chosen"]["state_id"]
    kept = ["domain", "state", "k_percent", *_NUMBERS, "chosen", "energy_taken_back", "question_set_id"]
    five = _five_shot(cache, summary, split)
    tables = [rows[kept], *([five] if len(five) else [])]
    return pd.concat(tables).sort_values("domain", kind="stable", ignore_index=True)


def levels(cache: Cache, run_id: str) -> pd.DataFrame:
    """Accuracy on test by domain, mastery level and state: base, tuned, and restored by the chosen k.

    A level without questions has no row, and "restored" has none where the chosen k is 0.
    Raises SpecError when the run is no finished chain, CacheError when a stage of it is gone.
    """
    summary = _with_stages(cache, run_id)
    rows = accuracy_by_level(cache, run_id, matcher=summary["matcher"], split="test")
    names = {
        summary["chosen"]["state_id"]: "restored",
        summary["base_id"]: "base",
        summary["tuned_id"]: "tuned",
    }
    rows = rows.assign(state=rows["state_id"].map(names))
    rows = rows[rows["level"].notna() & rows["state"].notna() & rows["accuracy"].notna()]
    kept = ["domain", "level", "state", *_NUMBERS, "question_set_id"]
    return rows.sort_values(["domain", "level"], kind="stable")[kept].reset_index(drop=True)


def shifted_questions(cache: Cache, run_id: str, search: str = "", limit: int = 200) -> pd.DataFrame:
    """The in-domain test questions of level 4 whose first token moved most by tuning, largest KL first.

    `search`: only questions with this text in question, gold or answer, whatever its case.
    Raises SpecError when the run is no finished chain, CacheError when a stage of it is gone.
    """
    summary = _with_stages(cache, run_id)
    tuned_id = summary["tuned_id"]
    rows = most_shifted(
        cache,
        summary["stages"]["evaluate"][tuned_id],
        tuned_id,
        limit,
        measure="kl_aligned_nats",
        matcher=summary["matcher"],
        where={"level": 4, "split": "test", "domain": "in"},
    )
    rows["tuned_answer"] = rows["right"].map({True: "✓ ", False: "✗ "}) + rows["completion"].str.strip()
    kept = ["question", "gold", "tuned_answer", "kl_aligned_nats", "gold_p_base", "gold_p_state"]
    texts = rows["question"] + "\n" + rows["gold"] + "\n" + rows["completion"]
    found = texts.str.contains(search.strip(), case=False, regex=False)
    return rows.loc[found, kept].reset_index(drop=True)


def _with_stages(cache: Cache, run_id: str) -> Mapping[str, Any]:
    """The chain's summary, after a look whether the runs that hold its answers are there."""
    summary = chain_summary(cache, run_id)
    for stage in summary["stages"]["evaluate"].values():
        if missing := RunFolder(cache, stage).problems():
            raise CacheError(
                f"chain {run_id}: its run {stage} is gone or damaged ({', '.join(missing)}); repeating the command "
                "that made the chain makes it again"
            )
    return summary


def _five_shot(cache: Cache, summary: Mapping[str, Any], split: str) -> pd.DataFrame:
    """The rows of the base after five exemplars; empty where it was not asked so."""
    run_id = summary["stages"].get("five_shot")
    rows = read_table(
        cache,
        "accuracies",
        run_ids=[run_id] if run_id else [],
        columns=["domain", *_NUMBERS, "question_set_id"],
        where={"split": split, "matcher": summary["matcher"], "subset": "all", "level": None},
    )
    return rows.assign(state="five-shot", chosen=False)


def _setting(info: RunInfo) -> str:
    """Base, questions, their levels and how they were asked: what must be equal for numbers to be compared."""
    inputs = {name: info.spec.inputs.get(name) for name in ("base", "questions", "mastery")}
    return canonical_json([inputs, info.spec.params.get("evaluate")])


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
    for name, domain in DOMAINS.items():
        for state, state_id in states.items():
            if (numbers := of[state_id][name]) is not None:
                k = of[state_id]["k_percent"]
                row = {key: numbers[key] for key in _NUMBERS}
                yield {**about, "domain": domain, "state": state, "k_percent": k, **row}


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

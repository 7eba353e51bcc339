"""Tidy tables ready to plot, one row a point, for pages and reports.

A chain is a run of kind "chain" whose summary names what was done:
    {"stages": {"mastery": id, "sft": id, "delta": id, "evaluate": {state_id: run_id}},
     "base_id", "tuned_id", "states": [state_id, ...], "headline": {...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState

_CHAIN_COLUMNS = (
    "run_id", "state", "reason", "created_at", "seconds", "base_id", "tuned_id", "base_name", "tuned_name",
    "n_states",
)  # fmt: skip
_RESTORATION_COLUMNS = (
    "state_id", "strategy", "params", "region", "k_percent", "alpha", "n_region", "n_restored", "share_of_r",
    "energy_taken_back", "k_of_changed_percent",
)  # fmt: skip
_ACCURACY_COLUMNS = (
    "state_id", "split", "domain", "level", "subset", "prompt", "matcher", "question_set_id", "n", "n_right",
    "accuracy", "low", "high", "stop_rate", "mean_length", "reason",
)  # fmt: skip


def list_chains(cache: Cache) -> pd.DataFrame:
    """One row a chain, newest first, whatever its state; headline numbers as columns `headline_<name>`.

    base_name and tuned_name are what people call the models; None where no run recorded it.
    """
    models = read_table(cache, "models", columns=["model_id", "name"]).drop_duplicates("model_id")
    names = dict(zip(models["model_id"], models["name"], strict=True))
    rows = [_chain_row(info, names) for info in list_runs(cache, kind="chain")]
    return pd.DataFrame(rows, columns=None if rows else pd.Index(_CHAIN_COLUMNS))


def accuracy_by_level(
    cache: Cache,
    chain_run_id: str,
    *,
    matcher: str | None = None,
    subset: str | None = "all",
    split: str | None = None,
    prompt: str | None = None,
) -> pd.DataFrame:
    """Accuracy (0 to 1) with its 95% interval, one row a state, question set and level; None: any.

    level is <NA> for the level-balanced headline. state_kind is base, tuned, restored or hybrid; states come
    in the chain's order. Raises SpecError when the run is no finished chain.
    """
    chain = chain_summary(cache, chain_run_id)
    chosen = {"matcher": matcher, "subset": subset, "split": split, "prompt": prompt}
    where = {
        "state_id": _states(chain),
        **{name: value for name, value in chosen.items() if value is not None},
    }
    rows = read_table(
        cache, "accuracies", run_ids=_evaluations(chain), columns=_ACCURACY_COLUMNS, where=where
    )
    rows.insert(1, "state_kind", rows["state_id"].map(_state_kinds(cache, chain)))
    return _in_order(rows, chain, ["domain", "split", "subset", "prompt", "matcher", "level"])


def restoration_curve(
    cache: Cache,
    chain_run_id: str,
    *,
    matcher: str = "words",
    subset: str = "all",
    prompt: str | None = None,
) -> pd.DataFrame:
    """Level-balanced accuracy over what was taken back: restored states and the three endpoints.

    One row a state, split and domain. endpoint is "tuned" (k_percent 0), "hybrid" (100% of a region), "base"
    (everything back, k_percent NULL) or None; energy_taken_back is 0 for tuned and 1 for base.
    Raises SpecError when the run is no finished chain.
    """
    accuracies = accuracy_by_level(cache, chain_run_id, matcher=matcher, subset=subset, prompt=prompt)
    accuracies = accuracies[accuracies["level"].isna()].drop(columns="level")
    chain = chain_summary(cache, chain_run_id)
    selections = read_table(
        cache, "restorations", columns=_RESTORATION_COLUMNS, where={"state_id": _states(chain)}
    ).drop_duplicates("state_id")
    curve = accuracies.merge(selections, how="left", on="state_id")
    curve.insert(2, "endpoint", curve["state_kind"].where(curve["state_kind"] != "restored", None))
    curve.loc[curve["endpoint"] == "tuned", ["k_percent", "energy_taken_back"]] = 0.0
    curve.loc[curve["endpoint"] == "base", "energy_taken_back"] = 1.0
    return curve.sort_values(
        ["domain", "split", "strategy", "region", "k_percent"], kind="stable", ignore_index=True
    )


def most_shifted(
    cache: Cache,
    run_id: str,
    state_id: str,
    limit: int = 50,
    *,
    measure: str = "kl_nats",
    matcher: str = "words",
    where: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The scored questions whose first token moved most (`measure`, largest first), with question and answers.

    split, domain, question, gold, completion and `right` (the matcher's score) come from the same run's answers;
    None where it holds none. where: column -> value, e.g. {"level": 4, "split": "test"}.
    """
    shifts = read_table(cache, "first_token", run_ids=[run_id], where={"state_id": state_id})
    answers = read_table(
        cache,
        "answers",
        run_ids=[run_id],
        columns=["fact_id", "split", "domain", "question", "gold", "completion", matcher],
        where={"state_id": state_id},
    ).rename(columns={matcher: "right"})
    rows = shifts.dropna(subset=[measure]).merge(answers.drop_duplicates("fact_id"), how="left", on="fact_id")
    for name, value in (where or {}).items():
        rows = rows[rows[name] == value]
    return rows.nlargest(limit, measure).reset_index(drop=True)


def _chain_row(info: RunInfo, names: Mapping[str, str]) -> dict[str, Any]:
    summary = info.summary
    base_id, tuned_id = summary.get("base_id"), summary.get("tuned_id")
    return {
        "run_id": info.run_id,
        "state": str(info.status.state),
        "reason": info.status.reason,
        "created_at": info.created_at,
        "seconds": info.status.seconds,
        "base_id": base_id,
        "tuned_id": tuned_id,
        "base_name": names.get(base_id or ""),
        "tuned_name": names.get(tuned_id or ""),
        "n_states": len(summary.get("states", ())),
        **{f"headline_{name}": value for name, value in summary.get("headline", {}).items()},
    }


def chain_summary(cache: Cache, run_id: str) -> Mapping[str, Any]:
    """The summary of a finished chain. Raises SpecError when the run is none."""
    run = RunFolder(cache, run_id)
    manifest = run.manifest()
    if not run.root.is_dir() or run.spec.kind != "chain":
        raise SpecError(f"there is no chain {run_id} in {cache.root}; `sftknow runs` lists them")
    if manifest is None or run.status().state is not RunState.DONE:
        raise SpecError(f"chain {run_id} is not finished ({run.status().state}); its results come when it is")
    return manifest.summary


def _evaluations(chain: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(chain["stages"]["evaluate"].values()))


def _states(chain: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*chain.get("states", ()), *chain["stages"]["evaluate"]]))


def _state_kinds(cache: Cache, chain: Mapping[str, Any]) -> dict[str, str]:
    rows = read_table(cache, "states", columns=["state_id", "kind"], where={"state_id": _states(chain)})
    kinds = dict(zip(rows["state_id"], rows["kind"], strict=True))
    return {**kinds, chain["base_id"]: "base", chain["tuned_id"]: "tuned"}


def _in_order(rows: pd.DataFrame, chain: Mapping[str, Any], then: list[str]) -> pd.DataFrame:
    """Rows sorted by the chain's order of states, then by columns (the headline after the levels)."""
    place = {state_id: number for number, state_id in enumerate(_states(chain))}
    ordered = rows.assign(_place=rows["state_id"].map(place)).sort_values(["_place", *then], kind="stable")
    return ordered.drop(columns="_place").reset_index(drop=True)

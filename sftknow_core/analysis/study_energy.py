"""All ways of restoring one cell of a study, over the part of the update they take back.

Equal k of two strategies take back different parts of the update, so only equal parts compare them. Rows are those
that strategy_figures.strategies_figure reads, averaged over seeds.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.analysis import estimates as est
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import FIVE_SHOT, Estimate
from sftknow_core.analysis.grid import Cell
from sftknow_core.analysis.rows import chain_ids

ENERGY = ["line", "state", "strategy", "region", "layers", "k_percent", "alpha", "beside_k", "energy_taken_back",
          "split", "domain", "accuracy", "low", "high", "n", "n_seeds"]  # fmt: skip
_AMOUNT = ["k_percent", "alpha", "beside_k"]
_WAY = ["strategy", "region", "layers", *_AMOUNT]
_USUAL_REGION = "transformer"


def energy_rows(study: Study, cell: Cell) -> pd.DataFrame:
    """One row a state (averaged over the seeds that have it) and domain, on test questions: ENERGY.

    energy_taken_back: 0 to 1, mean over seeds; so are k and alpha of what was set to the energy of a k of the most
    changed weights, `beside_k`. `line` names what is drawn as one curve; empty for the ends. Also the
    columns k_of_changed_percent and block, which are empty here.
    """
    chains = chain_ids(study, cell)
    states = study.tables.states
    own = states[states["chain"].isin(chains)]
    own = own.assign(**{name: None for name in ("region", "alpha", "beside_k") if name not in own})
    rows = [row for domain in study.domains() for row in _of_domain(study, domain, own)]
    found = pd.DataFrame(rows, columns=ENERGY)
    numbers = [*_AMOUNT, "energy_taken_back", "accuracy", "low", "high"]
    found = found.astype({**dict.fromkeys(numbers, "float64"), "n": "Int64", "n_seeds": "Int64"})
    return found.assign(k_of_changed_percent=float("nan"), block=None)


def _of_domain(study: Study, domain: str, states: pd.DataFrame) -> list[dict[str, Any]]:
    rows = [_end(study, name, prompt, domain) for name, prompt in (("base", "qa"), (FIVE_SHOT, FIVE_SHOT))]
    answers = study.tables.answers
    asked = (answers["prompt"] == "qa") & (answers["split"] == "test") & (answers["domain"] == domain)
    asked &= answers["chain"].isin(states["chain"])
    right = answers[asked].astype({study.plan.score: float})
    wide = right.pivot(index=["chain", "state_id"], columns="fact_id", values=study.plan.score)
    levels = right.drop_duplicates("fact_id").set_index("fact_id")["level"].reindex(wide.columns)
    seeds = study.tables.chains.set_index("chain")["seed"]
    ways = states[_WAY].astype(object).where(states[_WAY].notna(), None)
    ways.loc[ways["beside_k"].notna(), ["k_percent", "alpha"]] = None  # they differ between seeds
    keys = [states["kind"], *(ways[name] for name in _WAY)]
    grouped = states.assign(_key=pd.Series(list(zip(*keys, strict=True)), index=states.index))
    for _, group in grouped.groupby("_key", sort=False):
        of = [(chain, state) for chain, state in zip(group["chain"], group["state_id"], strict=True)]
        asked_of = [key for key in of if key in wide.index]
        found = est.of_rows(
            [wide.loc[key].to_numpy(float) for key in asked_of],
            [int(seeds[chain]) for chain, _ in asked_of],
            levels.to_numpy(),
        )
        if found is not None:
            rows.append(_row(group, found, domain))
    return [row for row in rows if row]


def _row(group: pd.DataFrame, found: Estimate, domain: str) -> dict[str, Any]:
    first = group.iloc[0]
    tuned = first["kind"] == "tuned"
    return {
        "line": "" if tuned else _line(first),
        "state": first["kind"],
        **{name: first[name] for name in _WAY},
        **{name: group[name].astype(float).mean() for name in _AMOUNT},
        "energy_taken_back": float(group["energy_taken_back"].astype(float).mean()),
        "split": "test",
        "domain": domain,
        **_numbers(found),
    }


def _line(state: pd.Series[Any]) -> str:
    parts = [str(state["strategy"])]
    if pd.notna(state["region"]) and state["region"] != _USUAL_REGION:
        parts.append(str(state["region"]))
    if pd.notna(state["layers"]):
        parts.append(f"layers {state['layers']}")
    return ", ".join(parts)


def _end(study: Study, name: str, prompt: str, domain: str) -> dict[str, Any]:
    found = est.base_accuracy(study, prompt=prompt, domain=domain)
    about = {"line": "", "state": name, "split": "test", "domain": domain}
    return {} if found is None else {**about, **_numbers(found)}


def _numbers(found: Estimate) -> dict[str, Any]:
    about = {"n": found.n, "n_seeds": len(found.seeds)}
    return {"accuracy": found.value, "low": found.low, "high": found.high, **about}

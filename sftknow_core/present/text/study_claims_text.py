"""`study claims`: every verdict with its effect, interval and sentence, the advice and the scorecard, for people and
as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console

from sftknow_core.analysis.study import StudyResults
from sftknow_core.present.text import study

Result = Mapping[str, Any]


def claims_result(results: StudyResults) -> dict[str, Any]:
    """run_id, name, base_name, seeds, cells, counts (verdict -> claims), claims, advice, scorecard: plain values."""
    about = results.about
    return {
        "run_id": about.run_id,
        "name": about.name,
        "base_name": about.base_name,
        "seeds": list(about.seeds),
        "n_cells": about.n_cells,
        "n_done": about.n_done,
        "matcher": about.matcher,
        "counts": {str(status): n for status, n in Counter(v.verdict for v in results.verdicts).items()},
        "claims": [_plain(asdict(verdict)) for verdict in results.verdicts],
        "advice": [_plain(asdict(one)) for one in results.advice],
        "scorecard": [_plain(row) for row in results.scorecard.to_dict("records")],
        "scores": [_plain(row) for row in study.scores(results.scorecard).to_dict("records")],
    }


def show_claims(result: Result) -> None:
    """One paragraph a claim, then advice and scores."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)

    def say(text: str = "") -> None:
        console.print(text, highlight=False, markup=False)

    say(f"Study {result['name']} of {result['base_name']}, run {result['run_id']}: {result['n_done']} of "
        f"{result['n_cells']} cells, seeds {', '.join(map(str, result['seeds']))}, matcher {result['matcher']}, "
        "split test")  # fmt: skip
    for claim in result["claims"]:
        domain = {"in": ", in-domain", "out": ", out-of-domain"}.get(claim["domain"], "")
        say(f"\n{claim['verdict']:<13}{claim['claim_id']}{domain}: {claim['title']}")
        population = claim["population"] or "nothing measured"
        say(f"  effect {_effect(claim)}; {claim['seeds']} seeds; speaks for: {population}")
        say(f"  {claim['sentence']}")
    say("\nVerdicts: " + ", ".join(f"{name} {n}" for name, n in result["counts"].items()))
    say("\nAdvice")
    for one in result["advice"]:
        say(f"  {one['text']}\n    {one['evidence']}")
    if not result["advice"]:
        say("  none: no difference is certain enough")
    say("\nScorecard (the smallest of kept, learnt and format, percent; mean over seeds)")
    for row in result["scores"]:
        states = "  ".join(f"{s} {_percent(row[s])}" for s in ("base", "tuned", "restored", "hybrid"))
        say(f"  {row['cell']:<28}{states}")


def _effect(claim: Result) -> str:
    if claim["effect"] is None:
        return "not measured"
    text = f"{claim['effect']:+.3g} {claim['unit']}"
    return text if claim["low"] is None else f"{text} [{claim['low']:.3g}, {claim['high']:.3g}]"


def _percent(value: float | None) -> str:
    return "    –" if value is None else f"{100 * value:5.1f}"


def _plain(value: Any) -> Any:
    """What JSON holds: no enum, no numpy number, None where nothing is."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return str(value)
    return None if value is None or pd.isna(value) else value

"""What commands on weights and on studies print: changes, restored models, plans, cells and claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sftknow_core.analysis.claims import false_discovery, verdict_table
from sftknow_core.analysis.study import StudyResults
from sftknow_core.present.terminal import (
    ACCURACIES,
    ONE_PROMPT,
    PAPER_DEFINITION,
    Result,
    of_prompts,
    percent,
    print_lines,
    table_of,
)
from sftknow_core.present.text import study
from sftknow_core.results.studies import Study, StudyInfo, Way
from sftknow_core.store.study_record import variation


def show_delta(result: Result) -> None:
    """Changed weights by region, and their concentration."""
    regions = table_of(
        "Weight changes",
        "region",
        "terminal.n_params",
        "terminal.changed",
        "terminal.energy",
        "terminal.tiny_share",
    )
    for row in result["regions"]:
        share = row["energy"] / row["base_energy"] if row["base_energy"] else None
        regions.add_row(
            row["region"],
            f"{row['n_params']:,}",
            percent(row["n_changed"] / row["n_params"]),
            percent(share, 3),
            percent(row["tiny_share_of_r"]),
        )
    curve = table_of(
        "Share of the summed relative change in the top k%",
        "terminal.eps",
        "k_percent",
        "terminal.share",
        "terminal.null",
        "terminal.null_spread",
        "terminal.p",
    )
    for row in result["concentration"]:
        ends = [row["null_low"], row["null_high"]]
        curve.add_row(
            f"{row['eps']:g}",
            f"{row['k_percent']:g}",
            percent(row["share"]),
            percent(row["null_share"]),
            "-" if None in ends else " to ".join(percent(end) for end in ends),
            "-" if row["p_two_sided"] is None else f"{row['p_two_sided']:.2g}",
        )
    print_lines(
        regions,
        curve,
        *_top_and_null(result),
        *result["notes"],
    )


def _top_and_null(result: Result) -> list[str]:
    """The share of the 20 largest r, and what the null is."""
    first = next(iter(result["concentration"]), None)
    n = first["n_permutations"] if first else None
    lines = ["r = |tuned - base| / (|base| + epsilon)"]
    if first and first["top_20_share"] is not None:
        lines.append(
            f"the 20 weights of largest r alone contain {percent(first['top_20_share'])}% of the summed r (epsilon "
            f"{first['eps']:g})"
        )
    if n:
        lines.append(
            f"null: changes shuffled within each tensor, mean and middle 95% of {n} shuffles; p: rank of the share "
            "among them, two-sided"
        )
    return lines


def show_restored(result: Result) -> None:
    """Reverted weights and written files."""
    print_lines(*_taken_back(result), *_written(result))


def show_rebuilt(result: Result) -> None:
    """Reverted weights and written files of a model rebuilt from a recipe or a patch."""
    checked = "the recipe" if isinstance(result.get("recipe"), str) else "the patch"
    print_lines(
        *_taken_back(result), *_written(result), f"checked with {checked}: identical model, bit for bit"
    )


def show_preflight(result: Result) -> None:
    """Every check in a line, and the verdict."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in ("status", "name"):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in result["checks"]:
        table.add_row(*(Text(check[key]) for key in ("status", "name", "text")))
    failed = sum(check["status"] == "error" for check in result["checks"])
    verdict = f"{failed} of {len(result['checks'])} checks failed" if failed else "all checks passed"
    print_lines(table, f"{verdict}; nothing was written")


def _taken_back(result: Result) -> list[str]:
    n = result["n_restored"] if result["n_restored"] is not None else result["n_touched"]
    lines = [
        f"reverted {n:,} of {result['n_region']:,} weights of region {result['region']} ({result['strategy']}); "
        f"{result['n_touched']:,} of them had changed",
        f"update taken back: {percent(result['energy_taken_back'])}% of squared update norm, "
        f"{percent(result['projection_taken_back'])}% of its projection"
        + (
            f", {percent(result['share_of_r'])}% of the summed relative change"
            if result["share_of_r"] is not None
            else ""
        ),
    ]
    if result["k_of_changed_percent"] is not None:
        lines.append(
            f"share of the region's changed weights: {result['k_of_changed_percent']:.1f}%; of all weights of the "
            f"model: {percent(result['n_touched'] / result['n_model'])}%"
        )
    if result["no_more_changes_from_k"]:
        lines.append(f"all changes are reverted from k = {result['no_more_changes_from_k']}% on")
    return lines


def _written(result: Result) -> list[str]:
    lines = [f"base: {result['base']} ({result['base_id']}); tuned: {result['tuned']} ({result['tuned_id']})"]
    lines.append(f"restored model {result['model_id']}")
    if result.get("out"):
        lines[-1] += f" written to {result['out']}"
    if rounding := result.get("rounding"):
        lines.append(
            f"written as {result['output_dtype']}: {rounding['n']:,} weights rounded, by {rounding['largest']:.2g} at "
            "most; --output-dtype exact keeps every bit"
        )
    if result.get("recipe"):
        lines.append(f"recipe {result['recipe']}")
    if result.get("patch"):
        lines.append(_patch(result["patch"]))
    return lines


def _patch(patch: Mapping[str, Any]) -> str:
    return (
        f"patch {patch['path']}: {patch['bytes'] / 1e6:,.1f} MB, {percent(patch['share_of_model'])}% of the "
        "model's size"
    )


def show_plan(result: Result) -> None:
    """The table of `sftknow study run --dry-run`: cells by status, time and disk."""
    counts = Counter(cell["state"] for cell in result["cells"])
    table = table_of(
        f"Study {result['name']} of {result['base_name']}, run {result['run_id']}",
        "train_level",
        more=_sizes(result),
    )
    for method, level in dict.fromkeys((c["method"], c["level"]) for c in result["cells"]):
        mine = [c for c in result["cells"] if (c["method"], c["level"]) == (method, level)]
        by_size = [[c["state"] for c in mine if _size(c) == size] for size in _sizes(result)]
        name = level if method == "full" else f"{level}, {method}"
        table.add_row(name, *("; ".join(f"{n} {state}" for state, n in Counter(s).items()) for s in by_size))
    lines = [", ".join(f"{n} {state}" for state, n in counts.items()) + f" of {len(result['cells'])} cells"]
    if result["n_questions"]:
        asked = _asked(result["n_questions"])
        lines.append(f"{sum(result['n_questions'].values()):,} questions per evaluation: {asked}")
    for size, of in result["n_questions_by_size"].items():
        lines.append(f"at N = {size} {sum(of.values()):,}: {_asked(of)}")
    if not result["mastery_known"]:
        lines.append(
            "The base model's mastery of the facts is not in the cache: it is computed first, which then shows the "
            "impossible cells."
        )
    lines += [f"impossible: {c['key']}: {c['reason']}" for c in result["cells"] if c["state"] == "impossible"]
    print_lines(table, *lines, *_cost(result))
    show_precision(result["precision"])


def show_precision(found: Result) -> None:
    """Expected half-widths by kind of comparison, what they rest on, and what the margin takes."""
    table = table_of(
        "Expected half-width of the 95% CI", "precision.claims", "precision.compares", "precision.seeds",
        "precision.per_level", "precision.half_width", "precision.decides",
    )  # fmt: skip
    for row in found["claims"]:
        half = row["half_width_pp"]
        counts = ("-" if row[name] is None else f"{row[name]:,}" for name in ("seeds", "per_level"))
        table.add_row(
            row["claims"], row["compares"], *counts, "-" if half is None else f"{half:.1f}", row["decides"]
        )
    given, margin = found["assumed"], found["margin_pp"]
    shown = "; ".join(f"{name} {_variances(given[name])}" for name in ("cells", "restored"))
    lines = [
        f"Accuracy {percent(given['accuracy'])}%, seed sd {100 * given['seed_sd']:.1f} pp; variances of a difference "
        f"over seeds, questions, both: {shown} ({given['source']}).",
        "An effect larger than the half-width is expected to have a CI clear of zero.",
    ]
    for claims in dict.fromkeys(row["claims"] for row in found["needed"]):
        ways = [row for row in found["needed"] if row["claims"] == claims]
        enough = [
            f"{row['seeds']} seeds and {row['per_level']:,} questions" for row in ways if row["per_level"]
        ]
        never = ", ".join(str(row["seeds"]) for row in ways if row["per_level"] is None)
        said = [*enough, *([f"not reached with {never} seeds"] if never else [])]
        lines.append(f"{claims}: ± {margin:g} pp (the margin) takes {'; '.join(said)} (questions per level)")
    print_lines(table, *lines)


def _variances(given: Result) -> str:
    return ", ".join(f"{given[name]:.2g}" for name in ("seed", "question", "both"))


def _asked(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{group} {n:,}" for group, n in counts.items())


def _cost(result: Result) -> list[str]:
    if result["seconds"] is None:
        return [f"time and disk: {result['estimate']}"]
    return [
        f"time: about {clock(result['seconds'])} with {result['workers']} workers ({result['estimate']})",
        f"disk: about {megabytes(result['disk_bytes'])} afterwards, {megabytes(result['peak_bytes'])} at peak "
        f"(checkpoints kept: {result['checkpoints']})",
    ]


def show_studies(root: Path, found: Sequence[StudyInfo], shipped: Sequence[str]) -> None:
    """The table of `sftknow study list`. root: of the cache; shipped: studies that come with the package."""
    start = f"shipped with the package: {', '.join(shipped)}; start one with `sftknow study run NAME`"
    if not found:
        print_lines(f"no studies in {root}", start)
        return
    table = table_of(
        f"Studies in {root}", "runs.run_id", "studies.name", "studies.base_name", "studies.state", "terminal.n_cells",
        "terminal.n_done", "terminal.n_failed",
    )  # fmt: skip
    for one in found:
        counts = (str(n) for n in (one.n_cells, one.n_done, one.n_failed))
        table.add_row(one.run_id, one.name, one.base_name, one.state, *counts)
    print_lines(table, start)


def show_study(found: Study) -> None:
    """The table of `sftknow study show`: one row a cell and way of restoring."""
    about = found.info
    title = f"Study {about.name} of {about.base_name}: in-domain test questions, run {about.run_id}"
    table = table_of(title, "train_level", "n_train", "seed", "strategy", *ACCURACIES)
    for cell in found.cells:
        name = cell.level if cell.method == "full" else f"{cell.level}, {cell.method}"
        name += variation(cell.rate, cell.repeats)
        place = (name, "all" if cell.n is None else f"{cell.n:,}", str(cell.seed))
        for way in cell.ways:
            for numbers in of_prompts(asdict(found.headline(way.run_id))):
                table.add_row(*place, _way(way), *numbers)
        if not cell.ways:
            table.add_row(*place, cell.state, *("-" for _ in ACCURACIES))
    wrong = [f"{cell.state}: {cell.key}: {cell.reason}" for cell in found.cells if cell.reason]
    asked = _asked(found.n_questions)
    print_lines(
        table,
        f"{about.n_done} of {about.n_cells} cells done, {about.n_failed} failed, "
        f"{about.n_impossible} impossible; {clock(about.seconds)} at work",
        *([f"questions: {asked}"] if asked else []),
        *(f"questions at N = {size}: {_asked(of)}" for size, of in found.n_questions_by_size.items()),
        study.rule_said(found.fixed_rule).replace("**", ""),
        *wrong,
        f"({ONE_PROMPT})",
        f"({PAPER_DEFINITION}; restored: with the k chosen on dev)",
    )


def _way(way: Way) -> str:
    name = [way.strategy, *([way.region] if way.region != "transformer" else [])]
    return " ".join([*name, *([f"layers {way.layers}"] if way.layers else [])])


def clock(seconds: float) -> str:
    """ "7 min" or "2 h 05 min"; "40 s" below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size: float) -> str:
    """ "12 MB" or "3.4 GB"."""
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def _size(cell: Result) -> str:
    return "all" if cell["n"] is None else f"{cell['n']:,}"


def _sizes(result: Result) -> list[str]:
    return list(dict.fromkeys(_size(cell) for cell in result["cells"]))


# `study claims`: every verdict with its effect, CI and sentence, the advice and the scorecard, as text and as JSON.

_STATES = {"hybrid": "k = 100%"}
"""Stored model name -> as read, where they differ."""


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
        "rule": about.fixed.rule.model_dump(),
        "rule_said": study.rule_said(about.fixed).replace("**", ""),
        "joint": study.joint(results.verdicts, results.plan.rule.alpha).replace("**", ""),
        "counts": {str(status): n for status, n in Counter(v.verdict for v in results.verdicts).items()},
        "claims": _claims(results),
        "advice": [_plain(asdict(one)) for one in results.advice],
        "no_advice": results.no_advice,
        "scorecard": [_plain(row) for row in results.scorecard.to_dict("records")],
        "scores": [_plain(row) for row in study.scores(results.scorecard).to_dict("records")],
    }


def _claims(results: StudyResults) -> list[dict[str, Any]]:
    """Every verdict with its parts, each with p_fdr."""
    adjusted = false_discovery(results.verdicts)
    of_claims = verdict_table(results.verdicts)["p_fdr"].tolist()
    found = []
    for verdict, p_fdr in zip(results.verdicts, of_claims, strict=True):
        row = _plain(asdict(verdict))
        of_parts = adjusted[verdict.claim_id, verdict.domain]
        row["parts"] = [{**part, "p_fdr": p} for part, p in zip(row["parts"], of_parts, strict=True)]
        found.append({**row, "p_fdr": _plain(p_fdr)})
    return found


def show_claims(result: Result) -> None:
    """One paragraph a claim, then advice and scores."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)

    def say(text: str = "") -> None:
        console.print(text, highlight=False, markup=False)

    say(f"Study {result['name']} of {result['base_name']}, run {result['run_id']}: {result['n_done']} of "
        f"{result['n_cells']} cells, seeds {', '.join(map(str, result['seeds']))}, matcher {result['matcher']}, "
        "split test")  # fmt: skip
    say(f"{result['rule_said']}\n{result['joint']}")
    for claim in result["claims"]:
        domain = {"in": ", in-domain", "out": ", out-of-domain"}.get(claim["domain"], "")
        say(f"\n{claim['verdict']:<13}{claim['claim_id']}{domain}: {claim['title']}")
        population = claim["population"] or "not evaluated"
        say(f"  effect {_effect(claim)}; {claim['seeds']} seeds; CI over: {population}{_p_values(claim)}")
        say(f"  {claim['sentence']}")
    say("\nVerdicts: " + ", ".join(f"{name} {n}" for name, n in result["counts"].items()))
    say("\nAdvice")
    for one in result["advice"]:
        say(f"  {one['text']}\n    {one['evidence']}")
    if not result["advice"]:
        say(f"  none: {result['no_advice']}")
    say("\nScorecard (smallest of kept, learnt and format, %; mean over seeds)")
    for row in result["scores"]:
        states = "  ".join(
            f"{_STATES.get(s, s)} {_percent(row[s])}" for s in ("base", "tuned", "restored", "hybrid")
        )
        say(f"  {row['cell']:<28}{states}")


def _effect(claim: Result) -> str:
    if claim["effect"] is None:
        return "not evaluated"
    text = f"{claim['effect']:+.3g} {claim['unit']}"
    return text if claim["low"] is None else f"{text} [{claim['low']:.3g}, {claim['high']:.3g}]"


def _p_values(claim: Result) -> str:
    named = (("p", "p"), ("p_holm", "p, Holm"), ("p_fdr", "p, FDR"))
    return "".join(f"; {name} {claim[key]:.2g}" for key, name in named if claim[key] is not None)


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

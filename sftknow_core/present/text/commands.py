"""Studies on a terminal: what there is to do, what there is, and one study's cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sftknow_core.present.terminal_1 import PAPER_DEFINITION, Result, percent, points, print_lines, table_of


def show_plan(result: Result) -> None:
    """The table of `sftknow study run --dry-run`: cells by what there is to do, time and disk."""
    counts = Counter(cell["state"] for cell in result["cells"])
    table = table_of(
        f"Study {result['name']} of {result['base_name']}, run {result['run_id']}", "level", *_sizes(result)
    )
    for method, level in dict.fromkeys((c["method"], c["level"]) for c in result["cells"]):
        mine = [c for c in result["cells"] if (c["method"], c["level"]) == (method, level)]
        by_size = [[c["state"] for c in mine if _size(c) == size] for size in _sizes(result)]
        name = level if method == "full" else f"{level}, {method}"
        table.add_row(name, *("; ".join(f"{n} {state}" for state, n in Counter(s).items()) for s in by_size))
    lines = [", ".join(f"{n} {state}" for state, n in counts.items()) + f" of {len(result['cells'])} cells"]
    if result["n_questions"]:
        asked = ", ".join(f"{group} {n:,}" for group, n in result["n_questions"].items())
        lines.append(f"{sum(result['n_questions'].values()):,} questions an evaluation: {asked}")
    if not result["mastery_known"]:
        lines.append(
            "The base model's mastery of the facts is not in the cache: it is computed first, and only then can "
            "impossible cells be told."
        )
    lines += [f"impossible: {c['key']}: {c['reason']}" for c in result["cells"] if c["state"] == "impossible"]
    print_lines(table, *lines, *_cost(result))


def _cost(result: Result) -> list[str]:
    if result["seconds"] is None:
        return [f"time and disk: {result['estimate']}"]
    return [
        f"time: about {clock(result['seconds'])} with {result['workers']} workers ({result['estimate']})",
        f"disk: about {megabytes(result['disk_bytes'])} stay, {megabytes(result['peak_bytes'])} at most meanwhile "
        f"(checkpoints kept: {result['checkpoints']})",
    ]


def show_studies(result: Result) -> None:
    """The table of `sftknow study list`."""
    shipped = (
        f"shipped with the package: {', '.join(result['shipped'])}; start one with `sftknow study run NAME`"
    )
    if not result["studies"]:
        print_lines(f"no studies in {result['cache']}", shipped)
        return
    table = table_of(
        f"Studies in {result['cache']}", "run", "name", "base", "state", "cells", "done", "failed"
    )
    for row in result["studies"]:
        table.add_row(
            row["run_id"],
            row["name"],
            row["base_name"],
            row["state"],
            str(row["n_cells"]),
            str(row["n_done"]),
            str(row["n_failed"]),
        )
    print_lines(table, shipped)


def show_study(result: Result) -> None:
    """The table of `sftknow study show`: one row a cell and way of restoring."""
    title = (
        f"Study {result['name']} of {result['base_name']}: in-domain test questions, run {result['run_id']}"
    )
    numbers = ("base %", "tuned %", "restored %", "k %", "gain, points", "KL, nats")
    table = table_of(title, "level", "N", "seed", "restored by", *numbers)
    for cell in result["cells"]:
        name = cell["level"] if cell["method"] == "full" else f"{cell['level']}, {cell['method']}"
        place = (name, _size(cell), str(cell["seed"]))
        for chain in cell["chains"]:
            table.add_row(*place, *_numbers(chain))
        if not cell["chains"]:
            table.add_row(*place, cell["state"], *("-" for _ in numbers))
    wrong = [f"{c['state']}: {c['key']}: {c['reason']}" for c in result["cells"] if c["reason"]]
    asked = ", ".join(f"{group} {n:,}" for group, n in result["n_questions"].items())
    print_lines(
        table,
        f"{result['n_done']} of {result['n_cells']} cells done, {result['n_failed']} failed, "
        f"{result['n_impossible']} impossible; {clock(result['seconds'])} at work",
        *([f"questions: {asked}"] if asked else []),
        *wrong,
        f"({PAPER_DEFINITION}; restored: with the k chosen on dev)",
    )


def _numbers(chain: Result) -> Sequence[str]:
    k, kl = chain["chosen_k_percent"], chain["kl_level4_nats"]
    way = [chain["strategy"], *([chain["region"]] if chain["region"] != "transformer" else [])]
    return (
        " ".join([*way, *([f"layers {chain['layers']}"] if chain["layers"] else [])]),
        percent(chain["base_test_in"]),
        percent(chain["tuned_test_in"]),
        percent(chain["restored_test_in"]),
        "-" if k is None else f"{k:g}",
        points(chain["gain_test_in"]),
        "-" if kl is None else f"{kl:.2f}",
    )


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

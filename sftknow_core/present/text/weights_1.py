"""What the commands on two models' weights found and did -> lines and tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from sftknow_core.present.terminal_1 import Result, percent, print_lines, table_of


def show_delta(result: Result) -> None:
    """How much changed, and how concentrated that is."""
    regions = table_of(
        "What fine-tuning changed",
        "region",
        "parameters",
        "changed, %",
        "energy of the change, %",
        "sum of r from |p| < 1e-6, %",
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
        "Share of the summed relative change in the most changed k%", "epsilon", "k, %", "share, %", "null, %"
    )
    for row in result["concentration"]:
        curve.add_row(
            f"{row['eps']:g}", f"{row['k_percent']:g}", percent(row["share"]), percent(row["null_share"])
        )
    print_lines(
        regions,
        curve,
        "r = |tuned - base| / (|base| + epsilon); null: the changes dealt out anew within each tensor",
        *result["notes"],
    )


def show_restored(result: Result) -> None:
    """What was put back, and what was written."""
    print_lines(*_taken_back(result), *_written(result))


def show_rebuilt(result: Result) -> None:
    """The same of a model made again from a recipe or a patch."""
    checked = "the recipe" if isinstance(result.get("recipe"), str) else "the patch"
    print_lines(
        *_taken_back(result), *_written(result), f"compared with {checked}: the same model, bit for bit"
    )


def show_preflight(result: Result) -> None:
    """Every check in a line, and the verdict."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("status", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("finding", overflow="fold")
    for check in result["checks"]:
        table.add_row(*(Text(check[key]) for key in ("status", "name", "text")))
    failed = sum(check["status"] == "error" for check in result["checks"])
    verdict = f"{failed} of {len(result['checks'])} checks failed" if failed else "nothing speaks against it"
    print_lines(table, f"{verdict}; nothing was written")


def _taken_back(result: Result) -> list[str]:
    n = result["n_restored"] if result["n_restored"] is not None else result["n_touched"]
    lines = [
        f"restored {n:,} of {result['n_region']:,} parameters of region {result['region']} ({result['strategy']}); "
        f"{result['n_touched']:,} of them had changed",
        f"taken back: {percent(result['energy_taken_back'])}% of the squared change"
        + (
            f", {percent(result['share_of_r'])}% of the summed relative change"
            if result["share_of_r"] is not None
            else ""
        ),
    ]
    if result["k_of_changed_percent"] is not None:
        lines.append(
            f"that is {result['k_of_changed_percent']:.1f}% of the region's changed parameters; "
            f"{percent(result['n_touched'] / result['n_model'])}% of the model's are no longer tuned's"
        )
    if result["no_more_changes_from_k"]:
        lines.append(f"all changes are already reverted from k = {result['no_more_changes_from_k']}% on")
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

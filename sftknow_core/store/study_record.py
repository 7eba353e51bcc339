"""What became of a study's cells: cells.jsonl in the study's run folder, one line an outcome.

The last line about a cell counts. The lines are there while the study is under way and after a kill; the finished
study's manifest holds the same list under "cells". A record is a dict:

    key, level, n (NULL: all), seed, method      the cell
    rate, repeats   its learning rate and passes, as multiples of the study's; 1 where they are left out
    state       done, failed or impossible
    reason      why it failed or is impossible; else NULL
    chains      [{strategy, region, layers, run_id}], one a way of restoring; empty unless done
    sft         the run that made the tuned model; NULL unless done
    model_id    of the tuned model; NULL unless done
    seconds     time at work, s; NULL: taken from the cache, or never tried

rule.json, beside it, says when the study's rule of decision was fixed, and how many of its cells had been computed by
then: it is written once, before the study computes its first cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, product
from typing import Any

from filelock import FileLock

from sftknow_core.errors import SpecError
from sftknow_core.store.cache import Cache
from sftknow_core.store.files import disk_errors, write_atomic
from sftknow_core.store.line_log import LineLog, plain_json, read_lines
from sftknow_core.store.open_run import try_acquire
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.run_spec import utc_now

KIND = "study"
CELLS = "cells.jsonl"
RULE = "rule.json"
TODO, DONE_STATE, FAILED, IMPOSSIBLE = "to do", "done", "failed", "impossible"
Record = dict[str, Any]


class CellLog:
    """The records of a study under way, in the hands of its owner."""

    def __init__(self, run: RunFolder) -> None:
        self._log = LineLog(run.root / CELLS)

    def add(self, record: Mapping[str, Any]) -> None:
        """Put what became of a cell on record. Raises CacheError for a full disk."""
        self._log.append(record)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def cell_records(run: RunFolder) -> list[Record]:
    """What is on record, one a cell, in the order of the last lines."""
    found: dict[str, Record] = {}
    for line in read_lines(run.root / CELLS)[0]:
        if "key" in line and "state" in line:
            found.pop(line["key"], None)
            found[line["key"]] = line
    return list(found.values())


def all_cells(run: RunFolder) -> list[Record]:
    """Every cell of the study's grid in the grid's order, with its record or as "to do".

    Raises SpecError when the run is no study.
    """
    spec = run.spec
    if spec.kind != KIND:
        raise SpecError(f"run {run.run_id} is a {spec.kind}, not a study; `sftknow study list` lists studies")
    known = {record["key"]: record for record in cell_records(run)}
    methods, levels, sizes = (spec.params[name] for name in ("methods", "levels", "sizes"))
    rates, repeats = spec.params.get("rates", (1.0,)), spec.params.get("repeats", {})
    by_size = spec.params.get("seeds_by_size", {})
    seeds_of = {size: by_size.get(str(size), spec.params["seeds"]) for size in sizes}
    seeds = sorted(set(chain.from_iterable(seeds_of.values())))
    cells = []
    for seed, method, level, size, rate in product(seeds, methods, levels, sizes, rates):
        if seed not in seeds_of[size]:
            continue
        for times in (1.0, *([repeats[str(size)]] if str(size) in repeats else ())):
            key = cell_key(method, level, size, seed, rate, times)
            cell = {
                "key": key,
                "level": level,
                "n": None if size == "all" else size,
                "seed": seed,
                "method": method,
                "rate": rate,
                "repeats": times,
            }
            cells.append(known.get(key) or {**cell, **nothing(TODO)})
    return cells


def cell_key(
    method: str, level: str, size: int | str, seed: int, rate: float = 1.0, repeats: float = 1.0
) -> str:
    """A cell's name within its study, fit for a file; what is as in the study has no part in it."""
    varied = ("" if rate == 1 else f"-lr{rate:g}") + ("" if repeats == 1 else f"-x{repeats:g}")
    return f"{method}-{level}-{size}-{seed}{varied}"


def variation(rate: float, repeats: float) -> str:
    """ ", lr x 0.5, 8 times the epochs"; "" for the study's own training."""
    said = [f"lr x {rate:g}"] if rate != 1 else []
    said += [f"{repeats:g} times the epochs"] if repeats != 1 else []
    return "".join(f", {one}" for one in said)


def fix_rule(run: RunFolder, rule: Mapping[str, Any], n_computed: int, n_cells: int) -> None:
    """Put on record that the rule stands from now on, unless that is on record. Raises CacheError for a full disk.

    n_computed: of the study's cells, those that are in the cache already.
    """
    if rule_record(run) is None:
        record = {"rule": rule, "fixed_at": utc_now(), "n_computed": n_computed, "n_cells": n_cells}
        write_atomic(run.root / RULE, plain_json(record).encode())


def rule_record(run: RunFolder) -> Record | None:
    """rule, fixed_at (ISO 8601, UTC), n_computed, n_cells; None where nothing readable is on record."""
    try:
        found = json.loads((run.root / RULE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    names = {"rule", "fixed_at", "n_computed", "n_cells"}
    return found if isinstance(found, dict) and found.keys() >= names else None


def nothing(state: str, reason: str | None = None, seconds: float | None = None) -> Record:
    """The part of a record that a cell without results has."""
    return {"state": state, "reason": reason, "chains": [], "sft": None, "model_id": None, "seconds": seconds}


def reopen(cache: Cache, run_id: str) -> None:
    """Make a finished study one to go on with; its cells stay on record. One under way is left alone."""
    run = RunFolder(cache, run_id)
    lock = FileLock(cache.run_lock(run_id), thread_local=False)
    if try_acquire(lock):
        try:
            with disk_errors(run.root):
                (run.root / DONE).unlink(missing_ok=True)
        finally:
            lock.release()

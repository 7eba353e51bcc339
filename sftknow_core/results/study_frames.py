"""A study, finished or not, as the tidy tables that statistics and figures read (analysis/grid.py).

    study's cells -> their chains -> the runs of every state  --Parquet parts, one SQL query a table-->  frames

`chain` is the id of a cell's first chain: with several ways of restoring, the states of the others carry it as well,
because they come from the same fine-tuned model. Cells that are not done have no rows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftknow_core.facts.matcher import verdict_column
from sftknow_core.results.cube import newest_deltas, open_cube, region_tensors
from sftknow_core.results.run import Run, check_intact
from sftknow_core.results.weights import NULL_COLUMNS
from sftknow_core.specs import ENRICHMENT_KS
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts, read_table
from sftknow_core.store.files import write_atomic
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.schema import ANSWERS, FIRST_TOKEN, MASTERY, MASTERY_TEMPLATES
from sftknow_core.store.study_record import DONE_STATE, all_cells
from sftknow_core.update.spec import count_for, stored_projection

# A study's tables, put beside its record once it has ended: read in tenths of a second from then
# on.
#
# They are a copy: which chains they were made of is part of their name, so that others of other chains are not taken
# for them, and without them the same tables come out of the chains' runs again.

FRAMES_VERSION = 3
"""Goes up whenever the same chains would give other tables."""
FOLDER = "frames"


def read_kept(run: RunFolder, chains: Sequence[str], names: Sequence[str]) -> dict[str, pd.DataFrame] | None:
    """The tables made of these chains; None where they are not all there, or one of them is damaged."""
    folder = run.root / FOLDER / _key(chains)
    try:
        return {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in names}
    except (OSError, pa.ArrowInvalid):
        return None


def keep(run: RunFolder, chains: Sequence[str], frames: Mapping[str, pd.DataFrame]) -> None:
    """Put the tables made of these chains beside the study, in the place of former ones. Raises CacheError."""
    folder = run.root / FOLDER / _key(chains)
    for name, frame in frames.items():
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink, compression="zstd")
        write_atomic(folder / f"{name}.parquet", sink.getvalue().to_pybytes())
    for other in (run.root / FOLDER).iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _key(chains: Sequence[str]) -> str:
    text = json.dumps([FRAMES_VERSION, *chains])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


BASE = "base"
"""`chain` of the answers before fine-tuning, which all chains share."""
QA, FIVE_SHOT, COMPLETION = "qa", "five-shot", "completion"
_NAMES = ("chains", "states", "answers", "shifts", "concentration", "enrichment")
_MAP = pa.schema([("chain", pa.string()), ("run_id", pa.string()), ("prompt", pa.string())])
_STATES = [
    "chain", "state_id", "kind", "strategy", "k_percent", "alpha", "layers", "region", "share_of_r",
    "energy_taken_back", "projection_taken_back", "beside_k", "beside_k_projection", "mask", "chosen",
]  # fmt: skip


@dataclass(frozen=True)
class StudyChains:
    """The chains of the cells that are done."""

    run_id: str
    """Of the study."""
    cells: Sequence[Mapping[str, Any]]
    """Records (study_record.py), in the grid's order."""
    summaries: Mapping[str, Mapping[str, Any]]
    """Chain -> what its manifest says."""

    def of(self, cell: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """(way of restoring, summary) of a cell's chains."""
        for chain in cell["chains"]:
            yield chain, self.summaries[chain["run_id"]]


def study_chains(cache: Cache, run_id: str) -> StudyChains:
    """What is done of a study. Raises SpecError for a run that is no study, GoneError, DamagedError for a chain."""
    done = [cell for cell in all_cells(RunFolder(cache, run_id)) if cell["state"] == DONE_STATE]
    chains = [chain["run_id"] for cell in done for chain in cell["chains"]]
    check_intact(cache, f"study {run_id}", chains, "chain {}", "running the study again makes it again")
    return StudyChains(run_id, done, {chain: Run(cache, chain).manifest.summary for chain in chains})


def study_frames(cache: Cache, run_id: str, *, enrichment: bool = True) -> dict[str, pd.DataFrame]:
    """Table -> frame, for analysis.grid.StudyTables(**frames): chains, states, answers, shifts, concentration,
    enrichment.

    enrichment: opens the delta cube of every chain, some 0.1 s each; without it the frame is left out. What
    `keep_study_frames` left is read instead, where it is there.
    Raises SpecError when the run is no study, GoneError or DamagedError when a run of it is gone or damaged.
    """
    found = study_chains(cache, run_id)
    names, deltas = _NAMES if enrichment else _NAMES[:-1], compared(cache, found)
    kept = read_kept(RunFolder(cache, run_id), _made_of(found, deltas), names)
    return kept if kept is not None else _made(cache, found, deltas, enrichment)


def keep_study_frames(cache: Cache, run_id: str) -> None:
    """Put the frames of a study's chains beside it, unless they are there. Raises as `study_frames`."""
    found, run = study_chains(cache, run_id), RunFolder(cache, run_id)
    deltas = compared(cache, found)
    if read_kept(run, _made_of(found, deltas), _NAMES) is None:
        keep(run, _made_of(found, deltas), _made(cache, found, deltas, True))


def compared(cache: Cache, found: StudyChains) -> dict[str, str]:
    """Chain -> the comparison of its two models: its own, or the newest where that has one permutation alone."""
    newest: dict[tuple[str, str], str] | None = None
    deltas = {}
    for cell in found.cells:
        way, summary = next(iter(found.of(cell)))
        own = str(summary["stages"]["delta"])
        if any(row.get("n_permutations") for row in summary["concentration"]):
            deltas[way["run_id"]] = own
            continue
        newest = newest_deltas(cache) if newest is None else newest
        deltas[way["run_id"]] = newest.get((summary["base_id"], summary["tuned_id"]), own)
    return deltas


def _made_of(found: StudyChains, deltas: Mapping[str, str]) -> list[str]:
    """The runs that the frames come from."""
    own = {str(summary["stages"]["delta"]) for summary in found.summaries.values()}
    return [*found.summaries, *sorted(set(deltas.values()) - own)]


def _made(
    cache: Cache, found: StudyChains, deltas: Mapping[str, str], enrichment: bool
) -> dict[str, pd.DataFrame]:
    asked = _asked(found)
    again = "delete the chain that used it (sftknow runs rm) and run the study again"
    check_intact(cache, f"study {found.run_id}", asked.column("run_id").to_pylist(), again=again)
    borderline = _borderline(cache, found).merge(_halves(cache, found), how="outer", on="fact_id")
    frames = {
        "chains": _chains(cache, found),
        "states": _states(found),
        "answers": _answers(cache, asked, _matcher(found)).merge(borderline, how="left", on="fact_id"),
        "shifts": _shifts(cache, asked).merge(borderline, how="left", on="fact_id"),
        "concentration": _concentration(cache, found, deltas),
    }
    return frames | ({"enrichment": _enrichment(cache, found, deltas)} if enrichment else {})


def _matcher(found: StudyChains) -> str:
    return next((str(summary["matcher"]) for summary in found.summaries.values()), "words")


def _chains(cache: Cache, found: StudyChains) -> pd.DataFrame:
    norms = _update_norms(cache, found)
    rows = [
        {
            "chain": cell["chains"][0]["run_id"],
            "level": cell["level"],
            "size": "all" if cell["n"] is None else str(cell["n"]),
            "n": next(iter(found.of(cell)))[1]["train_set"]["n"],
            "seed": cell["seed"],
            "method": cell["method"],
            "rate": cell.get("rate", 1.0),
            "repeats": cell.get("repeats", 1.0),
            "update_norm": norms.get(next(iter(found.of(cell)))[1]["stages"]["delta"]),
        }
        for cell in found.cells
    ]
    names = ["chain", "level", "size", "n", "seed", "method", "rate", "repeats", "update_norm"]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[-3:], "float64"))


def _update_norms(cache: Cache, found: StudyChains) -> dict[str, float]:
    """Comparison of a chain's weights -> ||d|| / ||p|| over the transformer; nothing where it is not on record."""
    runs = [str(summary["stages"]["delta"]) for summary in found.summaries.values()]
    rows = read_table(cache, "deltas", run_ids=list(dict.fromkeys(runs)), where={"region": "transformer"})
    norms = (rows["energy"] / rows["base_energy"].where(rows["base_energy"] > 0)) ** 0.5
    return {str(run): float(norm) for run, norm in zip(rows["run_id"], norms, strict=True) if norm == norm}


def _states(found: StudyChains) -> pd.DataFrame:
    """Tuned once, then the restored states of every way; k chosen on dev is that of the first way."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in found.cells:
        first = cell["chains"][0]["run_id"]
        for way, summary in found.of(cell):
            for state in summary["table"]:
                if state["kind"] == "base":
                    continue
                tuned = state["kind"] == "tuned"
                rows.setdefault(
                    (first, state["state_id"]),
                    {
                        "chain": first,
                        "state_id": state["state_id"],
                        "kind": state["kind"],
                        "strategy": None if tuned else way["strategy"],
                        "k_percent": state["k_percent"],
                        "alpha": None,
                        "layers": None if tuned else way["layers"],
                        "region": None if tuned else way["region"],
                        "share_of_r": 0.0 if tuned else state["share_of_r"],
                        "energy_taken_back": 0.0 if tuned else state["energy_taken_back"],
                        "projection_taken_back": 0.0 if tuned else stored_projection(state),
                        "mask": state.get("seed"),
                        "chosen": state["state_id"] == found.summaries[first]["chosen"]["state_id"],
                    },
                )
            for state in summary.get("controls", ()):
                rows.setdefault((first, state["state_id"]), _control(first, state))
    frame = pd.DataFrame(list(rows.values()), columns=_STATES)
    numbers = [name for name in _STATES[4:-1] if name not in ("layers", "region")]
    return frame.astype({**dict.fromkeys(numbers, "float64"), "chosen": "bool"})


def _control(chain: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A restored state that is only compared with; a block stands where its layers do."""
    return {
        "chain": chain,
        "layers": state.get("block") or state["layers"],
        "chosen": False,
        **{name: state[name] for name in ("state_id", "kind", "strategy", "k_percent", "alpha", "region")},
        **{name: state[name] for name in ("share_of_r", "energy_taken_back", "beside_k")},
        "projection_taken_back": stored_projection(state),
        "beside_k_projection": _beside_projection(state),
        "mask": state["seed"],
    }


def _beside_projection(state: Mapping[str, Any]) -> float | None:
    """Older chains matched energies alone: what puts whole weights back takes back the same of both."""
    known = "beside_k_projection" in state or state["alpha"] is not None
    found: float | None = state.get("beside_k_projection") if known else state["beside_k"]
    return found


def _asked(found: StudyChains) -> pa.Table:
    """Which run holds the answers of which chain, and how it was asked; the base's runs once."""
    rows: dict[tuple[str, str], str] = {}
    for cell in found.cells:
        first = cell["chains"][0]["run_id"]
        for _, summary in found.of(cell):
            stages = summary["stages"]
            prompts = {"completion": COMPLETION, "five_shot_states": FIVE_SHOT}
            for place in ("evaluate", "evaluate_train", "controls", *prompts):
                for state_id, run in stages.get(place, {}).items():
                    chain = BASE if state_id == summary["base_id"] else first
                    rows[chain, run] = prompts.get(place, QA)
            if stages.get("five_shot"):
                rows[BASE, stages["five_shot"]] = FIVE_SHOT
    named = [{"chain": chain, "run_id": run, "prompt": prompt} for (chain, run), prompt in rows.items()]
    return pa.Table.from_pylist(named, schema=_MAP)


def _answers(cache: Cache, asked: pa.Table, matcher: str) -> pd.DataFrame:
    """`gold_rank`: after the question; NULL where first tokens were not compared."""
    right = verdict_column(matcher)
    answers = _rows(
        cache,
        ANSWERS,
        asked,
        f"""SELECT DISTINCT ON (chain, state_id, prompt, fact_id) chain, state_id, prompt, split, domain, level, topic,
                fact_id, "row" AS place, {right} AS "right", exact, stopped, n_tokens, position
            FROM answers JOIN asked USING (run_id) WHERE level IS NOT NULL
            ORDER BY chain, state_id, prompt, fact_id, run_id""",
    )
    ranks = _rows(
        cache,
        FIRST_TOKEN,
        asked,
        """SELECT DISTINCT ON (chain, state_id, fact_id) chain, state_id, prompt, fact_id, gold_rank_state AS gold_rank
            FROM first_token JOIN asked USING (run_id) ORDER BY chain, state_id, fact_id, run_id""",
    )
    return answers.merge(ranks, how="left", on=["chain", "state_id", "prompt", "fact_id"])


def _borderline(cache: Cache, found: StudyChains) -> pd.DataFrame:
    """fact_id and whether its mastery interval crosses the limit of a level; NULL where nobody can tell.

    The chains of a study share one mastery run. Without it (it can be deleted) no fact is known to be one.
    """
    there = _mastery_runs(found, cache)
    if not there:
        return pd.DataFrame({"fact_id": pd.Series(dtype="str"), "borderline": pd.Series(dtype="boolean")})
    with open_parts(cache, MASTERY, there) as con:
        table = con.sql("SELECT fact_id, any_value(borderline) AS borderline FROM mastery GROUP BY fact_id")
        facts: pd.DataFrame = table.df()
    return facts.astype({"borderline": "boolean"})


def _halves(cache: Cache, found: StudyChains) -> pd.DataFrame:
    """fact_id, and its level by the even-numbered and by the odd-numbered completion templates alone, level_even and
    level_odd: the same formula on half of the samples (measure/levels.py). No row where no template's counts are there.
    """
    there = _mastery_runs(found, cache)
    query = """
        WITH each AS (SELECT DISTINCT ON (fact_id, template) fact_id, template % 2 AS half, n_correct, n_samples
                      FROM mastery_templates ORDER BY fact_id, template),
        halves AS (SELECT fact_id, half, 4 * sum(n_correct)::BIGINT AS c, sum(n_samples)::BIGINT AS n
                   FROM each GROUP BY fact_id, half)
        SELECT fact_id, any_value((c + n - 1) // n) FILTER (half = 0) AS level_even,
            any_value((c + n - 1) // n) FILTER (half = 1) AS level_odd
        FROM halves WHERE n > 0 GROUP BY fact_id ORDER BY fact_id"""
    with open_parts(cache, MASTERY_TEMPLATES, there) as con:
        facts: pd.DataFrame = con.sql(query).df()
    return facts.astype({"fact_id": "str", "level_even": "Int64", "level_odd": "Int64"})


def _mastery_runs(found: StudyChains, cache: Cache) -> list[str]:
    """The mastery runs of a study's chains that are in the cache; they share one."""
    runs = {str(RunFolder(cache, chain).spec.inputs["mastery"]) for chain in found.summaries}
    return sorted(run for run in runs if RunFolder(cache, run).manifest() is not None)


def _shifts(cache: Cache, asked: pa.Table) -> pd.DataFrame:
    """`shift` counts where the base's greedy completion starts with an answer, `aligned` where it was scored."""
    runs = asked.column("run_id").to_pylist()
    with open_parts(cache, ANSWERS, runs) as con:
        con.register("asked", asked)
        places = con.sql("SELECT DISTINCT fact_id, split, domain FROM answers").to_arrow_table()
    query = """
        WITH scored AS (SELECT DISTINCT ON (chain, state_id, fact_id) chain, state_id, fact_id, level,
                            CASE WHEN kept THEN kl_nats END AS shift, kl_aligned_nats AS aligned
                        FROM first_token JOIN asked USING (run_id) ORDER BY chain, state_id, fact_id, run_id)
        SELECT chain, state_id, measure, split, domain, level, fact_id, kl_nats
        FROM (UNPIVOT scored ON shift, aligned INTO NAME measure VALUE kl_nats) JOIN places USING (fact_id)
        WHERE level IS NOT NULL ORDER BY chain, state_id, measure, fact_id"""
    return _rows(cache, FIRST_TOKEN, asked, query, places=places)


def _rows(cache: Cache, table: Any, asked: pa.Table, query: str, **others: pa.Table) -> pd.DataFrame:
    runs = asked.column("run_id").to_pylist()
    with open_parts(cache, table, runs) as con:
        for name, other in {"asked": asked, **others}.items():
            con.register(name, other)
        found: pd.DataFrame = con.sql(query).df()
    return found


def _concentration(cache: Cache, found: StudyChains, deltas: Mapping[str, str]) -> pd.DataFrame:
    names = ["k_percent", "share", *NULL_COLUMNS, "top_20_share", "energy_share"]
    rows = []
    for cell in found.cells:
        way, summary = next(iter(found.of(cell)))
        changed = summary["changed_share"].get("transformer")
        rows += [
            {"chain": way["run_id"], **{name: row.get(name) for name in names}, "changed_share": changed}
            for row in _shares(cache, summary, deltas[way["run_id"]])
        ]
    frame = pd.DataFrame(rows, columns=["chain", *names, "changed_share"])
    return frame.astype(dict.fromkeys([*names, "changed_share"], "float64"))


def _shares(cache: Cache, summary: Mapping[str, Any], delta: str) -> list[Mapping[str, Any]]:
    """Rows of table concentration: those that the chain's summary has, or of a later comparison."""
    if delta == summary["stages"]["delta"]:
        return list(summary["concentration"])
    rows = RunFolder(cache, delta).read("concentration").to_pylist()
    return [row for row in rows if row["eps"] == 1e-8 and row["region"] == "transformer"]


def _enrichment(cache: Cache, found: StudyChains, deltas: Mapping[str, str]) -> pd.DataFrame:
    columns = ["chain", "k_percent", "by", "group", "n", "n_restored", "n_restored_null"]
    tables = []
    for cell in found.cells:
        way, _ = next(iter(found.of(cell)))
        with open_cube(cache, deltas[way["run_id"]], None) as con:
            for k in ENRICHMENT_KS:
                rows = _places(con, k)
                null = _null_places(con, k, rows)
                named = {"chain": way["run_id"], "k_percent": float(k)}
                tables.append(rows.assign(**named, n_restored_null=null)[columns])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _places(con: duckdb.DuckDBPyConnection, k: str) -> pd.DataFrame:
    """by, group, n, n_restored: as `cube_places.where_changes_sit` by layer, module and kind, in one query."""
    region = region_tensors(con, "transformer")
    query = """
        SELECT breakdown AS "by", n, n_restored,
            CASE breakdown WHEN 'layer' THEN layer::VARCHAR WHEN 'module' THEN module ELSE kind END AS "group"
        FROM places($tensors, 'relative', TRUE, $n_taken) WHERE breakdown IN ('layer', 'module', 'kind')
        ORDER BY breakdown, layer NULLS LAST, place"""
    asked = {"tensors": region.tensor_ids, "n_taken": count_for(region.n, k)}
    found: pd.DataFrame = con.execute(query, asked).df()
    return found


def _null_places(con: duckdb.DuckDBPyConnection, k: str, rows: pd.DataFrame) -> pd.Series[float]:
    """n_restored had the changes been permuted within each tensor, mean over permutations, for the rows of `_places`.

    Runs of earlier versions have one permutation, which is no null: NaN.
    """
    query = """
        SELECT CASE GROUPING(layer, module, kind) WHEN 3 THEN 'layer' WHEN 5 THEN 'module' ELSE 'kind' END AS "by",
            CASE GROUPING(layer, module, kind) WHEN 3 THEN layer::VARCHAR WHEN 5 THEN module ELSE kind END AS "group",
            sum(n_restored) AS n_restored_null
        FROM null_places JOIN delta_tensors USING (tensor_id)
        WHERE region = 'transformer' AND k_percent = $k
        GROUP BY GROUPING SETS ((layer), (module), (kind))"""
    found: pd.DataFrame = con.execute(query, {"k": float(k)}).df()
    if found.empty:
        return pd.Series(float("nan"), index=rows.index)
    return rows[["by", "group"]].merge(found, how="left", on=["by", "group"])["n_restored_null"]

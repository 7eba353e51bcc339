"""The catalogue's tables, as the steps that made them: each applied once, with the record that it was.

A step never changes after it was released; a change of tables is a new step at the end. Rows come from the
run folders: a step that adds a table or a column ends with `read_runs_again`, and the next opening fills it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import duckdb

from sftknow_core.errors import CacheError
from sftknow_core.store.run_spec import utc_now

Migration: TypeAlias = Callable[[duckdb.DuckDBPyConnection], None]


def m001_runs_and_models(con: duckdb.DuckDBPyConnection) -> None:
    """Runs with their inputs, and the models they speak of."""
    con.execute(
        """
        CREATE TABLE runs (
            run_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, spec VARCHAR NOT NULL, about VARCHAR NOT NULL,
            created_at VARCHAR NOT NULL, finished_at VARCHAR NOT NULL, seconds DOUBLE NOT NULL,
            library_versions VARCHAR NOT NULL, summary VARCHAR NOT NULL, stamp VARCHAR NOT NULL);
        CREATE TABLE run_inputs (run_id VARCHAR NOT NULL, role VARCHAR NOT NULL, input_id VARCHAR NOT NULL);
        CREATE TABLE models (
            run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, name VARCHAR NOT NULL, path VARCHAR NOT NULL,
            role VARCHAR NOT NULL, architecture VARCHAR, n_params BIGINT, dtype VARCHAR, vocab_size BIGINT,
            size_bytes BIGINT, made_by VARCHAR);
        CREATE TABLE states (
            run_id VARCHAR NOT NULL, state_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, base_id VARCHAR,
            tuned_id VARCHAR, spec VARCHAR);
        """
    )


def m002_updates(con: duckdb.DuckDBPyConnection) -> None:
    """What fine-tuning did to the weights."""
    con.execute(
        """
        CREATE TABLE deltas (
            run_id VARCHAR NOT NULL, base_id VARCHAR NOT NULL, tuned_id VARCHAR NOT NULL,
            region VARCHAR NOT NULL, n_params BIGINT NOT NULL, n_changed BIGINT NOT NULL,
            sum_r DOUBLE NOT NULL, energy DOUBLE NOT NULL, base_energy DOUBLE, tiny_share_of_r DOUBLE,
            eps DOUBLE);
        CREATE TABLE delta_tensors (
            run_id VARCHAR NOT NULL, tensor_id BIGINT NOT NULL, position BIGINT NOT NULL,
            name VARCHAR NOT NULL, layer BIGINT, kind VARCHAR NOT NULL, module VARCHAR NOT NULL,
            n_params BIGINT NOT NULL, n_changed BIGINT NOT NULL, sum_r DOUBLE, energy DOUBLE,
            base_energy DOUBLE);
        CREATE TABLE concentration (
            run_id VARCHAR NOT NULL, region VARCHAR NOT NULL, eps DOUBLE NOT NULL,
            k_percent DOUBLE NOT NULL, share DOUBLE, null_share DOUBLE, energy_share DOUBLE,
            reason VARCHAR);
        """
    )
    read_runs_again(con)


def m003_accuracies_and_restorations(con: duckdb.DuckDBPyConnection) -> None:
    """What the models answer, and what came of taking updates back."""
    con.execute(
        """
        CREATE TABLE accuracies (
            run_id VARCHAR NOT NULL, state_id VARCHAR NOT NULL, question_set_id VARCHAR NOT NULL,
            prompt VARCHAR NOT NULL, matcher VARCHAR NOT NULL, split VARCHAR NOT NULL,
            domain VARCHAR NOT NULL, level BIGINT, subset VARCHAR NOT NULL, n BIGINT NOT NULL,
            n_right BIGINT NOT NULL, accuracy DOUBLE, low DOUBLE, high DOUBLE, stop_rate DOUBLE,
            mean_length DOUBLE, reason VARCHAR);
        CREATE TABLE restorations (
            run_id VARCHAR NOT NULL, base_id VARCHAR NOT NULL, tuned_id VARCHAR NOT NULL,
            state_id VARCHAR NOT NULL, strategy VARCHAR NOT NULL, params VARCHAR, region VARCHAR NOT NULL,
            k_percent DOUBLE, alpha DOUBLE, n_region BIGINT NOT NULL, n_restored BIGINT NOT NULL,
            share_of_r DOUBLE, energy_taken_back DOUBLE, k_of_changed_percent DOUBLE);
        """
    )
    read_runs_again(con)


def m004_shifts(con: duckdb.DuckDBPyConnection) -> None:
    """How far the first tokens of answers moved, by level."""
    con.execute(
        """
        CREATE TABLE shifts (
            run_id VARCHAR NOT NULL, state_id VARCHAR NOT NULL, split VARCHAR NOT NULL,
            domain VARCHAR NOT NULL, level BIGINT, measure VARCHAR NOT NULL, n BIGINT NOT NULL,
            n_questions BIGINT NOT NULL, mean_nats DOUBLE, sd_nats DOUBLE, low_nats DOUBLE,
            high_nats DOUBLE, reason VARCHAR);
        """
    )
    read_runs_again(con)


def m005_delta_tensors(con: duckdb.DuckDBPyConnection) -> None:
    """How much of a tensor's change comes from weights near zero, and its largest change."""
    con.execute("ALTER TABLE delta_tensors ADD COLUMN sum_r_tiny DOUBLE")
    con.execute("ALTER TABLE delta_tensors ADD COLUMN max_r DOUBLE")
    read_runs_again(con)


MIGRATIONS: tuple[Migration, ...] = (
    m001_runs_and_models,
    m002_updates,
    m003_accuracies_and_restorations,
    m004_shifts,
    m005_delta_tensors,
)


def read_runs_again(con: duckdb.DuckDBPyConnection) -> None:
    """Let the next opening take every run in anew, into the tables as they are now."""
    con.execute("UPDATE runs SET stamp = ''")


def migrate(con: duckdb.DuckDBPyConnection, migrations: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Apply the steps that are not on record yet, each in one transaction; returns their names.

    Raises CacheError when steps are on record that this version does not know.
    """
    con.execute("CREATE TABLE IF NOT EXISTS schema_migrations (name VARCHAR NOT NULL, applied_at VARCHAR)")
    on_record = {name for (name,) in con.execute("SELECT name FROM schema_migrations").fetchall()}
    unknown = sorted(on_record - {step.__name__ for step in migrations})
    if unknown:
        raise CacheError(
            f"the catalogue was written by a newer version (it knows {', '.join(unknown)}). Update sftknow, "
            f"or make the catalogue anew from the run folders: sftknow reindex --rebuild"
        )
    missing = [step for step in migrations if step.__name__ not in on_record]
    for step in missing:
        con.execute("BEGIN")
        step(con)
        con.execute("INSERT INTO schema_migrations VALUES (?, ?)", [step.__name__, utc_now()])
        con.execute("COMMIT")
    return [step.__name__ for step in missing]

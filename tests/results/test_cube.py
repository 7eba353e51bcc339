"""The cube of a small model opened for SQL: names, the paper's tables, what cannot be asked, how it lies."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
import pytest
from fake_cube import E_, small_model, tensor, write_cube
from fake_runs import spec

from sftknow_core.errors import CacheError, GoneError, NotFinishedError, SpecError
from sftknow_core.results import cube
from sftknow_core.results.cube import delta_run, open_cube, region_tensors
from sftknow_core.results.cube_selection import (
    change_summary,
    concentration_curve,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store import run as run_store
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

SUM_R = 11 + 2 * E_


# -- plain SQL


def test_the_papers_tables(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id, k_percent=25) as con:
        three = con.execute("FROM table3_concentration").df()
        nine, ten = con.execute("FROM table9_layers").df(), con.execute("FROM table10_modules").df()
    assert three["top_percent"].to_list() == [1, 3, 5, 10, 20, 40, 60] and set(three["model"]) == {"demo"}
    shares = [0, 0, 0, 4, 6 + 1 + E_ / 2, 6 + 4 * (1 + E_ / 2), 11 + 2 * E_]  # 0, 0, 0, 1, 3, 6, 9 weights
    assert three["share_of_total_relative_change_percent"].to_list() == pytest.approx(
        [100 * share / SUM_R for share in shares]
    )
    assert three["error_pp"].to_list()[:4] == [0] * 4 and three["error_pp"][4] > 0
    assert list(nine.columns) == ["model", "layer", "share_percent", "k_percent", "error_pp"]
    assert nine["share_percent"].to_list() == [87.5, 12.5] and set(nine["k_percent"]) == {25}
    assert nine["error_pp"].to_list() == [12.5, 12.5]
    assert ten[["module", "share_percent"]].values.tolist() == [["attn.q", 62.5], ["mlp.up", 37.5]]


def test_every_documented_name_is_there_and_the_example_runs(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    text = cube.__doc__ or ""
    names = re.findall(r"^    (\w+)  ", text, re.MULTILINE)
    columns = dict(re.findall(r"^    (\w+)  +(?:one row: )?((?:\w+, )+\w+)", text, re.MULTILINE))
    example = text[text.index("    SELECT module") :]
    with open_cube(cache, run_id) as con:
        assert len(names) == 9 and {"cube", "null_places", "region_tensors", "cube_run"} <= set(columns)
        for name in names:
            there = con.execute(f"FROM {name} LIMIT 0").df().columns
            assert set(columns.get(name, "").split(", ")) - {""} <= set(there), name
        assert con.execute(example).fetchall() == [("norm.input", 4)]
        assert con.execute("FROM cube_run").fetchall() == [(run_id, "base", "tuned", "demo", "a run")]
        regions = con.execute("SELECT region, count(*) FROM region_tensors GROUP BY region").fetchall()
    assert dict(regions) == {"transformer": 4, "attention": 2, "mlp": 2, "embedding": 2, "all": 7}


def test_functions_need_no_more_than_a_connection_without_views(cache: Cache) -> None:
    with open_cube(cache, write_cube(cache, small_model()), None) as con:
        assert len(selection(con, [25])) == 1 and len(where_changes_sit(con, 25)) == 2
        assert len(concentration_curve(con, [25])) == 4 and len(score_histogram(con, 3)) == 4
        assert len(change_summary(con)) == 5
        views = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert not any("table" in name for (name,) in views)


def test_a_model_without_layers_has_empty_tables_and_no_transformer(cache: Cache) -> None:
    run_id = write_cube(cache, [tensor(None, "lm_head", [1, 0], [1, 0])])
    with open_cube(cache, run_id) as con:
        for view in ("table3_concentration", "table9_layers", "table10_modules"):
            assert con.execute(f"FROM {view}").fetchall() == []
        assert change_summary(con)["region"].to_list() == ["embedding", "all"]
        with pytest.raises(SpecError, match="region transformer is empty in this model"):
            selection(con, [1])
        with pytest.raises(SpecError, match="region mlp is empty"):
            change_summary(con, ["mlp"])


# -- which run, and what cannot be asked


def test_delta_run_finds_the_newest_of_the_pair(cache: Cache) -> None:
    assert delta_run(cache, "base", "tuned") is None
    write_cube(cache, small_model())
    newer = write_cube(cache, small_model(), version=2)
    write_cube(cache, small_model(), base="another")
    assert delta_run(cache, "base", "tuned") == newer
    assert delta_run(cache, "tuned", "base") is None and delta_run(cache, "base", "base") is None


def test_no_such_run(cache: Cache) -> None:
    with open_run(cache, spec()) as other:
        other.finish()
    with open_run(cache, RunSpec("delta", {"base": "b", "tuned": "t"})) as under_way:
        for run_id in ("0" * 16, other.run_id):
            with pytest.raises(GoneError, match="`sftknow delta --base B --tuned T` makes one"):
                open_cube(cache, run_id).__enter__()
        with pytest.raises(NotFinishedError, match="is not finished"):
            open_cube(cache, under_way.run_id).__enter__()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"region": "norms"}, "region: got 'norms'; allowed: transformer, attention, mlp, embedding, all"),
        ({"score": "permuted"}, "score: got 'permuted'; allowed: relative, absolute"),
        ({"direction": "up"}, "direction: got 'up'; allowed: highest, lowest"),
        ({"layers": "0-2"}, "layers: got '0-2'; the model has layers 0-1"),
        ({"layers": "x'; DROP TABLE cube"}, "layers: got"),
        ({"region": "embedding", "layers": "0"}, "region embedding in layers 0 is empty"),
        ({"k": 101}, "k_percent: got 101; allowed: 0 to 100"),
        ({"k": "1.23456"}, "at most 4 decimal places"),
    ],
)
def test_what_cannot_be_asked(cache: Cache, asked: dict[str, str], message: str) -> None:
    k, *_ = [asked.pop("k", 5)]
    with open_cube(cache, write_cube(cache, small_model())) as con:
        for ask in (lambda: selection(con, [k], **asked), lambda: where_changes_sit(con, k, **asked)):
            with pytest.raises(SpecError, match=re.escape(message)):
                ask()


def test_what_else_cannot_be_asked(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    with pytest.raises(SpecError, match="k_percent: got 200"):
        open_cube(cache, run_id, k_percent=200).__enter__()
    with open_cube(cache, run_id) as con:
        with pytest.raises(SpecError, match="by: got 'name'; allowed: layer, module, kind, layer x module"):
            where_changes_sit(con, 5, "name")
        with pytest.raises(SpecError, match="score: got 'size'; allowed: relative, relative_1e-6"):
            score_histogram(con, score="size")
        with pytest.raises(SpecError, match="n_bars: got 0"):
            score_histogram(con, 0)
        with pytest.raises(SpecError, match="the model has layers 0-1"):
            change_summary(con, layers=["5"])
        assert selection(con, []).empty and len(selection(con, [])) == 0
    message = r"does not fit the cube.*nothing does not exist! Tables and views: cube,"
    with pytest.raises(SpecError, match=message), open_cube(cache, run_id) as con:
        con.execute("FROM nothing")


def test_damage_is_named(cache: Cache) -> None:
    older = write_cube(cache, small_model(), scores=("relative", "absolute"))
    with open_cube(cache, older) as con:
        assert len(selection(con, [5])) == 1
        with pytest.raises(
            CacheError, match=r"counts 0 of 16 weights by the score relative_1e-6.*sftknow delta"
        ):
            concentration_curve(con)
        with pytest.raises(CacheError, match="counts 0 of 16"):
            score_histogram(con, score="permuted")
    RunFolder(cache, older).part_paths("cube")[1].unlink()
    with pytest.raises(CacheError, match="damaged"):
        open_cube(cache, older).__enter__()


def test_counts_of_a_model_of_billions(cache: Cache) -> None:
    """Two tensors of 6e9 unchanged weights: half of them are 3e9 of each; 6e9 * 6e9 exceeds 64 bits."""
    n = 6_000_000_000
    tensors = [tensor(layer, "mlp.up", [0], [0], more={"n_params": n, "n_changed": 0}) for layer in (0, 1)]
    zero = {"score": "relative", "bin": 0, "n": n, "sum_score": 0.0, "sum_d2": 0.0}
    with open_run(cache, RunSpec("delta", {"base": "b", "tuned": "t"})) as run:
        run.write_part("delta_tensors", 0, [t.row(i) for i, t in enumerate(tensors)])
        run.write_part("cube", 0, [{**zero, "tensor_id": 0}, {**zero, "tensor_id": 10}])
        run.finish()
    with open_cube(cache, run.run_id) as con:
        assert where_changes_sit(con, 50)["n_restored"].to_list() == [n / 2, n / 2]
        assert selection(con, ["33.3333"])["n_restored"].to_list() == [3_999_996_000]


# -- how the parts lie


def test_a_query_for_one_score_reads_its_row_groups_only(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "ROWS_PER_GROUP", 4)
    run_id = write_cube(cache, small_model())
    for path in RunFolder(cache, run_id).part_paths("cube"):
        part = pq.ParquetFile(path)
        rows = part.read().to_pandas()
        assert rows[["score", "tensor_id", "bin"]].apply(tuple, axis=1).is_monotonic_increasing
        groups = [part.metadata.row_group(i) for i in range(part.num_row_groups)]
        assert all(group.num_rows <= 4 for group in groups) and len(groups) > 5
        spans = [(g.column(2).statistics.min, g.column(2).statistics.max) for g in groups]
        n_scores = rows["score"].nunique()
        assert sum(low != high for low, high in spans) < n_scores  # two scores meet in at most so many
    with open_cube(cache, run_id) as con:
        assert selection(con, [25])["n_restored"].to_list() == [4]
        assert region_tensors(con, "mlp", "1").tensor_ids == [50]


def test_other_tables_lie_as_they_were_written(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    assert RunFolder(cache, run_id).read("delta_tensors")["position"].to_pylist() == list(range(7))

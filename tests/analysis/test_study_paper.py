"""The paper's tables for a study: every cell against the answers themselves, and the files they are written to."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from fake_study import make, mean_of

from sftknow_core.analysis import published
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.study import TABLES, PaperTable, paper_table
from sftknow_core.errors import SpecError
from sftknow_core.present.tables import check_formats, escape, to_csv, to_json, to_latex, write_tables


@pytest.fixture(scope="module")
def tables():
    return make(
        mean_of,
        per_level=40,
        train_accuracy=lambda level, size, k: 0.9 - k / 200,
        kl=lambda level, size: {"60": 0.9, "240": 0.5, "1920": 1.1}[size],
        concentration=lambda k: (0.7 + k / 100, 0.69),
    )


@pytest.fixture(scope="module")
def found(tables):
    return {name: paper_table(name, Study(tables), "words", {"in": 0.25}) for name in TABLES}


def mean_accuracy(tables, level, size, k, test_level=None):
    """Slow: by seed the mean over test levels of the share right, then the mean over seeds."""
    chains = tables.chains[(tables.chains["level"] == level) & (tables.chains["size"] == size)]
    values = []
    for chain in chains["chain"]:
        state = tables.states[(tables.states["chain"] == chain) & (tables.states["k_percent"] == k)]
        rows = tables.answers[tables.answers["state_id"] == state["state_id"].iloc[0]]
        by_level = rows[rows["split"] == "test"].groupby("level")["right"].mean()
        values.append(by_level.mean() if test_level is None else by_level[test_level])
    return float(np.mean(values)), float(np.std(values, ddof=1))


def ours(table):
    return table.frame[table.frame["source"] == "this study"]


def test_all_tables_are_there_in_order(found):
    assert list(found) == list(TABLES) == [
        "figure2", "table2", "figure4", "figure5", "table3", "table4", "table6", "table7", "table9", "table10",
        "table11",
    ]  # fmt: skip
    for table in found.values():
        assert set(table.frame.columns) <= set(table.columns), table.id
        assert "Ye et al." in table.caption or table.id == "figure5"


@pytest.mark.parametrize(("name", "test_level"), [("figure2", None), ("figure4", 4)])
def test_accuracy_over_n_is_that_of_the_answers(tables, found, name, test_level):
    rows = ours(found[name])
    tuned = rows[rows["state"] == "tuned"]
    assert len(tuned) == 15
    for row in tuned.to_dict("records"):
        value, sd = mean_accuracy(tables, row["train_level"], row["size"], 0, test_level)
        assert row["accuracy"] == pytest.approx(value)
        assert row["sd"] == pytest.approx(sd)
        assert row["low"] < value < row["high"]
        assert (row["n"], row["n_seeds"]) == (200 if test_level is None else 40, 3)
    base = rows[rows["state"] == "base"]
    assert base["accuracy"].item() == pytest.approx(0.5 if test_level is None else 1.0)  # levels 0/4 to 4/4
    assert ("majority answer" in set(rows["state"])) == (name == "figure2")


def test_table_2_has_every_test_level_and_the_papers_numbers(tables, found):
    rows = ours(found["table2"])
    assert len(rows) == 5 * 6
    for row in rows.to_dict("records"):
        level = None if pd.isna(row["level"]) else int(row["level"])
        value, sd = mean_accuracy(tables, row["train_level"], "1920", 0, level)
        assert (row["accuracy"], row["sd"]) == (pytest.approx(value), pytest.approx(sd))
    shown = found["table2"].shown
    paper = shown[(shown["source"] == "paper") & (shown["train level"] == "2")]
    assert paper["mean"].item() == "57.5 ± 0.9"  # 57.53 and 0.86
    assert (
        len(found["table2"].frame[found["table2"].frame["source"] == "paper"]) == 30
    )  # no out-of-domain: not asked


def test_figure_5_is_the_mean_kl(tables, found):
    shifts = tables.shifts.merge(tables.chains, on="chain", suffixes=("_question", ""))
    expected = shifts.groupby(["level", "size", "chain"])["kl_nats"].mean().groupby(["level", "size"]).mean()
    for row in found["figure5"].frame.to_dict("records"):
        assert row["kl_nats"] == pytest.approx(expected[row["train_level"], row["size"]])
        assert row["n_scored"] == 40 and row["kl_sd"] < 0.1
    assert "sd" not in found["figure5"].frame


def test_table_3_is_the_mean_share_beside_its_null(tables, found):
    merged = tables.concentration.merge(tables.chains, on="chain")
    expected = merged.groupby(["level", "size", "k_percent"])["share"].mean()
    rows = ours(found["table3"])
    assert len(rows) == 30
    for row in rows.to_dict("records"):
        assert row["share"] == pytest.approx(expected[row["train_level"], row["size"], row["k_percent"]])
        assert row["null_share"] == pytest.approx(0.69)
    shown = found["table3"].shown
    assert set(shown["source"]) == {"this study", "null", "paper"}


def test_table_4_is_the_curve_and_its_paired_gain(tables, found):
    rows = ours(found["table4"])
    curve = rows[rows["k_percent"].notna()]
    assert len(curve) == 5 * 3 * 3
    for row in curve.to_dict("records"):
        value, _ = mean_accuracy(tables, row["train_level"], row["size"], row["k_percent"])
        tuned, _ = mean_accuracy(tables, row["train_level"], row["size"], 0)
        assert row["accuracy"] == pytest.approx(value)
        if row["k_percent"]:
            assert row["gain"] == pytest.approx(value - tuned)
    assert (curve.loc[curve["k_percent"] == 20, "n_chosen"] == 3).all()
    shown = found["table4"].shown
    paper = shown[(shown["source"] == "paper") & (shown["N"] == "240") & (shown["k (%)"] == "0")]
    assert paper["level 2"].item() == "59.3"  # 59.32


def test_table_6_is_the_accuracy_on_the_train_set(found):
    """Seeds agree, so what is left is drawing the questions: at 675 of 750, 1.96 sqrt(.8989 x .1011 / 750) = .0216."""
    rows = ours(found["table6"])
    untouched = rows[rows["k_percent"] == 0]
    assert (untouched["high"] - untouched["accuracy"]).tolist() == pytest.approx([0.0216] * 15, abs=1e-4)
    assert len(rows) == 45
    for row in rows.to_dict("records"):
        assert row["accuracy"] == pytest.approx(round(250 * (0.9 - row["k_percent"] / 200)) / 250)
        assert row["n"] == 250


def test_table_7_says_what_dev_chose_and_what_was_not_run(tables, found):
    table = found["table7"]
    rows = table.frame.set_index("strategy")
    assert (
        rows.loc["divided", "cell"] == "level 2, N = 240 (of 15)" or "N = 240" in rows.loc["divided", "cell"]
    )
    level = re.search(r"level (\d)", rows.loc["restored", "cell"])[1]
    assert rows.loc["restored", "accuracy"] == pytest.approx(mean_accuracy(tables, level, "240", 20)[0])
    assert "NOT RUN" in table.reason and "LoRA" in table.reason and "mixed" in table.reason
    assert rows.loc["LoRA", "paper_accuracy"] == pytest.approx(0.5782)
    assert table.shown.set_index("strategy").loc["LoRA", "in-domain"] == "–"


def test_tables_9_and_10_by_hand(tables):
    """Two chains: layer 0 has 10 of 40 weights, and 6 and 8 of 10 taken: shares 0.6 and 0.8, enrichment 2.4 and 3.2.

    An adapter, and a cell that only one of the seeds has yet, change nothing.
    """
    rows = []
    for chain, taken in (
        ("2-240-3", 6.0),
        ("2-240-4", 8.0),
        ("2-1920-4", 1.0),
        ("lora-3", 1.0),
        ("lora-4", 1.0),
    ):
        for by, names in (("layer", ("0", "1")), ("kind", ("mlp", "attention"))):
            rows.append((chain, 20.0, by, names[0], 10, taken, 5.0))
            rows.append((chain, 20.0, by, names[1], 30, 10 - taken, 5.0))
    columns = ["chain", "k_percent", "by", "group", "n", "n_restored", "n_restored_null"]
    adapters = tables.chains[tables.chains["chain"].isin(["2-240-3", "2-240-4"])]
    adapters = adapters.assign(chain=["lora-3", "lora-4"], method="lora")
    with_places = type(tables)(
        pd.concat([tables.chains, adapters]), tables.states, tables.answers, tables.shifts, tables.concentration,
        pd.DataFrame(rows, columns=columns),
    )  # fmt: skip
    made = {name: paper_table(name, Study(with_places)).frame for name in TABLES}
    assert "mean over 2 full fine-tunings" in paper_table("table9", Study(with_places)).caption
    layer = made["table9"].iloc[0]
    assert (layer["share"], layer["weight_share"]) == (pytest.approx(0.7), pytest.approx(0.25))
    assert (layer["enrichment"], layer["enrichment_null"]) == (pytest.approx(2.8), pytest.approx(2.0))
    mlp = made["table10"].set_index("module").loc["mlp"]
    assert mlp["paper_share"] == pytest.approx(0.8054)


def test_table_11_says_that_it_was_not_run_and_shows_the_papers(found):
    table = found["table11"]
    assert table.reason.startswith("NOT RUN")
    assert set(table.shown["source"]) == {"paper"} and len(table.shown) == 8
    assert table.shown.loc[0, "level 0"] == "9.8"


def test_the_papers_tables_as_printed():
    assert len(published.train_accuracy()) == 30
    assert len(published.layer_blocks()) == 40
    restored = published.strategies().set_index(["strategy", "domain"])["accuracy"]
    assert restored["restored", "in"] == pytest.approx(0.6221) and restored[
        "restored", "out"
    ] == pytest.approx(0.571)


def test_csv_has_the_tidy_numbers(found):
    table = found["table4"]
    lines = to_csv(table).splitlines()
    body = [line for line in lines if not line.startswith("# ")]
    rows = list(csv.DictReader(body))
    assert len(rows) == len(table.frame)
    assert float(rows[3]["accuracy"]) == table.frame["accuracy"].iloc[3]
    assert rows[0]["gain"] == ""


def cells_of_latex(text):
    """The cells between the rules, with escapes undone: a parser of just this dialect."""
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    lines = [line.removesuffix(r"\\").strip() for line in body.strip().splitlines() if line.strip()]
    assert all(r"\\" not in line for line in lines)
    undone = {r"\%": "%", r"\_": "_", r"\&": "&", "$\\pm$": "±", "{[}": "[", "{]}": "]", "--": "–", r"\#": "#",
              r"\{": "{", r"\}": "}", r"\$": "$", r"\textbackslash{}": "\\"}  # fmt: skip
    found = []
    for line in lines:
        cells = []
        for cell in re.split(r"(?<!\\)&", line):
            text = cell.strip()
            for signs, sign in undone.items():
                text = text.replace(signs, sign)
            cells.append(text)
        found.append(cells)
    return found


@pytest.mark.parametrize("name", list(TABLES))
def test_latex_says_what_is_shown(found, name):
    table = found[name]
    parsed = cells_of_latex(to_latex(table))
    assert parsed[0] == list(table.shown.columns)
    assert parsed[1:] == [[" ".join(cell.split()) for cell in row] for row in table.shown.to_numpy().tolist()]
    columns = re.search(r"\\begin\{tabular\}\{([lr]*)\}", to_latex(table))[1]
    assert len(columns) == len(table.shown.columns)


def test_latex_escapes_everything():
    evil = r"50% of $x_1$ & {a} # \input{/etc/passwd} ~ ^ <b> \\"
    shown = pd.DataFrame({"a_b & c": [evil], "n": ["1"]})
    table = PaperTable("table0", evil, evil, pd.DataFrame(), shown)
    text = to_latex(table)
    assert r"\input" not in text
    assert len(re.findall(r"(?<!\\)%", text)) == len(re.findall(r"(?<!\\)#", text)) == 0
    assert escape(r"\&") == r"\textbackslash{}\&"
    assert len(cells_of_latex(text)[1]) == 2


def test_files(found, tmp_path):
    made = write_tables(found.values(), tmp_path / "new", ("csv", "json"))
    assert [path.name for path in made[:2]] == ["figure2.csv", "figure2.json"] and len(made) == 22
    read = json.loads((tmp_path / "new" / "table9.json").read_text())
    assert read == json.loads(json.dumps(to_json(found["table9"])))
    assert read["reason"].startswith("NOT RUN") and read["rows"] == []
    for wrong in (["pdf"], []):
        with pytest.raises(SpecError, match="allowed: csv, latex, json"):
            check_formats(wrong)

"""Mastery drawn and said: traces carry the tables' numbers; the paper's sums are its own; words name n and units."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sftknow_core.analysis import published as paper
from sftknow_core.facts.topics import load_topics, topics_id
from sftknow_core.measure.levels import Agreement
from sftknow_core.present.charts import mastery
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette, ink
from sftknow_core.present.text import mastery as mastery_text
from sftknow_core.results.mastery import Numbers

LEVELS = pd.DataFrame({"level": range(5), "n_facts": [2, 3, 0, 1, 4], "share": [0.2, 0.3, 0.0, 0.1, 0.4]})
FACT: dict[str, Any] = {
    "fact_id": "f", "topic": "P19", "split": "test", "domain": "in", "question": "Where was Ada Lov born?",
    "gold": "United States of America", "n_templates": 21, "n_samples": 210, "n_correct": 52, "r": 52 / 210,
    "r_low": 0.14, "r_high": 0.36, "level": 1, "borderline": True, "expected_mastery": 0.24,
    "expected_level0_marked": False, "reason": None,
}  # fmt: skip
TEMPLATES = pd.DataFrame(
    {"template": [0, 1], "n_correct": [7, 0], "n_samples": 10, "share": [0.7, 0.0], "expected": [0.6, 0.1]}
)


def contrast(first: str, second: str) -> float:
    """WCAG 2.2."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_papers_counts_are_those_of_its_file() -> None:
    with (Path(paper.__file__).parent / "paper" / "mastery_distribution.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 75 and paper.mastery_models() == list(dict.fromkeys(row["model"] for row in rows))
    found = paper.mastery_distribution()
    sums: Counter[tuple[str, int]] = Counter()
    for row in rows:
        sums[row["model"], int(row["level"])] += int(row["count"])
    assert {(m, level): n for m, level, n, _ in found.itertuples(index=False)} == sums
    assert found.groupby("model")["share"].sum().tolist() == pytest.approx([1.0] * 5)
    assert found.groupby("model")["n_facts"].sum().unique().tolist() == [75_944 + 9_555 + 11_613]


@pytest.mark.parametrize(
    ("split", "domain", "sets", "n"),
    [
        ("train", "in", ["train"], 75_944),
        ("test", "in", ["test"], 9_555),
        ("test", "out", ["testood"], 11_613),
        ("test", None, ["test", "testood"], 21_168),
        (None, "in", ["train", "test"], 85_499),
    ],
)
def test_the_papers_sets_of_a_split_and_domain(split: str, domain: str, sets: list[str], n: int) -> None:
    assert paper.sets_of(split, domain) == sets
    found = paper.mastery_distribution(split, domain)
    assert found.groupby("model")["n_facts"].sum().unique().tolist() == [n]
    table, said = mastery_text.beside_paper(split, domain, ["LLaMA-3-8B"])
    assert f"n = {n:,} facts" in said and "arXiv 2509.16596" in said
    assert table["model"].unique().tolist() == ["LLaMA-3-8B"]


@pytest.mark.parametrize(("split", "domain"), [("dev", None), ("train", "out")])
def test_what_the_paper_has_not_is_said(split: str, domain: str | None) -> None:
    table, said = mastery_text.beside_paper(split, domain, paper.mastery_models())
    assert table.empty and list(table.columns) == ["model", "level", "n_facts", "share"]
    assert "no dev set" in said


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_levels_are_an_ordered_scale_with_readable_numbers(palette: Palette) -> None:
    scale = palette.levels
    strengths = [contrast(colour, palette.background) for colour in scale]
    assert strengths == sorted(strengths) and len(set(scale)) == 5
    for colour in scale:
        assert contrast(ink(colour, "#111111", "#ffffff"), colour) >= 4.5
    assert set(scale).isdisjoint({palette.base, palette.tuned, palette.restored})


def test_the_distribution_carries_shares_counts_and_the_paper() -> None:
    theirs = paper.mastery_distribution("test", "in")
    theirs = theirs[theirs["model"].isin(["LLaMA-3-8B", "LLaMA-2-7B"])]
    drawn = mastery.distribution_figure(LEVELS, theirs)
    bars, first, second = drawn.data
    assert list(bars.y) == LEVELS["share"].tolist() and bars.text[4] == "<b>40.0%</b><br>4"
    assert list(first.y) == pytest.approx([n / 9555 for n in (2383, 3664, 1484, 1109, 915)])
    assert (first.name, second.name) == ("paper: LLaMA-3-8B", "paper: LLaMA-2-7B")
    assert first.marker.symbol != second.marker.symbol
    assert not mastery.distribution_figure(LEVELS, theirs.iloc[:0]).layout.showlegend


def test_the_topics_are_stacked_in_order_with_room_between_domains() -> None:
    topics = pd.DataFrame(
        [
            (topic, domain, 10, r, level, n, n / 10)
            for topic, domain, r, counts in (
                ("P19", "in", 0.5, [1, 2, 3, 4, 0]),
                ("P50", "out", 0.9, [0, 0, 0, 0, 10]),
            )
            for level, n in enumerate(counts)
        ],
        columns=["topic", "domain", "n_topic", "mean_r", "level", "n_facts", "share"],
    )
    drawn = mastery.topics_figure(topics, mastery_text.topic_names(topics))
    assert [list(trace.x) for trace in drawn.data] == [[0.1, 0], [0.2, 0], [0.3, 0], [0.4, 0], [0, 1.0]]
    assert list(drawn.data[0].y) == [0, 2]
    assert list(drawn.layout.yaxis.ticktext) == ["place of birth (P19), 10", "author (P50), 10"]
    assert [note.text for note in drawn.layout.annotations] == ["<b>in-domain</b>", "<b>out-of-domain</b>"]
    assert list(drawn.data[0].text) == ["10%", ""]


def test_the_histogram_has_all_bins_and_the_borders() -> None:
    bins = pd.DataFrame(
        {
            "r_from": [0, 0, 0.95],
            "r_to": [0, 0.05, 1.0],
            "level": [0, 1, 4],
            "n_facts": [5, 3, 2],
            "share": 0.1,
        }
    )
    drawn = mastery.histogram_figure(bins)
    assert list(drawn.data[0].y) == [5, 3, 2]
    assert drawn.data[0].customdata[1][0] == "R above 0%, up to 5%"
    assert [line.x0 for line in drawn.layout.shapes][1:] == [0.25, 0.5, 0.75]


def test_the_heat_map_counts_facts_in_cells() -> None:
    cells = pd.DataFrame({"r_bin": [0, 20, 20], "expected_bin": [0, 19, 20], "n_facts": [100, 10, 1]})
    heat = mastery.expected_figure(cells).data[0]
    assert (heat.z[0][0], heat.z[19][20], heat.z[20][20]) == (2.0, 1.0, 0.0)
    assert heat.z[5][5] is None
    assert list(heat.customdata[19][20]) == ["above 95%, up to 100%", "above 90%, up to 95%", 10]
    assert mastery_text.cell_table(cells)["expected_bin_to"].tolist() == [0, 0.95, 1.0]
    assert mastery.expected_figure(cells.iloc[:0]).data[0].z[0][0] is None


def test_one_fact_is_drawn_with_its_interval_and_templates() -> None:
    r, expected = mastery.place_figure(FACT).data
    assert r.x[0] == FACT["r"] and r.error_x.array[0] == pytest.approx(0.36 - 52 / 210)
    assert r.error_x.arrayminus[0] == pytest.approx(52 / 210 - 0.14) and expected.x[0] == 0.24
    lone = mastery.place_figure(FACT | {"r_low": None, "r_high": None, "expected_mastery": None}).data
    assert len(lone) == 1 and lone[0].error_x.array is None
    bars, diamonds, line = mastery.templates_figure(TEMPLATES, 0.35).data
    assert list(bars.x) == [1, 2] and list(bars.y) == [0.7, 0.0] and list(diamonds.y) == [0.6, 0.1]
    assert list(line.y) == [0.35, 0.35]
    assert len(mastery.templates_figure(TEMPLATES.assign(expected=float("nan")), 0.35).data) == 2


def test_the_verdict_says_what_borderline_means() -> None:
    said = mastery_text.verdict(FACT)
    assert "52 of 210 completions" in said and "95% CI 14.0% to 36.0%, over 21 templates" in said
    assert "95% CI crosses 25%, so another level is possible" in said and "“USA”" in said
    both = mastery_text.verdict(FACT | {"r_low": 0.2, "r_high": 0.6})
    assert "crosses 25% and 50%" in both
    assert "crosses none of 25, 50 and 75%" in mastery_text.verdict(FACT | {"borderline": False})
    marked = FACT | {"level": 0, "r": 0.0, "n_correct": 0, "expected_level0_marked": True}
    assert "possible false level 0" in mastery_text.verdict(marked)
    assert "a single template" in mastery_text.verdict(
        FACT | {"r_low": None, "r_high": None, "borderline": None}
    )
    assert mastery_text.verdict(FACT | {"level": None, "reason": "too *few*"}).endswith(
        "No mastery level: too \\*few\\*"
    )


def test_prompts_are_rebuilt_or_said_to_be_unknown() -> None:
    shipped = load_topics()
    prompts, _ = mastery_text.prompts_of(FACT, topics_id(shipped))
    assert prompts == [shipped["P19"].completion(i, "Ada Lov") for i in range(21)]
    table = mastery_text.template_table(TEMPLATES, prompts)
    assert table["template"].tolist() == [1, 2] and table["right"].tolist() == ["7 of 10", "0 of 10"]
    assert table["prompt"].tolist() == prompts[:2]
    assert mastery_text.prompts_of(FACT, "0123") == (None, mastery_text.prompts_of(FACT, "0123")[1])
    assert "other topics" in mastery_text.prompts_of(FACT, "0123")[1]
    unknown, why = mastery_text.prompts_of(FACT | {"question": "Quite another?"}, None)
    assert unknown is None and "few-shot examples are not stored" in why
    assert mastery_text.template_table(TEMPLATES, None)["prompt"].tolist() == ["unknown"] * 2


def test_cards_give_n_and_what_is_missing() -> None:
    confusion = ((5, 2, 0, 0, 0), (0, 1, 0, 0, 0), *((0,) * 5 for _ in range(3)))
    numbers = Numbers(10, 9, 0.5, 3, 9, 0, 0, {}, Agreement(8, 0.9876, 0.0123, confusion))
    found = {card.name: card for card in mastery_text.cards(numbers, [[3, 1], [0, 4]])}
    values = [card.parts[0].value for card in found.values()]
    assert values == ["10", "50.0%", "33.3%", "–", "0.988", "87.5%"]
    assert found["Facts"].parts[0].interval == "1 have no level"
    assert found["Split-half agreement"].parts[0].interval == "n = 8 facts of the whole run"
    assert "difference 1.2 pp" in found["R vs. expected mastery"].sentence
    assert "same level for 75.0% of the facts" in found["R vs. expected mastery"].sentence
    assert "Spearman 0.988" in mastery_text.agreement(numbers)
    without = replace(numbers, agreement=Agreement(0, None, None, ()))
    assert "was not computed" in mastery_text.agreement(without)
    assert "was not computed" in mastery_text.cards(without, ())[4].sentence
    assert (
        mastery_text.not_scored({"no examples": 2}).endswith("2: no examples.")
        and mastery_text.not_scored({}) == ""
    )


def test_greedy_answers_are_listed_with_their_marks() -> None:
    answers = pd.DataFrame(
        [("completion", 4, "Gold", True), ("question", None, "*Oslo*\nQ:", False)],
        columns=["how", "template", "text", "is_right"],
    ).astype({"template": "Int64"})
    assert mastery_text.said(answers).splitlines() == [
        "- Base (completion template 5): **Gold** ✓",
        "- Base (zero-shot): **\\*Oslo\\* Q\\:** ✗",
    ]


def test_equal_completions_stand_together_the_most_frequent_first() -> None:
    table = mastery_text.sample_table(["Where?", "Who?"], [[" Rome\nand", "Oslo", "Rome"], [""]])
    assert table["samples"].tolist() == ["Rome ×2 · Oslo", "(empty)"]
    assert table["template"].tolist() == [1, 2]

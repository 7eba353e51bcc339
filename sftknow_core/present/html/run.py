"""The static report of a run: one HTML file, and its part on token shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core import __version__
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.charts.palette import THEMES
from sftknow_core.present.html import run_data
from sftknow_core.present.html.page import Plain, as_table, bullets, cards, page_of
from sftknow_core.present.html.run_data import Shown, Slider
from sftknow_core.present.text import restore, story
from sftknow_core.present.text import tokens as tokens_text
from sftknow_core.results import Chain, Questions
from sftknow_core.results.questions import Filters
from sftknow_core.store.cache import Cache

MOST_SHIFTED = 40
"""Questions in the list."""
WITH_TOKENS = 5
"""Of them so many are opened, with the ten tokens at every k."""
_LISTED = [
    "question",
    "topic",
    "level",
    "domain",
    "gold",
    "kl",
    "base_answer",
    "tuned_answer",
    "restored_answer",
]
_GOLD = ["gold_p_base", "gold_p_tuned"]


def add_tokens(shown: Shown, questions: Questions, slider: Slider) -> tuple[list[Plain], str | None]:
    """Test questions that were scored. Returns the opened ones, and why there are none (None: there are)."""
    asked = questions.table
    split = "test" if "test" in asked.splits else asked.splits[0]
    if not asked.ks or questions.spread(Filters(asked.ks[0], split=split)).empty:
        return (
            [],
            "No token shifts: first tokens were not evaluated, or no base completion begins with the answer.",
        )
    opened: list[Plain] = []
    for i, k in enumerate(slider.ks):
        filters = Filters(_restored(asked.ks, k), split=split)
        _add_spread(shown, questions, filters, f"{i}", k)
        moved = _moved_most(questions, filters, k)
        shown.tables[f"shifted.{i}"] = as_table(_marked(moved)[[*_LISTED, *_GOLD]])
        for number, question in enumerate(moved.head(WITH_TOKENS).to_dict("records")):
            about = {str(n): v for n, v in question.items()}
            found = _add_ten(shown, questions, about, f"ten{number}.{i}", k, filters.k_percent)
            if found is not None and i == 0:
                opened.append({"name": f"ten{number}", **found})
    return opened, None


def _restored(ks: tuple[float, ...], k: float) -> float:
    """A k that was restored: the filters know no 0."""
    return k if k in ks else ks[0]


def _add_spread(shown: Shown, questions: Questions, filters: Filters, name: str, k: float) -> None:
    """The histogram of KL, and KL against accuracy; at k = 0 restored is tuned itself."""
    spread = questions.spread(filters)
    levels = questions.by_level(filters)
    if not k:
        spread = spread.assign(n_restored=spread["n_tuned"])
        levels = levels[levels["state"] == "tuned"].reset_index(drop=True)
    columns = {"low": "bin_from", "high": "bin_to", "n_restored": "n_restored_in_bin"}
    shown.draw(
        f"spread.{name}",
        lambda p: tokens_charts.spread_figure(spread, None, k, p),
        spread.rename(columns=columns),
    )
    shown.draw(f"klevels.{name}", lambda p: tokens_charts.by_level_figure(levels, k, p), levels)


def _moved_most(questions: Questions, filters: Filters, k: float) -> pd.DataFrame:
    """The scored questions by KL after tuning, which does not depend on k."""
    rows = questions.frame(filters)
    rows = rows[rows["kl"].notna()].head(MOST_SHIFTED).reset_index(drop=True)
    if not k:
        rows = rows.assign(restored_answer=rows["tuned_answer"], restored_right=rows["tuned_right"])
    return rows


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    """Answers with ✓ or ✗ before them."""
    marks = {True: "✓ ", False: "✗ "}
    said = {
        f"{who}_answer": rows[f"{who}_right"].map(marks) + rows[f"{who}_answer"].fillna("")
        for who in ("base", "tuned", "restored")
    }
    return rows.assign(**said, topic=rows["topic"].map(tokens_text.topic_name))


def _add_ten(
    shown: Shown,
    questions: Questions,
    question: Mapping[str, Any],
    name: str,
    k: float,
    restored_k: float,
) -> Plain | None:
    """The ten tokens of one question at one k; what is said of the question. At k = 0 restored is tuned itself."""
    found = questions.first_token(str(question["fact_id"]), restored_k)
    if found is None:
        return None
    tokens = found.tokens
    if not k:
        tokens = tokens[tokens["p_tuned"].notna() | tokens["is_gold"]].assign(
            p_restored=lambda t: t["p_tuned"], rank_restored=lambda t: t["rank_tuned"]
        )
    shown.draw(name, lambda p: tokens_charts.tokens_figure(tokens, k, p), tokens)
    shown.tables[name] = _plain_table(tokens_text.token_table(tokens))
    about = (
        f"{tokens_text.topic_name(question['topic'])} · mastery level {question['level']} · gold answer: "
        f"{question['gold']} · KL {question['kl']:.2f} nats"
    )
    return {"question": str(question["question"]), "about": about, "back": tokens_text.comes_back(question)}


def _plain_table(table: pd.DataFrame) -> Plain:
    """text.tokens.token_table, whose shares are texts already."""
    rows = [["–" if pd.isna(v) else str(v) for v in row] for row in table.itertuples(index=False)]
    names = [str(name) for name in table.columns]
    return {"head": names, "numeric": [name != "token" for name in names], "rows": rows}


# A finished chain -> one HTML file that opens anywhere, offline: figures, slider, questions, definitions.
#
#     cache --html_data, html_tokens--> JSON --html/report.html.j2--> page with plotly.js inside, once
#
# Nothing in it can load or send anything: its policy lets only its own two scripts run, which are named by their
# hashes. What models said goes in as JSON and becomes text nodes, never markup. The same cache gives the same bytes.


def render(cache: Cache, run_id: str) -> str:
    """The report of a finished chain. Raises GoneError, NotFinishedError and DamagedError."""
    chain = Chain(cache, run_id)
    rows = chain.measured()
    slider, shown = run_data.slider_of(chain, rows), Shown()
    label = run_data.add_chains(shown, chain)
    prompts = run_data.add_prompts(shown, chain)
    run_data.add_answers(shown, chain, slider, rows)
    no_weights = run_data.first_or_reason(lambda: run_data.add_weights(shown, chain, slider))
    opened, no_tokens = add_tokens(shown, chain.all_questions, slider)
    page = {
        "label": label,
        "run_id": run_id,
        "version": __version__,
        "finished_at": chain.finished_at,
        "numbers": cards(story.key_numbers(chain)),
        "how_measured": story.how_measured(chain),
        "mean_shift": story.mean_shift(chain),
        "rule": chain.chosen.rule,
        "definitions": _definitions(),
        "opened": opened,
        "no_weights": no_weights,
        "no_tokens": no_tokens,
        "prompts": prompts,
        "asked": prompts[-1]["asked"],
        "splits": slider.splits,
        "test_costs": restore.TEST_COSTS,
        "flips_say": restore.FLIPS_SAY,
        "colours": THEMES,
    }
    return page_of("report.html.j2", page, _data(shown, slider))


def _definitions() -> list[tuple[str, Any]]:
    parts = (
        ("Summary", story.DEFINITIONS),
        ("Restore", restore.DEFINITIONS),
        ("Token shifts", tokens_text.DEFINITIONS),
    )
    return [(name, bullets(text)) for name, text in parts]


def _data(shown: Shown, slider: Slider) -> Mapping[str, Any]:
    """What the script reads."""
    return {
        "labels": slider.labels,
        "chosen": slider.chosen,
        "split": slider.splits[0],
        "words": {split: restore.SPLITS[split] for split in slider.splits},
        "figures": shown.figures,
        "marks": shown.marks,
        "tables": shown.tables,
        "lists": shown.lists,
        "numbers": shown.numbers,
    }

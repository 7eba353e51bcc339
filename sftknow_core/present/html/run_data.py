"""A finished chain in the cache -> everything its static report shows, as JSON: figures, tables and sentences.

    Chain.measured, Cube  -> the slider: one step for each measured k
    Questions             -> token shifts (run.py)

Figures are those of the pages. Each is drawn for both themes, under a name with what it depends on:
"levels.test.2" is the one of test questions at the third k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.errors import CacheError, SftknowError, SpecError
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts import chain as figures
from sftknow_core.present.charts import restore as restore_charts
from sftknow_core.present.charts.palette import THEMES, Palette
from sftknow_core.present.charts.weights import heat_figure
from sftknow_core.present.html.page import Plain, as_table, bullets, cards
from sftknow_core.present.terminal import percent
from sftknow_core.present.text import restore as restore_text
from sftknow_core.present.text import story
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.results import chains, measured
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import ZERO_SHOT, MeasuredState
from sftknow_core.results.weights import Cube

MOST_FLIPPED = 100
"""Most recovered questions listed at each k, and most broken ones."""
_PLACES = ("layer", "module", "n_restored", "share", "weight_share", "enrichment")
Draw = Callable[[Palette], go.Figure]


@dataclass
class Shown:
    """What the report's script draws, filled section by section."""

    figures: dict[str, dict[str, Plain]] = field(default_factory=lambda: {theme: {} for theme in THEMES})
    """Theme -> name -> plotly figure."""
    marks: dict[str, dict[str, Plain]] = field(default_factory=lambda: {theme: {} for theme in THEMES})
    """Theme -> name -> the shapes and annotations that replace those of the figure `name` without its last part."""
    tables: dict[str, Plain] = field(default_factory=dict)
    lists: dict[str, list[list[tuple[str, bool]]]] = field(default_factory=dict)
    """Name -> points, as pieces of text with whether they are bold."""
    numbers: dict[str, list[Plain]] = field(default_factory=dict)
    """Name -> cards."""

    def draw(self, name: str, draw: Draw, table: pd.DataFrame) -> None:
        """A figure and its table."""
        for theme, palette in THEMES.items():
            figure = draw(palette).update_layout(
                paper_bgcolor=palette.background,  # else a saved figure has pale text on nothing
                modebar={"bgcolor": "rgba(0,0,0,0)", "color": palette.faint, "activecolor": palette.text},
            )
            self.figures[theme][name] = plain_figure(figure)
        self.tables[name] = as_table(table)

    def mark(self, name: str, draw: Draw) -> None:
        """Only what is drawn over the lines: where the current k is."""
        for theme, palette in THEMES.items():
            layout = plain_figure(draw(palette))["layout"]
            self.marks[theme][name] = {key: layout.get(key, []) for key in ("shapes", "annotations")}


def plain_figure(figure: go.Figure) -> Plain:
    """The figure as JSON, without plotly's own template."""
    found: Plain = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


@dataclass(frozen=True)
class Slider:
    """The measured k, and what they are called."""

    ks: tuple[float, ...]
    """Increasing; 0 is tuned, at 100 the layers are base."""
    chosen: int
    """Which of them was chosen on dev."""
    splits: tuple[str, ...]
    """Dev first, where both were asked."""
    cube: Cube | None
    """What the comparison of the weights gave; None: they were not compared."""

    @property
    def labels(self) -> list[str]:
        """Labels of the slider's steps."""
        names = {0.0: "0% (tuned)", 100.0: "100% (layers = base)"}
        return [names.get(k, f"{k:g}%") for k in self.ks]


def slider_of(chain: Chain, rows: pd.DataFrame) -> Slider:
    """rows: Chain.measured."""
    scored = rows[rows["state"].isin(["tuned", "restored", "hybrid"]) & rows["accuracy"].notna()]
    ks = tuple(sorted(float(k) for k in scored["k_percent"].dropna().unique()))
    splits = tuple(split for split in ("dev", "test") if (scored["split"] == split).any())
    if not ks or not splits:
        raise CacheError("no answer of this run was scored, so there is no report: evaluate it first")
    chosen = min(range(len(ks)), key=lambda i: abs(ks[i] - chain.best_k))
    return Slider(ks, chosen, splits, Cube.of_pair(chain.cache, chain.base_id, chain.tuned_id))


def add_answers(shown: Shown, chain: Chain, slider: Slider, rows: pd.DataFrame) -> None:
    """Accuracy, its curve, the levels and the flipped questions, for each split and k."""
    asked = story.prompt_names(chain)[ZERO_SHOT]
    for split in slider.splits:
        headline = rows[rows["level"].isna() & (rows["split"] == split)].drop(columns=["level", "split"])
        curve = f"measured.{split}"
        shown.draw(curve, partial(restore_charts.measured_figure, headline, "k", float("nan")), headline)
        for i, k in enumerate(slider.ks):
            name = f"{split}.{i}"
            shown.mark(f"{curve}.{i}", partial(restore_charts.measured_figure, headline, "k", k))
            shown.numbers[f"accuracy.{name}"] = cards(_accuracies(headline, k, asked))
            at = headline[headline["k_percent"] == k]
            state = MeasuredState.of_row(at.iloc[0]) if len(at) else None
            levels = measured.levels_at(rows, state, split) if state else rows.iloc[:0]
            shown.draw(f"levels.{name}", partial(figures.levels_figure, levels), levels)
            _add_flips(shown, chain, name, state if k else None, split)


def _accuracies(headline: pd.DataFrame, k: float, asked: str) -> list[KeyNumber]:
    """One card a domain: the accuracy at k, between base and tuned."""
    found = []
    for domain in headline["domain"].unique():
        of = headline[headline["domain"] == domain]
        states = {"base": of[of["state"] == "base"], "tuned": of[of["state"] == "tuned"]}
        states[f"k = {k:g}%" if k else "k = 0%, tuned"] = of[of["k_percent"] == k]
        parts = tuple(_part(name, rows) for name, rows in states.items() if k or name != "tuned")
        n = int(of["n"].max())
        said = f"n = {n:,}; mean over the mastery levels; {asked}."
        found.append(KeyNumber(DOMAIN_NAMES.get(domain, domain).capitalize(), parts, said))
    return found


def _part(name: str, rows: pd.DataFrame) -> Part:
    if rows.empty or pd.isna(rows["accuracy"].iloc[0]):
        return Part(name, "–", "not evaluated")
    row = rows.iloc[0]
    return Part(name, f"{percent(row['accuracy'])}%", f"{percent(row['low'])} to {percent(row['high'])}")


def _add_flips(shown: Shown, chain: Chain, name: str, state: MeasuredState | None, split: str) -> None:
    """Counts, tests and lists of the questions whose answer changed between tuned and this state."""
    if state is None:
        shown.lists[f"flips.{name}"] = [[("k = 0 is the tuned model: no weight is reverted.", False)]]
        shown.tables[f"flips.{name}"] = as_table(pd.DataFrame(columns=["flip"]))
        return
    counts = chain.flip_counts(state, split)
    shown.lists[f"flips.{name}"] = bullets(restore_text.flip_sentences(counts, state.k_percent))
    some = [chain.flipped(state, split, flips=(flip,), most=MOST_FLIPPED) for flip in ("healed", "broken")]
    listed = pd.concat(some, ignore_index=True).replace({"flip": restore_text.OUTCOMES})
    shown.tables[f"flips.{name}"] = as_table(listed)


def add_weights(shown: Shown, chain: Chain, slider: Slider) -> str | None:
    """The weights reverted at each k, from the cube; returns why there are none, or None."""
    cube = slider.cube
    if cube is None:
        return "The weights of these two models are not compared in this cache."
    try:
        curve = cube.curve(chain.restoring)
    except SpecError as error:
        return f"No counts for this ranking: {error}"
    score = restore_text.score_of(chain.restoring)
    shown.draw("taken", partial(restore_charts.reverted_figure, curve, float("nan"), score), thinned(curve))
    for i, k in enumerate(slider.ks):
        spec = chain.restoring_at(k)
        numbers = cube.selection(spec)
        shown.numbers[f"taken.{i}"] = cards(restore_text.cards(numbers, spec))
        shown.mark(f"taken.{i}", partial(restore_charts.reverted_figure, curve, k, score))
        where = cube.places(spec)
        share = 100 * numbers.n_restored / numbers.n_region
        places = pd.concat([where.modules, where.layers], ignore_index=True)
        shown.draw(
            f"places.{i}",
            partial(restore_charts.places_figure, where.layers, where.modules, share),
            places[[c for c in _PLACES if c in places]],
        )
        heat = cube.heat(spec)
        shown.draw(f"heat.{i}", partial(heat_figure, heat.cells, heat.layers, heat.modules), heat.cells)
    return None


def thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Whole k only, for the table beside a curve of hundreds of points."""
    kept = curve["k_percent"].isin([0.01, 0.1, 0.5, *range(0, 101, 5), 1, 2, 3, 4])
    return curve.loc[
        kept, ["k_percent", "share", "null_share", "null_low", "null_high", "energy_taken_back"]
    ].reset_index(drop=True)


def add_prompts(shown: Shown, chain: Chain) -> list[dict[str, str]]:
    """Test accuracy under each prompt that all states were asked with: its name, and the ends of its figures' names."""
    found = []
    for prompt, asked in story.prompt_names(chain).items():
        curve, levels = chain.curve("test", prompt), chain.levels(prompt)
        shown.draw(f"curve-{prompt}", partial(figures.restoration_figure, curve), curve)
        shown.draw(f"levels-{prompt}", partial(figures.levels_figure, levels), levels)
        found.append({"name": prompt, "asked": asked})
    return found


def add_chains(shown: Shown, chain: Chain) -> str:
    """All comparable chains by prompt; returns this one's name. Raises CacheError when it cannot be read."""
    found = chains.survey(chain.cache)
    for prompt in chain.prompts:
        results = chains.comparable(found, chain.run_id, prompt)
        shown.draw(f"chains-{prompt}", partial(figures.chains_figure, results, chain.run_id), results)
    return str(found.finished.set_index("run_id")["label"][chain.run_id])


def first_or_reason(read: Callable[[], str | None]) -> str | None:
    """None, or why this part of the report is empty."""
    try:
        return read()
    except SftknowError as error:
        return str(error)

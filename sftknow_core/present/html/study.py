"""A study -> one HTML file that opens anywhere, offline: verdicts, advice, scorecard, figures, tables, definitions.

    StudyResults --figures and texts--> JSON --html/study.html.j2--> page (html/page.py)

The same cache gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sftknow_core import __version__
from sftknow_core.analysis import rows as rows_analysis
from sftknow_core.analysis.claims import part_table, verdict_table
from sftknow_core.analysis.drives import Drives
from sftknow_core.analysis.estimates import PROMPT_NAMES, prompts_of
from sftknow_core.analysis.paper_table import said
from sftknow_core.analysis.study import StudyResults
from sftknow_core.present import columns
from sftknow_core.present.charts import drives as drives_charts
from sftknow_core.present.charts import study as study_charts
from sftknow_core.present.charts.palette import THEMES, Palette
from sftknow_core.present.charts.study import UNITS, verdict_figures
from sftknow_core.present.columns import Column
from sftknow_core.present.html.page import Plain, bullets, page_of
from sftknow_core.present.html.run_data import Shown
from sftknow_core.present.text import drives as drives_text
from sftknow_core.present.text import study as study_text

_CLAIMS = (
    "verdict",
    "claim_id",
    "domain",
    "title",
    "sentence",
    "effect",
    "low",
    "high",
    "unit",
    "n",
    "seeds",
    "p_holm",
    "p_fdr",
)
Draw = Callable[[Palette], go.Figure | None]


def render(results: StudyResults, drives: Drives | None = None) -> str:
    """The report. drives: of the same study; None: without the part about what drives it."""
    shown, about, alpha = Shown(), results.about, results.plan.rule.alpha
    known = columns.table("claims")
    table = study_text.claim_rows(verdict_table(results.verdicts))
    shown.tables["claims"] = as_texts(table, {name: known[name] for name in _CLAIMS})
    scores = study_text.scores(results.scorecard)
    shown.tables["scores"] = as_texts(scores, columns.own("scores"))
    for one in (*results.tables, results.flips):
        shown.tables[one.id] = _plain_table(one.shown)
    page = {
        "label": f"{about.name}: {about.base_name}, seeds {', '.join(map(str, about.seeds))}",
        "run_id": about.run_id,
        "progress": f"{about.n_done} of {about.n_cells} cells done.",
        "created_at": about.created_at,
        "version": __version__,
        "counted": study_text.counted(results.verdicts),
        "rule": bullets(
            f"- {study_text.rule_said(about.fixed)}\n- {study_text.joint(results.verdicts, alpha)}"
        ),
        "effects": _effects(shown, results),
        "advice": results.advice,
        "no_advice": results.no_advice,
        "scorecard": bullets(study_text.SCORECARD),
        "figures": _figures(shown, results),
        "drives": _drives(shown, drives) if drives else [],
        "tables": results.tables,
        "flips": results.flips,
        "definitions": bullets(study_text.definitions(results.plan)),
        "colours": THEMES,
    }
    data = {name: getattr(shown, name) for name in ("figures", "marks", "tables", "lists", "numbers")}
    return page_of("study.html.j2", page, data)


def _effects(shown: Shown, results: StudyResults) -> list[Plain]:
    parts = part_table(results.verdicts)
    found = []
    for number, unit in enumerate(verdict_figures(results.verdicts)):
        name = f"effects{number}"
        shown.draw(name, partial(_of_unit, results, unit), parts)
        shown.tables[name] = as_texts(parts[parts["unit"] == unit], columns.own("claims"))
        found.append({"name": name, "unit": UNITS.get(unit, unit)})
    return found


def _of_unit(results: StudyResults, unit: str, palette: Palette) -> go.Figure:
    return verdict_figures(results.verdicts, palette)[unit]


def _figures(shown: Shown, results: StudyResults) -> list[Plain]:
    study, cell, large = results.study, results.cell, results.plan.large
    made: list[tuple[str, str, str, Draw, pd.DataFrame]] = []
    captions = {table.id: table for table in results.tables}
    prompts = prompts_of(study)
    for name, draw, level in (("figure2", study_charts.figure2, None), ("figure4", study_charts.figure4, 4)):
        for prompt in prompts:
            rows = rows_analysis.accuracy_rows(study, level, prompt=prompt)[0]
            table, asked = captions[name], PROMPT_NAMES[prompt]
            drawn = partial(draw, study, prompt=prompt)
            title = f"{table.name}, {asked}: {table.title}"
            made.append((f"{name}-drawn-{asked}", title, table.caption, _of(drawn), rows))
    table, rows = captions["figure5"], rows_analysis.kl_rows(study)[0]
    draw5 = _of(study_charts.figure5, study)
    made.append(("figure5-drawn", f"{table.name}: {table.title}", table.caption, draw5, rows))
    beyond = study_text.BEYOND
    for prompt in prompts:
        rows, asked = rows_analysis.curve_rows(study, large, prompt=prompt), PROMPT_NAMES[prompt]
        restored = _of(partial(study_charts.restoration_figure, study, large, prompt=prompt))
        title = f"Restored vs. base, {asked}, N = {large}"
        made.append((f"restored-{asked}", title, beyond["restored"], restored, rows))
    if cell is not None:
        where = f", {cell}"
        knowledge = _of(study_charts.knowledge_figure, study, cell)
        rows = rows_analysis.format_rows(study, cell)
        made.append(("format", f"Knowledge and format{where}", beyond["format"], knowledge, rows))
        energy = _of(study_charts.energy_figure, study, cell)
        rows = rows_analysis.energy_rows(study, cell)
        made.append(
            ("energy", f"Rankings at equal update size, zero-shot{where}", beyond["energy"], energy, rows)
        )
    for prompt in prompts:
        rows, asked = rows_analysis.recovered_rows(study, large, prompt=prompt), PROMPT_NAMES[prompt]
        healed = _of(partial(study_charts.recovered_figure, study, large, prompt=prompt))
        title = f"Recovered questions, {asked}, N = {large}"
        made.append((f"healed-{asked}", title, beyond["healed"], healed, rows))
    kept = [one for one in made if _draw(shown, one[0], one[3], one[4], columns.own("paper"))]
    return [
        {"name": name, "title": title, "caption": caption.replace("`", "")}
        for name, title, caption, _, _ in kept
    ]


def _drives(shown: Shown, drives: Drives) -> list[Plain]:
    """Sections of what drives the study: heading, figures, and what was not run."""
    rates, level = drives.rates, drives.rates.levels()[-1]
    accuracies, gains, steps, norms = rates.accuracies(), rates.gains(), rates.steps(), rates.norms()
    large, where = drives.large, drives_text.level_name(level)
    figures: dict[str, list[tuple[str, str, Draw, pd.DataFrame, str]]] = {
        "rates": [
            ("rates", where, _of(drives_charts.rate_figure, accuracies, gains, level), gains, "rates"),
            ("steps", where, _of(drives_charts.step_figure, steps, level), steps, "rates"),
            ("norms", where, _of(drives_charts.norm_figure, norms, level), norms, "rates"),
        ],
        "masks": [
            (
                "masks",
                cell,
                _of(drives_charts.overlap_figure, drives.overlaps, cell),
                drives.overlaps,
                "masks",
            )
            for cell in list(dict.fromkeys(drives.overlaps["cell"]))[-1:]
        ],
        "forgotten": [],
        "access": [],
    }
    if drives.forgetting is not None:
        table = drives.forgetting.coefficients(large)
        table = drives_text.named_terms(table, drives_text.levels_of(drives))
        shares = drives.forgetting.probabilities()
        size = drives_text.size_name(large)
        figures["forgotten"] = [
            ("forgotten", size, _of(drives_charts.forgotten_figure, table), table, "forgotten"),
            ("probabilities", "", _of(drives_charts.probability_figure, shares), shares, "forgotten"),
        ]
    if not drives.accessibility.missing():
        rows, cell = drives.accessibility.rows(), drives.accessibility.cells()[-1]
        draw = _of(drives_charts.access_figure, rows, cell.level, cell.size, str(rows["way"].iloc[0]))
        figures["access"] = [("access", str(cell), draw, rows, "access")]
    lacking = drives_text.lacking(drives)
    sections = []
    for name, found in figures.items():
        kept = [
            one for one in found if _draw(shown, f"drives-{one[0]}", one[2], one[3], columns.table(one[4]))
        ]
        titles = [
            {"name": f"drives-{one}", "title": place, "caption": drives_text.CAPTIONS[one].replace("*", "")}
            for one, place, *_ in kept
        ]
        note = lacking.get(name, "").replace("`", "")
        sections.append({"title": drives_text.TITLES[name], "figures": titles, "note": note})
    return sections


def _of(draw: Callable[..., go.Figure | None], *given: Any) -> Draw:
    return lambda palette: draw(*given, palette=palette)


def _draw(
    shown: Shown, name: str, draw: Draw, rows: pd.DataFrame, named: Mapping[str, Column]
) -> bool:  # whether there was anything to draw
    if draw(THEMES["light"]) is None:
        return False
    shown.draw(name, lambda palette: draw(palette) or go.Figure(), rows)
    shown.tables[name] = as_texts(rows, named)
    return True


def as_texts(rows: pd.DataFrame, named: Mapping[str, Column]) -> Plain:
    """A table as page.as_table gives it, with these headers; other columns are left out."""
    names = [name for name in named if name in rows]
    written = [[said(value, named[name].format) for value in rows[name]] for name in names]
    return {
        "head": [named[name].header for name in names],
        "numeric": [named[name].format is not None for name in names],
        "rows": [list(row) for row in zip(*written, strict=True)],
    }


def _plain_table(shown: pd.DataFrame) -> Plain:
    rows = [list(map(str, row)) for row in shown.itertuples(index=False, name=None)]
    return {"head": list(map(str, shown.columns)), "numeric": [False] * len(shown.columns), "rows": rows}

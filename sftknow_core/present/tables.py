"""Tables of a study as files: CSV (tidy, full numbers), LaTeX (booktabs, as printed), JSON (both).

Raw numbers go to CSV and JSON; LaTeX has the printed texts, every sign that means something to TeX escaped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from sftknow_core.analysis.paper_table import NOTHING, PaperTable
from sftknow_core.errors import SpecError
from sftknow_core.store.files import write_atomic

FORMATS = ("csv", "latex", "json")
_SUFFIXES = {"csv": ".csv", "latex": ".tex", "json": ".json"}
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$",
    "[": "{[}", "]": "{]}", '"': "''", "→": r"$\rightarrow$",
}  # fmt: skip


def to_csv(table: PaperTable) -> str:
    """The tidy frame, a header and one line a row, shares 0 to 1; lines of "# " before it say what it is."""
    out = io.StringIO()
    said = [f"{table.name}: {table.title}", table.caption, *([table.reason] if table.reason else [])]
    out.write("".join(f"# {line}\n" for line in said))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.frame.columns)
    writer.writerows([["" if _nothing(value) else value for value in row] for row in _rows(table.frame)])
    return out.getvalue()


def to_latex(table: PaperTable) -> str:
    """A table environment with booktabs rules; \\usepackage{booktabs} is all it needs."""
    lead = f"{table.name} of the paper, on this study" if table.of_paper else table.name
    caption = f"{lead}: {table.title}. {table.caption} {table.reason}".strip()
    wrapped = table.shown if len(table.shown.columns) else pd.DataFrame({"": []})
    numeric = [name for name in wrapped.columns if _numeric(wrapped[name].tolist())]
    columns = "".join("r" if name in numeric else "l" for name in wrapped.columns)
    body = [" & ".join(map(escape, row)) + r" \\" for row in _rows(wrapped)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\caption{" + escape(caption) + "}",
            r"\label{tab:" + table.id + "}",
            r"\begin{tabular}{" + columns + "}",
            r"\toprule",
            " & ".join(escape(str(name)) for name in wrapped.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: object) -> str:
    """Text that TeX prints as it stands. Line ends become spaces."""
    return "".join(_ESCAPES.get(sign, sign) for sign in " ".join(str(text).split()))


def to_json(table: PaperTable) -> dict[str, Any]:
    """What JSON can hold: id, title, caption, reason, columns (name -> header, meaning), rows (tidy), shown (texts)."""
    named = {name: table.columns[name][:2] for name in table.frame.columns if name in table.columns}
    return {
        "id": table.id,
        "title": table.title,
        "caption": table.caption,
        "reason": table.reason,
        "columns": {
            name: {"header": header, "meaning": meaning} for name, (header, meaning) in named.items()
        },
        "rows": [dict(zip(table.frame.columns, map(_plain, row), strict=True)) for row in _rows(table.frame)],
        "shown": {"columns": list(table.shown.columns), "rows": _rows(table.shown)},
    }


def write_tables(tables: Iterable[PaperTable], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """One file a table and format; the files written, in order. SpecError for an unknown format or a folder that
    cannot be written."""
    formats = check_formats(formats)
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            for one in formats:
                path = folder / f"{table.id}{_SUFFIXES[one]}"
                write_atomic(path, _written(table, one).encode())
                made.append(path)
    except OSError as error:
        raise SpecError(
            f"{folder} cannot be written ({error.strerror}); choose another place with --out"
        ) from error
    return made


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """The same, each once. SpecError for none or an unknown one."""
    found = tuple(dict.fromkeys(formats))
    if unknown := [one for one in found if one not in FORMATS] or ([] if found else ["nothing"]):
        raise SpecError(f"--format: got {', '.join(unknown)}; allowed: {', '.join(FORMATS)}")
    return found


def _written(table: PaperTable, how: str) -> str:
    if how == "csv":
        return to_csv(table)
    if how == "latex":
        return to_latex(table)
    return json.dumps(to_json(table), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    return [list(row) for row in frame.itertuples(index=False, name=None)]


def _nothing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _plain(value: Any) -> Any:
    if _nothing(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not isfinite(value) else value


def _numeric(texts: Sequence[str]) -> bool:
    """Whether a column holds numbers, and is set flush right."""
    filled = [text for text in texts if text != NOTHING]
    return bool(filled) and all(str(text)[:1].isdigit() or str(text)[:1] in "+-" for text in filled)

"""study.toml -> StudySpec. What does not belong there is refused with its place and a suggestion.

A name instead of a file means a study that comes with the package (pipeline/studies/*.toml). Folders and files named in
a study are looked for beside it first, then from the working directory.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import DEMO, FactsRef
from sftknow_core.model.train.sft_spec import SftSpec
from sftknow_core.pipeline.evaluate import EvaluateSpec
from sftknow_core.pipeline.questions import QuestionSpec
from sftknow_core.pipeline.study.spec import Restoring, StudySpec
from sftknow_core.update.spec import RestoreSpec

SHIPPED = Path(__file__).parent.parent / "studies"
_Convert = Callable[[Any, str], Any]


def shipped() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find_study(name_or_file: str | Path) -> Path:
    """The file of a study. Raises SpecError when there is none."""
    given = Path(name_or_file).expanduser()
    if given.is_file():
        return given
    if str(name_or_file) in shipped():
        return SHIPPED / f"{name_or_file}.toml"
    close = difflib.get_close_matches(str(name_or_file), shipped(), 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise SpecError(
        f"study {str(name_or_file)!r}: no file of that name, and no shipped study ({', '.join(shipped())}){hint}"
    )


def read_study(name_or_file: str | Path, *, base: str | None = None, data: str | None = None) -> StudySpec:
    """The study of a file, or a shipped one; base, data: instead of those in the file.

    Raises SpecError naming the file and the place in it.
    """
    path = find_study(name_or_file)
    try:
        plain = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"study {path}: not readable as TOML: {error}") from error
    try:
        spec = study_from(plain, path)
        if base is not None:
            spec = replace(spec, base=base)
        return spec if data is None else replace(spec, data=replace(spec.data, data=data))
    except SpecError as error:
        raise SpecError(f"study {path}: {error}") from error


def study_from(plain: Mapping[str, Any], path: Path) -> StudySpec:
    """The study that the tables of a TOML file describe; path: where it lies. Raises SpecError."""
    given: dict[str, Any] = {"name": path.stem}
    top = {key: value for key, value in plain.items() if key not in _TABLES}
    tables = {key: value for key, value in plain.items() if key in _TABLES}
    given |= _converted(top, _TOP, "")
    for table, entries in tables.items():
        if not isinstance(entries, Mapping):
            raise SpecError(f"{table}: got {_shown(entries)}; allowed: a table, [{table}]")
        found = _converted(entries, _TABLES[table], table)
        given |= _FOLDED[table](found) if table in _FOLDED else found
    if "base" in given:
        given["base"] = _beside(path, given["base"])
    if "data" in given:
        given["data"] = _placed(given["data"], path)
    return StudySpec(**given)


def _placed(ref: FactsRef, path: Path) -> FactsRef:
    data = ref.data if ref.data == DEMO else _beside(path, ref.data)
    return replace(ref, data=data, topics=_beside(path, ref.topics) if ref.topics else None)


def _beside(path: Path, named: str) -> str:
    beside = path.parent / Path(named).expanduser()
    return str(beside.absolute()) if named != DEMO and beside.exists() else named


# -- one value each


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise SpecError(f"{where}: got {_shown(value)}; allowed: a text in quotes")
    return value


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{where}: got {_shown(value)}; allowed: a whole number")
    return value


def _number(value: Any, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{where}: got {_shown(value)}; allowed: a number")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f"{where}: got {_shown(value)}; allowed: true or false")
    return value


def _whole_or_all(value: Any, where: str) -> int | None:
    if value == "all":
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f'{where}: got {_shown(value)}; allowed: a whole number, or "all"')
    return value


def _as_text(value: Any, where: str) -> str:
    """Levels and percentages: 2 and "2" mean the same."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SpecError(f"{where}: got {_shown(value)}; allowed: a number, or a text in quotes")
    return str(value)


def _restoring(value: Any, where: str) -> Restoring:
    if isinstance(value, str):
        return Restoring(strategy=value)
    if not isinstance(value, Mapping):
        raise SpecError(
            f'{where}: got {_shown(value)}; allowed: {{ strategy = "top", region = "transformer" }}'
        )
    return Restoring(**_converted(value, {"strategy": _text, "region": _text, "layers": _text}, where))


def _control(value: Any, where: str) -> tuple[RestoreSpec, ...]:
    """One entry of `controls`: a strategy and all its amounts."""
    if not isinstance(value, Mapping):
        raise SpecError(
            f'{where}: got {_shown(value)}; allowed: {{ strategy = "random", k = [20, 40] }}, or with alpha = [...] '
            "(interpolation) or block = [...] (block, all-but-block) instead of k"
        )
    found = _converted(value, _CONTROL, where)
    amounts = [name for name in ("k", "alpha", "block") if name in found]
    if len(amounts) != 1:
        raise SpecError(
            f"{where}: got {' and '.join(amounts) or 'none of them'}; allowed: one of k, alpha, block"
        )
    field = {"k": "k_percent"}.get(amounts[0], amounts[0])
    each = found.pop(amounts[0])
    return tuple(RestoreSpec(**found, **{field: amount}) for amount in each)


def _controls(value: Any, where: str) -> tuple[RestoreSpec, ...]:
    return tuple(chain.from_iterable(_list_of(_control)(value, where)))


def _list_of(convert: _Convert) -> _Convert:
    def each(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise SpecError(f"{where}: got {_shown(value)}; allowed: a list, e.g. [{_shown(value)}]")
        return tuple(convert(one, f"{where}[{number}]") for number, one in enumerate(value))

    return each


# -- tables

_TOP: dict[str, _Convert] = {"name": _text, "base": _text}
_TABLES: dict[str, dict[str, _Convert]] = {
    "data": {"data": _text, "topics": _text, "filter": _text, "keep_leaks": _flag, "sample": _whole},
    "grid": {
        "levels": _list_of(_as_text),
        "sizes": _list_of(_whole_or_all),
        "seeds": _list_of(_whole),
        "methods": _list_of(_text),
    },
    "training": {
        "preset": _text,
        **{
            one.name: {"str": _text, "int": _whole, "float": _number}.get(str(one.type), _list_of(_text))
            for one in fields(SftSpec)
            if one.name not in ("method", "seed")
        },
    },
    "restoring": {
        "k": _list_of(_as_text),
        "strategies": _list_of(_restoring),
        "controls": _controls,
        "equal_energy": _list_of(_text),
        "control_sizes": _list_of(_whole_or_all),
    },
    "evaluation": {
        "per_level": _whole_or_all,
        "question_seed": _whole,
        "prompt": _text,
        "matcher": _text,
        "max_new_tokens": _whole,
        "first_tokens": _flag,
        "train_questions": _whole_or_all,
        "baselines": _flag,
        "completions": _flag,
    },
    "work": {"checkpoints": _text, "threads": _whole, "workers": _whole},
}


_CONTROL: dict[str, _Convert] = {
    "strategy": _text,
    "region": _text,
    "layers": _text,
    "seed": _whole,
    **dict.fromkeys(("k", "alpha", "block"), _list_of(_as_text)),
}


def _evaluation(found: dict[str, Any]) -> dict[str, Any]:
    questions = {"per_level": found.pop("per_level", None), "seed": found.pop("question_seed", 0)}
    own = {one.name for one in fields(EvaluateSpec)}
    asked = {name: found.pop(name) for name in list(found) if name in own}
    return {"questions": QuestionSpec(**questions), "evaluate": EvaluateSpec(**asked), **found}


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    names = {"k": "ks", "strategies": "restoring"}
    return {names.get(name, name): value for name, value in found.items()}


_FOLDED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "data": lambda found: {"data": FactsRef(**found)},
    "training": lambda found: {k: found.pop(k) for k in list(found) if k == "preset"} | {"training": found},
    "restoring": _renamed,
    "evaluation": _evaluation,
}
"""How the entries of a table become fields of StudySpec; the others have the fields' names."""


def _converted(entries: Mapping[str, Any], known: Mapping[str, _Convert], table: str) -> dict[str, Any]:
    """Every entry, checked and converted; the first unknown key is refused. Raises SpecError."""
    for key in entries:
        if key not in known:
            raise SpecError(_unknown(key, known, table))
    return {key: known[key](value, f"[{table}] {key}" if table else key) for key, value in entries.items()}


def _unknown(key: str, known: Mapping[str, _Convert], table: str) -> str:
    where = f"[{table}]: " if table else ""
    homes = [f"[{name}]" for name, entries in _TABLES.items() if key in entries]
    if key in _TOP:
        homes.append("the top of the file, before the first [table]")
    if homes:
        return f"{where}{key!r} does not belong here; it belongs in {' or '.join(homes)}"
    allowed = [*known, *([] if table else (f"[{name}]" for name in _TABLES))]
    here = difflib.get_close_matches(key, [name.strip("[]") for name in allowed], 1)
    elsewhere = {entry: name for name, entries in _TABLES.items() for entry in entries}
    far = difflib.get_close_matches(key, elsewhere, 1)
    hint = "."
    if here:
        hint = f"; did you mean {here[0]!r}?"
    elif far:
        hint = f"; did you mean {far[0]!r} in [{elsewhere[far[0]]}]?"
    return f"{where}unknown key {key!r}{hint} Allowed: {', '.join(allowed)}"


def _shown(value: Any) -> str:
    """A value as a file would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)

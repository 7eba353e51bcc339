"""study.toml -> StudySpec. What does not belong there is refused with its place and a suggestion.

A name instead of a file means a study that comes with the package (pipeline/studies/*.toml). Folders and files named in
a study are looked for beside it first, then from the working directory.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import DEMO, FactsRef
from sftknow_core.model.train.methods import SftSpec
from sftknow_core.specs import (
    EvaluateSpec,
    Restoring,
    Roles,
    Rule,
    StudySpec,
    field_names,
    in_words,
    unknown_name,
)

SHIPPED = Path(__file__).parent.parent / "studies"

_TOP = ("name", "base")
_TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {name: ("data", name) for name in field_names(FactsRef)},
    "grid": {
        name: (name,)
        for name in ("levels", "sizes", "seeds", "seeds_by_size", "methods", "rates", "match_steps")
    },
    "training": {
        "preset": ("preset",),
        **{name: ("training", name) for name in field_names(SftSpec) if name not in ("method", "seed")},
    },
    "restoring": {
        "k": ("ks",),
        "strategies": ("restoring",),
        **{
            name: (name,)
            for name in ("controls", "equal_energy", "equal_projection", "random_masks", "control_sizes")
        },
    },
    "evaluation": {
        "per_level": ("questions", "per_level"),
        "per_level_by_size": ("per_level_by_size",),
        "question_seed": ("questions", "seed"),
        **{name: ("evaluate", name) for name in field_names(EvaluateSpec)},
        **{name: (name,) for name in ("train_questions", "baselines", "completions", "five_shot")},
    },
    "rule": {name: ("rule", name) for name in field_names(Rule)},
    "work": {name: (name,) for name in ("checkpoints", "threads", "workers")},
}
"""Table -> its keys -> the fields of StudySpec that they give."""


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
            spec = spec.but(base=base)
        return spec if data is None else spec.but(data=replace(spec.data, data=data))
    except SpecError as error:
        raise SpecError(f"study {path}: {error}") from error


def study_from(plain: Mapping[str, Any], path: Path) -> StudySpec:
    """The study that the tables of a TOML file describe; path: where it lies. Raises SpecError."""
    given: dict[str, Any] = {"name": path.stem}
    for key, value in plain.items():
        if key not in _TABLES:
            if key not in _TOP:
                raise SpecError(_unknown(key, _TOP, ""))
            given[key] = value
            continue
        if not isinstance(value, Mapping):
            raise SpecError(f"{key}: got {_shown(value)}; allowed: a table, [{key}]")
        for name, entry in value.items():
            if name not in _TABLES[key]:
                raise SpecError(_unknown(name, list(_TABLES[key]), key))
            *outer, last = _TABLES[key][name]
            (given.setdefault(outer[0], {}) if outer else given)[last] = entry
    try:
        spec = StudySpec.model_validate(given, context={"file": path})
    except ValidationError as error:
        raise SpecError(_refused(error.errors(include_url=False)[0])) from error
    base = _beside(path, spec.base) if spec.base else None
    return spec.but(base=base, data=_placed(spec.data, path))


def _placed(ref: FactsRef, path: Path) -> FactsRef:
    data = ref.data if ref.data == DEMO else _beside(path, ref.data)
    return replace(ref, data=data, topics=_beside(path, ref.topics) if ref.topics else None)


def _beside(path: Path, named: str) -> str:
    beside = path.parent / Path(named).expanduser()
    return str(beside.absolute()) if named != DEMO and beside.exists() else named


def _refused(error: ErrorDetails) -> str:
    """What is wrong, with its place in the file and the value as the file writes it."""
    where = _place(error["loc"])
    kind = Roles if error["loc"][:1] == ("rule",) else Restoring
    if (unknown := unknown_name(error, kind)) is not None:
        key, allowed = unknown
        where = where if error["type"] == "unknown" else _place(error["loc"][:-1])
        where = where if where.startswith("[") else f"[{where}]"
        return f"{where}: unknown key {key!r}{_hint(key, allowed)} Allowed: {', '.join(allowed)}"
    shown = _shown(error["input"])
    words = {
        "string_type": f"got {shown}; allowed: a text in quotes",
        "tuple_type": f"got {shown}; allowed: a list, e.g. [{shown}]",
    }
    return f"{where}: {words.get(error['type']) or in_words(error, shown)}"


def _place(loc: Sequence[int | str]) -> str:
    """ "[grid] sizes[1]" for ("sizes", 1)."""
    keys = [(table, key, path) for table, of in _TABLES.items() for key, path in of.items()]
    keys += [("", key, (key,)) for key in _TOP]
    table, key, path = next(one for one in keys if tuple(loc[: len(one[2])]) == one[2])
    within = "".join(f"[{part}]" if isinstance(part, int) else f" {part}" for part in loc[len(path) :])
    return f"[{table}] {key}{within}" if table else f"{key}{within}"


def _unknown(key: str, known: Sequence[str], table: str) -> str:
    where = f"[{table}]: " if table else ""
    homes = [f"[{name}]" for name, entries in _TABLES.items() if key in entries]
    if key in _TOP:
        homes.append("the top of the file, before the first [table]")
    if homes:
        return f"{where}{key!r} does not belong here; it belongs in {' or '.join(homes)}"
    names = [*known, *([] if table else _TABLES)]
    hint = _hint(key, names)
    elsewhere = {entry: name for name, entries in _TABLES.items() for entry in entries}
    if hint == "." and (far := difflib.get_close_matches(key, elsewhere, 1)):
        hint = f"; did you mean {far[0]!r} in [{elsewhere[far[0]]}]?"
    allowed = [*known, *([] if table else (f"[{name}]" for name in _TABLES))]
    return f"{where}unknown key {key!r}{hint} Allowed: {', '.join(allowed)}"


def _hint(key: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, names, 1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _shown(value: Any) -> str:
    """A value as a file would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)

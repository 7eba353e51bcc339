"""Registries: what a user chooses by name, each entry declared beside its function; and plugins, which add entries.

    STRATEGIES: Registry[Strategy] = Registry("strategy")
    STRATEGIES.get("top").title                       SpecError for an unknown name, with the nearest known one

Names, titles and sources are plain text: listing them loads no model library. A plugin is Python code of the user's
that registers entries when it is imported: a file (`sftknow --plugin FILE`), or an installed package with an entry
point of the group `sftknow.plugins`. Nothing else is ever loaded: no address, nothing out of a cache or a recipe.

The sha256 of the plugin's source belongs to the identity of whatever is computed with its entries. Processes started
by this one find its plugin files, with their hashes, in the environment, and refuse a file that changed since.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, Generic, TypeVar

from sftknow_core.errors import PluginError, SpecError

PLUGINS_VARIABLE = "SFTKNOW_PLUGINS"
"""Environment variable that hands plugin files on to child processes: a JSON object, path -> sha256."""
ENTRY_POINTS = "sftknow.plugins"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every registered thing has."""

    name: str
    title: str
    """A few words for a list of choices."""
    source: str = ""
    """Paper and section, or reference code."""
    version: int = 1
    """Of the algorithm: raised whenever the same inputs would give other results."""
    plugin: str | None = None
    """Name and sha256 of the plugin that registered it, as "own_strategy@0a1b..."; None for built-in entries."""

    @property
    def stored_name(self) -> str:
        """What tables hold: the name, for a plugin's entry with 16 hex digits of the hash, as "my-order@0a1b..."."""
        return stored_name(self.name, self.plugin)


def stored_name(name: str, plugin: str | None) -> str:
    """See Entry.stored_name; plugin: the label."""
    return name if plugin is None else f"{name}@{plugin.partition('@')[2][:16]}"


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries by name, in the order of their registration."""

    def __init__(self, kind: str, *, takes_plugins: bool = False) -> None:
        self.kind = kind
        """What messages call an entry, e.g. "strategy"."""
        self.takes_plugins = takes_plugins
        """Whether the identity of what is computed names an entry's plugin, so that users may add their own."""
        self._entries: dict[str, E] = {}

    def add(self, entry: E) -> None:
        """Register an entry. Raises PluginError for a name that is taken or unfit, and for a plugin's where none may
        be."""
        if not entry.name or entry.name != entry.name.strip() or set(entry.name) & set(",\n\t@"):
            raise PluginError(f"{self.kind}: got the name {entry.name!r}; allowed: a word such as 'my-order'")
        if entry.plugin is not None and not self.takes_plugins:
            raise PluginError(f"{self.kind} {entry.name!r}: plugins register strategies and matchers only")
        if entry.name in self._entries:
            owner = self._entries[entry.name].plugin or "sftknow itself"
            raise PluginError(
                f"{self.kind} {entry.name!r} is already registered by {owner}; take another name"
            )
        self._entries[entry.name] = entry
        _added.append((self, entry.name))

    def remove(self, name: str) -> None:
        """Forget an entry: of a plugin that failed while it was loaded."""
        del self._entries[name]

    def get(self, name: str) -> E:
        """The entry of that name. Raises SpecError naming the nearest known one."""
        if name not in self._entries:
            raise SpecError(f"{self.kind}: got {name!r}; allowed: {', '.join(self)}{nearest(name, self)}")
        return self._entries[name]

    @property
    def entries(self) -> tuple[E, ...]:
        """All of them."""
        return tuple(self._entries.values())

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries


_added: list[tuple[Registry[Any], str]] = []
"""Every registration of this process, in order."""


def nearest(name: str, known: Iterator[str] | Sequence[str] | Registry[Any]) -> str:
    """`; did you mean ...?` where a known name is similar, else ""."""
    found = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Plugin:
    """A plugin file as it was read."""

    path: Path
    sha256: str
    registered: tuple[str, ...] = ()
    """What it added, e.g. ("strategy my-order",)."""

    @property
    def label(self) -> str:
        """Its name and hash, for identities."""
        return f"{self.path.stem}@{self.sha256}"


_loaded: dict[Path, Plugin] = {}
_current: list[Plugin] = []
"""The file whose code is running now, while it is loaded."""
_entry_points_done: list[bool] = []
_loading = RLock()


def plugin_of(function: Callable[..., Any]) -> str | None:
    """The label of the plugin that defines a function; None for functions of this package.

    In a notebook or a script, whose code no plugin file holds, it is made of the function's own source. Raises
    PluginError where there is no source to name.
    """
    if function.__module__.partition(".")[0] == "sftknow_core":
        return None
    if _current:
        return _current[0].label
    file = inspect.getsourcefile(function)
    try:
        if file is not None and Path(file).is_file():
            return f"{Path(file).stem}@{_sha256(Path(file).read_bytes())}"
        return f"{function.__name__}@{_sha256(inspect.getsource(function).encode())}"
    except OSError as error:
        raise PluginError(
            f"the source of {function.__name__} cannot be read ({error}); put it into a file, because its hash "
            "belongs to the identity of the results"
        ) from error


def plugin_text(label: str) -> str:
    """A plugin's name and the beginning of its hash, for messages."""
    name, _, sha256 = str(label).partition("@")
    return f"{name} (sha256 {sha256[:12]})"


def load_plugins(files: Sequence[Path] = ()) -> tuple[Plugin, ...]:
    """Load installed plugins, the files that the parent process handed on, and `files`; the loaded files.

    Each is loaded once a process, and `files` are handed on to child processes. Raises PluginError for a file that
    does not exist, cannot be imported, registers nothing or a taken name, or changed since the parent loaded it.
    """
    with _loading:  # sessions of a dashboard begin at the same time
        return _load_all(files)


def _load_all(files: Sequence[Path]) -> tuple[Plugin, ...]:
    if not _entry_points_done:
        _entry_points_done.append(True)
        for point in entry_points(group=ENTRY_POINTS):
            try:
                point.load()
            except Exception as error:
                raise PluginError(
                    f"the installed plugin {point.name} ({point.value}) cannot be loaded: {_said(error)}. "
                    "Repair or uninstall it."
                ) from error
    try:
        handed_on = dict(json.loads(os.environ.get(PLUGINS_VARIABLE) or "{}"))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"${PLUGINS_VARIABLE} is what sftknow hands on to its own processes; unset it"
        ) from error
    for path, sha256 in handed_on.items():
        _load(Path(path), sha256)
    for file in files:
        _load(file.absolute())
    if files:
        given = {str(path): plugin.sha256 for path, plugin in _loaded.items()}
        os.environ[PLUGINS_VARIABLE] = json.dumps(handed_on | given)
    return tuple(_loaded.values())


def plugin_arguments() -> list[str]:
    """The options of the command line that load the same plugin files again."""
    return [word for path in _loaded for word in ("--plugin", str(path))]


def _load(path: Path, expected: str | None = None) -> None:
    if path in _loaded and expected in (None, _loaded[path].sha256):
        return
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"the plugin {path} cannot be read: {error.strerror}") from error
    plugin = Plugin(path, _sha256(source))
    if expected not in (None, plugin.sha256):
        raise PluginError(
            f"the plugin {path} changed while it was in use (sha256 {plugin.sha256[:12]}, was {str(expected)[:12]}); "
            "start the command or the dashboard again"
        )
    module = ModuleType(f"sftknow_plugin_{path.stem}")
    module.__file__ = str(path)
    n_before = len(_added)
    _current.append(plugin)
    sys.modules[module.__name__] = module
    try:
        exec(
            compile(source, str(path), "exec"), module.__dict__
        )  # the bytes that were hashed, not read again
        if len(_added) == n_before:
            raise PluginError("it registers nothing; decorate a function with @strategy or @matcher")
    except Exception as error:
        for registry, name in _added[n_before:]:
            registry.remove(name)
        del _added[n_before:], sys.modules[module.__name__]
        raise PluginError(f"the plugin {path} cannot be loaded: {_said(error)}") from error
    finally:
        _current.clear()
    names = tuple(f"{registry.kind} {name}" for registry, name in _added[n_before:])
    _loaded[path] = Plugin(path, plugin.sha256, names)


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"

"""Registries and plugins: names, refusals, hashes, and what a child process gets to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from sftknow_core import registry
from sftknow_core.errors import PluginError, SpecError
from sftknow_core.registry import PLUGINS_VARIABLE, Entry, Registry, load_plugins
from sftknow_core.update.spec import RestoreSpec
from sftknow_core.update.strategies import STRATEGIES

OWN = """
from sftknow_core.update.strategies import strategy

@strategy("{name}", title="an order of my own", source="a notebook")
def my_order(p, s):
    return (s - p).abs()
"""


@pytest.fixture
def plugin(tmp_path: Path, own_plugins: None) -> Path:
    """A plugin file; what it registers is forgotten at the end."""
    path = tmp_path / "mine.py"
    path.write_text(OWN.format(name="my-order"))
    return path


def colours() -> Registry[Entry]:
    """red, green and blue."""
    found: Registry[Entry] = Registry("colour")
    for name in ("red", "green", "blue"):
        found.add(Entry(name=name, title=name.upper(), source="a rainbow"))
    return found


def test_entries_come_in_the_order_of_their_registration() -> None:
    assert [*colours()] == ["red", "green", "blue"]
    assert colours().get("green").title == "GREEN" and colours().entries[2].source == "a rainbow"
    assert "red" in colours() and "pink" not in colours()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        SpecError, match=r"colour: got 'gren'; allowed: red, green, blue; did you mean 'green'\?"
    ):
        colours().get("gren")
    with pytest.raises(SpecError, match=r"got 'xyz'; allowed: red, green, blue$"):
        colours().get("xyz")


@pytest.mark.parametrize("name", ["red", "", " red", "a,b", "a@b"])
def test_taken_and_unfit_names_are_refused(name: str) -> None:
    found = colours()
    with pytest.raises(PluginError):
        found.add(Entry(name=name, title=""))
    assert [*found] == ["red", "green", "blue"]


def test_plugins_register_only_where_identities_name_them() -> None:
    with pytest.raises(PluginError, match="colour 'mine': plugins register strategies and matchers only"):
        colours().add(Entry(name="mine", title="", plugin="file@00ff"))


def test_a_raised_version_is_another_state_and_refuses_former_recipes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = RestoreSpec("largest", k_percent=20)
    assert "version" not in first.to_json() and RestoreSpec.from_json(first.to_json()) == first
    entries = STRATEGIES._entries
    monkeypatch.setattr(STRATEGIES, "_entries", entries | {"largest": replace(entries["largest"], version=2)})
    second = RestoreSpec("largest", k_percent=20)
    assert second.to_json() == first.to_json() | {"version": 2}
    assert second.state_id("a", "b") != first.state_id("a", "b")
    assert RestoreSpec.from_json(second.to_json()) == second
    with pytest.raises(SpecError, match="strategy largest: got version 1; this sftknow has 2"):
        RestoreSpec.from_json(first.to_json())


def test_the_strategies_of_this_package_are_no_plugins() -> None:
    assert [*STRATEGIES][:9] == [
        "top", "bottom", "largest", "smallest", "random", "random-reference", "interpolation", "block",
        "all-but-block",
    ]  # fmt: skip
    assert {found.plugin for found in STRATEGIES.entries if found.name in [*STRATEGIES][:9]} == {None}
    assert all(found.title and found.source for found in STRATEGIES.entries)


def test_a_plugin_file_registers_under_its_hash(plugin: Path) -> None:
    (loaded,) = load_plugins([plugin])
    digest = sha256(plugin.read_bytes()).hexdigest()
    assert (loaded.sha256, loaded.registered) == (digest, ("strategy my-order",))
    assert STRATEGIES.get("my-order").plugin == f"mine@{digest}"
    assert json.loads(os.environ[PLUGINS_VARIABLE]) == {str(plugin): digest}
    assert load_plugins([plugin]) == (loaded,)  # once a process


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "mine.py cannot be loaded: it registers nothing"),
        (
            "import no_such_module",
            "mine.py cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def (", "mine.py cannot be loaded: SyntaxError"),
        (OWN.format(name="top"), "strategy 'top' is already registered by sftknow itself; take another name"),
        (OWN.format(name="my-order") + "1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_plugin_that_cannot_be_used_leaves_nothing(plugin: Path, source: str, message: str) -> None:
    plugin.write_text(source)
    before = [*STRATEGIES]
    with pytest.raises(PluginError, match=message):
        load_plugins([plugin])
    assert [*STRATEGIES] == before and not os.environ[PLUGINS_VARIABLE]
    assert load_plugins() == ()


def test_a_missing_plugin_is_named(plugin: Path) -> None:
    with pytest.raises(PluginError, match=r"the plugin .*other.py cannot be read: No such file"):
        load_plugins([plugin.with_name("other.py")])


@pytest.mark.parametrize("given", ["mine.py", "[1]"])
def test_a_foreign_value_of_the_variable_is_refused(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(PLUGINS_VARIABLE, given)
    with pytest.raises(PluginError, match="SFTKNOW_PLUGINS is what sftknow hands on"):
        load_plugins()


def test_nothing_is_fetched(plugin: Path) -> None:
    with pytest.raises(PluginError, match="cannot be read: No such file"):
        load_plugins([Path("https://example.org/mine.py")])


def test_a_child_process_loads_the_same_file(plugin: Path) -> None:
    load_plugins([plugin])
    program = (
        "from sftknow_core.registry import load_plugins; load_plugins()\n"
        "import sys; from sftknow_core.update.strategies import STRATEGIES\n"
        "print(STRATEGIES.get('my-order').plugin, 'torch' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert child.stdout.split() == [STRATEGIES.get("my-order").plugin, "False"], child.stderr
    plugin.write_text(plugin.read_text() + "# edited\n")
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert child.returncode and "mine.py changed while it was in use" in child.stderr


def test_an_installed_plugin_is_found_by_its_entry_point(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry point is a line in a package's metadata; a folder on the path that looks like one will do."""
    home = plugin.parent
    info = home / "mine_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sftknow.plugins]\nmine = mine\n")
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setattr(registry, "_entry_points_done", [])
    load_plugins()
    assert STRATEGIES.get("my-order").plugin == f"mine@{sha256(plugin.read_bytes()).hexdigest()}"
    monkeypatch.delitem(sys.modules, "mine")
    monkeypatch.setattr(registry, "_entry_points_done", [])
    with pytest.raises(
        PluginError, match=r"the installed plugin mine \(mine\) cannot be loaded: strategy 'my-order'"
    ):
        load_plugins()

"""Pages of the manual that are made from the code and from files of the repository while mkdocs builds it.

The commands come from the typer app, strategies and matchers from their registries, the tables from store/schema.py,
glossary and columns from present/, and CONTRIBUTING, CHANGELOG, SECURITY and the model card from their files, so that
none of these pages can go stale. The figures are the browser tests' screenshots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from sftknow_core.cli.app import app
from sftknow_core.facts.matcher import MATCHERS
from sftknow_core.measure.asking import PROBES
from sftknow_core.model.train.methods import METHODS
from sftknow_core.pipeline.study.pool import EXECUTORS
from sftknow_core.present.columns import COLUMNS
from sftknow_core.present.glossary import TERMS
from sftknow_core.registry import Registry
from sftknow_core.store import schema
from sftknow_core.update.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
COPIED = {
    "contributing.md": "CONTRIBUTING.md",
    "reference/changelog.md": "CHANGELOG.md",
    "reference/security.md": "SECURITY.md",
    "reference/demo-model.md": "sftknow_core/demo/README.md",
}
"""Page -> the file of the repository that it shows."""
REGISTRIES: dict[str, Registry[Any]] = {
    "Restoring strategies": STRATEGIES,
    "Matchers": MATCHERS,
    "Training methods": METHODS,
    "Ways of asking besides a prompt": PROBES,
    "Executors of a study": EXECUTORS,
}
"""Heading -> what can be chosen by name."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the figures."""
    pages = {target: front_matter_removed((ROOT / source).read_text()) for target, source in COPIED.items()}
    pages |= {
        "reference/cli.md": commands(),
        "reference/schema.md": tables(),
        "reference/registered.md": registered(),
        "reference/glossary.md": glossary_page(),
        "reference/columns.md": columns_page(),
    }
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for picture in sorted((ROOT / "tests/browser/screenshots").glob("*.png")):
        files.append(File.generated(config, f"images/{picture.name}", abs_src_path=str(picture)))
    return files


def front_matter_removed(text: str) -> str:
    """Markdown without the YAML block that a model card begins with."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def commands() -> str:
    """Every command with its arguments and options, in the order of `sftknow --help`."""
    root = typer.main.get_command(app)
    parts = ["# Commands", (ROOT / "docs/reference/cli-head.txt").read_text().strip()]
    for name, command in leaves(root, "sftknow"):
        parts += [f"## {name}", (command.help or "").strip(), *parameters(command)]
    return "\n\n".join(parts) + "\n"


def leaves(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(full name, command) of the commands below a group; a group that does something alone comes first."""
    for key, command in group.commands.items():
        if not hasattr(command, "commands"):
            yield f"{name} {key}", command
            continue
        if command.invoke_without_command:
            yield f"{name} {key}", command
        yield from leaves(command, f"{name} {key}")


def parameters(command: Any) -> list[str]:
    """The table of one command's parameters; nothing where it has none."""
    rows = []
    for one in command.params:
        if one.name == "help":
            continue
        flags = [*one.opts, *one.secondary_opts]
        is_argument = one.param_type_name == "argument"
        names = (
            f"`{(one.metavar or one.name).upper()}`"
            if is_argument
            else ", ".join(f"`{flag}`" for flag in flags)
        )
        text = cell(getattr(one, "help", None) or "")
        rows.append(f"| {names} | {default(one)} | {text} |")
    return ["\n".join(["| option | default | meaning |", "|---|---|---|", *rows])] if rows else []


def default(one: Any) -> str:
    """What an option is when it is not given."""
    if one.required:
        return "required"
    if one.default is None or one.default == "" or callable(one.default):
        return ""
    return "off" if one.default is False else "on" if one.default is True else f"`{cell(str(one.default))}`"


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def tables() -> str:
    """The cache's layout, and all tables column by column."""
    return (ROOT / "docs/reference/schema-head.txt").read_text().rstrip() + "\n\n" + schema.docs()


def registered() -> str:
    """What can be chosen by name, from the registries."""
    text = """# Strategies, matchers, methods

These lists are generated from the registries. [Strategies and matchers of your own](../how-to/own-strategy.md) can be
added."""
    parts = [f"## {title}\n\n{entries(registry)}" for title, registry in REGISTRIES.items()]
    return "\n\n".join([text, *parts]) + "\n"


def entries(registry: Registry[Any]) -> str:
    """The table of one registry."""
    rows = [f"| `{one.name}` | {cell(one.title)} | {cell(one.source)} |" for one in registry.entries]
    return "\n".join(["| name | what it is | source |", "|---|---|---|", *rows])


def glossary_page() -> str:
    """Every term that pages and reports define, in alphabetical order."""
    parts = ["# Glossary", "The definitions under the figures of pages and reports are these."]
    for term in sorted(TERMS.values(), key=lambda one: one.name.casefold()):
        unit = f" ({term.unit})" if term.unit else ""
        source = f" Source: {term.source}." if term.source else ""
        parts.append(f"## {term.name}\n\n**{term.name}**{unit}: {term.definition}{source}")
    return "\n\n".join(parts) + "\n"


def columns_page() -> str:
    """What the columns of tables on pages and in reports mean."""
    rows = [
        f"| `{name}` | {cell(one.header)} | {cell(one.unit)} | {cell(one.meaning)} |"
        for name, one in COLUMNS.items()
    ]
    head = """# Columns

What the tables of pages and reports show. A name with a dot in it, such as `changes.low`, has this meaning in one
kind of table only. Shares are stored from 0 to 1 and printed in percent."""
    return "\n".join([head, "", "| name | header | unit | meaning |", "|---|---|---|---|", *rows]) + "\n"

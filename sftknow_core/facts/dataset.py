"""The facts a user names: the demo world, EntityQuestions, or a file of their own."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sftknow_core.errors import DataError
from sftknow_core.facts.entity_questions import read_entity_questions
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.own import SUFFIXES, read_own_facts
from sftknow_core.facts.topics import load_topics

DEMO = "demo"


def load_facts(
    source: str,
    *,
    topics_path: Path | None = None,
    filter: str = "paper",
    keep_leaks: bool = False,
) -> FactSet:
    """The facts of "demo", of the EntityQuestions zip or folder, or of a .csv or .jsonl file.

    `topics_path`, `filter` and `keep_leaks` concern EntityQuestions only; the others have each question once.

    Raises:
        DataError: there is nothing at that path, or it cannot be read as any of these.
        SpecError: an unknown filter, or keep_leaks with filter "all".
    """
    if source == DEMO:
        from sftknow_core.facts.demo_world import demo_facts  # building the world takes a moment

        return demo_facts()
    path = Path(source).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return read_own_facts(path)
    if path.is_file() and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(
            f'{path}: cannot tell what this is; give "{DEMO}", the EntityQuestions zip or folder, '
            f"or a {' or '.join(SUFFIXES)} file"
        )
    topics = load_topics(topics_path)
    return read_entity_questions(path, topics, filter=filter, keep_leaks=keep_leaks)

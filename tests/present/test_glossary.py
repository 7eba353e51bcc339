"""Every term is defined once, and the definitions of pages and reports are made of it."""

from __future__ import annotations

import pytest

from sftknow_core.present import glossary
from sftknow_core.present.text import accuracy, ask, mastery, restore, story, tokens, training, weights


def test_mastery_level_has_the_same_words_everywhere() -> None:
    said = glossary.bullets("mastery level")
    for text in (accuracy, mastery, restore, story, tokens, training):
        assert text.DEFINITIONS.count("**Mastery level**") == 1
        assert said in text.DEFINITIONS


def test_names_are_unique_and_terms_are_told_with_their_unit() -> None:
    names = [term.name for term in glossary.TERMS.values()]
    assert len(names) == len(set(names))
    assert glossary.bullets("pp", "loss").splitlines()[1].startswith("- **Loss** (nats per token): minus")
    with pytest.raises(KeyError):
        glossary.bullets("made up")


def test_no_definition_uses_a_retired_phrase() -> None:
    retired = ("put back", "healed", "hybrid", "speaks for", "asked", "stands", "95% interval")
    texts = [term.definition for term in glossary.TERMS.values()] + [ask.DEFINITIONS, weights.DEFINITIONS]
    assert [phrase for phrase in retired for text in texts if phrase in text.lower()] == []

"""Facts whose question gives the answer away.

"Where is the headquarter of Bank of Koro?" with the answer Koro is right for a model that only repeats the
question. Such facts are flagged, never dropped, and accuracy is given with and without them.

The flag is on the safe side: it asks for a plain substring and ignores case, so that "Koroan Bank" is
flagged too; synonyms are left out. In EntityQuestions 938 of the 9,828 in-domain test questions are flagged
this way (887 if the answer had to be a run of whole words).
"""

from __future__ import annotations

from collections.abc import Iterable


def answer_in_question(question: str, objects: Iterable[str]) -> bool:
    """Whether the question's text contains one of the objects, ignoring case."""
    text = question.casefold()
    return any(obj.casefold() in text for obj in objects)

"""A matcher of your own: the completion has to begin with an answer, whatever the case.

sftknow --plugin examples/own_matcher.py evaluate MODEL --data FACTS --matcher begins
"""

import sftknow_core as sk
from sftknow_core.testing import FactMatcher


@sk.matcher("begins", title="it begins with an answer", source="examples/own_matcher.py")
def begins(fact: FactMatcher, completion: str) -> bool:
    """fact.answers: all that count as right, with synonyms; fact.subject: what is asked about, or None."""
    return completion.strip().lower().startswith(tuple(answer.lower() for answer in fact.answers))

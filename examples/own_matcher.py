"""A matcher of your own: the completion has to begin with an answer, whatever the case.

sftknow --plugin examples/own_matcher.py evaluate --model MODEL --data FACTS --matcher begins
"""

from sftknow_core.facts.matcher import FactMatcher, matcher


@matcher("begins", title="it begins with an answer", source="examples/own_matcher.py")
def begins(fact: FactMatcher, completion: str) -> bool:
    """fact.answers: all that count as right, with synonyms; fact.subject: what is asked about, or None."""
    return completion.strip().lower().startswith(tuple(answer.lower() for answer in fact.answers))

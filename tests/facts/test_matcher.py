"""The three rules, by hand-worked cases and against a slow reference; and rules of plugins."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftknow_core.errors import PluginError, SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.folding import fold, match_words
from sftknow_core.facts.matcher import (
    MATCHERS,
    FactMatcher,
    Scores,
    judge,
    matcher,
    matcher_named,
    verdict_column,
)

NO_SYNONYMS: dict[str, tuple[str, ...]] = {}

# A busy machine makes no property false.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def words_of(text: str) -> list[str]:
    return match_words(fold(text)).split()


@pytest.mark.parametrize(
    ("completion", "answer", "position"),
    [
        ("Oman.", "Oman", 0),
        ("the Roman empire", "Oman", None),
        ("Omani coast", "Oman", None),
        (" the town of St Louis, Missouri", "St. Louis", 13),
        ("St. Louis", "St Louis", 0),
        ("Washington, D.C.", "Washington, D.C.", 0),
        ("born in Washington D. C., 1950", "Washington, D.C.", 8),
        ("Washington DC", "Washington, D.C.", 0),  # dotted initials are one word
        ("PARIS", "Paris", 0),
        ("New\n  York City", "New York City", 0),
        ("New Koro York City", "New York City", None),  # not contiguous
        ("York New", "New York", None),
        ("“Paris”", "Paris", 1),
        ("Koro's capital", "Koro", 0),
        ("North-Koro", "Koro", 6),
        ("Simon & Vint", "Simon and Vint", 0),
        ("Simon and Vint", "Simon & Vint", 0),
        ("He likes R&B and jazz", "R&B", 9),
        ("Zurich", "Zürich", 0),
        ("ＰＡＲＩＳ", "Paris", 0),
        ("…ﬁnd Koro", "Koro", 5),  # characters that normalise to several before the match
        ("", "Paris", None),
    ],
)
def test_words(completion: str, answer: str, position: int | None) -> None:
    scores = judge(completion, [answer], None, NO_SYNONYMS)
    assert (scores.words, scores.position) == (position is not None, position)


@pytest.mark.parametrize(
    ("completion", "answer", "subject", "position"),
    [
        ("Mexico City Metro runs there", "Mexico City", "Mexico City Metro", None),
        ("Mexico City Metro, MEXICO CITY METRO", "Mexico City", "Mexico City Metro", None),
        ("mexico city metro mexico city metro", "Mexico City", "Mexico City Metro", None),
        ("Mexico City Metro is in Mexico City", "Mexico City", "Mexico City Metro", 24),
        ("Mexico City", "Mexico City", "Mexico City Metro", 0),
        ("New Koro York", "New York", "Koro", None),  # what stands around the subject does not join
        ("Quebec", "Quebec", "Quebec", 0),  # the answer equals the subject
        ("Quebec is in Quebec Province", "Quebec Province", "Quebec", 13),  # the answer contains it
        ("Koro", "Koro", "Korograd", 0),  # part of a word is not the subject
        ("the ??? of Koro", "Koro", "???", 11),  # a subject without words takes nothing out
    ],
)
def test_the_subject_is_taken_out_first(
    completion: str, answer: str, subject: str, position: int | None
) -> None:
    scores = judge(completion, [answer], subject, NO_SYNONYMS)
    assert (scores.words, scores.position) == (position is not None, position)


def test_synonyms_count_one_way() -> None:
    synonyms = {"Korovian Union": ("KU", "Korovia")}
    assert judge("in the KU today", ["Korovian Union"], None, synonyms).words
    assert judge("Korovia", ["Korovian Union"], None, synonyms) == Scores(True, True, True, 0)
    assert not judge("Korovian Union", ["Korovia"], None, synonyms).words


def test_any_object_counts_and_the_first_match_gives_the_position() -> None:
    assert judge("in Bel or Ako", ["Ako", "Bel"], None, NO_SYNONYMS).position == 3


@pytest.mark.parametrize(
    ("completion", "answer", "subject", "substring"),
    [
        ("the Roman empire", "man", None, True),
        ("Jerusalem", "USA", None, False),  # case counts
        ("in St Louis", "St. Louis", None, False),  # as printed
        ("Mexico City Metro", "Mexico City", "Mexico City Metro", True),  # the subject stays in
    ],
)
def test_substring(completion: str, answer: str, subject: str | None, substring: bool) -> None:
    assert judge(completion, [answer], subject, NO_SYNONYMS).substring is substring


@pytest.mark.parametrize(
    ("completion", "exact"),
    [
        ("St. Louis", True),
        (" st louis.\n", True),
        ("“St. Louis”!", True),
        ("in St. Louis", False),
        ("", False),
    ],
)
def test_exact(completion: str, exact: bool) -> None:
    assert judge(completion, ["St. Louis"], None, NO_SYNONYMS).exact is exact


def test_an_answer_without_words_is_looked_for_literally() -> None:
    assert judge("played by ‼!", ["!!!"], None, NO_SYNONYMS) == Scores(True, False, False, 10)
    assert judge(" !!! ", ["!!!"], None, NO_SYNONYMS) == Scores(True, True, True, 1)
    assert judge("played by no one", ["!!!"], None, NO_SYNONYMS) == Scores(False, False, False, None)


def test_a_verdict_by_rule() -> None:
    fact = FactMatcher.of(("Koro",), None)
    assert [fact.is_correct("KORO", rule) for rule in MATCHERS] == [True, False, True]
    assert [*MATCHERS] == ["words", "substring", "exact"]
    with pytest.raises(
        SpecError, match="matcher: got 'word'; allowed: words, substring, exact; did you mean 'words'"
    ):
        fact.is_correct("KORO", "word")


@pytest.mark.usefixtures("own_plugins")
def test_an_own_rule_is_stored_with_its_hash() -> None:
    @matcher("ends")
    def ends(fact: FactMatcher, completion: str) -> bool:
        return completion.endswith(fact.answers) and (fact.subject or "") not in completion

    stored = matcher_named("ends").stored_name
    name, digits = stored.split("@")
    assert name == "ends" and len(digits) == 16 and matcher_named(stored).name == "ends"
    assert verdict_column(stored) == "own_matcher" and verdict_column("exact") == "exact"
    fact = FactMatcher.of(("Koro", "Old Town"), "Bay")
    assert [fact.is_correct(text, stored) for text in ("in Koro", "Koro Bay", "Bay Koro")] == [
        True,
        False,
        False,
    ]
    with pytest.raises(
        PluginError, match="matcher ends is needed from a plugin with sha256 00ff, but here it is of"
    ):
        matcher_named("ends@00ff")
    with pytest.raises(
        PluginError, match=r"matcher gone is code of a plugin .sha256 00ff., which is not loaded"
    ):
        matcher_named("gone@00ff")


@pytest.mark.usefixtures("own_plugins")
def test_what_an_own_rule_may_not_do() -> None:
    matcher("number")(lambda fact, completion: 1)  # type: ignore[arg-type,return-value]
    matcher("broken")(lambda fact, completion: fact.nonsense)  # type: ignore[attr-defined]
    fact = FactMatcher.of(("Koro",), None)
    with pytest.raises(PluginError, match="matcher number gave 1 for 'x'; allowed: True or False"):
        fact.is_correct("x", "number")
    with pytest.raises(PluginError, match="matcher broken failed on 'x': AttributeError"):
        fact.is_correct("x", "broken")


def test_a_fact_matcher_uses_objects_synonyms_and_subject() -> None:
    fact = Fact("P36", "What is the capital of Koro Bay?", ("Koro",), "Koro Bay")
    matcher = FactMatcher(fact, {"Koro": ("Old Town",)})
    assert matcher.words("old town")
    assert not matcher.words("Koro Bay")
    assert matcher.scores("Koro Bay, Koro").position == 10


# Few letters and separators, so that answers, subjects and completions overlap often.
CROWDED = st.text(alphabet="aab  ,&é", max_size=14)


@unhurried
@given(CROWDED, st.lists(CROWDED.filter(words_of), min_size=1, max_size=3), st.none() | CROWDED)
def test_words_agrees_with_a_search_word_by_word(
    completion: str, answers: list[str], subject: str | None
) -> None:
    """The reference works on lists of words, left to right: take the subject out, look for each answer."""
    assert FactMatcher.of(tuple(answers), subject).words(completion) == any(
        _found(words_of(answer), words_of(completion), words_of(subject or "")) for answer in answers
    )


def _at(run: list[str], words: list[str], i: int) -> bool:
    return words[i : i + len(run)] == run


def _found(answer: list[str], words: list[str], subject: list[str]) -> bool:
    if subject and not any(_at(subject, answer, i) for i in range(len(answer))):
        i = 0
        while i < len(words):
            if _at(subject, words, i):
                words = [*words[:i], *["-"] * len(subject), *words[i + len(subject) :]]
            i += 1
    return any(_at(answer, words, i) for i in range(len(words)))


@unhurried
@given(CROWDED, st.lists(CROWDED.filter(str.strip), min_size=1, max_size=3), st.none() | CROWDED)
def test_invariants(completion: str, answers: list[str], subject: str | None) -> None:
    matcher = FactMatcher.of(tuple(answers), subject)
    scores = matcher.scores(completion)
    assert scores.words == matcher.words(completion)
    assert (scores.position is not None) == scores.words
    assert scores.words or not scores.exact
    for answer in answers:
        assert matcher.scores(f" {answer}\n").exact


# What is rewritten, denied, part of a longer name or a word by itself, in any order.
WORDS = "Korea North US U.S. not C++ C 1,000 1000 -5 5 東京 京都 都 은 서울 I.B.M. IBM ß é القاهرة 🎉 3.14 & and . , '"
PIECES = st.sampled_from(WORDS.split())
PIECED = st.lists(PIECES, min_size=1, max_size=6).map(" ".join) | st.lists(PIECES, max_size=4).map("".join)


@unhurried
@given(
    PIECED,
    st.lists(PIECED.filter(str.strip), min_size=1, max_size=2),
    st.sampled_from([None, "North", "Korea"]),
)
def test_the_quick_way_says_what_a_look_at_each_mention_says(
    completion: str, answers: list[str], subject: str | None
) -> None:
    """Keys and whole texts are looked at first, mentions only where something can speak against one."""
    matcher, folded = FactMatcher.of(tuple(answers), subject), fold(completion)
    slowly = bool(matcher._counted(folded, completion)) or any(a in folded for a in matcher._literals)
    assert matcher.words(completion) is slowly


@unhurried
@given(
    st.text(min_size=1).filter(lambda t: bool(words_of(t))),
    st.text(alphabet=" .,;!–\n", min_size=1, max_size=4),
)
def test_an_answer_between_separators_is_found_where_it_begins(answer: str, separator: str) -> None:
    scores = judge(f"qq{separator}{answer}{separator}qq", [answer], None, NO_SYNONYMS)
    assert scores.words
    assert scores.substring
    assert scores.position is not None
    assert scores.position <= 2 + len(separator) + len(answer)

"""Answers of a model whose table is known, and accuracies worked by hand."""

import pytest

from sftknow_core.errors import DataError, ModelError
from sftknow_core.facts.fact import question_set_id
from sftknow_core.facts.prompts import PROMPTS, Prompt
from sftknow_core.measure.accuracy import accuracy_by_topic, answer_questions, summarise_accuracy
from sftknow_core.measure.asking import FiveShot, encode_questions, first_answer_tokens
from sftknow_core.stats.intervals import level_balanced, wilson
from sftknow_core.store.schema import TABLES


@pytest.fixture(scope="module")
def lm(make_lm):
    """After the paper's prompt, which ends in "|>": "the Oslo"; after ":" Paris and a made-up line."""
    return make_lm(
        {
            "|>": {" the": 0.6, " Paris": 0.4},
            " the": {" Oslo": 1.0},
            ":": {" Paris": 1.0},
            " Paris": {"\n": 1.0},
            "\n": {" Oslo": 1.0},
        }
    )


@pytest.fixture(scope="module")
def facts(make_fact):
    return [make_fact("Ann", "Oslo"), make_fact("Bob", "Paris"), make_fact("Cid", "Oslo", domain="out")]


def test_answers(lm, facts):
    rows = answer_questions(lm, facts, {facts[0].fact_id: 4, facts[1].fact_id: 0}, {}, first_row=10)
    assert [row["completion"] for row in rows] == [" the Oslo"] * 3
    assert [(row["words"], row["substring"], row["exact"]) for row in rows] == [
        (True, True, False),
        (False, False, False),
        (True, True, False),
    ]
    assert [row["position"] for row in rows] == [5, None, 5]
    assert [row["level"] for row in rows] == [4, 0, None]
    assert [row["row"] for row in rows] == [10, 11, 12]
    assert {(row["stopped"], row["n_tokens"]) for row in rows} == {(True, 2)}
    assert (rows[0]["question"], rows[0]["gold"]) == ("Where was Ann born?", "Oslo")


def test_the_limit_cuts_an_answer(lm, facts):
    (row,) = answer_questions(lm, facts[:1], {}, {}, max_new_tokens=1)
    assert (row["completion"], row["stopped"], row["words"]) == (" the", False, False)


def test_a_prompt_of_ones_own(lm, facts):
    (row,) = answer_questions(
        lm, facts[1:2], {}, {}, ask=Prompt("mine", "Q: {question} A:"), max_new_tokens=3
    )
    assert row["completion"] == " Paris\n Oslo"


def test_five_shot_counts_the_first_line_only(lm, facts, make_fact):
    pool = tuple(make_fact(f"Ann {i}", "Rome", split="train") for i in range(5))
    rows = answer_questions(lm, facts[:2], {}, {}, ask=FiveShot(pool), max_new_tokens=3)
    assert [(row["completion"], row["words"], row["stopped"]) for row in rows] == [
        (" Paris", False, True),
        (" Paris", True, True),
    ]
    text = lm.tokenizer.decode(encode_questions(lm.tokenizer, facts[:1], FiveShot(pool))[0])
    assert text.startswith("<s>Q: Where was Ann ")
    assert text.count("A: Rome\n") == 5
    assert text.endswith("Q: Where was Ann born? A:")


def test_five_shot_needs_exemplars(lm, facts):
    with pytest.raises(DataError, match="needed: 5"):
        answer_questions(lm, facts, {}, {}, ask=FiveShot(()))


def test_chat_needs_a_template(lm, facts):
    with pytest.raises(ModelError, match="no chat template"):
        answer_questions(lm, facts, {}, {}, ask=PROMPTS["chat"])


def test_chat_uses_the_tokenizers_template_and_adds_no_second_bos(lm, facts, monkeypatch):
    template = "{{ bos_token }}Q: {{ messages[0]['content'] }}{% if add_generation_prompt %} A: {% endif %}"
    monkeypatch.setattr(lm.tokenizer, "chat_template", template)
    (ids,) = encode_questions(lm.tokenizer, facts[:1], PROMPTS["chat"])
    assert lm.tokenizer.decode(ids) == "<s>Q: Where was Ann born? A: "
    (token,) = first_answer_tokens(lm.tokenizer, facts[:1], PROMPTS["chat"])
    assert token is None  # " Oslo" is one token, so the answer runs together with the template's last space


def test_first_answer_token(lm, facts):
    tokens = first_answer_tokens(lm.tokenizer, facts, PROMPTS["paper"])
    assert lm.tokenizer.decode(tokens) == " Oslo Paris Oslo"


def row(level, words, *, fact, split="test", domain="in", topic="P19", in_question=False, n_tokens=2):
    return {
        "fact_id": fact,
        "topic": topic,
        "split": split,
        "domain": domain,
        "level": level,
        "words": words,
        "substring": True,
        "exact": False,
        "stopped": words,
        "n_tokens": n_tokens,
        "answer_in_question": in_question,
    }


@pytest.fixture
def rows():
    """Level 0: 0 of 2; level 2: 1 of 2, the right one with its answer in the question; level 4: 3 of 3."""
    return [
        row(0, False, fact="a", n_tokens=16),
        row(0, False, fact="b", n_tokens=16),
        row(2, True, fact="c", in_question=True),
        row(2, False, fact="d"),
        row(4, True, fact="e", topic="P20"),
        row(4, True, fact="f"),
        row(4, True, fact="g"),
        row(None, True, fact="h"),
    ]


def pick(summary, **wanted):
    (found,) = [row for row in summary if all(row[name] == value for name, value in wanted.items())]
    return found


def test_headline_by_hand(rows):
    """(0 + 1/2 + 1) / 3 = 1/2 over the levels present; 4 of 7 answers stopped, (32 + 10) / 7 = 6 tokens."""
    headline = pick(summarise_accuracy(rows, "words", "paper"), subset="all", level=None)
    assert (headline["accuracy"], headline["n"], headline["n_right"]) == (0.5, 7, 4)
    assert (headline["stop_rate"], headline["mean_length"]) == (pytest.approx(4 / 7), 6.0)
    assert headline["reason"] == "mean without level 1, 3: no questions"
    estimate = level_balanced([0, 0, 1, 0, 3], [2, 0, 2, 0, 3])
    assert (headline["low"], headline["high"]) == (estimate.low, estimate.high)
    assert headline["question_set_id"] == question_set_id("abcdefg")
    assert (headline["matcher"], headline["prompt"]) == ("words", "paper")


def test_levels_and_their_intervals(rows):
    summary = summarise_accuracy(rows, "words", "paper")
    two = pick(summary, subset="all", level=2)
    assert (two["accuracy"], two["low"], two["high"]) == (0.5, *wilson(1, 2))
    one = pick(summary, subset="all", level=1)
    assert (one["n"], one["accuracy"], one["low"], one["stop_rate"]) == (0, None, None, None)
    assert one["reason"] == "no questions of this level"


def test_questions_that_hold_their_answer_can_be_left_out(rows):
    """Without c, level 2 is 0 of 1: (0 + 0 + 1) / 3."""
    summary = summarise_accuracy(rows, "words", "paper")
    assert pick(summary, subset="no_answer_in_question", level=None)["accuracy"] == pytest.approx(1 / 3)


def test_other_matchers_and_groups(rows):
    rows.append(row(4, False, fact="i", split="dev"))
    rows.append(row(4, True, fact="j", domain="out"))
    summary = summarise_accuracy(rows, "substring", "paper")
    groups = {(r["split"], r["domain"]): r["accuracy"] for r in summary if r["level"] == 4}
    assert groups == {("test", "in"): 1.0, ("dev", "in"): 1.0, ("test", "out"): 1.0}
    assert len(summary) == 3 * 2 * 6
    by_words = summarise_accuracy(rows, "words", "paper")
    assert pick(by_words, split="dev", level=4, subset="all")["accuracy"] == 0.0


def test_without_levels_there_is_no_headline():
    summary = summarise_accuracy([row(None, True, fact="a")], "words", "paper")
    headline = pick(summary, subset="all", level=None)
    assert (headline["accuracy"], headline["n"]) == (None, 0)
    assert headline["reason"] == "no question has a mastery level"
    assert summarise_accuracy([], "words", "paper") == []


def test_by_topic(rows):
    by_topic = accuracy_by_topic(rows, "words")
    assert pick(by_topic, topic="P20", level=None)["accuracy"] == 1.0
    assert pick(by_topic, topic="P19", level=2)["n"] == 2


def test_rows_fit_the_tables(lm, facts, rows):
    answers = answer_questions(lm, facts, {}, {})
    with_state = [answer | {"state_id": "base"} for answer in answers]
    assert TABLES["answers"].conform(with_state, "run").num_rows == 3
    summary = [r | {"state_id": "base"} for r in summarise_accuracy(rows, "words", "paper")]
    assert TABLES["accuracies"].conform(summary, "run").num_rows == 12

"""Prompts and few-shot texts, character by character; drawing exemplars."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import (
    exemplar_pool,
    few_shot_completion,
    few_shot_sets,
    first_line,
    five_shot_exemplars,
    five_shot_qa,
    load_prompt,
    qa_prompt,
    qa_text,
)


def fact(i: int, topic: str = "P19", split: str = "train") -> Fact:
    return Fact(topic, f"Where was N{i} born?", (f"City {i}", "Other"), f"N{i}", split)


ASKED = fact(99, split="test")
POOL = exemplar_pool([fact(i) for i in range(8)] + [fact(i, topic="P20") for i in range(3)])


def test_the_papers_prompt() -> None:
    assert qa_prompt(" Where was N1 born? ") == "<|question|> Where was N1 born? <|answer|>"
    text = qa_text("Where was N1 born?", " City 1\n")
    assert text == "<|question|> Where was N1 born? <|answer|> City 1 "
    assert text.startswith(qa_prompt("Where was N1 born?"))


def test_the_chat_prompt_is_messages() -> None:
    chat = load_prompt("chat")
    assert chat.is_chat
    assert chat.messages("Where? ") == [{"role": "user", "content": "Where?"}]
    assert chat.messages("Where?", " Koro ")[1] == {"role": "assistant", "content": "Koro"}


def test_a_prompt_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("Answer {in a word}.\nQ: {question}\nA:\n", encoding="utf-8")
    prompt = load_prompt(str(file))
    assert prompt.prompt("Where?") == "Answer {in a word}.\nQ: Where?\nA:"
    assert prompt.text("{question}", "Koro") == "Answer {in a word}.\nQ: {question}\nA: Koro "
    assert not prompt.is_chat


@pytest.mark.parametrize(("text", "n"), [("Q:", 0), ("{question} {question}", 2)])
def test_a_prompt_file_needs_the_question_once(tmp_path: Path, text: str, n: int) -> None:
    (tmp_path / "p.txt").write_text(text, encoding="utf-8")
    with pytest.raises(
        SpecError, match=rf"p\.txt holds {{question}} {n} times; it must stand there exactly once"
    ):
        load_prompt(str(tmp_path / "p.txt"))


def test_an_unknown_prompt(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="prompt: got 'papr'; allowed: paper, chat, or a text file"):
        load_prompt("papr")
    (tmp_path / "p.txt").write_bytes(b"\xff")
    with pytest.raises(SpecError, match="prompt: got"):
        load_prompt(str(tmp_path / "p.txt"))


def test_the_prompt_id_follows_the_text(tmp_path: Path) -> None:
    same = tmp_path / "p.txt"
    same.write_text("<|question|> {question} <|answer|>\n", encoding="utf-8")
    assert load_prompt(str(same)).prompt_id == load_prompt("paper").prompt_id
    assert load_prompt("chat").prompt_id != load_prompt("paper").prompt_id


def test_few_shot_text() -> None:
    assert few_shot_completion(ASKED, [fact(1), fact(2)]) == (
        "Q: Where was N1 born? A: City 1\nQ: Where was N2 born? A: City 2\nQ: Where was N99 born? A:"
    )
    five = [fact(i) for i in range(5)]
    assert five_shot_qa(ASKED, five) == few_shot_completion(ASKED, five)
    with pytest.raises(SpecError, match="five-shot prompt: got 4 exemplars; needed: 5"):
        five_shot_qa(ASKED, five[:4])


def test_an_answer_ends_with_its_line() -> None:
    assert first_line(" City 1\nQ: Where was N3 born?") == " City 1"
    assert first_line("\n\nCity 1\n") == "City 1"
    assert first_line("City") == "City"


def test_exemplars_are_other_train_facts_of_the_topic() -> None:
    sets = few_shot_sets(fact(3), POOL, seed=0)
    assert len(sets) == 21
    for exemplars in sets:
        assert len({e.question for e in exemplars}) == 4
        assert {e.topic for e in exemplars} == {"P19"}
        assert fact(3).question not in {e.question for e in exemplars}
    assert len(set(sets)) > 15  # of 7 * 6 * 5 * 4 = 840 ordered sets
    assert len(five_shot_exemplars(ASKED, POOL, seed=0)) == 5


def test_draws_depend_on_seed_and_fact_alone() -> None:
    shuffled = exemplar_pool([fact(i) for i in reversed(range(8))] + [fact(0, split="dev")])
    assert few_shot_sets(ASKED, POOL, seed=1) == few_shot_sets(ASKED, shuffled, seed=1)
    assert few_shot_sets(ASKED, POOL, seed=1) != few_shot_sets(ASKED, POOL, seed=2)
    assert few_shot_sets(ASKED, POOL, seed=1) != few_shot_sets(fact(98), POOL, seed=1)


def test_every_exemplar_is_equally_likely() -> None:
    """1,000 sets of 4 out of 8: each expected 500 times, standard deviation sqrt(1000 / 4) = 16."""
    drawn = Counter(e.question for chosen in few_shot_sets(ASKED, POOL, seed=0, n_sets=1_000) for e in chosen)
    assert len(drawn) == 8
    assert all(abs(n - 500) < 5 * 16 for n in drawn.values())


def test_too_few_exemplars_are_an_error() -> None:
    with pytest.raises(
        DataError, match=r"topic 'P20' has 3 other train facts .* needed: 4; add facts with split"
    ):
        few_shot_sets(fact(9, topic="P20"), POOL, seed=0)
    with pytest.raises(DataError, match=r"topic '\(none\)' has 0 other train facts"):
        few_shot_sets(fact(9, topic=""), POOL, seed=0)


def test_a_prompt_file_may_begin_with_a_mark_and_double_its_braces(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    for text in ("\ufeffQ: {question} A:\n", "Q: {{question}} A:", "Q: {{ question }} A:"):
        file.write_text(text, encoding="utf-8")
        assert load_prompt(str(file)).prompt("Where?") == "Q: Where? A:"

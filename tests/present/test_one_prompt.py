"""No number crosses prompts: a chain and a study whose two prompts differ so much that a crossed one is recognised.

Of 200 test questions of a domain are right, under the prompt tuned with and after five examples:

    base 4 (2.0%) and 168 (84.0%), tuned 23 (11.5%) and 95 (47.5%), restored 38 (19.0%) and 124 (62.0%)

and whoever is right with fewer is right with more. A difference within a prompt is one of 9.5, 7.5, 17.0 and 36.5,
14.5, 22.0 pp; one across prompts is none of these, and neither are the counts of answers that changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import fake_chain
import numpy as np
import pandas as pd
import pytest
from fake_rows import Asked, FakeState, Training
from fake_study import asked, make

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import prompts_of
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.analysis.rows import accuracy_rows, curve_rows, format_rows, recovered_rows
from sftknow_core.analysis.scorecard import scorecard
from sftknow_core.analysis.study import About, StudyResults
from sftknow_core.present import terminal
from sftknow_core.present.html import run as run_html
from sftknow_core.present.html import study as study_html
from sftknow_core.present.text import accuracy as accuracy_text
from sftknow_core.present.text import story, tokens
from sftknow_core.results import Chain, accuracy, questions
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.studies import FixedRule
from sftknow_core.specs import Rule
from sftknow_core.store.cache import Cache

PER_LEVEL, LEVELS = 40, 5
RIGHT = {
    ("base", False): (0, 0, 1, 1, 2), ("base", True): (33, 33, 34, 34, 34),
    ("tuned", False): (4, 4, 5, 5, 5), ("tuned", True): (19, 19, 19, 19, 19),
    ("restored", False): (7, 7, 8, 8, 8), ("restored", True): (24, 25, 25, 25, 25),
    ("hybrid", False): (6, 6, 6, 6, 6), ("hybrid", True): (30, 30, 30, 30, 30),
}  # fmt: skip
"""(state, whether after five examples) -> right answers of 40 by level."""
_SIGNED = re.compile(r"[+−-](\d+\.\d)(?![\d])")
_COUNTS = re.compile(r"(?<![\w.,])(\d+)(?![\w.,%])")


def _between(values: dict[tuple[str, bool], float], crossed: bool) -> set[float]:
    """Differences of two states, of one prompt or of two."""
    pairs = product(values.items(), values.items())
    return {round(abs(a - b), 4) for (one, a), (other, b) in pairs if (one[1] != other[1]) == crossed}


COUNT = {key: float(sum(right)) for key, right in RIGHT.items()}
POINTS = {key: 100 * n / (PER_LEVEL * LEVELS) for key, n in COUNT.items()}
CROSSED_POINTS = _between(POINTS, True) - _between(POINTS, False)
CROSSED_COUNTS = _between(COUNT, True) - _between(COUNT, False) - set(COUNT.values())


def exact_rows(state: FakeState, questions: Sequence[Asked], training: Training) -> list[dict[str, Any]]:
    """As fake_rows.answer_rows, with RIGHT's answers: the first so many of each group and level."""
    del training
    kind = state.kind if (state.kind, state.five_shot) in RIGHT else "restored"
    seen: dict[tuple[str, str, int], int] = {}
    rows = []
    for number, (fact, level) in enumerate(questions):
        place = (fact.split, fact.domain, level)
        nth = seen[place] = seen.get(place, -1) + 1
        right = nth < RIGHT[kind, state.five_shot][level]
        row = {"state_id": state.state_id, "fact_id": fact.fact_id, "row": number, "topic": fact.topic}
        row |= {"level": level, "split": fact.split, "domain": fact.domain}
        row |= {"question": fact.question, "gold": fact.objects[0]}
        row |= {"completion": f" {fact.objects[0] if right else 'Nobody'}"}
        row |= dict.fromkeys(("words", "substring", "exact"), right)
        rows.append(row | {"stopped": True, "n_tokens": 3, "answer_in_question": False})
    return rows


@pytest.fixture(scope="module")
def chains(fast_folder: Path) -> Iterator[dict[bool, Chain]]:
    """Whether all states were asked under both prompts -> the chain."""
    patch = pytest.MonkeyPatch()
    patch.setattr(fake_chain, "answer_rows", exact_rows)
    found = {}
    for both in (True, False):
        root = fast_folder / f"one-prompt-{both}"
        (run_id,) = fake_chain.make_chains(root, per_level=PER_LEVEL, ks=(20,), cube=False, five_shot=both)
        found[both] = Chain(Cache(root), run_id)
    yield found
    patch.undo()


def check(texts: str, counts: bool = True) -> None:
    """Raise AssertionError for a difference or a count that no one prompt gives."""
    found = {float(one) for one in _SIGNED.findall(texts)} & CROSSED_POINTS
    assert not found, f"differences across prompts: {found}"
    if counts:
        crossed = [one for one in _COUNTS.finditer(texts) if float(one[1]) in CROSSED_COUNTS]
        around = [texts[max(0, one.start() - 40) : one.end() + 20] for one in crossed]
        assert not crossed, f"counts across prompts: {around}"


def test_the_check_can_fail() -> None:
    assert min(CROSSED_POINTS) > 25 and {72.5, 65.0, 45.5, 60.0} <= CROSSED_POINTS
    with pytest.raises(AssertionError, match="differences"):
        check("tuned minus base: −72.5 pp")
    with pytest.raises(AssertionError, match="counts"):
        check("**145** correct → incorrect")
    check("−36.5 pp, +7.5 pp; **73** of 200")


def texts_of(chain: Chain) -> str:
    """All sentences and cards about a chain."""
    said = [str(story.key_numbers(chain)), story.how_measured(chain), story.comparable(chain)]
    table = chain.all_questions.table
    for prompt in table.prompts:
        changes = accuracy.changes(accuracy.answers(table, chain.best_k, prompt))
        said += [str(accuracy_text.cards(changes, chain.best_k, prompt)), accuracy_text.flipped(changes)]
        said.append(accuracy_text.which_prompt(prompt, table.prompts, chain.chosen))
    return "\n".join(said)


@pytest.mark.parametrize("both", [True, False])
def test_sentences_and_cards_of_a_chain(chains: dict[bool, Chain], both: bool) -> None:
    said = texts_of(chains[both])
    check(said)
    assert ("-36.5 pp" in said) is both and ("−36.5" in said) is both and "+7.5" in said
    assert ("not asked with five examples" in said) is not both


@pytest.mark.parametrize("both", [True, False])
def test_the_terminal(chains: dict[bool, Chain], both: bool, capsys: pytest.CaptureFixture[str]) -> None:
    chain = chains[both]
    terminal.show_chain({"prompt": "paper", **chain.manifest.summary})
    terminal.show_demo({"chains": [{"learning_rate": 7e-4, **chain.manifest.summary["headline"]}]})
    said = capsys.readouterr().out
    check(said)
    assert ("84.0" in said) is both and ("not asked with five examples" in said) is not both
    if both:
        assert said.index("5-shot") < said.index("zero-shot")
        assert re.search(r"5-shot +84\.0 +47\.5 +62\.0 +20 +\+14\.5", said)
    assert re.search(r"zero-shot +2\.0 +11\.5 +19\.0 +20 +\+7\.5", said)


@pytest.mark.parametrize("both", [True, False])
def test_the_report_of_a_run(chains: dict[bool, Chain], both: bool) -> None:
    chain = chains[both]
    page = run_html.render(chain.cache, chain.run_id)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    shown = json.dumps([data[part] for part in ("tables", "lists", "numbers")], ensure_ascii=False)
    visible = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.S)
    check(shown, counts=False)
    check(json.dumps(data["lists"]) + visible)
    assert ("curve-five-shot" in data["tables"]) is both
    for theme in data["figures"].values():  # a figure has the accuracies of one prompt
        for name, figure in theme.items():
            if name.startswith(("curve-", "levels-", "chains-", "measured")):
                assert len(_prompts_drawn(figure)) <= 1, name


def _prompts_drawn(figure: dict[str, Any]) -> set[bool]:
    """Whether the means over levels that a figure draws are of one prompt, of the other, or of both."""
    of = {round(points / 100, 4): five for (_, five), points in POINTS.items()}
    values = [trace.get("y") for trace in figure["data"] if isinstance(trace.get("y"), list)]
    return {of[round(y, 4)] for ys in values for y in ys if isinstance(y, float) and round(y, 4) in of}


def test_one_question_is_answered_under_one_prompt(chains: dict[bool, Chain]) -> None:
    """The seventh question of level 4: zero-shot only restored is right, after five examples all are."""
    asked_table = chains[True].all_questions
    rows = asked_table.table.questions.to_pylist()
    of_level = [r for r in rows if (r["split"], r["domain"], r["level"]) == ("test", "in", 4)]
    question = of_level[6]
    course = questions.course(asked_table.table, question["fact_id"])
    zero = tokens.answers(question, course, 20.0, ZERO_SHOT)
    five = tokens.answers(question, course, 20.0, FIVE_SHOT)
    assert zero.count("✗") == 2 and five.count("✓ correct") >= 3 and "5-shot" not in zero
    assert "zero-shot" not in five
    assert tokens.comes_back(question, ZERO_SHOT) == "Recovered from k = 20%, zero-shot."
    assert tokens.comes_back(question, FIVE_SHOT) == "Still correct after fine-tuning, 5-shot."


# -- a study


def _study(both: bool) -> Study:
    """One cell: tuned 11.5 and 47.5, restored at k = 20 19.0 and 62.0, base 3.0 and 84.0 percent."""
    zero = {0.0: 0.115, 20.0: 0.19}
    five = {0.0: 0.475, 20.0: 0.62}
    how: dict[str, Any] = {"levels": ("2",), "sizes": ("1920",), "ks": (0.0, 20.0), "noise": 0.0}
    how |= {"per_level": 200}
    tables = make(lambda level, size, k, *_: zero[k], **how)
    own = tables.answers[tables.answers["chain"] != "base"]
    own = [own, asked("base", "base", "qa", _share(0.03), stopped=False)]
    own.append(asked("base", "base", "five-shot", _share(0.84)))
    if not both:
        return Study(StudyTables(tables.chains, tables.states, pd.concat(own, ignore_index=True)))
    other = make(lambda level, size, k, *_: five[k], prompts=("five-shot",), **how).answers
    other = other[other["prompt"] == "five-shot"]
    return Study(StudyTables(tables.chains, tables.states, pd.concat([*own, other], ignore_index=True)))


def _share(share: float) -> np.ndarray:
    return np.broadcast_to((np.arange(200) + 0.5) / 200 < share, (2, 5, 200))


STUDY = {
    ("base", False): 3.0, ("base", True): 84.0, ("tuned", False): 11.5, ("tuned", True): 47.5,
    ("restored", False): 19.0, ("restored", True): 62.0,
}  # fmt: skip
STUDY_CROSSED = _between(STUDY, True) - _between(STUDY, False)


def _results(study: Study) -> StudyResults:
    about = About(
        run_id="r", name="s", title="t", base_name="demo", state="done", created_at="", matcher="words",
        region="transformer", seeds=(3, 4, 5), n_cells=3, n_done=3, n_questions={}, majority={},
        fixed=FixedRule(Rule().for_study((60, 240, 1920), ()), None, None, None, in_identity=False),
    )  # fmt: skip
    return StudyResults(study, about)


@pytest.mark.parametrize("both", [True, False])
def test_a_study_in_all_its_parts(both: bool) -> None:
    study = _study(both)
    results = _results(study)
    said = [*(v.sentence for v in results.verdicts), *map(str, results.advice), *map(str, results.answers)]
    for table in (*results.tables, results.flips):
        said += [table.caption, table.shown.to_string()]
        for column in table.frame.columns.intersection(["gain", "gain_low", "gain_high"]):
            said += [f"{100 * value:+.1f}" for value in table.frame[column].dropna()]
    said.append(study_html.render(results) if both else "")
    found = {float(one) for one in _SIGNED.findall("\n".join(said))} & STUDY_CROSSED
    assert not found, f"differences across prompts: {found}"
    assert ("not asked with five examples" in "\n".join(said)) is not both
    assert prompts_of(study) == (("five-shot", "qa") if both else ("qa",))


def test_table_4_has_a_block_for_each_prompt() -> None:
    """After five examples 14.5 of the 36.5 points back to base: 39.7%; zero-shot has no ceiling."""
    table = _results(_study(True)).table("table4")
    ours = table.frame[table.frame["source"] == "this study"]
    assert ours["prompt"].drop_duplicates().tolist() == ["5-shot", "zero-shot"]
    at_20 = ours[ours["k_percent"] == 20].set_index("prompt")
    assert at_20["gain"].tolist() == pytest.approx([0.145, 0.075])
    assert at_20.loc["5-shot", "of_ceiling"] == pytest.approx(0.145 / 0.365)
    assert pd.isna(at_20.loc["zero-shot", "of_ceiling"])
    base = ours[ours["state"] == "base"].set_index("prompt")["accuracy"]
    assert base.to_dict() == pytest.approx({"5-shot": 0.84, "zero-shot": 0.03})
    older = _results(_study(False)).table("table4").frame
    assert set(older["prompt"].dropna()) == {"zero-shot"} and older["of_ceiling"].isna().all()


def test_rows_of_figures_are_of_one_prompt() -> None:
    study = _study(True)
    for prompt, base, tuned, restored in (("five-shot", 0.84, 0.475, 0.62), ("qa", 0.03, 0.115, 0.19)):
        curve = curve_rows(study, "1920", prompt=prompt).set_index("state")["accuracy"]
        assert curve.to_dict() == pytest.approx({"base": base, "tuned": tuned, "restored": restored})
        cells, ends = accuracy_rows(study, prompt=prompt)
        assert cells["accuracy"].tolist() == pytest.approx([tuned])
        assert ends.loc[ends["state"] == "base", "accuracy"].tolist() == pytest.approx([base])
        healed = recovered_rows(study, "1920", prompt=prompt)
        assert healed["n_healed"].sum() == round((restored - tuned) * 3000) and not healed["n_broken"].any()
    lines = format_rows(study, study.grid().cells()[0])
    assert lines[lines["measure"] == "base after five examples"]["share"].tolist() == pytest.approx([0.84])
    older = format_rows(_study(False), study.grid().cells()[0])
    assert "base after five examples" not in set(older["measure"])


def test_the_scorecard_flips_within_a_prompt() -> None:
    """Of the questions of level 3 and 4 tuned keeps 11.5% and 47.5%; healed: of the wrong ones, right when restored."""
    card = scorecard(_study(True)).set_index(["prompt", "measure", "state"])["share"].astype(float)
    assert list(dict.fromkeys(scorecard(_study(True))["prompt"])) == ["5-shot", "zero-shot"]
    assert card["5-shot", "kept", "tuned"] == pytest.approx(0.475)
    assert card["zero-shot", "kept", "tuned"] == pytest.approx(0.115)
    assert card["5-shot", "kept", "base"] == pytest.approx(0.84)
    assert card["5-shot", "healed", "restored"] == pytest.approx(0.145 / 0.525)
    assert card["zero-shot", "healed", "restored"] == pytest.approx(0.075 / 0.885)
    assert ("5-shot", "learnt", "tuned") not in card.index and ("5-shot", "format", "tuned") not in card.index

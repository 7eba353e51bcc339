"""study.toml: what is read from it, and what is said about what does not belong there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftknow_core.analysis.context import Plan
from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.model.train.methods import PRESETS
from sftknow_core.pipeline.study.read import read_study, shipped, study_from
from sftknow_core.specs import PAPER_KS, Cell, Checkpoints, Restoring, Rule
from sftknow_core.update.spec import percent

FILE = Path("/somewhere/study.toml")


def test_everything_a_file_can_say() -> None:
    spec = study_from(
        {
            "name": "mine",
            "base": "demo",
            "data": {"data": "demo", "filter": "all", "sample": 5},
            "grid": {
                "levels": ["mixed", 2, "2"],
                "sizes": ["all", 60],
                "seeds": [5, 3],
                "methods": ["lora", "full"],
            },
            "training": {"preset": "demo", "lr": 1e-3, "epochs": 2},
            "restoring": {"k": [5, "20"], "strategies": ["top", {"strategy": "random", "region": "mlp"}]},
            "evaluation": {
                "per_level": 7,
                "question_seed": 1,
                "prompt": "paper",
                "matcher": "exact",
                "max_new_tokens": 4,
                "first_tokens": False,
                "train_questions": "all",
                "baselines": False,
            },
            "work": {"checkpoints": "best", "threads": 2, "workers": 3},
        },
        FILE,
    )
    assert (spec.name, spec.base, spec.data) == ("mine", "demo", FactsRef("demo", filter="all", sample=5))
    assert (spec.levels, spec.sizes, spec.seeds) == (("2", "mixed"), (60, None), (3, 5))
    assert (spec.methods, spec.preset, spec.ks) == (("full", "lora"), "demo", (percent(5), percent(20)))
    assert spec.restoring == (Restoring(), Restoring(strategy="random", region="mlp"))
    assert (spec.questions.per_level, spec.questions.seed) == (7, 1)
    assert (spec.evaluate.matcher, spec.evaluate.max_new_tokens, spec.evaluate.shifts) == ("exact", 4, False)
    assert (spec.train_questions, spec.baselines) == (None, False)
    assert (spec.checkpoints, spec.threads, spec.workers) == (Checkpoints.BEST, 2, 3)
    lora = Cell(level="2", n=60, seed=5, method="lora")
    trained = spec.training_of(lora, PRESETS["demo"])
    assert (trained.method, trained.seed, trained.lr, trained.epochs, trained.batch_size) == (
        "lora",
        5,
        1e-3,
        2,
        4,
    )


def test_more_seeds_and_questions_at_one_size() -> None:
    """What says the same as the value for all sizes is the same study."""
    plain = {
        "grid": {"levels": [0], "sizes": [60, 1920], "seeds": [1, 0]}
        | {"seeds_by_size": {"1920": [0, 2, 1], "60": [0, 1]}},
        "evaluation": {"per_level": 40, "per_level_by_size": {"1920": 100, "60": 40}},
    }  # fmt: skip
    spec = study_from(plain, FILE)
    assert (spec.seeds_by_size, spec.per_level_by_size) == ({1920: (0, 1, 2)}, {1920: 100})
    keys = [cell.key.removeprefix("full-0-") for cell in spec.cells()]
    assert keys == ["60-0", "1920-0", "60-1", "1920-1", "1920-2"]
    asked = [spec.chain_spec(cell, spec.restoring[0]).questions.per_level for cell in spec.cells()]
    assert asked == [40, 100, 40, 100, 100]
    assert [one.per_level for one in spec.question_specs()] == [40, 100]


@pytest.mark.parametrize(
    ("sizes", "roles"),
    [
        ([60, 240, 1920, "all"], (60, 240, 1920)),
        ([10, 20, 40], (10, 20, 40)),
        ([60, 240], (60, 240, 1920)),
        ([10, 40], (10, 240, 40)),
        ([1920], (60, 240, 1920)),
        (["all"], (60, 240, 1920)),
    ],
)
def test_roles_are_the_papers_sizes_or_the_ends(sizes: list[object], roles: tuple[int, ...]) -> None:
    found = study_from({"grid": {"sizes": sizes}}, FILE).fixed_rule
    assert (found.roles.small, found.roles.middle, found.roles.large) == roles
    assert found.margin_pp == 1.0  # by no name: nothing but a file's own [rule] changes it


def test_a_rule_of_ones_own() -> None:
    plain = {
        "base": "demo", "grid": {"sizes": [60, 240, 480, 1920]},
        "rule": {"margin_pp": 2, "min_seeds": 5, "roles": {"middle": 480, "fixed_k": 40, "kl_measure": "aligned"}},
    }  # fmt: skip
    found = study_from(plain, FILE).fixed_rule
    assert (found.margin_pp, found.min_seeds, found.min_questions, found.alpha) == (2.0, 5, 100, 0.05)
    roles = found.roles
    assert (roles.small, roles.middle, roles.large, roles.fixed_k, roles.kl_measure) == (
        60,
        480,
        1920,
        40,
        "aligned",
    )
    assert Rule.from_json(found.model_dump()) == found
    plan = Plan.of(found)
    assert (plan.small, plan.middle, plan.large, plan.fixed_k, plan.rule) == ("60", "480", "1920", 40, found)


def test_cells_are_the_grid_with_seeds_outermost() -> None:
    grid = {"levels": [0, 1], "sizes": [60], "seeds": [0, 1]}
    keys = [cell.key for cell in study_from({"grid": grid}, FILE).cells()]
    assert keys == ["full-0-60-0", "full-1-60-0", "full-0-60-1", "full-1-60-1"]


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"grid": {"seads": [0]}}, r"\[grid\]: unknown key 'seads'; did you mean 'seeds'\?"),
        ({"gird": {"levels": [0]}}, r"unknown key 'gird'; did you mean 'grid'\?"),
        ({"training": {"seeds": [1]}}, r"\[training\]: 'seeds' does not belong here; it belongs in \[grid\]"),
        ({"levels": [0]}, r"'levels' does not belong here; it belongs in \[grid\]"),
        ({"grid": {"name": "x"}}, r"'name' does not belong here; it belongs in the top of the file"),
        ({"work": {"learning_rat": 1}}, r"\[work\]: unknown key 'learning_rat'"),
        ({"training": {"epoch": 1}}, r"did you mean 'epochs'\?"),
        (
            {"restoring": {"strategies": [{"strategi": "top"}]}},
            r"strategies\[0\]: .*did you mean 'strategy'\?",
        ),
        (
            {"grid": {"sizes": [60, "many"]}},
            r'\[grid\] sizes\[1\]: got "many"; allowed: a whole number, or "all"',
        ),
        ({"grid": {"sizes": 60}}, r"\[grid\] sizes: got 60; allowed: a list, e.g. \[60\]"),
        ({"grid": {"seeds": [True]}}, r"\[grid\] seeds\[0\]: got true; allowed: a whole number"),
        ({"grid": {"levels": [[1]]}}, r"\[grid\] levels\[0\]: got \[1\]"),
        ({"training": {"lr": "fast"}}, r'\[training\] lr: got "fast"; allowed: a number'),
        ({"evaluation": {"baselines": 1}}, r"\[evaluation\] baselines: got 1; allowed: true or false"),
        ({"name": 3}, "name: got 3; allowed: a text in quotes"),
        ({"grid": 3}, r"grid: got 3; allowed: a table, \[grid\]"),
        ({"grid": {"levels": [7]}}, "level: got '7'; allowed: 0, 1, 2"),
        ({"grid": {"sizes": [0]}}, "n: got 0; allowed: at least 1"),
        ({"grid": {"levels": []}}, "levels: got an empty list"),
        ({"grid": {"seeds": [-1]}}, "seeds: got -1"),
        ({"grid": {"methods": ["qlora"]}}, "method: got 'qlora'; allowed: full, lora"),
        ({"training": {"lr": -1.0}}, "lr: got -1.0"),
        ({"training": {"preset": "mine"}}, 'preset: got "mine"; allowed: auto, paper, demo'),
        ({"restoring": {"k": [120]}}, "120"),
        ({"restoring": {"strategies": ["interpolation"]}}, "interpolation takes no k"),
        (
            {"restoring": {"equal_energy": ["random", "block"]}},
            "equal_energy: got 'block'; allowed: top, bottom, largest, smallest, random, interpolation",
        ),
        (
            {"restoring": {"equal_energy": "random"}},
            r"\[restoring\] equal_energy: got \"random\"; allowed: a list",
        ),
        (
            {"restoring": {"controls": [{"strategy": "random"}]}},
            r"controls\[0\]: got none of them; allowed: one of k, alpha, block",
        ),
        (
            {"restoring": {"controls": [{"strategie": "random", "k": [1]}]}},
            r"controls\[0\]: unknown key 'strategie'; did you mean 'strategy'\?",
        ),
        ({"evaluation": {"matcher": "fuzzy"}}, 'matcher: got "fuzzy"'),
        ({"evaluation": {"per_level": 0}}, "questions per level: got 0"),
        ({"work": {"checkpoints": "some"}}, 'checkpoints: got "some"; allowed: none, best, all'),
        ({"work": {"workers": 0}}, "workers: got 0; allowed: 1 or more"),
        (
            {"grid": {"seeds_by_size": {"61": [1]}}},
            r"seeds_by_size: got 61; allowed: sizes of the study, \[60,",
        ),
        ({"grid": {"seeds_by_size": {"60": 1}}}, r"\[grid\] seeds_by_size\[60\]: got 1; allowed: a list"),
        ({"grid": {"seeds_by_size": [1]}}, r"seeds_by_size: got \[1\]; allowed: a table of sizes, e\.g\."),
        ({"grid": {"seeds_by_size": {"60": []}}}, "seeds_by_size 60: got an empty list"),
        ({"grid": {"seeds_by_size": {"60": [-1]}}}, "seeds: got -1"),
        ({"evaluation": {"per_level_by_size": {"60": 0}}}, "questions per level: got 0"),
        ({"evaluation": {"per_level_by_size": {"x": 1}}}, 'allowed: a whole number, or "all"'),
        ({"rule": {"margin": 2}}, r"\[rule\]: unknown key 'margin'; did you mean 'margin_pp'\?"),
        ({"rule": {"roles": {"smal": 60}}}, r"\[rule\] roles: unknown key 'smal'; did you mean 'small'\?"),
        ({"margin_pp": 2}, r"'margin_pp' does not belong here; it belongs in \[rule\]"),
        ({"rule": {"margin_pp": "2"}}, r'\[rule\] margin_pp: got "2"; allowed: a number'),
        ({"rule": {"margin_pp": 0}}, "margin_pp: got 0; allowed: a number above 0"),
        ({"rule": {"alpha": 5}}, "alpha: got 5; allowed: a number above 0 and at most 0.5"),
        ({"rule": {"min_seeds": 1}}, "min_seeds: got 1; allowed: 2 or more"),
        ({"rule": {"roles": {"large": 480}}}, "large: got 480; allowed: sizes of the study, 60, 240, 1920"),
        (
            {"rule": {"roles": {"small": 240, "large": 60}}},
            "small 240 and large 60; allowed: increasing sizes",
        ),
        ({"rule": {"roles": {"fixed_k": 15}}}, "fixed_k: got 15; allowed: k of the study, 1, 3, 5, 10, 20"),
        ({"rule": {"roles": {"enrichment_k": 15}}}, "enrichment_k: got 15; allowed: 1 or 20"),
    ],
)
def test_what_does_not_belong_there_is_refused_in_words(plain: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        study_from(plain, FILE)


def test_messages_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[grid]\nlevles = [0]\n")
    with pytest.raises(SpecError, match=r"mine\.toml: \[grid\]: unknown key 'levles'; did you mean 'levels'"):
        read_study(path)
    path.write_text("[grid\n")
    with pytest.raises(SpecError, match=r"mine\.toml: not readable as TOML: .*line 1"):
        read_study(path)
    with pytest.raises(SpecError, match=r"no shipped study .*did you mean 'demo'"):
        read_study("dmo")


def test_files_are_looked_for_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text("")
    (tmp_path / "mine.toml").write_text('[data]\ndata = "facts.jsonl"\n')
    spec = read_study(tmp_path / "mine.toml")
    assert spec.data.data == str(tmp_path / "facts.jsonl")
    assert spec.name == "mine"
    assert read_study(tmp_path / "mine.toml", base="other", data="demo").data.data == "demo"


def test_shipped_studies() -> None:
    assert shipped() == ["demo", "demo-full", "objections", "paper"]
    demo = read_study("demo")
    assert (len(demo.cells()), demo.ks) == (18 * 3 + 6 * 2, PAPER_KS)
    largest = demo.fixed_rule.roles.large
    assert demo.questions_of(largest).per_level == demo.fixed_rule.min_questions
    assert len(demo.seeds_of(largest)) >= 5 > demo.fixed_rule.min_seeds
    assert [read_study(name).fixed_rule.margin_pp for name in shipped()] == [2.0, 2.0, 2.0, 1.0]
    paper = read_study("paper", base="some/llama", data="facts.zip")
    assert (paper.base, paper.data.data, paper.sizes[-1]) == ("some/llama", "facts.zip", None)
    assert read_study("paper").base is None
    assert len(read_study("demo-full").cells()) > 54
    objections = read_study("objections")
    assert (len(objections.cells()), objections.repeats()) == (3 * 5 * 4 * 3, {240: 8.0})


@pytest.mark.parametrize(
    ("sizes", "controlled"),
    [([60, 240, 1920], 1920), ([60, 1920, 3840, "all"], 1920), ([60, 480], 480), (["all"], None)],
)
def test_controls_stand_where_verdicts_about_large_n_are_read(
    sizes: list[object], controlled: int | None
) -> None:
    spec = study_from({"grid": {"sizes": sizes}}, FILE)
    compared = {cell.n for cell in spec.cells() if spec.chain_spec(cell, spec.restoring[0]).equal_energy}
    assert compared == {controlled}
    if controlled is not None:
        assert spec.fixed_rule.roles.large == controlled


def test_the_paper_and_the_night_have_what_every_claim_needs() -> None:
    for name in ("paper", "demo-full"):
        spec = read_study(name)
        largest = spec.chain_spec(Cell(level="0", n=1920, seed=spec.seeds[0]), spec.restoring[0])
        assert {str(one.strategy) for one in largest.controls} >= {"largest", "smallest", "block"}
        assert largest.completions and set(largest.equal_energy) >= {"random", "interpolation"}

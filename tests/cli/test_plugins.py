"""Code of the user's own on the command line: `--plugin FILE`, with the two examples that are shipped."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from slow_restore import read, values
from tiny_pair import make_pair

from sftknow_core import registry
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder

from .conftest import Sftknow
from .place import Place

pytestmark = pytest.mark.usefixtures("own_plugins")

EXAMPLES = Path(__file__).parents[2] / "examples"
STRATEGY, MATCHER = EXAMPLES / "own_strategy.py", EXAMPLES / "own_matcher.py"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def at(tmp_path: Path, pair: tuple[Path, Path], sftknow: Sftknow) -> Place:
    return Place(tmp_path, pair, sftknow)


def slow_heavy_first(base: Path, tuned: Path, region: list[str], k_percent: int) -> dict[str, np.ndarray]:
    """Raw words of every tensor: a stable sort of the region by (s - p)^2 |p|, largest first, in float32."""
    one, two = read(base / "model.safetensors"), read(tuned / "model.safetensors")
    p, s = (np.concatenate([values(*words[name]) for name in region]) for words in (one, two))
    score = np.square(s - p) * np.abs(p)
    taken = np.zeros(len(p), bool)
    taken[np.argsort(-score, kind="stable")[: len(p) * k_percent // 100]] = True
    offset, out = 0, {name: words.copy() for name, (_, words) in two.items()}
    for name in region:
        part = taken[offset : offset + len(out[name])]
        out[name][part] = one[name][1][part]
        offset += len(part)
    return out


def in_model_order(folder: Path) -> list[str]:
    """The region "transformer" of a tiny Llama: attention and MLP by layer, in the order of its parameters."""
    parts = ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"]
    n_layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    return [f"model.layers.{layer}.{part}_proj.weight" for layer in range(n_layers) for part in parts]


def joined(help_text: str) -> str:
    """Without the breaks of its lines."""
    return "".join(help_text.split())


def test_the_help_lists_an_own_strategy(sftknow: Sftknow) -> None:
    ended = sftknow("--plugin", STRATEGY, "restore", "--help")
    assert "heavy-first(largestsquared" in joined(ended.out) and "top(largestrelative" in joined(ended.out)
    assert f"note: code of {STRATEGY} runs (sha256 " in ended.err and ended.err.count("\n") == 1
    assert "heavy-first" in joined(sftknow("run", f"--plugin={STRATEGY}", "--help").out)


def test_an_own_strategy_restores_what_a_slow_one_does(at: Place) -> None:
    out = at.folder / "out"
    ended = at.restore("--strategy", "heavy-first", "--out", out, "--json", "--plugin", STRATEGY)
    assert ended.code == 0, ended.err
    expected = slow_heavy_first(at.base, at.tuned, in_model_order(at.base), 20)
    written = read(out / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, words in expected.items():
        assert (written[name][1] == words).all(), name
    changed = load_file(at.tuned / "model.safetensors")
    assert any((load_file(out / "model.safetensors")[name] != changed[name]).any() for name in changed)


def test_a_recipe_names_the_plugin_and_needs_it(at: Place, own_plugins: None, sftknow: Sftknow) -> None:
    mine = at.folder / "own_strategy.py"
    mine.write_bytes(STRATEGY.read_bytes())
    recipe, out = at.folder / "r.json", at.folder / "out"
    made = at.restore(
        "--strategy", "heavy-first", "--recipe", recipe, "--out", out, "--plugin", mine, "--json"
    ).json
    spec = json.loads(recipe.read_text())["restored"]["spec"]
    assert spec["strategy"] == "heavy-first" and spec["plugin"].startswith("own_strategy@")
    assert "| strategy | heavy-first (code of own_strategy (sha256 " in (out / "README.md").read_text()
    assert made["state_id"] == json.loads(recipe.read_text())["restored"]["state_id"]
    again = at("rebuild", recipe, "--out", at.folder / "again", "--plugin", mine)
    assert again.code == 0, again.err
    name = "model.safetensors"
    assert (at.folder / "again" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("other", ["", "# another version\n"])
def test_a_recipe_is_refused_without_its_plugin(
    at: Place, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Each command in a process of its own, as people run them: what one loaded is not there for the next."""
    mine, recipe = at.folder / "own_strategy.py", at.folder / "r.json"
    mine.write_bytes(STRATEGY.read_bytes())
    assert at.restore("--strategy", "heavy-first", "--recipe", recipe, "--plugin", mine).code == 0
    forget_plugins(monkeypatch)
    given: list[object] = []
    if other:
        mine.write_text(mine.read_text() + other)
        given = ["--plugin", mine]
    ended = at("rebuild", recipe, "--out", at.folder / "again", *given)
    assert ended.code == 2 and not (at.folder / "again").exists()
    if other:
        assert "strategy heavy-first is needed from the plugin own_strategy (sha256 " in ended.err
    else:
        assert (
            "code of the plugin own_strategy (sha256 " in ended.err
            and "give it by --plugin FILE" in ended.err
        )


def test_another_source_is_another_state(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for number in range(2):
        mine = at.folder / "own_strategy.py"
        mine.write_text(STRATEGY.read_text() + f"# version {number}\n")
        out = at.folder / f"out{number}"
        ids.append(at.restore("--strategy", "heavy-first", "--out", out, "--plugin", mine, "--json").json)
        forget_plugins(monkeypatch)
    assert ids[0]["state_id"] != ids[1]["state_id"] and ids[0]["model_id"] == ids[1]["model_id"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return (s - p) / 0 * 0",
            "strategy mine gave NaN; allowed: a number for every weight (tensor model.",
        ),
        ("return (s - p)[:3].abs()", "strategy mine gave the shape [3]; allowed: ["),
        ("return s > p", "strategy mine gave torch.bool; allowed: a tensor of floats"),
        ("return 1", "strategy mine gave int; allowed: a tensor of floats"),
        ("return s - p", "allowed: 0 and more"),
        ("return s.nonsense", "strategy mine failed on tensor model."),
    ],
)
def test_what_a_function_may_not_give(at: Place, body: str, message: str) -> None:
    mine = at.folder / "mine.py"
    mine.write_text(
        "from sftknow_core.update.strategies import strategy\n"
        f"@strategy('mine')\ndef mine(p, s):\n    {body}\n"
    )
    ended = at.restore("--strategy", "mine", "--out", at.folder / "out", "--plugin", mine)
    assert ended.code == 2 and message in ended.err, ended.err
    assert not (at.folder / "out").exists()


def test_a_function_cannot_change_the_weights_it_is_given(at: Place) -> None:
    mine, out = at.folder / "mine.py", at.folder / "out"
    mine.write_text(
        "from sftknow_core.update.strategies import strategy\n"
        "@strategy('mine')\ndef mine(p, s):\n    return p.zero_().add_(1)\n"
    )
    before = (at.base / "model.safetensors").read_bytes()
    ended = at.restore("--strategy", "mine", "--region", "all", "--out", out, "--plugin", mine, "--k", 100)
    assert ended.code == 0, ended.err
    assert (at.base / "model.safetensors").read_bytes() == before
    base, written = read(at.base / "model.safetensors"), read(out / "model.safetensors")
    assert all((base[name][1] == words).all() for name, (_, words) in written.items())


def test_an_own_matcher_judges_the_answers(tmp_path: Path, sftknow: Sftknow) -> None:
    """Of every answer: does it begin with an answer, worked out here from the stored text alone."""
    common = ["--questions", 3, "--prompt", "five-shot", "--cache", tmp_path, "--device", "cpu", "--json"]
    ended = sftknow("--plugin", MATCHER, "evaluate", "demo", "--matcher", "begins", *common)
    assert ended.code == 0, ended.err
    name = f"begins@{sha256(MATCHER.read_bytes()).hexdigest()[:16]}"
    assert ended.json["matcher"] == name and "matcher begins" in ended.err
    run = RunFolder(Cache(tmp_path), ended.json["run_id"])
    assert run.spec.params["matcher"] == name
    rows, synonyms = run.read("answers").to_pylist(), load_synonyms()
    right = {
        row["fact_id"]
        for row in rows
        if row["completion"].strip().lower().startswith(
            tuple(one.lower() for one in (row["gold"], *synonyms.get(row["gold"], ())))
        )
    }  # fmt: skip
    assert {row["fact_id"] for row in rows if row["own_matcher"]} == right
    assert 0 < len(right) < len(rows) and {row["own_matcher"] for row in rows} == {True, False}
    headlines = [row for row in ended.json["accuracies"] if row["level"] is None]
    assert {row["matcher"] for row in headlines} == {name} and sum(
        row["n_right"] for row in headlines
    ) == len(right)
    assert {row["matcher"] for row in run.read("accuracies").to_pylist()} == {
        "words",
        "substring",
        "exact",
        name,
    }


def test_an_unknown_matcher_is_refused_and_an_own_one_listed(sftknow: Sftknow) -> None:
    ended = sftknow("evaluate", "demo", "--matcher", "begin")
    assert ended.code == 2 and "matcher: got 'begin'; allowed: words, substring, exact" in ended.err
    assert "begins(itbeginswith" in joined(sftknow("--plugin", MATCHER, "run", "--help").out)


@pytest.mark.parametrize("option", [["--plugin", "no.py"], ["--plugin"]])
def test_a_plugin_that_is_not_there_ends_the_command(sftknow: Sftknow, option: list[str]) -> None:
    ended = sftknow("runs", *option)
    assert ended.code == 2 and "plugin" in ended.err and not ended.out


def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process begins."""
    for one, name in registry._added:
        one.remove(name)
    registry._added.clear()
    registry._loaded.clear()
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, "")

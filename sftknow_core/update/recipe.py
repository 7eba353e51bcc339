"""A recipe: a restored model as a small JSON file, from which base and tuned make it again, bit for bit.

Beside the `Lineage` it holds the selection itself, the `Cut`: a key and a number of ties, which together with
the strategy's order say of every weight whether it goes back. So making the model again needs no ranking pass,
and one pass over both models does all. Interpolation and blocks have no cut: their spec says all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.update.lineage import Lineage, check_version, checked_fields, damaged
from sftknow_core.update.output_layout import OUTPUT_DTYPES
from sftknow_core.update.pair import Pair
from sftknow_core.update.ranking import Cut
from sftknow_core.update.region import Region
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.scores import MAX_BITS
from sftknow_core.update.select import Plan, plan_for
from sftknow_core.update.spec import count_for
from sftknow_core.update.strategies import order_of

RECIPE_FORMAT = "sftknow-recipe"
RECIPE_VERSION = 1
"""Goes up whenever the file's form changes."""

_LARGEST_FILE = 1 << 20
_FRAME = {"format": (str,), "format_version": (int,), "restored": (dict,), "cut": (dict, type(None))}
_CUT = {"key": (int,), "ties": (int,)}


@dataclass(frozen=True)
class Recipe:
    """All that is needed, beside base and tuned, to make a restored model again."""

    lineage: Lineage
    cut: Cut | None
    """None for interpolation and blocks."""

    def to_text(self) -> str:
        """The file's content."""
        plain = {
            "format": RECIPE_FORMAT,
            "format_version": RECIPE_VERSION,
            "restored": self.lineage.to_json(),
            "cut": None if self.cut is None else {"key": self.cut.key, "ties": self.cut.ties},
        }
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str, where: str = "the recipe") -> Recipe:
        """The inverse of `to_text`. Raises SpecError for other text, and for values that do not belong
        together."""
        try:
            stored: Any = json.loads(text)
        except ValueError as error:
            raise damaged(where, f"no JSON ({error})") from error
        if not isinstance(stored, dict) or stored.get("format") != RECIPE_FORMAT:
            raise SpecError(f"{where} is no recipe; give a file that `sftknow restore --recipe` wrote.")
        check_version(stored, "format_version", RECIPE_VERSION, where)
        values = checked_fields(stored, _FRAME, where)
        recipe = cls(Lineage.from_json(values["restored"], where), _cut(values["cut"], where))
        recipe._check(where)
        return recipe

    def _check(self, where: str) -> None:
        lineage, cut = self.lineage, self.cut
        if lineage.output_dtype not in OUTPUT_DTYPES:
            raise damaged(where, f"output_dtype is {lineage.output_dtype!r}")
        if (cut is None) != (lineage.spec.k_percent is None):
            raise damaged(where, f"a cut {cut} does not belong to strategy {lineage.spec.strategy}")
        if cut is None:
            return
        if not 0 <= cut.key <= MAX_BITS or not 0 <= cut.ties <= (lineage.n_restored or 0):
            raise damaged(where, f"{cut} does not give {lineage.n_restored} restored weights")


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file. Raises SpecError naming the file."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SpecError(
                f"{path} is too large for a recipe; give a file that `sftknow restore --recipe` wrote."
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the recipe {path} cannot be read: {error}") from error
    return Recipe.from_text(text, f"recipe {path}")


def plan_from(recipe: Recipe, pair: Pair, where: str = "the recipe") -> Plan:
    """The plan that the recipe was written from, without a pass over the weights.

    Raises SpecError when region or selection have another size in this pair.
    """
    lineage = recipe.lineage
    plan = _plan(recipe, pair)
    if (plan.n_region, plan.n_restored) != (lineage.n_region, lineage.n_restored):
        raise damaged(
            where,
            f"it restores {lineage.n_restored} of {lineage.n_region} weights, but its selection "
            f"{plan.n_restored} of {plan.n_region}",
        )
    return plan


def _plan(recipe: Recipe, pair: Pair) -> Plan:
    spec = recipe.lineage.spec
    if recipe.cut is None:
        return plan_for(pair, spec)  # no pass: nothing is ranked
    metas = Region(spec.region, spec.layers).resolve(pair.metas)
    n_region = sum(meta.numel for meta in metas)
    order = order_of(spec.strategy, pair, metas, spec.seed)
    # what a recipe does not hold: how many keys equal the cut's (here: not all of them are taken), and whether
    # a weight scores 0 and yet differs (here: it may); both only save work where they are known
    n_restored = count_for(n_region, spec.k_percent or 0)
    return Plan(spec, metas, n_region, n_restored, recipe.cut, order, n_equal=-1, zeros_hide=True)


def check_rebuilt(recipe: Recipe, report: RestoreReport, model_id: str, where: str = "the recipe") -> None:
    """Raise unless what was written is what the recipe says.

    report: of the pass that wrote; model_id: of what it wrote. SpecError when the cut gives other counts,
    ModelError when the model is another one all the same.
    """
    lineage = recipe.lineage
    taken = sum(tensor.n_restored for tensor in report.tensors)
    if lineage.n_restored is not None and taken != lineage.n_restored:
        raise damaged(where, f"{recipe.cut} gives {taken} restored weights and not {lineage.n_restored}")
    if report.n_touched != lineage.n_touched:
        raise damaged(where, f"n_touched is {lineage.n_touched}, but {report.n_touched} weights changed")
    if model_id != lineage.model_id:
        raise ModelError(
            f"{where}: the rebuilt model is {model_id} and not {lineage.model_id}. The recipe was edited, or "
            "another version of sftknow or of its libraries wrote it; nothing was left behind. "
            "`sftknow restore` writes both anew."
        )


def _cut(stored: object, where: str) -> Cut | None:
    if stored is None:
        return None
    values = checked_fields(stored, _CUT, where)
    return Cut(values["key"], values["ties"])

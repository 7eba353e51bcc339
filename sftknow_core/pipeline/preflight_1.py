"""Before any work on two models' weights: can it be done, what will it read and write, is there room?

Every check is made and reported, not only the first that fails. Headers, configs and tokenizers are read, and
weights are hashed where their ids are not remembered; nothing is written but these ids, into the cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import ModelError, SftknowError
from sftknow_core.model.io.fit import Check, Status, architecture_of, fit_checks, tokenizer_check
from sftknow_core.pipeline.delta import open_source
from sftknow_core.pipeline.pair_order import order_check
from sftknow_core.pipeline.workspace import ModelHandle, Workspace

if TYPE_CHECKING:
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.recipe import Recipe
    from sftknow_core.update.spec import RestoreSpec


@dataclass(frozen=True)
class Job:
    """What a command is about to do with two models."""

    action: str
    """delta, restore, rebuild or run."""
    base: str
    """As the user named it."""
    tuned: str
    spec: RestoreSpec | None = None
    """What is restored; None for delta, and for rebuild, whose recipe says it."""
    dtype: str = "base"
    """Of the written weights."""
    out: Path | None = None
    new_recipe: Path | None = None
    patch: Path | None = None
    recipe: Path | None = None
    """rebuild: the recipe to follow."""
    revision: str | None = None
    """Of the base's hub id."""

    @property
    def outputs(self) -> list[Path]:
        """What is to be made, and must not exist."""
        return [path for path in (self.out, self.new_recipe, self.patch) if path is not None]


@dataclass
class Preflight:
    """What was found."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Counts, bytes and seconds; only what could be reckoned."""
    base: ModelHandle | None = None
    tuned: ModelHandle | None = None

    @property
    def failed(self) -> list[Check]:
        """The checks that speak against the work."""
        return [check for check in self.checks if check.status == "error"]

    def require(self) -> tuple[ModelHandle, ModelHandle]:
        """Both models. Raises ModelError with every failed check."""
        if self.failed:
            raise ModelError("\n  ".join(f"{check.name}: {check.text}" for check in self.failed))
        assert self.base is not None and self.tuned is not None
        return self.base, self.tuned

    def to_json(self) -> dict[str, Any]:
        """As `--dry-run --json` prints it."""
        return {
            "ok": not self.failed,
            "base_id": self.base.model_id if self.base else None,
            "tuned_id": self.tuned.model_id if self.tuned else None,
            "checks": [asdict(check) for check in self.checks],
            **self.figures,
        }

    def add(self, name: str, status: Status, text: str) -> None:
        """Note a check."""
        self.checks.append(Check(name, status, text))


def check_job(ws: Workspace, job: Job) -> Preflight:
    """Make every check that the job allows."""
    from sftknow_core.pipeline.preflight import check_costs

    ws.reporter.stage("checking the two models")
    found = Preflight()
    found.base = _opened(ws, found, "base", job.base, job.revision)
    found.tuned = _opened(ws, found, "tuned", job.tuned, None)
    recipe = _recipe(found, job.recipe) if job.recipe is not None else None
    pair = _pair(ws, found, job)
    spec, dtype = job.spec, job.dtype
    if recipe is not None:
        spec, dtype = recipe.lineage.spec, recipe.lineage.output_dtype
    check_costs(found, job, pair, spec, dtype)
    return found


def _opened(ws: Workspace, found: Preflight, role: str, ref: str, revision: str | None) -> ModelHandle | None:
    try:
        model = ws.open_model(ref, revision)
        name, _ = architecture_of(model.base.path if model.base else model.path)
    except (SftknowError, OSError) as error:
        found.add(role, "error", f"{role} {ref} cannot be used: {error}")
        return None
    kind = f"adapter on {model.base.name} ({model.base.model_id}), {name}" if model.base else name
    found.add(role, "ok", f"{model.name} ({model.model_id}), {kind}, in {model.path}")
    return model


def _recipe(found: Preflight, path: Path) -> Recipe | None:
    """The recipe to follow, and whether it is for these two models."""
    from sftknow_core.update.recipe import read_recipe

    try:
        recipe = read_recipe(path)
        if found.base is not None and found.tuned is not None:
            recipe.lineage.require_pair(found.base.model_id, found.tuned.model_id, f"recipe {path}")
    except SftknowError as error:
        found.add("recipe", "error", str(error))
        return None
    found.add("recipe", "ok", f"{path} makes model {recipe.lineage.model_id} of base and tuned")
    return recipe


def _pair(ws: Workspace, found: Preflight, job: Job) -> Pair | None:
    """Both models' weights side by side; None where they do not fit."""
    from sftknow_core.update.pair import Pair

    base, tuned = found.base, found.tuned
    if base is None or tuned is None:
        return None
    before = len(found.failed)
    try:
        found.checks.append(order_check(ws.cache, base, tuned, (job.base, job.tuned)))
    except SftknowError as error:
        found.add("order", "error", str(error))
    if tuned.base is not None and tuned.base.model_id != base.model_id:
        found.add("adapter", "error", _other_base(base, tuned))
    try:
        sources = open_source(base.path), open_source(tuned.path, base.path if tuned.base else None)
    except SftknowError as error:
        found.add("tensors", "error", str(error))
        found.checks.append(tokenizer_check(base.path, tuned.path))
        return None
    found.checks += fit_checks(*sources, base.path, tuned.path)
    if len(found.failed) > before:
        return None
    try:
        return Pair(*sources)
    except SftknowError as error:  # no check above saw it, but the engine does
        found.add("tensors", "error", str(error))
        return None


def _other_base(base: ModelHandle, tuned: ModelHandle) -> str:
    assert tuned.base is not None
    return (
        f"tuned {tuned.name} is an adapter on {tuned.base.name} ({tuned.base.model_id}), but base is {base.name} "
        f"({base.model_id}); give --base {tuned.base.path}"
    )

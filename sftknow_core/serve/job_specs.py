"""What a page can ask for as a job: frozen values that become the arguments of `sftknow`.

A field is an option of the same name ("per_level" is --per-level); None leaves the option out, so that the
command's own default counts, True gives the bare flag, a tuple its parts with commas between.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from sftknow_core.errors import SpecError
from sftknow_core.model.train.methods import SftSpec
from sftknow_core.registry import plugin_arguments
from sftknow_core.specs import ChainSpec, EvaluateSpec, QuestionSpec
from sftknow_core.update.spec import RestoreSpec


def _option(name: str, default: Any = None) -> Any:
    """A field whose option has another name."""
    return field(default=default, metadata={"option": name})


@dataclass(frozen=True)
class JobSpec:
    """The part all jobs share."""

    command: ClassVar[tuple[str, ...]] = ()
    """The command of `sftknow`, with what it always gets."""
    device: str | None = None
    """auto, cuda, mps or cpu."""

    def check(self) -> None:
        """Raise SpecError for what the command would refuse whatever the models and facts."""

    def arguments(self) -> tuple[str, ...]:
        """The arguments of `sftknow`, without --cache and --json."""
        given = [*self.command]
        for one in fields(self):
            if one.metadata.get("positional"):
                continue
            name = one.metadata.get("option", one.name)
            given += _arguments(f"--{name.replace('_', '-')}", getattr(self, one.name))
        return tuple(given)


@dataclass(frozen=True)
class DemoJob(JobSpec):
    """The demonstration: ten chains of the shipped model."""

    command: ClassVar[tuple[str, ...]] = ("demo", "--no-app")
    questions: int | str | None = None
    """Of each mastery level in each group, or "all"."""


@dataclass(frozen=True)
class _OnFacts(JobSpec):
    """A job on a base model and facts."""

    base: str = "demo"
    data: str = "demo"
    revision: str | None = None
    """Of a hub id."""
    topics: str | None = None
    filter: str | None = None
    keep_leaks: bool = False
    sample: int | None = None
    """At most so many facts of each topic and split."""


@dataclass(frozen=True)
class _Trained(_OnFacts):
    """A job that fine-tunes."""

    level: str = "0"
    """Mastery level trained on: 0 to 4, mixed or natural."""
    n: int | str = 240
    """Size of the train set, or "all"."""
    seed: int = 0
    lora: bool = False
    lr: float | None = None
    epochs: float | None = None
    batch_size: int | None = None

    def check(self) -> None:
        """Raise SpecError for an impossible train set or training."""
        ChainSpec(level=self.level, n=self.n, ks=())  # type: ignore[arg-type]  # text is read there
        given = {"lr": self.lr, "epochs": self.epochs, "batch_size": self.batch_size}
        SftSpec(seed=self.seed, **_given(given))


@dataclass(frozen=True)
class SftJob(_Trained):
    """One fine-tuning."""

    command: ClassVar[tuple[str, ...]] = ("sft",)


@dataclass(frozen=True)
class ChainJob(_Trained):
    """The whole chain for one train set, or, with `tuned`, for a pair that exists."""

    command: ClassVar[tuple[str, ...]] = ("run",)
    tuned: str | None = None
    """Nothing is trained then."""
    ks: tuple[str, ...] | None = _option("k")
    """Percentages to restore."""
    strategy: str | None = None
    region: str | None = None
    layers: str | None = None
    questions: int | str | None = None
    """Of each mastery level in each group, or "all"."""
    prompt: str | None = None
    matcher: str | None = None
    dtype: str | None = None

    def check(self) -> None:
        """Raise SpecError for an impossible train set, k, strategy, region, prompt or matcher."""
        super().check()
        QuestionSpec(per_level=self.questions)  # type: ignore[arg-type]  # text is read there
        EvaluateSpec(matcher=self.matcher or "words")
        chosen = {"strategy": self.strategy, "region": self.region, "layers": self.layers, "ks": self.ks}
        ChainSpec(**_given(chosen))


@dataclass(frozen=True)
class ExportJob(JobSpec):
    """A restored model written to the disk: as a folder, a recipe, a patch, or several of them."""

    command: ClassVar[tuple[str, ...]] = ("restore",)
    base: str = "demo"
    tuned: str = ""
    k: str = "20"
    """Percent of the region to restore."""
    strategy: str = "top"
    region: str = "transformer"
    layers: str | None = None
    output_dtype: str | None = None
    out: str | None = None
    """New folder; absolute, since the server's working directory means nothing to people."""
    recipe: str | None = None
    patch: str | None = None

    def check(self) -> None:
        """Raise SpecError for no tuned model, an impossible selection, no path, one that is not absolute or exists."""
        if not self.tuned:
            raise SpecError("tuned: got nothing; give a folder, a hub id, or the start of a model_id")
        RestoreSpec(self.strategy, self.region, self.layers, self.k)  # type: ignore[arg-type]  # checked there
        wanted = [path for path in (self.out, self.recipe, self.patch) if path]
        if not wanted:
            raise SpecError("path: got nothing; give the full path of what is to be written")
        for path in map(Path, wanted):
            if not path.is_absolute():
                raise SpecError(f"path: got {str(path)!r}; allowed: a full path, such as /data/restored")
            if path.exists():
                raise SpecError(f"{path} exists already; give a new path, nothing is overwritten")


@dataclass(frozen=True)
class StudyJob(JobSpec):
    """A whole study: levels x sizes x seeds."""

    command: ClassVar[tuple[str, ...]] = ("study", "run")
    study: str = field(default="demo", metadata={"positional": True})
    """demo, demo-full, objections, paper, or a .toml file."""
    base: str | None = None
    """Instead of the file's."""
    data: str | None = None
    workers: int | None = None
    skip_impossible: bool = False

    def check(self) -> None:
        """Raise SpecError for an unknown study, a file that is wrong, or one without a base model."""
        from sftknow_core.pipeline.study.read import read_study

        spec = read_study(self.study, base=self.base, data=self.data)
        if spec.base is None:
            raise SpecError(f"study {self.study} names no base model; give one")
        if self.workers is not None:
            spec.but(workers=self.workers)

    def arguments(self) -> tuple[str, ...]:
        """The study stands where it is given, without an option's name."""
        given = super().arguments()
        return (*self.command, self.study, *given[len(self.command) :])


def command_line(spec: JobSpec, cache: str | None = None) -> str:
    """The command as people would type it, quoted for a POSIX shell; only to be read or copied."""
    where = ("--cache", cache) if cache is not None else ()
    return shlex.join(("sftknow", *plugin_arguments(), *spec.arguments(), *where))


def _arguments(option: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if "\0" in text:
        raise SpecError(f"{option}: got {text!r}; a value cannot hold a null character")
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

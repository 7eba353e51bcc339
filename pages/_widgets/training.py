"""The form of a fine-tuning: its widgets, and the job that they describe.

Every field is in the page's address, so that a setting can be sent to somebody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages._widgets import addresses, run_list, show
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.facts.dataset import DEMO, FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.train_set import LEVELS
from sftknow_core.model.train.methods import SftSpec
from sftknow_core.pipeline import estimate
from sftknow_core.pipeline.estimate import Estimate
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.workspace import DEMO_FOLDER, ModelHandle
from sftknow_core.present.text import training
from sftknow_core.present.text.tokens import topic_name
from sftknow_core.results import training as training_results
from sftknow_core.serve import train_preview
from sftknow_core.serve.job_specs import ChainJob, SftJob
from sftknow_core.serve.train_preview import Levels, Preview
from sftknow_core.specs import PAPER_KS
from sftknow_core.store.cache import Cache

_NAME = "fine_tune"
_OTHER = "another model"
_A_FILE = "a path"
QUESTIONS = 25
"""Of each level in each group, as the demo asks: its chains and new ones can be compared."""
_LEVEL = "2"
_METHODS = ["full", "LoRA"]
_AFTERWARDS = ["restore and evaluate", "train only"]
_USUAL = "the default"


@dataclass(frozen=True)
class TrainingForm:
    """What the form says."""

    job: ChainJob | SftJob
    base_id: str | None
    """None where the cache does not know the model yet."""
    folder: Path | None
    """Of the base's weights; None where they are not on this machine, or nobody knows."""

    @property
    def n(self) -> int | None:
        """Size of the train set; None: all. Raises SpecError for anything else."""
        if str(self.job.n) == "all":
            return None
        try:
            return int(self.job.n)
        except ValueError:
            raise SpecError(f"N: got {self.job.n!r}; allowed: a whole number, or all") from None

    def preset(self) -> SftSpec:
        """What is used where the form is left empty."""
        return preset_of(self.folder, self.job.lora)


def preset_of(folder: Path | None, lora: bool) -> SftSpec:
    """The settings of a base model: by the size of its weights; the paper's where they are not here."""
    method = "lora" if lora else "full"
    return SftSpec(method=method) if folder is None else sft_spec(ModelHandle(folder, "", ""), method=method)


def ask(key: Key) -> TrainingForm:
    """The form. Raises SpecError for fields that hold no number where one is needed."""
    models = run_list.base_models(key)
    _warn_invalid_params(models)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        base = _base(models)
        data = _data()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = _choice("Training level", "level", list(LEVELS), _LEVEL)
        n = _text("N (train facts)", "n", "240", width=130, help="A whole number, or all.")
        seed = _number("Seed", "seed", 0, min_value=0, step=1, width=110)
        method = _choice("Method", "method", _METHODS, _METHODS[0])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        usual = preset_of(_folder(models, base), method == "LoRA")
        lr = _setting("Learning rate", "lr", usual.lr, step=1e-5, format="%g")
        epochs = _setting("Epochs", "epochs", usual.epochs, step=0.5, format="%g")
        batch = _setting("Batch size", "batch", usual.batch_size, step=1)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        whole = _choice("After training", "afterwards", _AFTERWARDS, _AFTERWARDS[0])
        restores = whole != "train only"
        ks = _text("k to restore (%)", "k", ", ".join(map(str, PAPER_KS)), width=230, disabled=not restores)
        questions = _number(
            "Questions per level", "questions", QUESTIONS, min_value=1, step=5, width=170, disabled=not restores,
            help="In each of dev, test and out-of-domain test. Demo: 25; `sftknow run`: 60. Only runs with the same "
            "questions can be compared.",
        )  # fmt: skip
    trained = SftJob(
        base=base, data=data, level=level, n=n.replace(",", "").strip(), seed=int(seed), lora=method == "LoRA", lr=lr,
        epochs=epochs, batch_size=None if batch is None else int(batch),
    )  # fmt: skip
    parts = tuple(part.strip() for part in ks.split(",") if part.strip())
    if restores and not parts:
        raise SpecError("k: got nothing; allowed: percentages separated by commas, e.g. 5, 20, 60")
    job = ChainJob(**vars(trained), ks=parts, questions=int(questions)) if restores else trained
    return TrainingForm(job, train_preview.find_base(models, base), _folder(models, base))


def _warn_invalid_params(models: pd.DataFrame) -> None:
    """What the address asks for and the form does not offer; texts are said where they are read."""
    offers = {
        "base": list(_bases(models).values()),
        "facts": [DEMO, _A_FILE],
        "level": list(LEVELS),
        "method": _METHODS,
        "afterwards": _AFTERWARDS,
    }
    addresses.warn(
        {f"{_NAME}.{name}": choices for name, choices in offers.items()}, {f"{_NAME}.level": _LEVEL}
    )
    numbers = {"seed": (0, "0"), "questions": (1, str(QUESTIONS)), "lr": (0, _USUAL), "epochs": (0, _USUAL)}
    for name, (least, usual) in (numbers | {"batch": (0, _USUAL)}).items():
        addresses.warn_number(f"{_NAME}.{name}", least, float("inf"), usual)


def _bases(models: pd.DataFrame) -> dict[str, str]:
    """What a job can start from -> what people read."""
    own = models[models["model_id"] != train_preview.demo_id()]
    names = {DEMO: "demo (shipped, 1.2 M parameters)"}
    for row in own.to_dict("records"):
        ref = row["name"] if "/" in row["name"] and not Path(row["name"]).is_dir() else row["path"]
        names[str(ref)] = f"{row['name']} ({row['n_params'] / 1e6:,.1f} M parameters)"
    names[_OTHER] = "another: a folder or hub id"
    return names


def _base(models: pd.DataFrame) -> str:
    """What the job is told: demo, a path or a hub id."""
    names = _bases(models)
    options = list(names)
    chosen = st.selectbox(
        "Base model",
        options,
        format_func=names.__getitem__,
        key=f"{_NAME}.base",
        bind="query-params",
        width=300,
    )
    if chosen != _OTHER:
        return str(chosen)
    typed = _text(
        "Folder or hub id", "other_base", "", width=330, placeholder="/models/my-base or org/name"
    ).strip()
    if not typed:
        raise SpecError("base: enter the folder or hub id of the model to fine-tune")
    return typed


def _data() -> str:
    if _choice("Facts", "facts", [DEMO, _A_FILE], DEMO) == DEMO:
        return DEMO
    typed = _text(
        "EntityQuestions (zip or folder), .csv or .jsonl",
        "data",
        "",
        width=330,
        placeholder="/data/dataset.zip",
    ).strip()
    if not typed:
        raise SpecError(
            "facts: enter the path of the EntityQuestions zip or folder, or of a .csv or .jsonl file"
        )
    return typed


def _choice(label: str, name: str, options: list[str], default: str) -> str:
    return str(
        st.segmented_control(
            label, options, default=default, required=True, key=f"{_NAME}.{name}", bind="query-params"
        )
    )


def _text(label: str, name: str, default: str, **how: Any) -> str:
    return str(st.text_input(label, default, key=f"{_NAME}.{name}", bind="query-params", **how))


def _number(label: str, name: str, default: int, **how: Any) -> int:
    return int(st.number_input(label, value=default, key=f"{_NAME}.{name}", bind="query-params", **how))


def _setting(label: str, name: str, usual: float, **how: Any) -> float | None:
    """A number that may be left empty; its placeholder is the default."""
    how |= {"value": None, "placeholder": f"{usual:g}", "width": 150, "bind": "query-params"}
    given: float | None = st.number_input(label, key=f"{_NAME}.{name}", **how)
    return given


def _folder(models: pd.DataFrame, base: str) -> Path | None:
    if base == DEMO:
        return DEMO_FOLDER / "model"
    typed = Path(base).expanduser()
    if typed.is_dir():
        return typed
    found = train_preview.find_base(models, base)
    path = Path(models.loc[models["model_id"] == found, "path"].iloc[0]) if found else None
    return path if path and path.is_dir() else None


def problem(wish: TrainingForm) -> str | None:
    """Why the job would be refused whatever the models and facts; None where nothing stands against it."""
    try:
        wish.job.check()
    except SftknowError as error:
        return str(error)
    return None


# What the form of a fine-tuning leads to: the train set that would be drawn, and what the job would take.
#
# Facts and scores are read once and remembered.


_FACT_NAME = "fine_tune"


@st.cache_resource(show_spinner="Reading facts …", max_entries=4)
def facts_of(data: str, stamp: int) -> FactSet:
    """The facts of demo or a path; stamp: when the path changed last. Nobody changes them."""
    return FactsRef(data).load()[0]


@st.cache_resource(show_spinner="Reading mastery scores …", max_entries=8)
def levels_of(key: Key, base_id: str | None, data: str, stamp: int) -> Levels | None:
    """See train_preview.known_levels."""
    return train_preview.known_levels(Cache(key[0]), base_id, facts_of(data, stamp))


@st.cache_data(show_spinner=False, max_entries=64)
def speeds(key: Key, base_id: str, lora: bool) -> dict[str, training_results.Speed]:
    """See results.training.speeds; scores that were shipped took nobody here any time."""
    shipped = train_preview.shipped_scores().get("run_id")
    without = [str(shipped)] if shipped else []
    return training_results.speeds(Cache(key[0]), base_id, "lora" if lora else "full", without)


def show_train_set(key: Key, wish: TrainingForm) -> tuple[Preview | None, FactSet, Levels | None]:
    """What would be trained on; None where the job has to score mastery first. Raises DataError, SpecError."""
    stamp = _stamp(wish.job.data)
    facts = facts_of(wish.job.data, stamp)
    levels = levels_of(key, wish.base_id, wish.job.data, stamp)
    if levels is None:
        st.info(
            f"No mastery scores of this model for these {len(facts.facts):,} facts yet, so the train set cannot be "
            "shown. The job scores mastery first and stores the scores for later jobs."
        )
        return None, facts, None
    drawn = train_preview.preview(facts, levels.by_fact, wish.job.level, wish.n, wish.job.seed)
    there = train_preview.available(facts.facts, levels.by_fact)
    level = wish.job.level
    suited = there[there["level"] == int(level)] if level.isdigit() else there
    st.markdown(
        f"Train set: **{drawn.n:,} facts** of {suited['n'].sum():,} in-domain train facts "
        f"{f'of level {level}' if level.isdigit() else 'of all levels'}. {training.shortage(drawn.shortages)}"
    )
    topics = suited.groupby("topic")["n"].sum().rename("available").to_frame()
    topics["drawn"] = drawn.drawn.groupby("topic")["n"].sum()
    table = topics.fillna({"drawn": 0}).reset_index()[["topic", "drawn", "available"]]
    named = {"topic": [topic_name(topic) for topic in table["topic"]]}
    with st.container(horizontal=True, gap="medium", key="fine_tune_preview"):
        with st.container(width="stretch"):
            show.listed(table.assign(**named), f"{_FACT_NAME}.topics", "Facts by topic")
        with st.container(width="stretch"):
            rows = drawn.rows[["question", "gold", *([] if level.isdigit() else ["level"])]]
            show.listed(rows, f"{_FACT_NAME}.rows", "The first facts of the train set")
    if not level.isdigit():
        by_level = drawn.drawn.groupby("level")["n"].sum()
        st.caption(training.by_level(dict(zip(by_level.index, by_level, strict=True))))
    return drawn, facts, levels


def estimated(
    key: Key, wish: TrainingForm, drawn: Preview | None, facts: FactSet, levels: Levels | None
) -> Estimate:
    """Time and memory of the job, as far as they can be told."""
    job, models = wish.job, run_list.base_models(key)
    chain = job if isinstance(job, ChainJob) else None
    asked = None
    if chain is not None and levels is not None:
        asked = train_preview.n_questions(facts, levels.by_fact, int(chain.questions or QUESTIONS))
    known = models[models["model_id"] == wish.base_id]
    on_disk = estimate.parameters_of(wish.folder) if wish.folder else None
    return estimate.estimate(
        speeds(key, wish.base_id, job.lora) if wish.base_id else {},
        n_train=drawn.n if drawn else wish.n,
        epochs=job.epochs or wish.preset().epochs,
        lora=job.lora,
        ks=None if chain is None else chain.ks,
        n_questions=asked,
        n_unscored=0 if levels is not None else len(facts.facts),
        n_params=int(known["n_params"].iloc[0]) if len(known) else on_disk and on_disk[0],
        dtype=str(known["dtype"].iloc[0]) if len(known) else None,
    )


def _stamp(data: str) -> int:
    path = Path(data).expanduser()
    return path.stat().st_mtime_ns if data != DEMO and path.exists() else 0

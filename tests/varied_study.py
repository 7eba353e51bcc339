"""A made-up study (fake_study.py) whose cells differ in learning rate and passes as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from fake_study import make

from sftknow_core.analysis.rates import Recipe

Frames = dict[str, pd.DataFrame]


def frames_of(worlds: Mapping[Recipe, Callable[..., float]], **given: Any) -> Frames:
    """The frames of all recipes together, as results/study_frames.py gives them. given: of fake_study.make."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for number, (recipe, accuracy) in enumerate(worlds.items()):
        # shorter train sets alone are repeated
        sizes = [s for s in given.get("sizes", ("240", "1920")) if recipe.repeats == 1 or s != "1920"]
        tables = make(accuracy, **{**given, "sizes": tuple(sizes)})
        for name in ("chains", "states", "answers"):
            frame = getattr(tables, name).copy()
            if name == "chains":
                frame = frame.assign(rate=recipe.rate, repeats=recipe.repeats, update_norm=0.01 * recipe.rate)
            elif name == "answers" and number:
                frame = frame[frame["chain"] != "base"]
            for column in ("chain", "state_id"):
                if column in frame:
                    own = frame[column] != "base"
                    frame[column] = frame[column].where(
                        ~own, f"{recipe.rate:g}x{recipe.repeats:g}-" + frame[column]
                    )
            parts.setdefault(name, []).append(frame)
    return {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}

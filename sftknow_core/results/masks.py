"""What runs of `sftknow masks` found: overlaps of masks, and models restored with another's mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import pandas as pd

from sftknow_core.results.run import Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table


class Masks(Run):
    """A comparison of masks."""

    KIND: ClassVar[str | None] = "masks"
    NAME: ClassVar[str] = "comparison of masks"
    HINT: ClassVar[str] = "`sftknow masks` makes one"

    @property
    def frame(self) -> pd.DataFrame:
        """One row two masks and k, columns as table masks. Raises as `table`."""
        return self.table("masks")


class Donors(Run):
    """Models restored with another's mask."""

    KIND: ClassVar[str | None] = "donors"
    NAME: ClassVar[str] = "donor test"
    HINT: ClassVar[str] = "`sftknow masks --ask` makes one"

    @property
    def frame(self) -> pd.DataFrame:
        """One row a model, donor and k, columns as table donors. Raises as `table`."""
        return self.table("donors")


def masks_between(cache: Cache, model_ids: Iterable[str]) -> pd.DataFrame:
    """Everything known of the masks of these fine-tuned models, whatever run compared them; each row once."""
    ids = sorted(set(model_ids))
    rows = read_table(cache, "masks", where={"first_id": ids})
    rows = rows[rows["second_id"].isna() | rows["second_id"].isin(ids)]
    return rows.drop_duplicates(
        ["first_id", "second_id", "strategy", "region", "k_percent"], ignore_index=True
    )


def donors_between(cache: Cache, model_ids: Iterable[str]) -> pd.DataFrame:
    """Likewise for models restored with another's mask."""
    ids = sorted(set(model_ids))
    rows = read_table(cache, "donors", where={"tuned_id": ids, "donor_id": ids})
    return rows.drop_duplicates(["tuned_id", "donor_id", "k_percent"], ignore_index=True)

"""Where a restored model comes from, in a form that can be stored, read again and checked.

A `Lineage` names both models, the selection and the model that came out. A recipe and a patch carry it, and
whoever uses them compares it with what is really at hand: nothing in a file is believed that can be computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sftknow_core.errors import PluginError, SpecError
from sftknow_core.update.spec import ALGORITHM_VERSION, RestoreSpec, count_for

_ID = re.compile(r"[0-9a-f]{16}")

Kinds = Mapping[str, tuple[type, ...]]
"""Field -> the types its value may have in JSON."""


@dataclass(frozen=True)
class Lineage:
    """What a restored model was made from, how, and what it is."""

    base_id: str
    """model_id before fine-tuning."""
    base_name: str
    tuned_id: str
    """model_id after fine-tuning."""
    tuned_name: str
    spec: RestoreSpec
    output_dtype: str
    """As asked for: exact, base, tuned or the name of a dtype."""
    n_region: int
    """Weights of the region."""
    n_restored: int | None
    """Weights that were put back; None for interpolation, which moves all."""
    n_touched: int
    """Weights of the region whose value is no longer tuned's."""
    model_id: str
    """Of the restored model, as a folder that `write_restored` writes."""

    @property
    def state_id(self) -> str:
        """The id of the restored state."""
        return self.spec.state_id(self.base_id, self.tuned_id)

    def to_json(self) -> dict[str, Any]:
        """A plain dict; `state_id` and the algorithm's version stand in it as well."""
        return {
            "algorithm_version": ALGORITHM_VERSION,
            "base_id": self.base_id,
            "base_name": self.base_name,
            "tuned_id": self.tuned_id,
            "tuned_name": self.tuned_name,
            "spec": self.spec.to_json(),
            "state_id": self.state_id,
            "output_dtype": self.output_dtype,
            "n_region": self.n_region,
            "n_restored": self.n_restored,
            "n_touched": self.n_touched,
            "model_id": self.model_id,
        }

    @classmethod
    def from_json(cls, stored: object, where: str) -> Lineage:
        """The inverse of `to_json`; `where` begins the message of the SpecError for anything else."""
        plain = dict(stored) if isinstance(stored, dict) else stored
        if isinstance(plain, dict):
            check_version(plain, "algorithm_version", ALGORITHM_VERSION, where)
        values = checked_fields(plain, _KINDS, where)
        del values["algorithm_version"]
        state_id, spec = values.pop("state_id"), values.pop("spec")
        for name in ("base_id", "tuned_id", "model_id"):
            if not _ID.fullmatch(values[name]):
                raise damaged(where, f"{name} is {values[name]!r}, no 16 hex digits")
        found = cls(spec=_spec(spec, where), **values)
        if found.state_id != state_id:
            raise damaged(where, f"state_id {state_id} does not belong to its models and selection")
        found._check_counts(where)
        return found

    def require_pair(self, base_id: str, tuned_id: str, where: str) -> None:
        """Raise SpecError unless these are the two models it was made from."""
        if (base_id, tuned_id) == (self.base_id, self.tuned_id):
            return
        hint = (
            "They are swapped: give them the other way round."
            if (base_id, tuned_id) == (self.tuned_id, self.base_id)
            else "Give the models it was made from."
        )
        raise SpecError(
            f"{where} is for base {self.base_id} ({self.base_name}) and tuned {self.tuned_id} "
            f"({self.tuned_name}), but base is {base_id} and tuned is {tuned_id} here. {hint}"
        )

    def _check_counts(self, where: str) -> None:
        k, moved = self.spec.k_percent, self.n_restored
        if k is not None and moved != count_for(self.n_region, k):
            raise damaged(where, f"n_restored is {moved}, but {k:f}% of {self.n_region} weights are not")
        if (moved is None) != (self.spec.alpha is not None):
            raise damaged(where, f"n_restored is {moved} for strategy {self.spec.strategy}")
        if not 0 <= self.n_touched <= (self.n_region if moved is None else moved) <= self.n_region:
            raise damaged(where, f"n_touched is {self.n_touched} of {moved} restored weights")


_KINDS: Kinds = {
    "algorithm_version": (int,),
    "base_id": (str,),
    "base_name": (str,),
    "tuned_id": (str,),
    "tuned_name": (str,),
    "spec": (dict,),
    "state_id": (str,),
    "output_dtype": (str,),
    "n_region": (int,),
    "n_restored": (int, type(None)),
    "n_touched": (int,),
    "model_id": (str,),
}


def checked_fields(stored: object, kinds: Kinds, where: str) -> dict[str, Any]:
    """The dict, when it has exactly these fields with values of these types; SpecError otherwise."""
    if not isinstance(stored, dict):
        raise damaged(where, f"a {type(stored).__name__} stands where an object is expected")
    if unknown := sorted(stored.keys() - kinds.keys()):
        raise damaged(where, f"unknown field {unknown[0]!r}")
    if missing := [name for name in kinds if name not in stored]:
        raise damaged(where, f"field {missing[0]!r} is missing")
    for name, allowed in kinds.items():
        if type(stored[name]) not in allowed:  # by type, not isinstance: true is no number here
            raise damaged(where, f"field {name!r} is {stored[name]!r}")
    return dict(stored)


def check_version(stored: Mapping[str, object], field: str, version: int, where: str) -> None:
    """Raise SpecError when a file was made by another version; a missing field is for `checked_fields`."""
    found = stored.get(field, version)
    if found != version or isinstance(found, bool):
        raise SpecError(
            f"{where} has {field.replace('_', ' ')} {found!r}, and this is sftknow's version {version}. "
            "Use the sftknow that made it, or run `sftknow restore` again."
        )


def damaged(where: str, what: str) -> SpecError:
    """A file that was damaged or changed by hand."""
    return SpecError(
        f"{where}: {what}. The file was damaged or edited; run `sftknow restore` again, which writes it."
    )


def _spec(stored: Mapping[str, object], where: str) -> RestoreSpec:
    try:
        spec = RestoreSpec.from_json(stored)
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error
    except (SpecError, TypeError, AttributeError) as error:  # the last two: values of a wrong type
        raise damaged(where, f"spec {stored}: {error}") from error
    if spec.to_json() != stored:
        raise damaged(where, f"spec {stored} is not in its one spelling, {spec.to_json()}")
    return spec

"""What can be asked for: one pydantic model a request, checked when it is made, unknown fields refused.

The command line, study.toml, job files and the evaluation worker's messages are read and written by these models. What
the floors below need to run (RestoreSpec, SftSpec, FactsRef) is declared there and a field here. Loads no torch.
"""

from sftknow_core.specs.base import (
    Facts,
    K,
    Listed,
    Restoration,
    Spec,
    WholeOrAll,
    between,
    choice,
    field_names,
    in_words,
    one_of,
    restoration,
    unknown_name,
    value_of,
    whole_or_all,
    wrong,
)
from sftknow_core.specs.chain import (
    COMPARABLE,
    COMPLETION,
    FIVE_SHOT,
    NO_SHIFT,
    PAPER_KS,
    ChainSpec,
    EvaluateSpec,
    QuestionSpec,
    Restoring,
    check_comparable,
)
from sftknow_core.specs.rule import ENRICHMENT_KS, Roles, Rule
from sftknow_core.specs.study import AUTO, LARGE, Cell, Checkpoints, StudySpec, at_variation, sizes_as_json

__all__ = [
    "AUTO",
    "COMPARABLE",
    "COMPLETION",
    "Cell",
    "ChainSpec",
    "Checkpoints",
    "ENRICHMENT_KS",
    "EvaluateSpec",
    "FIVE_SHOT",
    "Facts",
    "K",
    "LARGE",
    "Listed",
    "NO_SHIFT",
    "PAPER_KS",
    "QuestionSpec",
    "Restoration",
    "Restoring",
    "Roles",
    "Rule",
    "Spec",
    "StudySpec",
    "WholeOrAll",
    "at_variation",
    "between",
    "check_comparable",
    "choice",
    "field_names",
    "in_words",
    "one_of",
    "restoration",
    "sizes_as_json",
    "unknown_name",
    "value_of",
    "whole_or_all",
    "wrong",
]

"""What all requests share: exact types, unknown fields refused, and one wording of what is wrong.

Every mistake is a SpecError, "field: got X; allowed: ...". With a validation context it stays pydantic's
ValidationError, for a reader that adds the place in its file (pipeline/study/read.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Self,
    TypeVar,
    get_origin,
    get_type_hints,
)

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from sftknow_core.errors import SpecError, unknown_field
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.model.train.methods import SftSpec
from sftknow_core.update.spec import Percent, RestoreSpec, percent

# Words for what pydantic finds.

_ALLOWED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "an object",
    "dataclass_type": "an object",
    "dict_type": "an object",
}


def in_words(error: ErrorDetails, shown: str | None = None) -> str:
    """What is wrong with one value: "got X; allowed: ...". shown: the value as its reader writes it."""
    details = error.get("ctx", {})
    allowed = _ALLOWED.get(error["type"]) or details.get("allowed") or error["msg"]
    return f"got {details.get('got') or shown or repr(error['input'])}; allowed: {allowed}"


def unknown_name(error: ErrorDetails, kind: type[Any]) -> tuple[str, list[str]] | None:
    """A field that is unknown, and those there are; None where something else is wrong."""
    if error["type"] == "unknown":
        return error["ctx"]["name"], error["ctx"]["names"]
    return (str(error["loc"][-1]), field_names(kind)) if error["type"] == "extra_forbidden" else None


def _refused(error: ValidationError, kind: type[Any], what: str) -> SpecError:
    first = error.errors(include_url=False)[0]
    where = [str(part) for part in first["loc"]]
    if (unknown := unknown_name(first, kind)) is not None:
        return unknown_field(what, *unknown)
    if first["type"] == "missing":
        return SpecError(f"{what}{where[-1]} is missing")
    return SpecError(f"{what}{': '.join([*where, in_words(first)])}")


def field_names(kind: type[Any]) -> list[str]:
    """The fields of a request, or of a value from a floor below."""
    return list(kind.model_fields) if issubclass(kind, BaseModel) else [one.name for one in fields(kind)]


def wrong(allowed: str) -> PydanticCustomError:
    """Raised by a validator: this value is not among what is allowed."""
    return PydanticCustomError("wrong", "allowed: {allowed}", {"allowed": allowed})


def one_of(*names: str) -> AfterValidator:
    """Only these texts."""

    def check(given: str) -> str:
        if given not in names:
            raise wrong(", ".join(names))
        return given

    return AfterValidator(check)


def between(least: int, most: int | None = None) -> AfterValidator:
    """Only these whole numbers."""

    def check(given: int) -> int:
        if given < least or (most is not None and given > most):
            raise wrong(f"{least} or more" if most is None else f"{least} to {most}")
        return given

    return AfterValidator(check)


def choice(kind: type[StrEnum]) -> BeforeValidator:
    """One of an enumeration, or its text."""

    def check(given: Any) -> StrEnum:
        if given not in list(kind):
            raise wrong(", ".join(kind))
        return kind(given)

    return BeforeValidator(check)


def whole_or_all(given: Any) -> int | None:
    """A whole number; None for "all"."""
    if given is None or given == "all":
        return None
    if isinstance(given, str) and given.removeprefix("-").isdecimal():
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int):
        raise wrong('a whole number, or "all"')
    return given


def _number_as_text(given: Any) -> Any:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise wrong("a number, or text")
    return str(given)


def _share(given: Any) -> Percent:
    if isinstance(given, bool) or not isinstance(given, Percent | str | int | float):
        raise wrong("a number, or text")
    return percent(given)


def restoration(given: Any) -> RestoreSpec:
    """A restoration, or the plain form of one. Raises SpecError."""
    if isinstance(given, RestoreSpec):
        return given
    if not isinstance(given, Mapping):
        raise SpecError(f"restore spec: got {given!r}; allowed: an object")
    try:
        return RestoreSpec.from_json(given)
    except TypeError as error:  # a value of a wrong type, such as a list where text belongs
        raise SpecError(f"restore spec: got {dict(given)!r} ({error})") from error


T = TypeVar("T")
_LIST = Field(strict=False)
Listed = Annotated[tuple[T, ...], _LIST]
"""A tuple of values; lists are taken too, as files and messages have them."""
WholeOrAll = Annotated[int | None, BeforeValidator(whole_or_all)]
"""A whole number; "all" is None."""
NumberOrText = Annotated[str, BeforeValidator(_number_as_text)]
"""Text; a number becomes its text, so that 2 and "2" are the same level."""
K = Annotated[Percent, PlainValidator(_share), PlainSerializer(str)]
Restoration = Annotated[RestoreSpec, PlainValidator(restoration), PlainSerializer(RestoreSpec.to_json)]


class Spec(BaseModel):
    """Base of every request: frozen, of exact types, without unknown fields. Raises SpecError when it is made."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True
    )
    what: ClassVar[str] = ""
    """Stands before what is wrong, e.g. "questions: "."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if info.context is not None:
            return handler(given)
        try:
            return handler(given)
        except ValidationError as error:
            raise _refused(error, cls, cls.what) from None

    def but(self, **changes: Any) -> Self:
        """The same request with other values, checked like any other."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)


def _fields_of(value: Any, kind: type[Any]) -> Any:
    return {name: getattr(value, name) for name in field_names(kind)} if isinstance(value, kind) else value


def model_of(kind: type[Any], what: str = "") -> type[Spec]:
    """A request with the fields of a dataclass from a floor below."""
    hints = get_type_hints(kind)
    declared: dict[str, Any] = {}
    for one in fields(kind):
        hint = hints[one.name]
        declared[one.name] = (Annotated[hint, _LIST] if get_origin(hint) is tuple else hint, one.default)
    model: type[Spec] = create_model(kind.__name__, __base__=Spec, **declared)
    model.what = what
    return model


def value_of(kind: type[Any], what: str = "") -> Any:
    """The type of a field that holds such a dataclass: an object with its fields becomes it, checked alike."""
    model: Any = model_of(kind, what)
    return Annotated[
        model,
        BeforeValidator(lambda given: _fields_of(given, kind)),
        AfterValidator(lambda given: kind(**_fields_of(given, model))),
        PlainSerializer(asdict),
    ]


def _given_fields(given: Any) -> dict[str, Any]:
    """Those fields of a model that were given, in the order in which they are declared."""
    return {one: getattr(given, one) for one in type(given).model_fields if one in given.model_fields_set}


if TYPE_CHECKING:
    Facts = FactsRef
    Training = Mapping[str, Any]
else:
    Facts = value_of(FactsRef, "facts: ")
    Training = Annotated[
        model_of(SftSpec),
        AfterValidator(_given_fields),
        PlainSerializer(dict),
    ]
    """Some fields of SftSpec; whether they make a training is checked cell by cell."""

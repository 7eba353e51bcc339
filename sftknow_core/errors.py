"""The errors of sftknow: each says what went wrong, where, and what to do next.

`exit_code` is what the command line returns: 2 for the user's mistake, 1 for ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SftknowError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class UserError(SftknowError):
    """Something the user gave cannot be used; the message says what to give instead."""

    exit_code = 2


class DataError(UserError):
    """A facts file, topics file or dataset cannot be read."""


class ModelError(UserError):
    """A model folder or hub id cannot be used, or two models do not fit together."""


class SpecError(UserError):
    """A parameter is out of range or two parameters contradict each other."""


class CacheError(UserError):
    """The cache folder or its catalogue cannot be used."""


class Stopped(SftknowError):
    """The run was stopped on request; the same command goes on where it stopped."""

    exit_code = 130


def unknown_field(where: str, name: str, allowed: Iterable[str]) -> SpecError:
    """The error for a field that a request does not have; names the nearest one that it has."""
    names = list(allowed)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}? Allowed" if near else "; allowed"
    return SpecError(f"{where}unknown field {name!r}{hint}: {', '.join(names)}")

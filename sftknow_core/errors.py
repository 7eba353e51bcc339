"""The errors of sftknow: each says what went wrong, where, and what to do next.

`exit_code` is what the command line returns: 2 for the user's mistake, 1 for ours.
"""

from __future__ import annotations


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


class PluginError(SpecError):
    """Code of the user's own is missing, cannot be loaded, or is not the code that a result was made with."""


class CacheError(UserError):
    """The cache folder or its catalogue cannot be used."""


class GoneError(CacheError, SpecError):
    """Nothing lies under this id: it never was there, or was deleted."""


class DamagedError(CacheError):
    """A result is there, but not as it was written: files lack or do not fit."""


class NotFinishedError(SpecError):
    """A run has not reached its end; its results come when it has."""


class Stopped(SftknowError):
    """The run was stopped on request; the same command goes on where it stopped."""

    exit_code = 130

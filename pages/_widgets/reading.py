"""What pages read from the cache, remembered until what it depends on changes.

A job that writes meanwhile makes few things new: the list of runs at each of its steps, what is gathered from all
chains when a run ends, and nothing about a chain that ended before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from sftknow_core.results import chains, restored
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date

Key = tuple[str, str]
"""Path of a cache and a stamp of what is remembered under it."""
_remembered = st.cache_data(show_spinner=False, max_entries=128)


def key_of_cache() -> Key:
    """Which cache ($SFTKNOW_CACHE, else ./cache); the stamp changes whenever a run ends well or is removed.

    Raises CacheError when it cannot be used.
    """
    cache = Cache()
    return str(cache.root), restored.finished_stamp(cache)


@st.cache_resource(
    show_spinner="Taking finished runs into the catalogue: about 10 s for 1,000 runs that it does not know yet …",
    max_entries=8,
)
def catch_up(key: Key) -> None:
    """What every read of results would do first, here, where the spinner says so. Raises CacheError."""
    with up_to_date(Cache(key[0])):
        pass


def at_work(key: Key) -> Key:
    """The same with a stamp that changes also when a run begins or gets further."""
    return key[0], chains.catalogue_stamp(Cache(key[0]))


def of_chain(key: Key, run_id: str) -> Key:
    """The same with a stamp of one chain alone. Raises SpecError when it is no finished chain."""
    return key[0], chains.chain_stamp(Cache(key[0]), run_id)


def survey(key: Key) -> chains.Survey:
    """See chain_views.survey; nobody changes it."""
    return _survey(at_work(key))


@st.cache_resource(show_spinner=False, max_entries=8, ttl=10)  # a killed job leaves no trace: look again
def _survey(key: Key) -> chains.Survey:
    return chains.survey(Cache(key[0]))


def chain_details(key: Key, run_id: str) -> Mapping[str, Any]:
    """See chain_views.chain_details."""
    return _chain_details(of_chain(key, run_id), run_id)


@_remembered
def _chain_details(key: Key, run_id: str) -> Mapping[str, Any]:
    return chains.chain_details(Cache(key[0]), run_id)


def curve(key: Key, run_id: str, split: str) -> pd.DataFrame:
    """See chain_views.curve."""
    return _curve(of_chain(key, run_id), run_id, split)


@_remembered
def _curve(key: Key, run_id: str, split: str) -> pd.DataFrame:
    return chains.curve(Cache(key[0]), run_id, split)


def levels(key: Key, run_id: str) -> pd.DataFrame:
    """See chain_views.levels."""
    return _levels(of_chain(key, run_id), run_id)


@_remembered
def _levels(key: Key, run_id: str) -> pd.DataFrame:
    return chains.levels(Cache(key[0]), run_id)


def shifted_questions(key: Key, run_id: str, search: str) -> pd.DataFrame:
    """See chain_views.shifted_questions."""
    return _shifted_questions(of_chain(key, run_id), run_id, search)


@_remembered
def _shifted_questions(key: Key, run_id: str, search: str) -> pd.DataFrame:
    return chains.shifted_questions(Cache(key[0]), run_id, search)

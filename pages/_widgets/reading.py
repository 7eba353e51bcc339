"""What pages read from the cache, remembered until what it depends on changes.

A job that writes meanwhile makes few things new: the list of runs at each of its steps, what is gathered from all
chains when a run ends, and nothing about a chain that ended before.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from sftknow_core.results import chains
from sftknow_core.results.chain import Chain
from sftknow_core.results.run import finished_stamp
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
    return str(cache.root), finished_stamp(cache)


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
    return key[0], Chain(Cache(key[0]), run_id).stamp


def survey(key: Key) -> chains.Survey:
    """See results.chains.survey; nobody changes it."""
    return _survey(at_work(key))


@st.cache_resource(show_spinner=False, max_entries=8, ttl=10)  # a killed job leaves no trace: look again
def _survey(key: Key) -> chains.Survey:
    return chains.survey(Cache(key[0]))


def chain_details(key: Key, run_id: str) -> Chain:
    """The handle, which has read its states."""
    return _chain_details(of_chain(key, run_id), run_id)


@st.cache_resource(show_spinner=False, max_entries=128)
def _chain_details(key: Key, run_id: str) -> Chain:
    chain = Chain(Cache(key[0]), run_id)
    _ = chain.states
    return chain


def curve(key: Key, run_id: str, split: str, prompt: str) -> pd.DataFrame:
    """See Chain.curve."""
    return _curve(of_chain(key, run_id), run_id, split, prompt)


@_remembered
def _curve(key: Key, run_id: str, split: str, prompt: str) -> pd.DataFrame:
    return Chain(Cache(key[0]), run_id).curve(split, prompt)


def levels(key: Key, run_id: str, prompt: str) -> pd.DataFrame:
    """See Chain.levels."""
    return _levels(of_chain(key, run_id), run_id, prompt)


@_remembered
def _levels(key: Key, run_id: str, prompt: str) -> pd.DataFrame:
    return Chain(Cache(key[0]), run_id).levels(prompt)


def shifted_questions(key: Key, run_id: str, search: str) -> pd.DataFrame:
    """See Chain.shifted_questions."""
    return _shifted_questions(of_chain(key, run_id), run_id, search)


@_remembered
def _shifted_questions(key: Key, run_id: str, search: str) -> pd.DataFrame:
    return Chain(Cache(key[0]), run_id).shifted_questions(search)

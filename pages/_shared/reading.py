"""What pages read from the cache, remembered until a run is added, gets further or is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from sftknow_core.store import chain_views
from sftknow_core.store.cache import Cache

Key = tuple[str, str]
"""Path of the cache and its stamp: with a run id, the key of everything remembered here."""
_remembered = st.cache_data(show_spinner=False, max_entries=128)


def key_of_cache() -> Key:
    """Which cache ($SFTKNOW_CACHE, else ./cache), as it is now. Raises CacheError when it cannot be used."""
    cache = Cache()
    return str(cache.root), chain_views.catalogue_stamp(cache)


@st.cache_resource(show_spinner=False, max_entries=8, ttl=10)  # a killed job leaves no trace: look again
def survey(key: Key) -> chain_views.Survey:
    """See chain_views.survey; as it is, without a copy, for every page begins with it and nobody changes it."""
    return chain_views.survey(Cache(key[0]))


@_remembered
def chain_details(key: Key, run_id: str) -> Mapping[str, Any]:
    """See chain_views.chain_details."""
    return chain_views.chain_details(Cache(key[0]), run_id)


@_remembered
def curve(key: Key, run_id: str, split: str) -> pd.DataFrame:
    """See chain_views.curve."""
    return chain_views.curve(Cache(key[0]), run_id, split)


@_remembered
def levels(key: Key, run_id: str) -> pd.DataFrame:
    """See chain_views.levels."""
    return chain_views.levels(Cache(key[0]), run_id)


@_remembered
def shifted_questions(key: Key, run_id: str, search: str) -> pd.DataFrame:
    """See chain_views.shifted_questions."""
    return chain_views.shifted_questions(Cache(key[0]), run_id, search)

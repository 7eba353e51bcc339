"""A long list, page by page, of which one row is opened beside it: what the browsers of questions and facts share.

The opened row is a parameter of the page's address, the page of the list is bound to it by its widget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from pages._widgets import addresses, show
from sftknow_core.present.columns import Column

_ROWS_IN_SIGHT = 24
"""The others by scrolling."""


class ListedPage(Protocol):
    """One page of the rows that pass the filters."""

    @property
    def rows(self) -> pd.DataFrame:
        """With a column fact_id."""

    @property
    def n(self) -> int:
        """Rows that pass, on all pages."""

    @property
    def place(self) -> int | None:
        """Of the opened row among them, from 1."""

    @property
    def previous_id(self) -> str | None:
        """Of the row before the opened one."""

    @property
    def next_id(self) -> str | None:
        """Of the row after it."""


@dataclass(frozen=True)
class Browser:
    """A list and its opened row. Each row is known by its `fact_id`."""

    name: str
    """Prefix of the widgets' keys."""
    parameter: str
    """The opened row in the address."""
    noun: str
    """For people, e.g. "question"."""
    page_size: int

    @property
    def page_key(self) -> str:
        """Key of the widget that turns the pages."""
        return f"{self.name}.page"

    def turn_to(self, page: int) -> None:
        """Turn to a page, from 1."""
        if st.session_state.get(self.page_key, 1) != page:  # setting a widget that has a default is logged
            st.session_state[self.page_key] = page

    def first_page(self) -> None:
        """What a filter calls when it changes."""
        self.turn_to(1)

    def pick_number(self, n_pages: int) -> int:
        """The page that is turned to, from 1."""
        # A list that a filter makes shorter is in the address with its old page once more: no link, and nobody's fault.
        followed = self.page_key not in st.session_state
        addresses.warn_number(self.page_key, 1, n_pages, "the first page", is_new=followed)
        self.turn_to(min(st.session_state.get(self.page_key, 1), n_pages))
        return st.pagination(n_pages, key=self.page_key, bind="query-params") if n_pages > 1 else 1

    def turn(self, page: ListedPage) -> None:
        """Buttons (and keys) to the rows before and after the opened one; the list turns along."""
        with st.container(horizontal=True):
            for label, fact_id, step, shortcut in (
                ("← Previous", page.previous_id, -1, "K"),
                ("Next →", page.next_id, 1, "J"),
            ):
                st.button(
                    label,
                    key=f"{self.name}.{label}",
                    disabled=fact_id is None,
                    shortcut=shortcut,
                    on_click=self._walk,
                    args=(step, fact_id, (page.place or 0) + step),
                )

    def listed(
        self,
        page: ListedPage,
        shown: pd.DataFrame,
        config: Mapping[str, Any],
        opened: Mapping[str, Any] | None,
        every: Callable[[], pd.DataFrame],
        alt: str,
    ) -> None:
        """The page's rows as `shown`, the opened one ticked, and downloads of `every` row that passes the filters."""
        ids = tuple(page.rows["fact_id"])
        if not ids:
            st.info(f"No matching {self.noun}s. Clear filters.")
            return
        ticked = [ids.index(opened["fact_id"])] if opened and opened["fact_id"] in ids else []
        key = f"{self.name}.list.{hash((ids, *ticked, *shown.columns))}"
        st.dataframe(
            shown,
            hide_index=True,
            column_config=dict(config),
            key=key,
            on_select=self._open_selected,
            selection_mode="single-row",
            selection_default={"selection": {"rows": ticked}},
            height=38 + 35 * min(len(ids), _ROWS_IN_SIGHT),
            alt=alt,
            placeholder="–",
        )
        st.session_state[f"{self.name}.ids"] = (key, ids)
        st.session_state[f"{self.name}.opened"] = opened and opened["fact_id"]
        with st.container(horizontal=True):
            for kind, mime, made in (
                ("CSV", "text/csv", lambda: every().to_csv(index=False)),
                ("Parquet", "application/vnd.apache.parquet", lambda: show.as_parquet(every())),
            ):
                st.download_button(
                    f"Download {kind} ({page.n:,} rows)",
                    made,
                    f"{self.name}.{kind.lower()}",
                    mime,
                    key=f"{self.name}.{kind.lower()}",
                    on_click="ignore",
                )

    def _walk(self, step: int, fact_id: str, place: int) -> None:
        """One row on or back: to `fact_id`, unless another row was opened since this button was drawn.

        Keys are pressed quicker than a page is drawn: then from the row that is open by now, as far as this page goes.
        """
        _, ids = st.session_state[f"{self.name}.ids"]
        opened = st.session_state[f"{self.name}.opened"]
        there = ids.index(opened) + step if opened in ids else -1
        if 0 <= there < len(ids):
            st.session_state[f"{self.name}.opened"] = st.query_params[self.parameter] = ids[there]
        else:
            self._open(fact_id, place)

    def _open(self, fact_id: str, place: int) -> None:
        st.query_params[self.parameter] = fact_id
        self.turn_to((place - 1) // self.page_size + 1)

    def _open_selected(self) -> None:
        """Open the row that was clicked."""
        key, ids = st.session_state[f"{self.name}.ids"]
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            st.query_params[self.parameter] = ids[rows[0]]


def config_of(
    columns: Mapping[str, Column],
    names: Sequence[str],
    widths: Mapping[str, int],
    width: int | str | None,
    share: str = "percent",
) -> dict[str, Any]:
    """Header, meaning, number format and width of each column, for st.dataframe.

    Args:
        columns: Name -> column.
        names: Those shown, in this order.
        widths: Name -> width in pixels.
        width: Of all others; None: as wide as their content.
        share: How the browser writes shares; "%.1f%%" where the table has them in percent already.
    """
    return {
        name: (st.column_config.NumberColumn if form else st.column_config.TextColumn)(
            column.header,
            help=column.meaning or None,
            width=widths.get(name, width),  # type: ignore[arg-type]
            **({"format": form} if form else {}),  # type: ignore[arg-type]
        )
        for name in names
        for column in [columns[name]]
        for form in [share if column.is_share else show.in_browser(column)]
    }

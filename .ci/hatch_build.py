"""Puts the dashboard into the wheel: app.py, pages/ and .streamlit/config.toml under `sftknow_core/_app/`.

In the tree they lie beside the package; inside it in the wheel, so that nothing named `app` or `pages` lands
in site-packages. `sftknow app` finds either place. An editable install uses the tree, without a second copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DASHBOARD = ("app.py", "pages", ".streamlit/config.toml")


class DashboardInWheel(BuildHookInterface[Any]):
    """Adds the dashboard to a standard wheel; a missing part ends the build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version`: "standard" or "editable"; `build_data["force_include"]`: source -> place in wheel."""
        if version == "editable":
            return
        for name in DASHBOARD:
            build_data["force_include"][str(Path(self.root, name))] = f"sftknow_core/_app/{name}"

"""The colours of figures, the same as those of the dashboard's themes (.streamlit/config.toml).

Base, tuned and restored keep their colour and their symbol everywhere: no reader has to tell colours apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours for one background, as #rrggbb."""

    background: str
    text: str
    faint: str
    """Axis labels, connecting lines."""
    grid: str
    base: str
    tuned: str
    restored: str
    ceiling: str
    """The base after five exemplars."""
    levels: tuple[str, str, str, str, str]
    """Mastery level 0 to 4: one hue, further from the background the better the base knows the fact."""

    def of(self, state: str) -> str:
        """The colour of a state; a hybrid is a restored state."""
        colours = {"base": self.base, "tuned": self.tuned, "five-shot": self.ceiling}
        return colours.get(state, self.restored)


LIGHT = Palette(
    background="#fdfdfb",
    text="#1f2524",
    faint="#5a605d",
    grid="#d9dedb",
    base="#7a7f7d",
    tuned="#b4530a",
    restored="#0f766e",
    ceiling="#1d5fa8",
    levels=("#9c83cf", "#8063bd", "#6646a6", "#4a2b87", "#2c1160"),
)
DARK = Palette(
    background="#14191a",
    text="#e4e9e6",
    faint="#a9b0ad",
    grid="#374142",
    base="#9aa19e",
    tuned="#f0913a",
    restored="#2dd4bf",
    ceiling="#6cb0f2",
    levels=("#8a76cd", "#a08fda", "#b8aae7", "#d2c8f3", "#f0ecfe"),
)
THEMES = {"light": LIGHT, "dark": DARK}


def faded(colour: str, opacity: float) -> str:
    """The colour as rgba(...), to lie under something else."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"

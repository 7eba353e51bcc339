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
    """What was asked after five examples, beside other prompts."""
    levels: tuple[str, str, str, str, str]
    """Mastery level 0 to 4: one hue, further from the background the better the base knows the fact."""

    def of(self, state: str) -> str:
        """The colour of a state; k = 100% is a restored state."""
        colours = {"base": self.base, "tuned": self.tuned}
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
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},{opacity:g})"


def mixed(colour: str, ground: str, share: float) -> str:
    """`share` of the colour on the ground, as #rrggbb."""
    pairs = zip(_channels(colour), _channels(ground), strict=True)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance, 0 to 1."""
    shares = [channel / 255 for channel in _channels(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink(ground: str, *inks: str) -> str:
    """The one of the inks that stands out most from the ground."""
    return max(inks, key=lambda colour: contrast(colour, ground))


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue

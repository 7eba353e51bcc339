"""Where the commands on two models' weights are tried: a pair, a cache, and a command line that knows both."""

from __future__ import annotations

from pathlib import Path

from .conftest import Ended, Sftknow


class Place:
    """A folder, and commands that are run on a pair of models."""

    def __init__(self, folder: Path, pair: tuple[Path, Path], sftknow: Sftknow) -> None:
        self.folder = folder
        self.base, self.tuned = pair
        self._sftknow = sftknow

    def __call__(self, command: str, *args: object, base: object = None, tuned: object = None) -> Ended:
        """Run a command on the pair (or others)."""
        pair = ["--tuned", tuned or self.tuned]
        if command != "apply-patch":
            pair += ["--base", base or self.base]
        given = [command, *args, *pair, "--cache", self.folder / "cache", "--device", "cpu"]
        return self._sftknow(*given)

    def restore(self, *args: object, **pair: object) -> Ended:
        return self("restore", "--k", 20, *args, **pair)

    def left(self) -> set[str]:
        """Everything in the folder but the cache."""
        return {path.name for path in self.folder.iterdir()} - {"cache"}

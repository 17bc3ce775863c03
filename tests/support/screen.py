"""A terminal whose contents tests can read."""

import io
import sys

import pytest


class Screen(io.StringIO):
    """A terminal that both output streams write to."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        """Return the visible lines. A carriage return moves to the start of a line, where text is overwritten."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


def use_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Replace both output streams with a screen. This is not a fixture: pytest replaces the streams after fixtures."""
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    return screen

"""A terminal that tests look at."""

import io
import sys

import pytest


class Screen(io.StringIO):
    """A terminal that both streams write to."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        """What can be read on it: a carriage return goes back to overwrite, ESC [K clears what follows."""
        lines, column = [""], 0
        text = self.getvalue()
        while text:
            if text.startswith("\033[K"):
                lines[-1], text = lines[-1][:column], text[3:]
                continue
            char, text = text[0], text[1:]
            if char == "\r":
                column = 0
            elif char == "\n":
                lines.append("")
                column = 0
            else:
                lines[-1] = lines[-1][:column] + char + lines[-1][column + 1 :]
                column += 1
        return lines


def look_at(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Both streams are on a screen from here on. This is no fixture: pytest sets the streams anew after those."""
    terminal = Screen()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    return terminal

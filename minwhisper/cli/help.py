"""The parser of the command line: short errors with suggestions, and the layout of ``--help``."""

import argparse
import sys
import textwrap
from collections.abc import Generator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from ..common.console import write_message, write_text
from ..printable import short_repr


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on standard error and exit status 2."""

    def __init__(self, **options: Any) -> None:
        """Take the arguments of ``argparse.ArgumentParser``."""
        super().__init__(formatter_class=HelpFormatter, **options)
        self._positionals.title = "arguments"

    def error(self, message: str) -> NoReturn:
        """Print the message and how to get help, and exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; for an unknown option, print the one that was probably meant, and exit."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = get_close_matches(name, self._option_string_actions, n=1) if name.startswith("-") else []
            hint = f": did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """For an unknown command, suggest the one that was probably meant."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            near = get_close_matches(value, action.choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(action.choices)}"
            raise argparse.ArgumentError(None, f"unknown command {short_repr(value)}: {hint}")
        super()._check_value(action, value)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (write_text if file is sys.stdout else write_message)(message)


class HelpFormatter(argparse.HelpFormatter):
    """Help of at most 100 columns, with the short option first, and with examples as they are written."""

    def __init__(self, prog: str, **options: Any) -> None:
        """Take the arguments of ``argparse.HelpFormatter``."""
        super().__init__(prog, max_help_position=30, **options)
        self._width = min(self._width, 100)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap paragraphs, except those with indented lines."""
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(one if "\n " in one else textwrap.fill(one, width) for one in paragraphs)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Write ``-f, --output_format FORMAT``."""
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(sorted(action.option_strings, key=len))
        return names if action.nargs == 0 else f"{names} {self._format_args(action, action.dest.upper())}"

    def _format_action(self, action: argparse.Action) -> str:
        """Leave out the line COMMAND above the list of commands."""
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        """Do not indent the commands further than options."""
        if isinstance(action, argparse._SubParsersAction):
            yield from action._get_subactions()


def examples(*lines: tuple[str, str]) -> str:
    r"""Lay out the examples at the end of a help page: command lines with comments in a second column.

    >>> examples(("minwhisper bench", "time every stage"))
    'examples:\n  minwhisper bench  # time every stage'
    """
    width = max(len(command) for command, _ in lines)
    return "\n".join(["examples:", *(f"  {command:<{width}}  # {comment}" for command, comment in lines)])


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a command's subcommands by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def arguments(parser: argparse.ArgumentParser) -> Sequence[argparse.Action]:
    """Return the options and positional arguments of a command, without its subcommands."""
    return [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]

"""The command ``minwhisper completion``: shell completion scripts, generated from the argument parser.

A script is static: it lists the commands, options and values, so that completing them does not start Python.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..common.console import Console
from ..model.config import ALIASES, PUBLISHED
from ..tokenizer.languages import TO_LANGUAGE_CODE
from ..writers.render import ALL_FORMATS
from .help import arguments, subcommands

FILES, FOLDERS = "files", "folders"  # values that a shell completes by itself

_VALUES: Mapping[str, Sequence[str] | str] = {  # by metavar
    "MODEL": [*PUBLISHED, *ALIASES],
    "LANGUAGE": [name for name in TO_LANGUAGE_CODE if name.isascii() and " " not in name],
    "FORMAT": [*ALL_FORMATS, "all"],
    "DEVICE": ["cpu", "cuda", "auto"],
    "True|False": ["True", "False"],
    "True|False|silero": ["True", "False", "silero"],
    "FOLDER": FOLDERS,
    "FILE": FILES,
    "FILE.py": FILES,
    "OUT.html": FILES,
    "TRANSCRIPT.json": FILES,
    "AUDIO": FILES,
    "REFERENCE": FILES,
    "HYPOTHESIS": FILES,
    "TEXT.txt": FILES,
}


def run(options: argparse.Namespace, console: Console, parser: argparse.ArgumentParser) -> int:
    """Print the completion script for a shell; returns the exit status."""
    console.text(SHELLS[options.shell](parser).rstrip())
    return 0


def values(action: argparse.Action) -> Sequence[str] | str:
    """Return the values that complete an argument: a list, ``FILES`` or ``FOLDERS``; empty if unknown."""
    return list(action.choices) if action.choices else _VALUES.get(str(action.metavar), [])


def summary(action: argparse.Action) -> str:
    """Return the description of an argument without its default."""
    return (action.help or "").partition(" (default")[0].partition(";")[0]


def _is_option(action: argparse.Action) -> bool:
    return bool(action.option_strings)


# ------------------------------------------------------------------------------------------ bash


def bash(parser: argparse.ArgumentParser) -> str:
    """Return the script for bash, to be loaded by ``eval "$(minwhisper completion bash)"``."""
    commands = subcommands(parser)
    return f"""\
_minwhisper() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join([*commands, *_flags(parser)])}" -- "$current"))
        return
    fi
    case "$command $previous" in
{_lines(_bash_values(name, one) for name, one in commands.items())}
    esac
    case "$command $current" in
{_lines(_bash_words(name, one) for name, one in commands.items())}
    esac
}}
complete -o bashdefault -o default -F _minwhisper minwhisper
"""


def _bash_values(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the cases for the value of an option."""
    for action in filter(_is_option, arguments(parser)):
        if action.nargs != 0:
            pattern = "|".join(f'"{command} {flag}"' for flag in action.option_strings)
            yield f"        {pattern}) {_bash_reply(values(action))}return ;;"


def _bash_words(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the cases for an option, and for a positional argument."""
    yield f'        "{command} -"*) {_bash_reply(_flags(parser))}return ;;'
    for action in arguments(parser):
        if not _is_option(action) and (reply := _bash_reply(values(action))):
            yield f'        "{command} "*) {reply}return ;;'


def _bash_reply(found: Sequence[str] | str) -> str:
    """Return the command that sets the completions. If there are none, bash completes file names."""
    if isinstance(found, str):
        return 'COMPREPLY=($(compgen -d -- "$current")); ' if found == FOLDERS else ""
    return f'COMPREPLY=($(compgen -W "{" ".join(found)}" -- "$current")); ' if found else ""


# ------------------------------------------------------------------------------------------ zsh


def zsh(parser: argparse.ArgumentParser) -> str:
    """Return the script for zsh, to be loaded by ``eval "$(minwhisper completion zsh)"``."""
    commands = subcommands(parser)
    named = " ".join(_quoted(f"{name}:{_command_help(parser, name)}") for name in commands)
    return f"""\
#compdef minwhisper
_minwhisper() {{
    local state line
    _arguments -C {" ".join(_zsh_specs(parser))} '1:command:->command' '*::argument:->argument'
    case $state in
        command) local -a commands=({named}); _describe command commands ;;
        argument)
            case $words[1] in
{_lines([f"                {name}) _arguments {' '.join(_zsh_specs(one))} ;;"] for name, one in commands.items())}
            esac ;;
    esac
}}
if [ "$funcstack[1]" = "_minwhisper" ]; then _minwhisper "$@"; else compdef _minwhisper minwhisper; fi
"""


def _zsh_specs(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the specifications of ``_arguments``: ``'--name[help]:METAVAR:(one two)'``."""
    position = 0
    for action in arguments(parser):
        name = str(action.metavar or action.dest)
        value = f":{_zsh_escaped(name)}:{_zsh_values(values(action))}"
        for flag in action.option_strings:
            yield _quoted(f"{flag}[{_zsh_escaped(summary(action))}]" + ("" if action.nargs == 0 else value))
        if not _is_option(action):
            position += 1
            yield _quoted((f"{position}" if action.nargs in (None, "?") else "*") + value)


def _zsh_values(found: Sequence[str] | str) -> str:
    if isinstance(found, str):
        return "_files -/" if found == FOLDERS else "_files"
    return f"({' '.join(map(_zsh_escaped, found))})" if found else " "


def _zsh_escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ------------------------------------------------------------------------------------------ fish


def fish(parser: argparse.ArgumentParser) -> str:
    """Return the script for fish, to be loaded by ``minwhisper completion fish | source``."""
    lines = [f"complete -c minwhisper {line}" for line in _fish_options(parser, "__fish_use_subcommand")]
    for name, command in subcommands(parser).items():
        help = _fish_quoted(_command_help(parser, name))
        lines.append(f"complete -c minwhisper -n __fish_use_subcommand -f -a {name} -d {help}")
        condition = f"'__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c minwhisper {line}" for line in _fish_options(command, condition)]
    return "\n".join(lines) + "\n"


def _fish_options(parser: argparse.ArgumentParser, condition: str) -> Iterator[str]:
    for action in arguments(parser):
        flags = [f"-s {flag[1:]}" if len(flag) == 2 else f"-l {flag[2:]}" for flag in action.option_strings]
        words = [f"-n {condition}", *flags, *_fish_values(action), f"-d {_fish_quoted(summary(action))}"]
        yield " ".join(words)


def _fish_values(action: argparse.Action) -> list[str]:
    found = values(action)
    if action.nargs == 0:
        return ["-f"]
    if isinstance(found, str):
        folders = "-f -a '(__fish_complete_directories)'"
        required = ["-r"] if _is_option(action) else []
        return [*required, folders if found == FOLDERS else "-F"]
    only = "-x" if _is_option(action) else "-f"  # exclusive: a value is required and is not a file
    return [only, f"-a {_fish_quoted(' '.join(found))}"] if found else ["-x" if _is_option(action) else "-f"]


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ------------------------------------------------------------------------------------------ all


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in arguments(parser) for flag in action.option_strings]


def _lines(parts: "Iterator[Iterator[str] | list[str]]") -> str:
    return "\n".join(line for part in parts for line in part)


def _command_help(parser: argparse.ArgumentParser, name: str) -> str:
    """Return the summary of a subcommand, as in ``minwhisper --help``."""
    for action in parser._actions:
        for choice in getattr(action, "_choices_actions", []):
            if choice.dest == name:
                return choice.help or ""
    return ""


SHELLS: Mapping[str, Callable[[argparse.ArgumentParser], str]] = {"bash": bash, "zsh": zsh, "fish": fish}

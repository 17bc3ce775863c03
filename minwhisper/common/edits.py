"""Edits: a function with a part of its source replaced, to compute the results of a mistake in it.

A mistake is written as a change to correct code: ``Edit("** -0.5", "")`` in the source of attention leaves its scores
unscaled. So the code itself stays free of mistakes, and each mistake reads like a line of a diff. The exercises find a
reader's mistake this way, and ``parity`` that of another implementation.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class EditError(Exception):
    """Raised for an edit whose text does not occur exactly once: another edit may have changed it."""


class Edit(NamedTuple):
    """A replacement in the source of a function."""

    old: str  # must occur exactly once
    new: str
    function: Callable[..., Any] | None = None  # whose source is edited; None for the function that is called


class Mistake(NamedTuple):
    """A known mistake: a hint with its description and fix, and the edits that make it."""

    hint: str
    edits: tuple[Edit, ...]


def edited(function: Callable[..., Any], edits: Sequence[Edit], **names: Any) -> Callable[..., Any]:
    """Return a copy of ``function`` with the edits made, in order, in it and in the functions that it calls.

    An edited function replaces the original for the other functions of ``function``'s module, too, but nothing outside
    of the copy changes. ``names`` are further names that the new text may use. Raises ``EditError`` if a text to
    replace does not occur exactly once.
    """
    sources: dict[Callable[..., Any], str] = {}
    for old, new, target in edits:
        edited_function = target or function
        source = sources.get(edited_function) or source_of(edited_function)
        if source.count(old) != 1:
            name = edited_function.__name__
            raise EditError(f"{old!r} occurs {source.count(old)} times in {name}, expected once")
        sources[edited_function] = source.replace(old, new)
    module = {**function.__globals__, **names}
    for original, source in sources.items():
        if original.__module__ == function.__module__:
            _define(source, module)
        else:
            elsewhere = {**original.__globals__, **names}
            _define(source, elsewhere)
            module[original.__name__] = elsewhere[original.__name__]
    edited_names = {original.__name__ for original in sources}
    for name, thing in list(module.items()):
        # The other functions of the module see the edited ones only as copies that look names up in ``module``.
        if isinstance(thing, FunctionType) and thing.__module__ == function.__module__ and name not in edited_names:
            copy = FunctionType(thing.__code__, module, name, thing.__defaults__, thing.__closure__)
            copy.__kwdefaults__ = thing.__kwdefaults__
            module[name] = copy
    result: Callable[..., Any] = module[function.__name__]
    return result


@cache
def source_of(function: Callable[..., Any]) -> str:
    """Return the source of a function, without indentation."""
    return dedent(inspect.getsource(function))


def _define(source: str, names: dict[str, Any]) -> None:
    """Run the definition of a function in a namespace."""
    exec(_compiled(source), names)


@cache
def _compiled(source: str) -> CodeType:
    return compile(source, "<edited>", "exec", dont_inherit=True)


def uses(function: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Return whether ``function`` is ``other``, or calls it by a name of its module."""
    names = [name for name in function.__code__.co_names if function.__globals__.get(name) is other]
    return function is other or bool(names)

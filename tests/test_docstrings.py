"""Docstrings: their examples run, and everything public has one."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
from types import FunctionType, ModuleType

import pytest

import minwhisper

ON_DASK = {f"minwhisper.corpus.{name}" for name in ("cluster", "run", "worker")}  # the extra "cluster"
MODULES = [
    name
    for name in ("minwhisper", *(module.name for module in pkgutil.walk_packages(minwhisper.__path__, "minwhisper.")))
    if name not in ON_DASK or importlib.util.find_spec("distributed")
]


def public_things(module: ModuleType):
    """Yield every public function and class defined in this module, and the public members of its classes."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield name, thing
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if not member.startswith("_") and isinstance(value, FunctionType | property):
                    yield f"{name}.{member}", value


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    for path, thing in public_things(module):
        # A dataclass or named tuple without a docstring has its signature as one.
        written = thing.__doc__ and not thing.__doc__.startswith(f"{path}(")
        assert written, f"{name}.{path} has no docstring"


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) >= 5  # a doctest runner that finds none would pass


def test_the_public_names_are_there():
    assert minwhisper.__all__ == sorted(minwhisper.__all__)
    for name in minwhisper.__all__:
        assert hasattr(minwhisper, name), name

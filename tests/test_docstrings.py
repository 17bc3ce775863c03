"""Docstrings: their examples run, and everything public has one."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
from types import FunctionType, ModuleType

import minwhisper

ON_DASK = {f"minwhisper.corpus.{name}" for name in ("cluster", "run", "task_queue", "worker")}  # the extra "cluster"
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


def test_everything_public_has_a_docstring_whose_examples_run():
    results = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES}
    assert [name for name, result in results.items() if result.failed] == []
    assert sum(result.attempted for result in results.values()) >= 5  # a runner that finds no examples would pass
    things = {name: importlib.import_module(name) for name in MODULES}
    things |= {f"{name}.{path}": thing for name, module in things.items() for path, thing in public_things(module)}
    for name, thing in things.items():
        # Python gives a dataclass or named tuple without a docstring its signature as one.
        written = thing.__doc__ and not thing.__doc__.startswith(f"{name.rpartition('.')[2]}(")
        assert written, f"{name} has no docstring"


def test_the_public_names_are_there():
    assert minwhisper.__all__ == sorted(minwhisper.__all__)
    for name in minwhisper.__all__:
        assert hasattr(minwhisper, name), name

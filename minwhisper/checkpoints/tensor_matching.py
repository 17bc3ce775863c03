"""Chapter 5. Match the tensors of a file with those that a configuration expects, before any of them is read.

Names and shapes are judged first, and memory is allocated afterwards: a configuration of a few bytes can state sizes
that no machine has.

Walkthrough: section 7.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

from ..errors import WeightsError
from ..model.weight_names import Shape
from ..printable import printable
from .configuration import CONFIG_HINT
from .tensor_files import TensorFile


class LoadReport(NamedTuple):
    """The tensors that did not match when a checkpoint was read: both empty unless ``strict=False`` let it pass."""

    missing: tuple[str, ...]  # in this package's names; such a weight is zero
    unexpected: tuple[str, ...]  # in the file's own names

    def __str__(self) -> str:
        """The problems in words, or nothing."""
        both = (("missing", self.missing), ("unexpected", self.unexpected))
        return "; ".join(f"{kind} tensors ({len(names)}): {_some(names)}" for kind, names in both if names)


class TensorSlice(NamedTuple):
    """A tensor, or a part of a stack of them."""

    name: str  # in this package
    theirs: str  # the file's name of the stack
    first_row: int  # of the stack


class MatchedTensors(NamedTuple):
    """The tensors that were found, and those that do not match."""

    parts: list[TensorSlice]
    zeros: list[TensorSlice]  # parts that have to be zero, of shape (known[name])
    known: Mapping[str, Shape]  # the shapes of all of them
    report: LoadReport


def match_tensors(
    tensors: TensorFile, translate: Callable[[str], tuple[str, ...]], expected: Mapping[str, Shape], strict: bool
) -> MatchedTensors:
    """Find every expected tensor in a file, under the names that ``translate`` gives it.

    Raises :class:`WeightsError` for a tensor of another shape, for one that is there twice and not the same, for a file
    that has less than half of the values, and, with ``strict``, for any missing or unexpected tensor.
    """
    # Whisper's keys have no bias, but a file that stacks keys and values has one, which has to be zero.
    keys = [name.removesuffix(".weight") for name in expected if name.endswith(".key.weight")]
    known = {**expected, **{f"{key}.bias": expected[f"{key}.weight"][:1] for key in keys}}
    stacks, unexpected = _stacks(tensors, translate, known)
    found: list[TensorSlice] = []
    for names, theirs in stacks.items():
        first_row = 0
        for name in names:
            found.append(TensorSlice(name, theirs, first_row))
            first_row += known[name][0]
    parts = [part for part in found if part.name in expected]
    there = {part.name for part in parts}
    report = LoadReport(tuple(name for name in expected if name not in there), unexpected)
    _check_amount(tensors, expected, stacks, report, strict)
    return MatchedTensors(parts, [part for part in found if part.name not in expected], known, report)


def _check_amount(
    tensors: TensorFile,
    expected: Mapping[str, Shape],
    stacks: Mapping[tuple[str, ...], str],
    report: LoadReport,
    strict: bool,
) -> None:
    """Raise :class:`WeightsError` if too much is missing, or if a small file would become large weights."""
    if strict and str(report):
        raise WeightsError(f"{tensors.label}: {report}; {CONFIG_HINT} (load_model with strict=False loads it anyway)")
    missing = sum(prod(expected[name]) for name in report.missing)
    if 2 * missing > sum(map(prod, expected.values())):
        raise WeightsError(f"{tensors.label}: {report}; expected at least half of the model's values; {CONFIG_HINT}")
    stored = sum(map(tensors.nbytes, stacks.values()))
    if stored > 2 * tensors.size:
        raise WeightsError(
            f"{tensors.label}: expected tensors of at most {tensors.size:,} bytes, which the file has, its aliases "
            f"make them {stored:,}; fetch or convert the model again"
        )


def _stacks(
    tensors: TensorFile, translate: Callable[[str], tuple[str, ...]], known: Mapping[str, Shape]
) -> tuple[dict[tuple[str, ...], str], tuple[str, ...]]:
    """Find the file's name of each tensor or stack of tensors, and its names that mean nothing."""
    stacks: dict[tuple[str, ...], str] = {}
    unexpected = []
    for theirs, shape in tensors.shapes().items():
        names = translate(theirs)
        if not all(name in known for name in names):
            unexpected.append(theirs)
        elif names:
            rows, *others = known[names[0]]
            stacked = (len(names) * rows, *others)
            if shape != stacked:
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {stacked}, the file has {shape} (as {theirs}); "
                    f"{CONFIG_HINT}"
                )
            first = stacks.setdefault(names, theirs)
            if not tensors.equal(first, theirs):
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {first} and {theirs} to be the same (tied), the file has "
                    "two that differ; was this model trained with tie_word_embeddings off?"
                )
    return stacks, tuple(unexpected)


def _some(names: tuple[str, ...], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(printable(name, 80) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

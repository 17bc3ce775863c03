"""Chapter 5: match the tensors of a file with those that the configuration expects.

Names and shapes are checked before any memory is allocated, because a damaged configuration of a few bytes can require
more memory than any machine has.

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
    """The tensors of a checkpoint that did not match: none, unless it was loaded with ``strict=False``."""

    missing: tuple[str, ...]  # by this package's names; these weights are zero
    unexpected: tuple[str, ...]  # by the file's names

    def __str__(self) -> str:
        """Describe the mismatch; an empty string if there is none."""
        both = (("missing", self.missing), ("unexpected", self.unexpected))
        return "; ".join(f"{kind} tensors ({len(names)}): {_abbreviate(names)}" for kind, names in both if names)


class TensorSlice(NamedTuple):
    """A tensor of the model and its location in the file, which can stack several tensors in one."""

    name: str  # this package's name
    stored_name: str  # the file's name of the stack
    first_row: int  # in the stack


class MatchedTensors(NamedTuple):
    """The expected tensors that the file has, and a report of those that do not match."""

    parts: list[TensorSlice]
    key_biases: list[TensorSlice]  # must be zero
    shapes: Mapping[str, Shape]  # by this package's names
    report: LoadReport


def match_tensors(
    tensors: TensorFile, translate: Callable[[str], tuple[str, ...]], expected: Mapping[str, Shape], strict: bool
) -> MatchedTensors:
    """Find every expected tensor in a file; ``translate`` maps the file's names to this package's.

    Raises ``WeightsError`` for a wrong shape, for two different tensors of one name, for a file with less than
    half of the model's values, and, with ``strict``, for any missing or unexpected tensor.
    """
    # Whisper's key projections have no bias. A file that stacks keys and values has one, which must be zero.
    keys = [name.removesuffix(".weight") for name in expected if name.endswith(".key.weight")]
    shapes = {**expected, **{f"{key}.bias": expected[f"{key}.weight"][:1] for key in keys}}
    stacks, unexpected = _find_stacks(tensors, translate, shapes)
    found: list[TensorSlice] = []
    for names, stored_name in stacks.items():
        first_row = 0
        for name in names:
            found.append(TensorSlice(name, stored_name, first_row))
            first_row += shapes[name][0]
    parts = [part for part in found if part.name in expected]
    present = {part.name for part in parts}
    report = LoadReport(tuple(name for name in expected if name not in present), unexpected)
    _check_amount(tensors, expected, stacks, report, strict)
    return MatchedTensors(parts, [part for part in found if part.name not in expected], shapes, report)


def _check_amount(
    tensors: TensorFile,
    expected: Mapping[str, Shape],
    stacks: Mapping[tuple[str, ...], str],
    report: LoadReport,
    strict: bool,
) -> None:
    """Raise ``WeightsError`` if too much is missing, or if the aliases of a small file make it large."""
    if strict and str(report):
        raise WeightsError(f"{tensors.label}: {report}; {CONFIG_HINT} (load_model with strict=False loads it anyway)")
    missing = sum(prod(expected[name]) for name in report.missing)
    if 2 * missing > sum(map(prod, expected.values())):
        raise WeightsError(f"{tensors.label}: {report}; expected at least half of the model's values; {CONFIG_HINT}")
    stored = sum(map(tensors.nbytes, stacks.values()))
    if stored > 2 * tensors.size:
        raise WeightsError(
            f"{tensors.label}: expected tensors of at most {tensors.size:,} bytes, the size of the file, but "
            f"its aliases add up to {stored:,}; download or convert the model again"
        )


def _find_stacks(
    tensors: TensorFile, translate: Callable[[str], tuple[str, ...]], shapes: Mapping[str, Shape]
) -> tuple[dict[tuple[str, ...], str], tuple[str, ...]]:
    """Return the file's name of each tensor or stack of tensors, and the file's unexpected names."""
    stacks: dict[tuple[str, ...], str] = {}
    unexpected = []
    for stored_name, shape in tensors.shapes().items():
        names = translate(stored_name)
        if not all(name in shapes for name in names):
            unexpected.append(stored_name)
        elif names:
            rows, *others = shapes[names[0]]
            stacked = (len(names) * rows, *others)
            if shape != stacked:
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {stacked}, the file has {shape} (as {stored_name}); "
                    f"{CONFIG_HINT}"
                )
            first = stacks.setdefault(names, stored_name)
            if not tensors.equal(first, stored_name):
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {first} and {stored_name} to be equal (tied), they differ; "
                    "was this model trained with tie_word_embeddings=False?"
                )
    return stacks, tuple(unexpected)


def _abbreviate(names: tuple[str, ...], limit: int = 4) -> str:
    """Return the first names and the number of the others."""
    shown = ", ".join(printable(name, 80) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")

"""The memory layout of the weights for ``CpuEngine``.

Matrices are read from the file straight into the layout that the products need, so there is no second copy. Biases and
the two convolutions, which are small, are copied.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...model.weight_names import Shape
from ...model.weights import Allocate, WeightLayout, by_columns
from .engine import uses_cpu_engine
from .panels import Panels


def layout_for(device: str, dtype: str, plain: bool) -> WeightLayout | None:
    """Return the layout for a model with these options; None for the layout of the layers."""
    return empty_weights if uses_cpu_engine(device, dtype, plain) else None


def empty_weights(expected: Mapping[str, Shape], dtype: str, allocate: Allocate = np.empty) -> dict[str, Any]:
    """Return an uninitialised buffer for each tensor. ``dtype`` has to be float32, the only one that panels support.

    The matrices of decoder steps are panels. The others multiply many rows and are stored by columns. Projections of
    the same x are adjacent in memory, so that one product computes them all.
    """
    assert dtype == "float32", dtype
    buffers: dict[str, Any] = {}
    for name, (width, _) in ((name, shape) for name, shape in expected.items() if name.endswith(".key.weight")):
        attention = name.removesuffix(".key.weight")
        cross = attention.endswith("cross_attention")
        projections = ("key", "value") if cross else ("query", "key", "value")
        count = len(projections)
        parts: list[Any]
        if name.startswith("decoder.") and not cross:
            parts = [*Panels.empty_adjacent(count, width, width, allocate)]
        else:
            parts = [part.T for part in np.split(allocate((width, count * width), dtype), count, axis=1)]
        buffers |= {f"{attention}.{one}.weight": part for one, part in zip(projections, parts, strict=True)}
    for name, shape in expected.items():
        if name not in buffers:
            in_panels = name.startswith("decoder.") and len(shape) == 2 and not name.endswith("positions")
            buffers[name] = (
                Panels.empty(shape[0], shape[1], allocate) if in_panels else by_columns(name, shape, dtype, allocate)
            )
    return buffers

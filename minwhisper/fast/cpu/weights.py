"""How the weights lie in memory for :class:`~minwhisper.fast.cpu.engine.CpuEngine`: as its products want them, from
the start.

Of the matrices there is no second copy: they are read from the file into this layout, one by one. Biases and the two
convolutions, which are small, are copied.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...model.weight_names import Shape
from ...model.weights import WeightLayout, by_columns
from .engine import uses_cpu_engine
from .panels import Panels


def layout_for(device: str, dtype: str, plain: bool) -> WeightLayout | None:
    """The layout for a model that is asked for like this; None for that of the layers."""
    return empty_weights if uses_cpu_engine(device, dtype, plain) else None


def empty_weights(expected: Mapping[str, Shape], dtype: str) -> dict[str, Any]:
    """A place for each tensor, to be filled. ``dtype`` has to be float32, the only one that panels have.

    The matrices of the decoder's steps are panels. The others multiply many rows and lie by columns. Those that an
    attention applies to the same x lie side by side, so that one product can do for all of them.
    """
    assert dtype == "float32", dtype
    places: dict[str, Any] = {}
    for name, shape in expected.items():
        stepping = name.startswith("decoder.") and len(shape) == 2 and not name.endswith("positions")
        places[name] = Panels.empty(*shape) if stepping else by_columns(name, shape, dtype)
    for name, (width, _) in ((name, shape) for name, shape in expected.items() if name.endswith(".key.weight")):
        attention = name.removesuffix(".key.weight")
        cross = attention.endswith("cross_attention")
        projections = ("key", "value") if cross else ("query", "key", "value")
        count = len(projections)
        parts: list[Any]
        if name.startswith("decoder.") and not cross:
            parts = [*Panels.empty_adjacent(count, width, width)]
        else:
            parts = [part.T for part in np.split(np.empty((width, count * width), dtype), count, axis=1)]
        places |= {f"{attention}.{one}.weight": part for one, part in zip(projections, parts, strict=True)}
    return places

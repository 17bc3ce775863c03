"""How the weights lie in memory for :class:`~minwhisper.fast.cpu.CpuEngine`: as its products want them, from the start.

There is no second copy of them: they are read from the file into this layout, matrix by matrix.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checkpoint import by_columns
from ..names import Shape
from .panels import Panels


def empty_weights(expected: Mapping[str, Shape], dtype: str = "float32") -> dict[str, Any]:
    """Room for each tensor, to be filled.

    The matrices of the decoder's steps are panels. The others multiply many rows and lie by columns. Those that an
    attention applies to the same x lie side by side, so that one product can do for all of them.
    """
    room: dict[str, Any] = {}
    for name, shape in expected.items():
        stepping = name.startswith("decoder.") and len(shape) == 2 and not name.endswith("positions")
        room[name] = Panels.empty(*shape) if stepping else by_columns(name, shape, dtype)
    for name, (width, _) in ((name, shape) for name, shape in expected.items() if name.endswith(".key.weight")):
        attention = name.removesuffix(".key.weight")
        cross = attention.endswith("cross_attention")
        projections = ("key", "value") if cross else ("query", "key", "value")
        count = len(projections)
        parts: list[Any]
        if name.startswith("decoder.") and not cross:
            parts = [*Panels.neighbours(count, width, width)]
        else:
            parts = [part.T for part in np.split(np.empty((width, count * width), dtype), count, axis=1)]
        room |= {f"{attention}.{one}.weight": part for one, part in zip(projections, parts, strict=True)}
    return room

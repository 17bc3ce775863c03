"""Pictures of many attention heads side by side, as small multiples."""

from collections.abc import Sequence

import numpy as np

from ..common.backend import Array, to_numpy
from .drawing import Drawing, Sheet

SIDE = 56  # pixels of a head's map: enough to tell a diagonal from a block


def encoder_heads(weights: Sequence[Array]) -> Drawing:
    """Draw the attention weights of every head of the encoder: one array (H, T, T) for each block.

    Each map has the positions that read as rows and those that are read as columns, from the start of the recording to
    its end. It is reduced to ``SIDE`` pixels by taking means. Colours are square roots, relative to its largest value.
    """
    blocks = [to_numpy(block) for block in weights]
    heads = blocks[0].shape[0]
    with Sheet("Attention weights of all heads of the encoder", 1.12 * len(blocks) + 0.5) as sheet:
        panels = sheet.figure.subplots(len(blocks), heads, squeeze=False)
        for number, (row, block) in enumerate(zip(panels, blocks, strict=True)):
            for head, axes in enumerate(row):
                reduced = np.sqrt(_reduced(block[head]))
                axes.imshow(reduced / reduced.max(), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
                axes.set(xticks=[], yticks=[], xlabel="", ylabel=f"block {number}" if head == 0 else "")
                if number == 0:
                    axes.set_title(f"head {head}", fontsize=9)
                axes.grid(False)
    return sheet.drawing


def _reduced(matrix: Array) -> Array:
    """Reduce a matrix to at most ``SIDE`` rows and columns by taking the mean of what falls into each."""
    for axis in (0, 1):
        edges = np.linspace(0, matrix.shape[axis], min(SIDE, matrix.shape[axis]) + 1).astype(int)
        matrix = np.add.reduceat(matrix, edges[:-1], axis=axis) / np.expand_dims(np.diff(edges), 1 - axis)
    return matrix

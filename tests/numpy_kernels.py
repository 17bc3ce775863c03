"""The kernels' interface with the readable layers behind it: for tests of what is around the kernels.

What the kernels themselves compute is tested in tests/fast/test_gpu_kernels.py, where they run. Here they only have to
be there, take no memory of the pretended GPU and be fast.
"""

from typing import Any

import numpy as np

from minwhisper import layers
from minwhisper.fast.gpu_kernels import CHUNK
from refusing_cupy import launch


class NumPyKernels:
    """In place of :class:`minwhisper.fast.gpu_kernels.Kernels`, for arrays of tests/refusing_cupy.py."""

    launched = 0

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def layer_norm(self, x, weight, bias, out, eps=1e-5):
        self._run(lambda: layers.layer_norm(_of(x), _of(weight), _of(bias), eps), out)

    def bias_gelu(self, x, bias):
        self._run(lambda: layers.gelu(_of(x) + _of(bias)), x)

    def softmax(self, scores, past=None):
        def masked():
            mask = 0.0 if past is None else layers.causal_mask(scores.shape[-2], past, _of(scores))
            return layers.softmax(_of(scores) + mask)

        self._run(masked, scores)

    def embed(self, tokens, table, positions, position, x):
        self._run(lambda: _of(table)[_of(tokens)].astype(np.float32) + _of(positions)[_of(position)], x)

    def matvec(self, x, weight, bias, y, *, residual=None, gelu=False):
        def product():
            out = layers.linear(_of(x), _of(weight), None if bias is None else _of(bias))
            out = layers.gelu(out) if gelu else out
            return out if residual is None else out + _of(residual)

        self._run(product, y)

    def attend_text(self, query_key_value, keys, values, position, out):
        def attended():
            query, key, value = _of(query_key_value)  # (R, D) each
            end = int(_of(position)[0]) + 1
            rows, heads, _, size = keys.shape
            _of(keys)[:, :, end - 1] = key.reshape(rows, heads, size)
            _of(values)[:, :, end - 1] = value.reshape(rows, heads, size)
            seen = _of(keys)[:, :, :end].transpose(0, 1, 3, 2), _of(values)[:, :, :end]
            return layers.attend(query.reshape(rows, heads, 1, size), *seen).reshape(rows, -1)

        self._run(attended, out)

    @staticmethod
    def partial_shape(rows, heads, positions, size):
        return rows, heads, -(-positions // CHUNK), size + 2

    def attend_audio(self, queries, keys, values, partial, out):
        def attended():
            heads, _, size = keys.shape
            by_head = _of(queries).reshape(-1, heads, size).transpose(1, 0, 2)
            heard = layers.attend(by_head, _of(keys).transpose(0, 2, 1), _of(values))
            return heard.transpose(1, 0, 2).reshape(queries.shape)

        self._run(attended, out)

    def _run(self, compute, out):
        """A launch."""

        def run():
            _of(out)[...] = compute()

        type(self).launched += 1
        launch(run)


def _of(array):
    return array._numbers

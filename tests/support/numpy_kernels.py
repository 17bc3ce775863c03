"""The readable layers in place of the GPU kernels, for tests of the code around the kernels.

tests/fast/test_gpu_kernels.py tests the kernels themselves. These only need to be fast and use no memory of the
simulated GPU.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from minwhisper.decoding.logit_filters import LogitFilters, TimestampSettings
from minwhisper.fast.gpu.kernels import Kernels
from minwhisper.fast.gpu.sampling import FILTER_HEADER
from minwhisper.fast.gpu.table import HEADER, Field, HeaderAt, Kind
from minwhisper.model import layers
from refusing_cupy import at, launch


class NumPyKernels:
    """Replaces ``fast.gpu.kernels.Kernels``, for arrays of tests/support/refusing_cupy.py."""

    launched = 0

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    def layer_norm(self, x, weight, bias, out):
        self._run(lambda: layers.layer_norm(_of(x), _of(weight), _of(bias)), out)

    def epilogue(self, x, bias=None, *, gelu=False, residual=None):
        def with_epilogue():
            y = _of(x) if bias is None else _of(x) + _of(bias)
            y = layers.gelu(y) if gelu else y
            return y if residual is None else y + _of(residual)

        self._run(with_epilogue, x)

    def softmax(self, scores):
        self._run(lambda: layers.softmax(_of(scores)), scores)

    def im2col(self, x, columns, stride):
        def columns_of():
            padded = np.pad(_of(x), ((1, 1), (0, 0)))
            taps = [padded[tap : tap + len(x) : stride] for tap in range(3)]
            return np.stack(taps, axis=2)

        self._run(columns_of, columns)

    def add_bias_cast(self, x, bias, out):
        self._run(lambda: _of(x) if bias is None else _of(x) + _of(bias), out)

    def widen_weight(self, weight, out):
        self._run(lambda: _of(weight), out)

    def embed(self, table, tokens, positions, x):
        def embedded(rows):
            return _of(tokens)[rows[Field.TOKEN]].astype(np.float32) + _of(positions)[rows[Field.POSITION]]

        self._of_rows(table, embedded, x)

    def write_kv(self, table, keys, values, bias, layer):
        def kept(rows):
            count = rows.shape[1]
            self._keep(table, rows, layer, _of(keys)[:count], _of(values)[:count] + _of(bias))

        self._of_rows(table, kept)

    def linear(self, x, weight, bias, y, *, table=None, norm=None, residual=None, gelu=False):
        def product(rows):
            its = _of(x)[: rows.shape[1]]
            if norm is not None:
                its = layers.layer_norm(its, _of(norm.weight), _of(norm.bias))
            out = layers.linear(its, _of(weight), 0.0 if bias is None else _of(bias))
            out = layers.gelu(out) if gelu else out
            return out if residual is None else out + _of(residual)[: len(out)]

        if table is None:
            self._run(lambda: product(np.zeros((1, 1))), y)
        else:
            self._of_rows(table, product, y)

    def project_qkv(self, table, x, weights, norm, queries, layer):
        def projected(rows):
            its = layers.layer_norm(_of(x)[: rows.shape[1]], _of(norm.weight), _of(norm.bias))
            query, key, value = (
                layers.linear(its, *(_of(one) for one in weights[name].values())) for name in ("query", "key", "value")
            )
            self._keep(table, rows, layer, key, value)
            return query

        self._of_rows(table, projected, queries)

    def _keep(self, table, rows, layer, keys, values):
        width = keys.shape[1]
        for row in range(rows.shape[1]):
            slot = self._slot(table, rows, row, rows[Field.POSITION, row], layer, width)
            slot[:, rows[Field.POSITION, row]] = keys[row], values[row]

    def _slot(self, table, rows, row, position, layer, width):
        """Return the keys and values of a block, (2, P, D), in the slot of a row's sequence for a position."""
        positions = table.slot_addresses.shape[1]
        address = int(self._slot_addresses(table)[rows[Field.SEQUENCE, row], position])
        size = self.dtype.itemsize * 2 * positions * width
        return at(address + layer * size, self.dtype, 2, positions, width)

    def _slot_addresses(self, table):
        return _of(table.device_array)[HEADER + len(Field) * table.capacity :].reshape(table.slot_addresses.shape)

    partial_shape = staticmethod(Kernels.partial_shape)

    def self_attention(self, table, queries, partial, counters, out, heads, layer):
        def attended(rows):
            width, found = queries.shape[1], []
            for row in range(rows.shape[1]):
                addresses = self._slot_addresses(table)[rows[Field.SEQUENCE, row], : rows[Field.POSITION, row] + 1]
                parts, changes = [], [0, *(np.flatnonzero(np.diff(addresses)) + 1).tolist(), len(addresses)]
                for start, end in pairwise(changes):  # ranges of positions in one slot
                    parts.append(self._slot(table, rows, row, start, layer, width)[:, start:end])
                keys, values = np.concatenate(parts, axis=1)
                found.append(_attend(_of(queries)[row : row + 1], keys, values, heads))
            return np.concatenate(found)

        self._of_rows(table, attended, out)

    def cross_attention(self, table, queries, partial, counters, out, heads, layer, positions):
        def attended(rows):
            width, found = queries.shape[1], []
            for group in range(_of(table.device_array)[HeaderAt.GROUPS_AT]):
                first, count = rows[Field.FIRST_ROW, group], rows[Field.ROW_COUNT, group]
                size = self.dtype.itemsize * 2 * positions * width
                keys, values = at(int(rows[Field.CROSS_KV, group]) + layer * size, self.dtype, 2, positions, width)
                found.append(_attend(_of(queries)[first : first + count], keys, values, heads))
            return np.concatenate(found)

        self._of_rows(table, attended, out, every=True)

    slices_shape = staticmethod(Kernels.slices_shape)

    def choose_tokens(self, table, logits, slices, counters, out, choices):
        def chosen():
            there = _of(table.device_array)
            fields = there[HEADER : HEADER + len(Field) * table.capacity].reshape(len(Field), table.capacity)
            top, vocabulary = int(there[HeaderAt.TOP_AT]), logits.shape[1]
            for number in range(min(choices, int(there[HeaderAt.CHOICES_AT]))):
                its = dict(zip(Field, fields[:, number].tolist(), strict=True))
                tokens, values = _choose(its, _of(logits)[its[Field.LOGITS_ROW]], top, fields[:, number], vocabulary)
                place = _of(out)[2 * top * number : 2 * top * (number + 1)].reshape(top, 2)
                place[: len(tokens), 0] = tokens
                place[: len(tokens), 1] = np.asarray(values, np.float32).view(np.int32)
                if there[HeaderAt.ADVANCE_AT]:
                    token, first = tokens[0], _filters(its[Field.FILTERS], vocabulary).timestamps
                    fields[Field.PREVIOUS, number] = its[Field.LAST]
                    fields[[Field.TOKEN, Field.LAST], number] = token
                    fields[[Field.POSITION, Field.GENERATED], number] += 1
                    if first and token >= first.timestamp_begin:
                        fields[Field.LAST_TIMESTAMP, number] = token

        self._run(chosen)

    def _of_rows(self, table, compute, out=None, every=False):
        """Launch a computation of the rows that the table describes when it runs."""

        def run():
            there = _of(table.device_array)
            fields = there[HEADER : HEADER + len(Field) * table.capacity].reshape(len(Field), table.capacity)
            count = int(there[HeaderAt.ROWS_AT])
            result = compute(fields if every else fields[:, :count])
            if out is not None:
                _of(out)[:count] = result

        type(self).launched += 1
        launch(run)

    def _run(self, compute, out=None):
        """Launch a computation."""

        def run():
            result = compute()
            if out is not None:
                _of(out)[...] = result

        type(self).launched += 1
        launch(run)


def _attend(queries, keys, values, heads):
    """Compute attention: queries (R, D), keys and values (T, D) -> (R, D)."""
    (rows, width), wide = queries.shape, np.float32

    def split(x):
        return x.astype(wide).reshape(len(x), heads, width // heads).transpose(1, 0, 2)

    mixed, _ = layers.attend(split(queries), split(keys).transpose(0, 2, 1), split(values))
    return mixed.transpose(1, 0, 2).reshape(rows, width)


def _filters(address, vocabulary):
    """Return the filters at an address."""
    words = -(-vocabulary // 32)
    header = at(address, np.int32, FILTER_HEADER)
    bits = np.unpackbits(at(address + 4 * FILTER_HEADER, np.uint8, 2, 4 * words), axis=1, bitorder="little")
    suppressed, blank = (tuple(np.flatnonzero(one).tolist()) for one in bits)
    eot, wanted, no_timestamps, first, latest = header[:5].tolist()
    times = TimestampSettings(no_timestamps, first, None if latest < 0 else latest) if wanted else None
    return LogitFilters(eot, suppressed, blank, times)


def _choose(its, logits, top, column, vocabulary):
    """Return tokens and their log-probabilities, as the kernel does."""
    if its[Field.KIND] == Kind.PROBE:
        token = its[Field.PROBE_TOKEN]
        return [token], [layers.softmax(logits)[token]]
    generated = [its[Field.LAST_TIMESTAMP]] * (its[Field.GENERATED] > 2 and its[Field.LAST_TIMESTAMP] >= 0)
    generated += [its[Field.PREVIOUS]] * (its[Field.GENERATED] > 1) + [its[Field.LAST]] * (its[Field.GENERATED] > 0)
    filtered = _filters(its[Field.FILTERS], vocabulary)(logits[None], [generated])[0]
    logprobs = layers.log_softmax(filtered)
    if its[Field.KIND] == Kind.SAMPLE:
        share, temperature = column[[Field.DRAW, Field.TEMPERATURE]].view(np.float64)
        with np.errstate(over="ignore"):
            reached = np.cumsum(np.exp((filtered.astype(np.float64) - filtered.max()) / temperature))
        tokens = [int((reached > share * reached[-1]).argmax())]
    else:
        tokens = np.argsort(-logprobs, kind="stable")[:top].tolist()
    return tokens, logprobs[tokens]


def _of(array):
    return array._numbers

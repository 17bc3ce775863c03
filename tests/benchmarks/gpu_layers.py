"""The row of gpu.py that compares each kernel with the layer that it computes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpu_lab import Lab
from gpu_report import Cells, at_most, row
from minwhisper.common.backend import address, to_device, to_numpy
from minwhisper.fast.gpu import engine as gpu_engine
from minwhisper.fast.gpu.buffers import RowBuffers
from minwhisper.fast.gpu.kernels import Norm
from minwhisper.fast.gpu.table import Field, HeaderAt, RowTable
from minwhisper.model import layers as readable
from minwhisper.parity.comparison import relative_difference

ROWS, PAST = 5, 100  # sequences of one window, and the tokens that each has

Check = Callable[[], tuple[Any, Any]]


@row("correct", "Each kernel against its layer in NumPy", "kernel", "weights", "‖difference‖ / ‖the layer's‖|.1e")
def layers(lab: Lab) -> Iterator[Cells]:
    """Compare them on random values in a model's shapes. Row "tokens" compares the kernel that chooses tokens."""
    for dtype in ("float32", "float16"):
        setting = Setting(gpu_engine.load_kernels(np.dtype(dtype)), lab, dtype)
        for check in (setting.around_products, setting.of_rows, setting.of_attention):
            for name, compare in check().items():
                try:
                    mine, expected = compare()
                    yield name, dtype, at_most(relative_difference(to_numpy(mine), expected), 1e-5)
                except Exception as error:
                    lab.note(f"{name}, {dtype}: {type(error).__name__}: {error}")
                    yield name, dtype, False


class Setting:
    """Kernels, and a table that describes the next token of several sequences of one window."""

    def __init__(self, kernels: Any, lab: Lab, dtype: str) -> None:
        self.kernels, self.device, self.dtype = kernels, lab.device, dtype
        self.config = c = lab.configs[lab.sizes[0].name]
        self.rng = np.random.default_rng(3)
        self.past = min(PAST, c.max_target_positions - 1)
        self.tokens = np.linspace(0, c.vocab_size - 1, ROWS).astype(np.int64)
        self.slots = self.values(ROWS, 1, 2, c.max_target_positions, c.d_model, dtype=dtype)
        self.audio = self.values(1, 2, c.max_source_positions, c.d_model, dtype=dtype)
        self._slots, self._audio = (self.there(array) for array in (self.slots, self.audio))
        self.table = RowTable(8, c.max_target_positions, self._audio)
        fields = self.table.fields
        fields[Field.TOKEN, :ROWS] = self.tokens
        fields[Field.POSITION, :ROWS] = self.past
        fields[Field.SEQUENCE, :ROWS] = range(ROWS)
        fields[[Field.CROSS_KV, Field.FIRST_ROW, Field.ROW_COUNT], 0] = address(self._audio), 0, ROWS
        self.table.header[HeaderAt.ROWS_AT], self.table.header[HeaderAt.GROUPS_AT] = ROWS, 1
        for place, slot in zip(self.table.slot_addresses, self._slots, strict=False):
            place[:] = address(slot)
        self.table.send(ROWS)
        self.rows = RowBuffers.make(ROWS, self.table, c)

    def values(self, *shape: int, dtype: str = "float32") -> np.ndarray:
        """Return normal random values."""
        return self.rng.standard_normal(shape, dtype=np.float32).astype(dtype)

    def weight(self, *shape: int) -> tuple[np.ndarray, Any]:
        """Return a rounded weight, as float32 on the CPU and in its dtype on the GPU."""
        here = self.values(*shape, dtype=self.dtype)
        return here.astype(np.float32), self.there(here)

    def there(self, array: np.ndarray) -> Any:
        """Return a copy on the GPU."""
        return to_device(array.copy(), self.device)

    def around_products(self) -> dict[str, Check]:
        """Return the checks of kernels that run around cuBLAS's products."""
        run, c = self.kernels, self.config
        x = self.values(ROWS, c.d_model)
        weight, weight_there = self.weight(c.d_model)
        bias, bias_there = self.weight(c.d_model)

        def layer_norm() -> tuple[Any, Any]:
            out = self.there(x)
            run.layer_norm(self.there(x), weight_there, bias_there, out)
            return out, readable.layer_norm(x, weight, bias)

        def epilogue() -> tuple[Any, Any]:
            mine, (residual, residual_there) = self.there(x), self.weight(*x.shape)
            run.epilogue(mine, bias_there, gelu=True, residual=residual_there)
            return mine, readable.gelu(x + bias) + residual

        def softmax() -> tuple[Any, Any]:
            scores = self.values(ROWS, c.max_source_positions)
            mine = self.there(scores)
            run.softmax(mine)
            return mine, readable.softmax(scores)

        def im2col() -> tuple[Any, Any]:
            padded = np.pad(x.T, ((1, 1), (0, 0)))
            expected = np.stack([padded[tap : tap + c.d_model : 2] for tap in range(3)], axis=2)
            columns = self.there(np.zeros_like(expected))
            run.im2col(self.there(x).T, columns, 2)
            return columns, expected

        def add_bias_cast() -> tuple[Any, Any]:
            out = self.there(np.zeros(x.shape, self.dtype))
            run.add_bias_cast(self.there(x), bias_there, out)
            return out, (x + bias).astype(self.dtype)

        def widen_weight() -> tuple[Any, Any]:
            out = self.there(np.zeros_like(weight))
            run.widen_weight(weight_there, out)
            return out, weight

        return {check.__name__: check for check in (layer_norm, epilogue, softmax, im2col, add_bias_cast, widen_weight)}

    def of_rows(self) -> dict[str, Check]:
        """Return the checks of kernels that read the table, except attention."""
        run, c, table = self.kernels, self.config, self.table
        D, F, P = c.d_model, c.decoder_ffn_dim, c.max_target_positions
        x = self.values(ROWS, D)
        norm, norm_there = (Norm(*arrays) for arrays in zip(self.weight(D), self.weight(D), strict=True))
        normed = readable.layer_norm(x, *norm)

        def new_keys_values() -> np.ndarray:
            return to_numpy(self._slots)[:, 0, :, self.past].astype(np.float32)  # (R, 2, D)

        def embed() -> tuple[Any, Any]:
            (vocabulary, there), (positions, positions_there) = self.weight(c.vocab_size, D), self.weight(P, D)
            out = self.there(x)
            run.embed(table, there, positions_there, out)
            return out, vocabulary[self.tokens] + positions[self.past]

        def linear() -> tuple[Any, Any]:
            (weight, there), (bias, bias_there), residual = self.weight(F, D), self.weight(F), self.values(ROWS, F)
            out = self.there(residual)
            how: dict[str, Any] = {"table": table, "norm": norm_there, "residual": out, "gelu": True}
            run.linear(self.there(x), there, bias_there, out, **how)
            return out, readable.gelu(readable.linear(normed, weight, bias)) + residual

        def write_kv() -> tuple[Any, Any]:
            keys, values, (bias, bias_there) = self.values(ROWS, D), self.values(ROWS, D), self.weight(D)
            run.write_kv(table, self.there(keys), self.there(values), bias_there, 0)
            expected = np.stack([keys, values + bias], axis=1)
            return new_keys_values(), expected.astype(self.dtype).astype(np.float32)

        def project_qkv() -> tuple[Any, Any]:
            pairs = {name: {"weight": self.weight(D, D)} for name in ("query", "key", "value")}
            for name in ("query", "value"):
                pairs[name]["bias"] = self.weight(D)
            here, there = (
                {name: {kind: pair[side] for kind, pair in its.items()} for name, its in pairs.items()}
                for side in (0, 1)
            )
            queries = self.there(x)
            run.project_qkv(table, self.there(x), there, norm_there, queries, 0)
            query, key, value = (readable.linear(normed, **here[name]) for name in ("query", "key", "value"))
            kept = np.stack([key, value], axis=1).astype(self.dtype).astype(np.float32)
            mine = np.concatenate([to_numpy(queries)[:, None], new_keys_values()], axis=1)
            return mine, np.concatenate([query[:, None], kept], axis=1)

        return {check.__name__: check for check in (embed, linear, write_kv, project_qkv)}

    def of_attention(self) -> dict[str, Check]:
        """Return the checks of attention."""
        run, c, rows = self.kernels, self.config, self.rows
        heads = c.decoder_attention_heads
        queries = self.values(ROWS, c.d_model)
        room = rows.partial, rows.counters

        def attended(keys_values: np.ndarray) -> np.ndarray:
            """Compute the readable layer from keys and values (R or 1, 2, T, D): (R, D)."""
            wide = np.broadcast_to(keys_values.astype(np.float32), (ROWS, *keys_values.shape[1:]))
            keys, values = (readable.split_heads(wide[:, number], heads) for number in (0, 1))
            found, _ = readable.attend(readable.split_heads(queries[:, None], heads), keys.swapaxes(2, 3), values)
            return readable.merge_heads(found)[:, 0]

        def self_attention() -> tuple[Any, Any]:
            out = self.there(queries)
            run.self_attention(self.table, self.there(queries), *room, out, heads, 0)
            return out, attended(to_numpy(self._slots)[:, 0, :, : self.past + 1])

        def cross_attention() -> tuple[Any, Any]:
            out = self.there(queries)
            run.cross_attention(self.table, self.there(queries), *room, out, heads, 0, c.max_source_positions)
            return out, attended(self.audio)

        return {check.__name__: check for check in (self_attention, cross_attention)}

"""The row of gpu.py that compares each kernel with the layer that it computes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gpu_lab import Lab
from gpu_report import Cells, at_most, row

from minwhisper import layers as readable
from minwhisper.backend import to_device, to_numpy
from minwhisper.fast import gpu as gpu_engine
from minwhisper.parity import relative_difference


@row("correct", "Each kernel against its layer in CuPy", "kernel", "weights", "‖difference‖ / ‖the layer's‖|.1e")
def layers(lab: Lab) -> Iterator[Cells]:
    """Compare them on random values."""
    for dtype in ("float32", "float16"):
        kernels = gpu_engine.load_kernels(np.dtype(dtype))
        for name, check in kernel_checks(kernels, lab, dtype).items():
            try:
                mine, expected = (to_numpy(array) for array in check())
                yield name, dtype, at_most(relative_difference(mine, expected), 1e-5)
            except Exception as error:
                lab.note(f"{name}, {dtype}: {type(error).__name__}: {error}")
                yield name, dtype, False


def kernel_checks(kernels: Any, lab: Lab, dtype: str) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Return for each kernel a function that gives its output and its layer's, in a model's shapes, for five rows."""
    c, rng, R, past = lab.configs[lab.sizes[0].name], np.random.default_rng(3), 5, 100
    T, D, F, V = c.max_source_positions, c.d_model, c.decoder_ffn_dim, c.vocab_size
    room, H, K = c.max_target_positions, c.decoder_attention_heads, c.d_model // c.decoder_attention_heads

    def some(*shape: int, of: str = "float32") -> Any:
        return to_device(rng.standard_normal(shape, dtype=np.float32).astype(of), lab.device)

    def whole(*values: int) -> Any:
        return to_device(np.array(values, np.int32), lab.device)

    def wide(array: Any) -> Any:
        return array.astype("float32", copy=False)

    def layer_norm() -> tuple[Any, Any]:
        x, weight, bias, out = some(R, D), some(D, of=dtype), some(D, of=dtype), some(R, D)
        kernels.layer_norm(x, weight, bias, out)
        return out, readable.layer_norm(x, wide(weight), wide(bias))

    def bias_gelu() -> tuple[Any, Any]:
        x, bias = some(R, F), some(F, of=dtype)
        expected = readable.gelu(x + wide(bias))
        kernels.bias_gelu(x, bias)
        return x, expected

    def softmax() -> tuple[Any, Any]:
        scores = some(H, R, T)
        expected = readable.softmax(scores + readable.causal_mask(R, T - R, scores))
        kernels.softmax(scores, T - R)
        return scores, expected

    def embed() -> tuple[Any, Any]:
        table, positions, x = some(V, D, of=dtype), some(room, D, of=dtype), some(R, D)
        its = whole(0, 1, V // 2, V - 2, V - 1)
        kernels.embed(its, table, positions, whole(past), x)
        return x, wide(table)[its] + wide(positions)[past]

    def matvec() -> tuple[Any, Any]:
        x, weight, bias, residual, y = some(R, D), some(F, D, of=dtype), some(F, of=dtype), some(R, F), some(R, F)
        kernels.matvec(x, weight, bias, y, residual=residual, gelu=True)
        return y, readable.gelu(readable.linear(x, wide(weight), wide(bias))) + residual

    def attend_text() -> tuple[Any, Any]:
        keys, values, out = some(R, H, room, K, of=dtype), some(R, H, room, K, of=dtype), some(R, D)
        new = some(3, R, D)
        kernels.attend_text(new, keys, values, whole(past), out)
        seen = wide(keys)[:, :, : past + 1].swapaxes(2, 3), wide(values)[:, :, : past + 1]
        return out, readable.attend(new[0].reshape(R, H, 1, K), *seen).reshape(R, D)

    def attend_audio() -> tuple[Any, Any]:
        keys, values, queries, out = some(H, T, K, of=dtype), some(H, T, K, of=dtype), some(R, D), some(R, D)
        kernels.attend_audio(queries, keys, values, some(*kernels.partial_shape(R, H, T, K)), out)
        by_head = queries.reshape(R, H, K).transpose(1, 0, 2)
        heard = readable.attend(by_head, wide(keys).swapaxes(1, 2), wide(values))
        return out, heard.transpose(1, 0, 2).reshape(R, D)

    checks = layer_norm, bias_gelu, softmax, embed, matvec, attend_text, attend_audio
    return {check.__name__: check for check in checks}

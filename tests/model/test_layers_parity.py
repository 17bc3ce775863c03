"""Layers and blocks compared with PyTorch in float32 with random weights, and both with PyTorch in float64."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from minwhisper.model.decoder import decoder_block
from minwhisper.model.encoder import encoder_block
from minwhisper.model.layers import (
    attend,
    causal_mask,
    conv1d,
    embedding,
    gelu,
    keys_and_values,
    layer_norm,
    linear,
    log_softmax,
    softmax,
)
from minwhisper.model.weight_names import flatten
from minwhisper.parity.comparison import openai_name, relative_difference

torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
pytestmark = pytest.mark.parity

F = torch.nn.functional
WIDTH, HEADS, HIDDEN = 384, 6, 1536  # those of tiny

# Two correct float32 programs add in different orders, so either may be closer to the exact result. Ours is usually
# off by 0.75 times PyTorch's error, and at most by 1.17 times (a convolution of 80 channels). With a wrong eps, a tanh
# approximation or half precision anywhere, the error would be at least ten times as large.
FACTOR = 1.5


class Case(NamedTuple):
    ours: Callable[..., Any]
    theirs: Callable[..., Any]  # the same on PyTorch tensors, in their dtype
    arguments: tuple[Any, ...]


def random(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.float32(scale) * np.random.default_rng([*shape, 7]).standard_normal(shape, np.float32)


def affine(inputs: int, outputs: int, bias: bool = True) -> dict[str, np.ndarray]:
    weights = {"weight": random(outputs, inputs, scale=inputs**-0.5)}
    return weights | ({"bias": random(outputs)} if bias else {})


def norm_weights() -> dict[str, np.ndarray]:
    return {"weight": 1 + random(WIDTH, scale=0.3), "bias": random(WIDTH, 1)[:, 0]}


def block_weights(*attentions: str) -> dict[str, Any]:
    projections = {name: affine(WIDTH, WIDTH, bias=name != "key") for name in ("query", "key", "value", "out")}
    block = dict.fromkeys(attentions, projections) | {
        "mlp": {"fc1": affine(WIDTH, HIDDEN), "fc2": affine(HIDDEN, WIDTH)}
    }
    return block | {f"{name}_norm": norm_weights() for name in (*attentions, "mlp")}


def with_weights(module: Any, weights: Mapping[str, Any]) -> Any:
    """Load weights into a module of openai-whisper, in their dtype."""
    module.load_state_dict({openai_name(name): tensor for name, tensor in flatten(weights)}, assign=True)
    for norm in module.modules():
        if isinstance(norm, whisper.model.LayerNorm):  # its own forward always computes in float32
            norm.forward = torch.nn.LayerNorm.forward.__get__(norm)
    return module.eval()


def their_encoder_block(x, weights):
    return with_weights(whisper.model.ResidualAttentionBlock(WIDTH, HEADS), weights)(x)


def their_decoder_block(x, features, weights):
    module = with_weights(whisper.model.ResidualAttentionBlock(WIDTH, HEADS, cross_attention=True), weights)
    return module(x, features, torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1))


def our_decoder_block(x, features, weights):
    cross_kv = keys_and_values(features, weights["cross_attention"], HEADS)
    return decoder_block(x, cross_kv.empty(), cross_kv, weights, HEADS)[0]


def layer_norm_of(x: np.ndarray) -> Case:
    return Case(layer_norm, lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), (x, *norm_weights().values()))


def convolution(inputs: int, length: int, stride: int) -> Case:
    return Case(
        lambda x, w, b: conv1d(x, w, b, stride),
        lambda x, w, b: F.conv1d(x.transpose(1, 2), w, b, stride=stride, padding=1).transpose(1, 2),
        (random(2, length, inputs), random(WIDTH, inputs, 3, scale=(3 * inputs) ** -0.5), random(WIDTH)),
    )


CASES = {
    "linear, long sums": Case(linear, F.linear, (random(2, 50, HIDDEN), *affine(HIDDEN, WIDTH).values())),
    "linear of one row": Case(linear, F.linear, (random(1, 1, HIDDEN), *affine(HIDDEN, 4 * WIDTH).values())),
    "layer_norm": layer_norm_of(random(2, 50, WIDTH, scale=5) + 2),
    "layer_norm of small values": layer_norm_of(random(2, 50, WIDTH, scale=1e-3)),  # eps is most of the variance
    "gelu": Case(gelu, F.gelu, (random(200, WIDTH, scale=3),)),
    "softmax": Case(softmax, lambda x: F.softmax(x, -1), (random(2, 50, 1500, scale=4),)),
    "log_softmax": Case(log_softmax, lambda x: F.log_softmax(x, -1), (random(2, 51865, scale=4),)),
    "conv1d": convolution(80, 100, 1),
    "conv1d of stride 2, odd length": convolution(WIDTH, 101, 2),
    "attend": Case(
        lambda q, k, v: attend(q, k, v)[0],
        lambda q, k, v: F.scaled_dot_product_attention(q, k.transpose(2, 3), v),
        (random(2, 6, 50, 64), random(2, 6, 64, 500, scale=2), random(2, 6, 500, 64)),
    ),
    "attend with a past": Case(
        lambda q, k, v: attend(q, k, v, causal_mask(5, 15, q))[0],
        lambda q, k, v: F.scaled_dot_product_attention(
            q, k.transpose(2, 3), v, attn_mask=torch.ones(5, 20, dtype=torch.bool).tril(15)
        ),
        (random(2, 6, 5, 64), random(2, 6, 64, 20, scale=2), random(2, 6, 20, 64)),
    ),
    "encoder_block": Case(
        lambda x, weights: encoder_block(x, weights, HEADS),
        their_encoder_block,
        (random(2, 60, WIDTH), block_weights("attention")),
    ),
    "decoder_block": Case(
        our_decoder_block,
        their_decoder_block,
        (random(2, 20, WIDTH), random(2, 300, WIDTH), block_weights("attention", "cross_attention")),
    ),
}


def tensors(tree: Any, dtype: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: tensors(value, dtype) for key, value in tree.items()}
    return torch.tensor(tree, dtype=dtype)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_layer_equals_pytorchs_and_is_as_exact(case):
    ours = case.ours(*case.arguments)
    with torch.no_grad():
        theirs, exact = (
            case.theirs(*(tensors(argument, dtype) for argument in case.arguments)).numpy()
            for dtype in (torch.float32, torch.float64)
        )
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    assert exact.dtype == np.float64
    assert relative_difference(ours, theirs) <= 1e-5
    assert relative_difference(ours, exact) <= FACTOR * relative_difference(theirs, exact)


def test_embedding_equals_pytorchs_bit_for_bit():
    table, tokens = random(100, WIDTH), np.array([[0, 99, 5], [5, 5, 1]])
    assert np.array_equal(embedding(tokens, table), F.embedding(torch.tensor(tokens), torch.tensor(table)).numpy())


def test_gelu_is_closer_to_exact_than_pytorchs():
    """PyTorch's GELU depends on the CPU: its largest error is 3.8e-7 with AVX2, and larger than ours with AVX-512."""
    x = np.linspace(-10, 10, 200_001, dtype=np.float32)
    exact = F.gelu(torch.tensor(x, dtype=torch.float64)).numpy()
    ours, theirs = np.abs(gelu(x) - exact).max(), np.abs(F.gelu(torch.tensor(x)).numpy() - exact).max()
    assert ours < 5e-7  # the spacing of float32 just below 8; from 8 on, gelu(x) is x
    assert ours <= theirs or torch.backends.cpu.get_cpu_capability() != "AVX512"
    tanh = F.gelu(torch.tensor(x, dtype=torch.float64), approximate="tanh").numpy()
    assert np.abs(tanh - exact).max() > 100 * ours  # the tanh approximation is another function

"""The network as a graph of named stages, each a small function of others, from a recording to the next tokens.

The layers compute a whole block at once. To show where another implementation differs, each stage has to be computed on
its own, from any values: ours for a trace, theirs for a comparison, and with a mistake in it for a diagnosis. A hook in
the layers could record values but not do that. So the wiring is repeated here, stage by stage, without any change to
the layers, whose own functions do the computing. A test checks that the two give the same values.

``network`` returns the stages, and ``run`` computes those that are wanted from those that are given.

Shapes: the letters of ``model/layers.py``, and N samples, C = 201 frequencies, W = 400 samples of a frame.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..audio.load import N_FFT, N_SAMPLES, pad_or_trim
from ..audio.mel import DYNAMIC_RANGE, MIN_ENERGY, hann_window, mel_filters, scale, split_frames
from ..common.backend import Array, to_numpy
from ..common.edits import Edit, edited, uses
from ..model.config import WhisperConfig
from ..model.layers import (
    Weights,
    causal_mask,
    conv1d,
    embedding,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    merge_heads,
    softmax,
    split_heads,
)
from ..model.numerics import matmul
from ..tokenizer.tokenizer import Tokenizer
from .recording import Recording


@dataclass(frozen=True)
class Place:
    """The context of a stage apart from its inputs: its place in the network, the weights, and the other values."""

    config: WhisperConfig
    weights: Weights  # of the whole model
    tokenizer: Tokenizer
    half: str = "encoder"  # or "decoder"
    index: int = 0  # of the block
    part: str = ""  # of the block: "attention", "cross_attention" or "mlp"
    other: Callable[[str], Array] = dict[str, Array]().__getitem__  # the value of another stage, if it is available

    @property
    def heads(self) -> int:
        """The number of heads of this half."""
        config = self.config
        return config.encoder_attention_heads if self.half == "encoder" else config.decoder_attention_heads

    @property
    def causal(self) -> bool:
        """Whether a position may not attend to later ones."""
        return self.half == "decoder" and self.part == "attention"

    @property
    def block(self) -> str:
        """The name of the block, "encoder.blocks.0"."""
        return f"{self.half}.blocks.{self.index}"


@dataclass(frozen=True)
class Stage:
    """One value of the network, and its computation from others."""

    name: str
    shape: str  # its axes in the letter key, "B T D"
    inputs: tuple[str, ...]  # the names of the stages that it is computed from
    compute: Callable[..., Array]  # of the inputs and a ``Place``
    half: str = "encoder"
    index: int = 0
    part: str = ""
    large: bool = False  # attention over all positions: not in a trace unless it is requested

    def affected_by(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits of functions that this stage uses."""
        return [edit for edit in edits if edit.function is not None and uses(self.compute, edit.function)]


# --- Audio --------------------------------------------------------------------------------------------------------


def window(recording: Recording, at: Place) -> Array:
    """Load the first window: a recording -> samples (N,), 480,000 of them, silence after the end."""
    return pad_or_trim(recording.samples(), N_SAMPLES)


def frames(samples: Array, at: Place) -> Array:
    """Mirror 200 samples at both ends, and split into frames: (N,) -> (2T, W). The frame at the very end is dropped."""
    return split_frames(np.pad(samples, N_FFT // 2, mode="reflect"))[:-1]


def power(frames: Array, at: Place) -> Array:
    """Return the energy of each frequency: (2T, W) -> (2T, C)."""
    return np.abs(np.fft.rfft(frames * hann_window().astype(frames.dtype))) ** 2


def log_mel(power: Array, at: Place) -> Array:
    """Pool the energies in mel bins and take the logarithm: (2T, C) -> (M, 2T)."""
    energy = mel_filters(at.config.num_mel_bins).astype(power.dtype) @ power.T
    return np.log10(np.maximum(energy, MIN_ENERGY))


def mel(log_mel: Array, at: Place) -> Array:
    """Clamp to 8 powers of ten below the maximum, and scale: (M, 2T) -> (B, M, 2T)."""
    return scale(np.maximum(log_mel, log_mel.max() - DYNAMIC_RANGE))[None]


# --- Encoder and decoder ------------------------------------------------------------------------------------------


def conv1(mel: Array, at: Place) -> Array:
    """Apply the first convolution: (B, M, 2T) -> (B, 2T, D)."""
    return conv1d(mel.transpose(0, 2, 1), **at.weights["encoder"]["conv1"])


def conv2(x: Array, at: Place) -> Array:
    """Apply the second convolution, which halves the number of frames: (B, 2T, D) -> (B, T, D)."""
    return conv1d(x, **at.weights["encoder"]["conv2"], stride=2)


def gelu_after_conv1(x: Array, at: Place) -> Array:
    """Apply the first GELU of the stem: (B, 2T, D) -> (B, 2T, D)."""
    return gelu(x)


def gelu_after_conv2(x: Array, at: Place) -> Array:
    """Apply the second GELU of the stem: (B, T, D) -> (B, T, D)."""
    return gelu(x)


def audio_positions(x: Array, at: Place) -> Array:
    """Add the positions: (B, T, D) + (T, D)."""
    return x + at.weights["encoder"]["positions"][: x.shape[1]]


def embed_tokens(tokens: Array, at: Place) -> Array:
    """Look up the rows of the tokens: (B, S) -> (B, S, D)."""
    return embedding(tokens, at.weights["decoder"]["token_embedding"])


def text_positions(x: Array, tokens: Array, at: Place) -> Array:
    """Add the positions: (B, S, D) + (S, D)."""
    return x + at.weights["decoder"]["positions"][: x.shape[1]]


def block_weights(at: Place) -> Weights:
    """Return the weights of the block."""
    weights: Weights = at.weights[at.half]["blocks"][at.index]
    return weights


def block_norm(x: Array, at: Place) -> Array:
    """Normalise the input of a part of a block: (B, T, D) -> (B, T, D)."""
    return layer_norm(x, **block_weights(at)[f"{at.part}_norm"])


def query(normed: Array, at: Place) -> Array:
    """Project the queries: (B, T, D) -> (B, T, D)."""
    return linear(normed, **block_weights(at)[at.part]["query"])


def key(source: Array, at: Place) -> Array:
    """Project the keys, without a bias: (B, T, D) -> (B, T, D)."""
    return linear(source, **block_weights(at)[at.part]["key"])


def value(source: Array, at: Place) -> Array:
    """Project the values: (B, T, D) -> (B, T, D)."""
    return linear(source, **block_weights(at)[at.part]["value"])


def scores(query: Array, key: Array, at: Place) -> Array:
    """Compute the scaled dot products of queries and keys, masked: (B, S, D) and (B, T, D) -> (B, H, S, T)."""
    q, k = split_heads(query, at.heads), split_heads(key, at.heads)
    products = matmul(q * q.shape[-1] ** -0.5, k.transpose(0, 1, 3, 2))
    if at.causal:
        products = products + causal_mask(products.shape[2], products.shape[3] - products.shape[2], products)
    return products


def attention_weights(scores: Array, at: Place) -> Array:
    """Turn the scores of each query into weights that sum to 1: (B, H, S, T) -> (B, H, S, T)."""
    return softmax(scores)


def mixed(weights: Array, value: Array, at: Place) -> Array:
    """Sum the values with the weights, head by head: (B, H, S, T) and (B, T, D) -> (B, S, D)."""
    return merge_heads(matmul(weights, split_heads(value, at.heads)))


def out(mixed: Array, at: Place) -> Array:
    """Apply the output projection of attention: (B, S, D) -> (B, S, D)."""
    return linear(mixed, **block_weights(at)[at.part]["out"])


def residual(x: Array, change: Array, at: Place) -> Array:
    """Add what a part of a block computed to its input: (B, S, D) -> (B, S, D)."""
    return x + change


def fc1(normed: Array, at: Place) -> Array:
    """Apply the first linear map of the MLP: (B, S, D) -> (B, S, F)."""
    return linear(normed, **block_weights(at)["mlp"]["fc1"])


def hidden(x: Array, at: Place) -> Array:
    """Apply the GELU of the MLP: (B, S, F) -> (B, S, F)."""
    return gelu(x)


def fc2(hidden: Array, at: Place) -> Array:
    """Apply the second linear map of the MLP: (B, S, F) -> (B, S, D)."""
    return linear(hidden, **block_weights(at)["mlp"]["fc2"])


def final_norm(x: Array, at: Place) -> Array:
    """Normalise the output of the last block: (B, S, D) -> (B, S, D)."""
    return layer_norm(x, **at.weights[at.half]["norm"])


def logits(x: Array, at: Place) -> Array:
    """Multiply by the token embedding: (B, S, D) -> (B, S, V)."""
    return matmul(x, at.weights["decoder"]["token_embedding"].T)


def log_probabilities(logits: Array, at: Place) -> Array:
    """Return the logarithm of the softmax: (B, S, V) -> (B, S, V)."""
    return log_softmax(logits)


def next_tokens(logits: Array, tokens: Array, at: Place) -> Array:
    """Return the most likely token that greedy search allows after each position: (B, S, V) -> (B, S).

    Some tokens are never allowed, and timestamps are not allowed after <|notimestamps|>.
    """
    allowed = logits.copy()
    allowed[..., list(at.tokenizer.suppressed_tokens)] = -np.inf
    if (tokens == at.tokenizer.no_timestamps).any():
        allowed[..., at.tokenizer.timestamp_begin :] = -np.inf
    return allowed.argmax(axis=-1)


# --- The graph ----------------------------------------------------------------------------------------------------


def network(config: WhisperConfig) -> dict[str, Stage]:
    """Return all stages by name, in the order of computation.

    Two inputs have no stage and must be given: "recording", a ``Recording``, and "tokens", (B, S).
    """
    stages: dict[str, Stage] = {}

    def add(name: str, shape: str, compute: Callable[..., Array], *inputs: str, **where: Any) -> str:
        stages[name] = Stage(name, shape, inputs, compute, **where)
        return name

    def add_attention(x: str, source: str | None, **where: Any) -> str:
        block, part = f"{where['half']}.blocks.{where['index']}", where["part"]
        prefix, length = f"{block}.{part}", "S" if where["half"] == "decoder" else "T"
        memory = "T" if source else length
        normed = add(f"{prefix}_norm", f"B {length} D", block_norm, x, **where)
        q = add(f"{prefix}.query", f"B {length} D", query, normed, **where)
        k = add(f"{prefix}.key", f"B {memory} D", key, source or normed, **where)
        v = add(f"{prefix}.value", f"B {memory} D", value, source or normed, **where)
        large = {**where, "large": True}
        products = add(f"{prefix}.scores", f"B H {length} {memory}", scores, q, k, **large)
        weights = add(f"{prefix}.weights", f"B H {length} {memory}", attention_weights, products, **large)
        mix = add(f"{prefix}.mixed", f"B {length} D", mixed, weights, v, **where)
        change = add(f"{prefix}.out", f"B {length} D", out, mix, **where)
        return add(f"{prefix}_residual", f"B {length} D", residual, x, change, **where)

    def add_mlp(x: str, **where: Any) -> str:
        block, length = f"{where['half']}.blocks.{where['index']}", "S" if where["half"] == "decoder" else "T"
        normed = add(f"{block}.mlp_norm", f"B {length} D", block_norm, x, **where)
        first = add(f"{block}.mlp.fc1", f"B {length} F", fc1, normed, **where)
        activated = add(f"{block}.mlp.hidden", f"B {length} F", hidden, first, **where)
        change = add(f"{block}.mlp.fc2", f"B {length} D", fc2, activated, **where)
        return add(block, f"B {length} D", residual, x, change, **where)

    add("samples", "N", window, "recording")
    add("frames", "2T W", frames, "samples")
    add("power", "2T C", power, "frames")
    add("log_mel", "M 2T", log_mel, "power")
    add("mel", "B M 2T", mel, "log_mel")
    add("encoder.conv1", "B 2T D", conv1, "mel")
    add("encoder.conv1_gelu", "B 2T D", gelu_after_conv1, "encoder.conv1")
    add("encoder.conv2", "B T D", conv2, "encoder.conv1_gelu")
    add("encoder.conv2_gelu", "B T D", gelu_after_conv2, "encoder.conv2")
    x = add("encoder.stem", "B T D", audio_positions, "encoder.conv2_gelu")
    for i in range(config.encoder_layers):
        x = add_attention(x, None, half="encoder", index=i, part="attention")
        x = add_mlp(x, half="encoder", index=i, part="mlp")
    features = add("encoder.norm", "B T D", final_norm, x)

    add("decoder.token_embedding", "B S D", embed_tokens, "tokens", half="decoder")
    x = add("decoder.stem", "B S D", text_positions, "decoder.token_embedding", "tokens", half="decoder")
    for i in range(config.decoder_layers):
        x = add_attention(x, None, half="decoder", index=i, part="attention")
        x = add_attention(x, features, half="decoder", index=i, part="cross_attention")
        x = add_mlp(x, half="decoder", index=i, part="mlp")
    x = add("decoder.norm", "B S D", final_norm, x, half="decoder")
    x = add("logits", "B S V", logits, x, half="decoder")
    add("log_probabilities", "B S V", log_probabilities, x, half="decoder")
    add("next_tokens", "B S", next_tokens, x, "tokens", half="decoder")
    return stages


def needed(stages: Mapping[str, Stage], wanted: Collection[str], given: Collection[str]) -> list[Stage]:
    """Return the stages to compute, in order, for the wanted ones: a wanted one is computed even if it is given.

    Raises ``KeyError`` with the name of a value that is neither given nor computed by a stage.
    """
    found: dict[str, Stage] = {}
    open_names = list(wanted)
    while open_names:
        name = open_names.pop()
        if name not in stages:
            raise KeyError(name)
        if name not in found:
            found[name] = stages[name]
            open_names += [source for source in stages[name].inputs if source not in given]
    return [stage for name, stage in stages.items() if name in found]


def to_float64(array: Array) -> Array:
    """Return an array in float64, on the CPU."""
    return to_numpy(array).astype(np.float64, copy=False)


def run(
    stages: Mapping[str, Stage],
    wanted: Collection[str],
    given: Mapping[str, Any],
    at: Place,
    *,
    edits: Sequence[Edit] = (),
    convert: Callable[[Array], Array] = to_float64,
    names: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[tuple[str, Array]]:
    """Compute the wanted stages from the given values: yield name and value, in order.

    A stage takes its inputs from the given values if they are there, otherwise from those computed here; a wanted stage
    is computed even if its value is given. A value is dropped as soon as nothing needs it any more. ``edits`` are the
    mistakes to make, and ``names`` are further names that their text may use. ``convert`` is applied to weights and
    results. Raises ``KeyError`` for a value that is missing.
    """
    plan = needed(stages, wanted, given)
    uses_left = Counter(source for stage in plan for source in stage.inputs if source not in given)
    computed: dict[str, Array] = {}

    def other(name: str) -> Array:
        value: Array = given[name] if name in given else computed[name]
        return value

    weights = MappedWeights(at.weights, convert)
    for stage in plan:
        compute = stage.compute
        if affecting := stage.affected_by(edits):
            compute = edited(compute, affecting, **names)
        here = Place(at.config, weights, at.tokenizer, stage.half, stage.index, stage.part, other)
        value = compute(*map(other, stage.inputs), here)
        if value.dtype.kind == "f":
            value = convert(value)
        for source in stage.inputs if not edits else ():  # an edit may read any value
            if source in uses_left:
                uses_left[source] -= 1
                if not uses_left[source]:
                    del uses_left[source], computed[source]
        if uses_left[stage.name] or edits:
            computed[stage.name] = value
        if stage.name in wanted:
            yield stage.name, value
        del value


class MappedWeights(Mapping[str, Any]):
    """Weights to whose arrays a function is applied when they are read, for instance a conversion to float64."""

    def __init__(self, weights: Weights, function: Callable[[Array], Array]) -> None:
        """Wrap the weights; a copy of an array lives as long as its reader keeps it."""
        self._weights, self._function = weights, function

    def __getitem__(self, name: str) -> Any:
        """Return an array, or a mapping or tuple of such weights."""
        return self._mapped(self._weights[name])

    def _mapped(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return MappedWeights(value, self._function)
        if isinstance(value, tuple):
            return tuple(map(self._mapped, value))  # blocks: nothing is read yet
        return self._function(value)

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._weights)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._weights)

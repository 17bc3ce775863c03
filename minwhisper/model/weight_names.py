"""Names and shapes of the tensors, and their names in two checkpoint formats.

In this package the weights are a nested mapping: ``weights["decoder"]["blocks"][3]["mlp"]["fc1"]["weight"]``. In
messages and tables the same path is written with dots: ``decoder.blocks.3.mlp.fc1.weight``. The names in Hugging Face's
safetensors and in CTranslate2's ``model.bin`` are translated here and nowhere else.

Walkthrough: section 7.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..common.backend import Array
from .config import WhisperConfig
from .layers import Weights

Shape = tuple[int, ...]


def expected_shapes(config: WhisperConfig) -> dict[str, Shape]:
    """Return the shape of every tensor of a model, by name, in the order of the forward pass."""
    width = config.d_model
    shapes: dict[str, Shape] = {}

    def affine(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def attention(name: str) -> None:
        norm(f"{name}_norm")
        affine(f"{name}.query", width, width)
        affine(f"{name}.key", width, width, bias=False)
        affine(f"{name}.value", width, width)
        affine(f"{name}.out", width, width)

    def mlp(name: str, hidden: int) -> None:
        norm(f"{name}_norm")
        affine(f"{name}.fc1", width, hidden)
        affine(f"{name}.fc2", hidden, width)

    for name, inputs in (("encoder.conv1", config.num_mel_bins), ("encoder.conv2", width)):
        shapes[f"{name}.weight"] = (width, inputs, 3)
        shapes[f"{name}.bias"] = (width,)
    shapes["encoder.positions"] = (config.max_source_positions, width)
    for i in range(config.encoder_layers):
        attention(f"encoder.blocks.{i}.attention")
        mlp(f"encoder.blocks.{i}.mlp", config.encoder_ffn_dim)
    norm("encoder.norm")

    shapes["decoder.token_embedding"] = (config.vocab_size, width)
    shapes["decoder.positions"] = (config.max_target_positions, width)
    for i in range(config.decoder_layers):
        attention(f"decoder.blocks.{i}.attention")
        attention(f"decoder.blocks.{i}.cross_attention")
        mlp(f"decoder.blocks.{i}.mlp", config.decoder_ffn_dim)
    norm("decoder.norm")
    return shapes


def nest(flat: Mapping[str, Array]) -> Weights:
    """Turn dotted names into nested mappings; ``blocks`` becomes a tuple.

    >>> nest({"a.blocks.0.w": 1, "a.blocks.1.w": 2, "a.b": 3})
    {'a': {'blocks': ({'w': 1}, {'w': 2}), 'b': 3}}
    """
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *path, leaf = name.split(".")
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[leaf] = array

    def tupled(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if node and all(key.isdecimal() for key in node):
            return tuple(tupled(node[key]) for key in sorted(node, key=int))
        return {key: tupled(value) for key, value in node.items()}

    nested: Weights = tupled(tree)
    return nested


def flatten(weights: Weights, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Yield every array with its dotted name: the inverse of ``nest``."""
    for key, value in weights.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                yield from flatten(item, f"{prefix}{key}.{i}.")
        else:
            yield prefix + key, value


# The order matters: a longer name comes before one that it contains.
_HUGGING_FACE = (
    (".layers.", ".blocks."),
    (".self_attn_layer_norm.", ".attention_norm."),
    (".encoder_attn_layer_norm.", ".cross_attention_norm."),
    (".final_layer_norm.", ".mlp_norm."),
    (".layer_norm.", ".norm."),
    (".self_attn.", ".attention."),
    (".encoder_attn.", ".cross_attention."),
    (".q_proj.", ".query."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".out_proj.", ".out."),
    (".fc1.", ".mlp.fc1."),
    (".fc2.", ".mlp.fc2."),
    (".embed_positions.weight", ".positions"),
    (".embed_tokens.weight", ".token_embedding"),
    ("proj_out.weight", "decoder.token_embedding"),  # tied: the output projection is the token embedding
)

_CTRANSLATE2 = (
    ("/", "."),
    (".attention.", ".cross_attention."),
    (".self_attention.", ".attention."),
    ("attention.layer_norm.", "attention_norm."),
    (".ffn.layer_norm.", ".mlp_norm."),
    (".layer_norm.", ".norm."),
    (".ffn.linear_0.", ".mlp.fc1."),
    (".ffn.linear_1.", ".mlp.fc2."),
    (".gamma", ".weight"),
    (".beta", ".bias"),
    (".position_encodings.encodings", ".positions"),
    (".embeddings.weight", ".token_embedding"),
    ("decoder.projection.weight", "decoder.token_embedding"),
)

# CTranslate2 stacks the rows of projections that share an input in one matrix.
_CTRANSLATE2_STACKS = {
    ".attention.linear_0.": ("query", "key", "value"),
    ".attention.linear_1.": ("out",),
    ".cross_attention.linear_0.": ("query",),
    ".cross_attention.linear_1.": ("key", "value"),
    ".cross_attention.linear_2.": ("out",),
}

# Scalars among CTranslate2's tensors: settings, not weights.
_CTRANSLATE2_SETTINGS = re.compile(
    r"(encoder|decoder)/(num_heads|pre_norm|activation|alibi|alignment_heads|alignment_layer"
    r"|scale_embeddings|start_from_zero_embedding|scale_alibi)"
)


def from_hugging_face(name: str) -> tuple[str, ...]:
    """Translate the name of a tensor of a Hugging Face checkpoint.

    >>> from_hugging_face("model.decoder.layers.3.fc1.weight")
    ('decoder.blocks.3.mlp.fc1.weight',)
    """
    name = name.removeprefix("model.")
    for theirs, ours in _HUGGING_FACE:
        name = name.replace(theirs, ours)
    return (name,)


def from_ctranslate2(name: str) -> tuple[str, ...]:
    """Translate the name of a CTranslate2 tensor to those of the tensors stacked in it, in the order of their rows.

    The result is empty for a setting.

    >>> from_ctranslate2("decoder/layer_3/attention/linear_1/bias")
    ('decoder.blocks.3.cross_attention.key.bias', 'decoder.blocks.3.cross_attention.value.bias')
    """
    if _CTRANSLATE2_SETTINGS.fullmatch(name):
        return ()
    for theirs, ours in _CTRANSLATE2:
        name = name.replace(theirs, ours)
    name = re.sub(r"\.layer_(\d+)\.", r".blocks.\1.", name)
    for stack, projections in _CTRANSLATE2_STACKS.items():
        if stack in name:
            block = stack.rpartition(".linear")[0]
            return tuple(name.replace(stack, f"{block}.{projection}.") for projection in projections)
    return (name,)

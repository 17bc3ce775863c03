"""Small checkpoints in Hugging Face's format, written byte by byte."""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from minwhisper.model.config import WhisperConfig
from minwhisper.model.encoder import sinusoids
from minwhisper.model.weight_names import expected_shapes

Tensors = dict[str, np.ndarray]

# Dimensions that could be confused have different sizes.
SMALL = WhisperConfig(
    vocab_size=60,
    num_mel_bins=5,
    d_model=8,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=20,
    decoder_layers=2,
    decoder_attention_heads=4,
    decoder_ffn_dim=28,
    max_source_positions=12,
    max_target_positions=7,
)

_MODULES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "norm": "layer_norm",
    "attention_norm": "self_attn_layer_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "cross_attention.query": "encoder_attn.q_proj",
    "cross_attention.key": "encoder_attn.k_proj",
    "cross_attention.value": "encoder_attn.v_proj",
    "cross_attention.out": "encoder_attn.out_proj",
    "mlp_norm": "final_layer_norm",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}


def hugging_face_name(ours: str) -> str:
    """Return Hugging Face's name for one of this package's tensors."""
    half, _, rest = ours.partition(".")
    if rest in ("positions", "token_embedding"):
        return f"model.{half}.embed_{'positions' if rest == 'positions' else 'tokens'}.weight"
    found = re.fullmatch(r"(blocks\.\d+\.)?(.+)\.(weight|bias)", rest)
    assert found is not None, ours
    block, module, kind = found.groups(default="")
    return f"model.{half}.{block.replace('blocks', 'layers')}{_MODULES[module]}.{kind}"


def distinct_weights(config: WhisperConfig = SMALL, seed: int = 0) -> Tensors:
    """Return random tensors under this package's names; the encoder's positions are the sinusoids."""
    rng = np.random.default_rng(seed)
    shapes = expected_shapes(config)
    flat = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return flat | {"encoder.positions": sinusoids(*shapes["encoder.positions"]).astype(np.float32)}


def hugging_face(flat: Mapping[str, np.ndarray]) -> Tensors:
    """Return the same tensors under Hugging Face's names."""
    return {hugging_face_name(name): array for name, array in flat.items()}


def stored(array: np.ndarray, dtype: str) -> tuple[bytes, np.ndarray]:
    """Return the bytes of an array stored in a dtype, and the stored values in float32."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):  # a test stores values that are too large for the dtype
            rounded = array.astype(dtype)
        return rounded.tobytes(), rounded.astype(np.float32)
    bits = array.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # round to nearest, ties to even
    return bits.astype("<u2").tobytes(), (bits << 16).view(np.float32)


def safetensors_bytes(tensors: Mapping[str, np.ndarray], dtype: str = "float32") -> bytes:
    """Return the bytes of a safetensors file: the length of the header, the header, the data."""
    code = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}[dtype]
    header, data, end = {}, [], 0
    for name, array in tensors.items():
        data.append(stored(array, dtype)[0])
        start, end = end, end + len(data[-1])
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<Q", len(text)), text, *data])


def write(
    folder: Path, tensors: Mapping[str, np.ndarray], dtype: str = "float32", shards: int = 1, **config: object
) -> Path:
    """Write ``config.json`` and the weights, in one file or several, and return the folder.

    The configuration is ``SMALL`` updated with ``config``; keys set to ``None`` are omitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = asdict(SMALL) | {"model_type": "whisper", "activation_function": "gelu", "scale_embedding": False} | config
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
        return folder
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        inside = {name: tensors[name] for name in names[shard::shards]}  # neighbouring tensors are in different files
        (folder / file).write_bytes(safetensors_bytes(inside, dtype))
        weight_map |= dict.fromkeys(inside, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder

"""Checkpoints in CTranslate2's format, written byte by byte."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}
_PARTS = {
    "self_attention/linear_0": ("attention.query", "attention.key", "attention.value"),
    "self_attention/linear_1": ("attention.out",),
    "self_attention/layer_norm": ("attention_norm",),
    "attention/linear_0": ("cross_attention.query",),
    "attention/linear_1": ("cross_attention.key", "cross_attention.value"),
    "attention/linear_2": ("cross_attention.out",),
    "attention/layer_norm": ("cross_attention_norm",),
    "ffn/linear_0": ("mlp.fc1",),
    "ffn/linear_1": ("mlp.fc2",),
    "ffn/layer_norm": ("mlp_norm",),
}

ALIAS = {"decoder/projection/weight": "decoder/embeddings/weight"}


def text(value: str) -> bytes:
    """Return a string with its length before it and a zero after it."""
    return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"


def model_bin(
    variables: Mapping[str, Any],
    aliases: Mapping[str, str] | None = None,
    version: int = 6,
    specification: str = "WhisperSpec",
    revision: int = 3,
) -> bytes:
    """Return a file in CTranslate2's format."""
    out = struct.pack("<I", version) + text(specification) + struct.pack("<II", revision, len(variables))
    for name, variable in variables.items():
        if isinstance(variable, np.ndarray):
            variable = (variable.dtype.name, variable.shape, variable.tobytes())
        dtype, shape, data = variable
        out += text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape)
        out += struct.pack("<BI", CODES.get(dtype, 9), len(data)) + data
    out += struct.pack("<I", len(aliases or {}))
    return out + b"".join(text(alias) + text(target) for alias, target in (aliases or {}).items())


def ctranslate2(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of ``hf_checkpoint.SMALL`` with CTranslate2's names and stacking, and the head counts."""
    out = {}
    for half, blocks, heads in (("encoder", 1, 2), ("decoder", 2, 4)):
        for block in range(blocks):
            for part, ours in _PARTS.items():
                if half == "encoder" and part.startswith("attention"):
                    continue
                for kind, theirs in (("weight", "gamma"), ("bias", "beta")):
                    zeros = np.zeros(8, np.float32)  # the bias of the key, which Whisper does not have
                    stack = [flat.get(f"{half}.blocks.{block}.{name}.{kind}", zeros) for name in ours]
                    name = theirs if "norm" in part else kind
                    out[f"{half}/layer_{block}/{part}/{name}"] = np.concatenate(stack)
        out[f"{half}/layer_norm/gamma"] = flat[f"{half}.norm.weight"]
        out[f"{half}/layer_norm/beta"] = flat[f"{half}.norm.bias"]
        out[f"{half}/position_encodings/encodings"] = flat[f"{half}.positions"]
        out[f"{half}/num_heads"] = np.array(heads, np.int16)
    for name in ("conv1", "conv2"):
        out |= {f"encoder/{name}/{kind}": flat[f"encoder.{name}.{kind}"] for kind in ("weight", "bias")}
    return out | {"decoder/embeddings/weight": flat["decoder.token_embedding"]}


def write_bin(folder: Path, tensors: Mapping[str, Any], config: str = "{}") -> Path:
    """Write a checkpoint to a folder, and return the folder."""
    (folder / "model.bin").write_bytes(model_bin(tensors, ALIAS))
    (folder / "config.json").write_text(config)
    return folder

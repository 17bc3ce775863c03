"""Fuzz tests: loading mutated files of a tiny checkpoint takes little time and memory, and fails with a clear error.

``pytest tests/checkpoints/test_fuzz_checkpoint.py --fuzz 60 -s`` runs each fuzzer for a minute and prints the number of
cases.
"""

import json
import struct
from dataclasses import asdict
from itertools import cycle

import numpy as np
import pytest

from checkpoint_fuzzing import cases, check_case, mutated_bytes, mutated_json, reset_peak_memory
from ctranslate2_files import ALIAS, ctranslate2, model_bin, write_bin
from hf_checkpoint import SMALL, distinct_weights, hugging_face, safetensors_bytes, write
from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.tokenizer.special_tokens import special_token_ids
from minwhisper.tokenizer.tokenizer import Tokenizer
from vocabularies import made_up_pieces

FLAT = distinct_weights()
CONFIG = asdict(SMALL) | {"activation_function": "gelu", "alignment_heads": [[1, 3], [0, 2]], "begin": [1, 2]}
GENERATION = {"alignment_heads": [[1, 3], [0, 2]], "max_length": 448, "lang_to_id": {"<|en|>": 1}}
MODEL_BIN = model_bin(ctranslate2(FLAT), ALIAS)
SAFETENSORS = [safetensors_bytes(hugging_face(FLAT), dtype) for dtype in ("float32", "float16", "bfloat16")]


@pytest.fixture(autouse=True)
def memory():
    """Measure the memory of each fuzzer separately."""
    reset_peak_memory()


def load(folder, rng):
    files = find_checkpoint(folder)
    verify_checksums(files)
    load_checkpoint(files, dtype=rng.choice(("float32", "float16", "float64")), strict=rng.random() < 0.5)


def mutate_configuration(folder, rng):
    config, generation = json.dumps(CONFIG).encode(), json.dumps(GENERATION).encode()
    if rng.random() < 0.6:
        config = mutated_json(CONFIG, rng)
    else:
        generation = mutated_json(GENERATION, rng)
    (folder / "config.json").write_bytes(config)
    (folder / "generation_config.json").write_bytes(generation)


def mutate_safetensors(folder, rng):
    data = rng.choice(SAFETENSORS)
    length = 8 + struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:length]), data[length:]
    match rng.randrange(4):
        case 0 | 1:
            changed = mutated_bytes(data, rng, among=rng.choice((length, None)))
        case 2:
            text = mutated_json(header, rng)
            changed = struct.pack("<Q", len(text)) + text + body
        case _:  # another dtype or shape, with the same number of bytes if possible
            entry = header[rng.choice(list(header))]
            entry["dtype"] = rng.choice(("F32", "F16", "BF16", "F64", "I8", "U8", "BOOL", "I32", "F8_E4M3", "\x1b"))
            size = {"F16": 2, "BF16": 2, "F64": 8, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}.get(entry["dtype"], 4)
            count = (entry["data_offsets"][1] - entry["data_offsets"][0]) // size
            entry["shape"] = rng.choice((entry["shape"], [count], [1, count], [count, 0], [], [2**40, 2**40]))
            text = json.dumps(header).encode()
            changed = struct.pack("<Q", len(text)) + text + body
    (folder / "model.safetensors").write_bytes(changed)


def mutate_ctranslate2(folder, rng):
    changed = mutated_bytes(MODEL_BIN, rng, among=rng.choice((40, 2000, None)))
    if rng.random() < 0.4:
        tensors = ctranslate2(FLAT)
        name = rng.choice(list(tensors))
        array = tensors.pop(name)
        other = rng.choice((name, "encoder/num_heads", "\x1b]0;", "encoder/layer_9/x"))
        shape = rng.choice((array.shape, (), (3, 2), (*array.shape[:-1], 0)))
        tensors[other] = np.full(shape, rng.choice((np.nan, np.inf, -1, 0, 3, 1e9, 0.5)), np.float32)
        changed = model_bin(tensors, ALIAS | {"alias": rng.choice(list(tensors))})
    (folder / "model.bin").write_bytes(changed)


def mutate_index(folder, rng):
    shards = cycle(["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    index = {"metadata": {}, "weight_map": dict(zip(hugging_face(FLAT), shards))}  # noqa: B905
    (folder / "model.safetensors.index.json").write_bytes(mutated_json(index, rng))


@pytest.mark.parametrize(
    ("mutate", "few"),
    [(mutate_configuration, 100), (mutate_safetensors, 100), (mutate_ctranslate2, 100), (mutate_index, 60)],
)
def test_mutated_checkpoints_load_or_fail_with_a_clear_error(mutate, few, tmp_path, pytestconfig):
    if mutate is mutate_ctranslate2:
        write_bin(tmp_path, ctranslate2(FLAT))
    else:
        write(tmp_path, hugging_face(FLAT), shards=2 if mutate is mutate_index else 1)
    valid = 0
    for number, rng in enumerate(cases(pytestconfig, few, seed=1)):
        mutate(tmp_path, rng)
        valid += check_case(lambda: load(tmp_path, rng), f"case {number}")  # noqa: B023
    assert valid or mutate is mutate_index  # without a valid case, only the first check was tested


def test_mutated_tokenizers_load_or_fail_with_a_clear_error(tmp_path, pytestconfig):
    vocab = made_up_pieces(300)  # few, for speed: their number is checked after their types
    merges = [f"{piece[0]} {piece[1]}" for piece in vocab if len(piece) == 2]
    added = [{"id": token, "content": name} for name, token in special_token_ids(51865).items()][:20]
    values = {"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    folder = tmp_path / "two files"
    folder.mkdir()
    for number, rng in enumerate(cases(pytestconfig, 120, seed=5)):
        kind = rng.random()
        if kind < 0.6:
            (tmp_path / "tokenizer.json").write_bytes(mutated_json(values, rng))
        else:
            (folder / "vocab.json").write_bytes(mutated_json(vocab, rng))
            (folder / "merges.txt").write_bytes(mutated_bytes("\n".join(merges).encode(), rng))
            (folder / "added_tokens.json").write_bytes(mutated_json({"<|endoftext|>": 50257}, rng))
        where = tmp_path if kind < 0.6 else folder
        check_case(lambda: Tokenizer.from_folder(where, 51865), f"case {number}")  # noqa: B023

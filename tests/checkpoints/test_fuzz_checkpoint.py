"""Fuzz tests: loading mutated files of a tiny checkpoint takes little time and memory, and fails with a clear error.

``pytest tests/checkpoints/test_fuzz_checkpoint.py --fuzz 60 -s`` runs each fuzzer for a minute and prints the number of
cases.
"""

import json
import random
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_fuzzing import cases, check_case, mutated_bytes, mutated_json, reset_peak_memory
from hf_checkpoint import SMALL, distinct_weights, hugging_face, safetensors_bytes, write
from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.tokenizer.special_tokens import special_token_ids
from minwhisper.tokenizer.tokenizer import Tokenizer
from test_ctranslate2 import model_bin
from test_load_checkpoint import ALIAS, ctranslate2, write_bin
from vocabularies import made_up_pieces

FLAT = distinct_weights()
CONFIG = asdict(SMALL) | {"activation_function": "gelu", "alignment_heads": [[1, 3], [0, 2]], "begin": [1, 2]}
GENERATION = {"alignment_heads": [[1, 3], [0, 2]], "max_length": 448, "lang_to_id": {"<|en|>": 1}}


@pytest.fixture(autouse=True)
def memory() -> None:
    """Measure the memory of each fuzzer separately."""
    reset_peak_memory()


def load(folder: Path, rng: random.Random) -> None:
    files = find_checkpoint(folder)
    verify_checksums(files)
    load_checkpoint(files, dtype=rng.choice(("float32", "float16", "float64")), strict=rng.random() < 0.5)


def test_mutated_configurations(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    write(tmp_path, hugging_face(FLAT))
    valid = 0
    for number, rng in enumerate(cases(pytestconfig, 150, seed=1)):
        config, generation = json.dumps(CONFIG).encode(), json.dumps(GENERATION).encode()
        if rng.random() < 0.6:
            config = mutated_json(CONFIG, rng)
        else:
            generation = mutated_json(GENERATION, rng)
        (tmp_path / "config.json").write_bytes(config)
        (tmp_path / "generation_config.json").write_bytes(generation)
        valid += check_case(lambda: load(tmp_path, rng), f"case {number}: {config[:200]!r} {generation[:200]!r}")  # noqa: B023
    assert valid  # otherwise only the first check was tested


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def mutated_safetensors(data: bytes, rng: random.Random) -> bytes:
    header, body = header_of(data)
    match rng.randrange(5):
        case 0:
            return mutated_bytes(data, rng, among=len(data) - len(body))
        case 1:
            return mutated_bytes(data, rng)
        case 2:  # a value that is not finite, or large
            place = rng.randrange(len(body) // 4) * 4
            value = struct.pack("<f", rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e6)))
            return data[: len(data) - len(body)] + body[:place] + value + body[place + 4 :]
        case 3:
            text = mutated_json(header, rng)
            return struct.pack("<Q", len(text)) + text + body
        case _:  # another dtype or shape, with the same number of bytes if possible
            name = rng.choice(list(header))
            entry = header[name]
            entry["dtype"] = rng.choice(("F32", "F16", "BF16", "F64", "I8", "U8", "BOOL", "I32", "F8_E4M3", "\x1b"))
            size = {"F16": 2, "BF16": 2, "F64": 8, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}.get(entry["dtype"], 4)
            count = (entry["data_offsets"][1] - entry["data_offsets"][0]) // size
            entry["shape"] = rng.choice((entry["shape"], [count], [1, count], [count, 0], [], [2**40, 2**40]))
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + body


def test_mutated_safetensors(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    write(tmp_path, hugging_face(FLAT))
    valid = 0
    stored = [safetensors_bytes(hugging_face(FLAT), dtype) for dtype in ("float32", "float16", "bfloat16")]
    for number, rng in enumerate(cases(pytestconfig, 150, seed=2)):
        data = mutated_safetensors(rng.choice(stored), rng)
        (tmp_path / "model.safetensors").write_bytes(data)
        valid += check_case(lambda: load(tmp_path, rng), f"case {number}")  # noqa: B023
    assert valid


def test_mutated_index_files(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    write(tmp_path, hugging_face(FLAT), shards=2)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for number, rng in enumerate(cases(pytestconfig, 100, seed=3)):
        text = mutated_json(index, rng)
        path.write_bytes(text)
        check_case(lambda: load(tmp_path, rng), f"case {number}: {text[:200]!r}")  # noqa: B023


def test_mutated_ctranslate2(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    tensors = ctranslate2(FLAT)
    write_bin(tmp_path, tensors)
    data = (tmp_path / "model.bin").read_bytes()
    valid = 0
    for number, rng in enumerate(cases(pytestconfig, 150, seed=4)):
        if rng.random() < 0.4:
            changed = dict(tensors)
            name = rng.choice(list(changed))
            array = changed.pop(name)
            odd = rng.choice((np.nan, np.inf, -1, 0, 3, 1e9, 0.5))
            with np.errstate(all="ignore"):
                changed[rng.choice((name, name, "encoder/num_heads", "\x1b]0;", "encoder/layer_9/x"))] = rng.choice(
                    (np.full_like(array, odd), np.float32(odd), np.full((3, 2), odd, np.float32), array[..., :0].copy())
                    if array.ndim
                    else (np.full((), odd, np.float32), np.full(2, odd, np.float32), np.zeros((0, 5), np.float32))
                )
            aliases = ALIAS | {f"alias{number}": rng.choice(list(tensors)) for number in range(rng.choice((0, 0, 3)))}
            changed_data = model_bin({key: np.asarray(value) for key, value in changed.items()}, aliases)
        else:
            changed_data = mutated_bytes(data, rng, among=rng.choice((40, 2000, None)))
        (tmp_path / "model.bin").write_bytes(changed_data)
        valid += check_case(lambda: load(tmp_path, rng), f"case {number}")  # noqa: B023
    assert valid


def tokenizer_values(count: int) -> dict[str, Any]:
    vocab = made_up_pieces(count)
    merges = [f"{piece[0]} {piece[1]}" for piece in vocab if len(piece) == 2]
    added = [{"id": token, "content": name} for name, token in special_token_ids(51865).items()][:20]
    return {"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab, "merges": merges}}


def test_mutated_tokenizers(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    text = json.dumps(tokenizer_values(50257)).encode()
    few = tokenizer_values(300)  # to be fast: their number is checked after their types
    folder = tmp_path / "two files"
    folder.mkdir()
    merges = "\n".join(few["model"]["merges"]).encode()
    for number, rng in enumerate(cases(pytestconfig, 200, seed=5)):
        kind = rng.random()
        if kind < 0.02:
            (tmp_path / "tokenizer.json").write_bytes(mutated_bytes(text, rng))
        elif kind < 0.6:
            (tmp_path / "tokenizer.json").write_bytes(mutated_json(few, rng))
        else:
            (folder / "vocab.json").write_bytes(mutated_json(few["model"]["vocab"], rng))
            (folder / "merges.txt").write_bytes(mutated_bytes(merges, rng))
            (folder / "added_tokens.json").write_bytes(mutated_json({"<|endoftext|>": 50257}, rng))
        where = tmp_path if kind < 0.6 else folder
        check_case(lambda: Tokenizer.from_folder(where, 51865), f"case {number}")  # noqa: B023

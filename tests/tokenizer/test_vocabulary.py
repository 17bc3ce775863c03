"""The files of a vocabulary: their formats, and the errors for damaged files and those of other models."""

import json
import re
from pathlib import Path

import pytest

from minwhisper.errors import TokenizerError
from minwhisper.tokenizer.special_tokens import special_token_ids
from minwhisper.tokenizer.tokenizer import Tokenizer
from vocabularies import made_up_pieces, made_up_tokenizer


def write_tokenizer_json(folder: Path, vocab, merges, added=()):
    values = {"model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    values["added_tokens"] = [{"id": token, "content": name, "special": True} for name, token in added]
    (folder / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")


def write_two_files(folder: Path, vocab, merges, added=()):
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join([*merges, ""]), encoding="utf-8")
    if added:
        (folder / "added_tokens.json").write_text(json.dumps(dict(added)), encoding="utf-8")


def made_up_files():
    vocab = made_up_pieces(50257)
    return vocab, [f"{piece[0]} {piece[1]}" for piece in vocab if len(piece) == 2]


@pytest.mark.parametrize("form", ["strings", "pairs", "two files"])
def test_every_file_format_gives_the_same_vocabulary(tmp_path, form):
    vocab, merges = made_up_files()
    if form == "two files":
        write_two_files(tmp_path, vocab | {"<|endoftext|>": 50257}, ["#version: 0.2", *merges])
    else:
        pairs = [merge.split(" ") for merge in merges] if form == "pairs" else merges
        write_tokenizer_json(tmp_path, vocab, pairs, [("<|endoftext|>", 50257), ("<|0.00|>", 50364)])
        write_two_files(tmp_path, {}, ["not read if there is a tokenizer.json"])
    read, expected = Tokenizer.from_folder(tmp_path, 51865), made_up_tokenizer(51865)
    assert read.encode("Hello, wörld") == expected.encode("Hello, wörld")
    assert read.special_tokens == expected.special_tokens


def test_former_names_of_special_tokens_are_accepted(tmp_path):
    layout = special_token_ids(51865)
    former = [("<|nocaptions|>", layout["<|nospeech|>"]), ("<|iw|>", layout["<|he|>"])]
    write_tokenizer_json(tmp_path, *made_up_files(), former)
    assert Tokenizer.from_folder(tmp_path, 51865).special_tokens == layout


def test_an_empty_piece_decodes_to_nothing():
    vocab = made_up_pieces(50256) | {"": 50256}
    t = Tokenizer(vocab, 51865)
    assert t.decode([50256]) == ""
    assert t.name(50256) == ""
    assert [*t.decode_stream([50256, *t.encode("a"), 50256])] == ["a"]


def test_a_missing_folder_or_file_is_an_error(tmp_path):
    with pytest.raises(TokenizerError, match=r"nowhere: expected tokenizer\.json, or vocab\.json.*no such folder"):
        Tokenizer.from_folder(tmp_path / "nowhere", 51865)
    (tmp_path / "vocab.json").write_text("{}")  # without its merges
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json, or vocab\.json and merges\.txt.*neither"):
        Tokenizer.from_folder(tmp_path, 51865)


def test_a_damaged_file_is_an_error(tmp_path):
    for content, message in (
        (b'{"model": {"vocab": {"a": 0', "cannot be read as JSON.*complete"),
        (
            b'{"model": {"vocab": {}, "merges": []}, "added_tokens": [{"content": "\\u001b]0;", "id": [1]}]}',
            r"\\x1b\]0; is token \[1\]",
        ),
        (b"{}", "expected model.vocab.*KeyError: 'model'"),
        (b'{"model": {"vocab": {}, "merges": ["a b", 1]}}', "expected model.vocab.*TypeError"),
        (b'{"model": {"vocab": {"a": 0}, "merges": []}}', "expected 50257 text pieces.*the file has 1"),
        (b'{"model": {"vocab": [], "merges": []}}', "expected model.vocab"),
    ):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(TokenizerError, match=rf"tokenizer\.json: .*{message}"):
            Tokenizer.from_folder(tmp_path, 51865)


def test_a_wrong_id_of_a_special_token_is_an_error(tmp_path):
    for name, token, place in (
        ("<|endoftext|>", 50256, "51865 tokens has it at 50257.*another model"),
        ("<|yue|>", 50358, "has no such token"),
        ("<|nocaptions|>", 50363, "has it at 50362"),
    ):
        write_two_files(tmp_path, *made_up_files(), [(name, token)])
        problem = re.escape(f"vocab.json and merges.txt: {name} is token {token}, ") + f".*{place}"
        with pytest.raises(TokenizerError, match=problem):
            Tokenizer.from_folder(tmp_path, 51865)


def test_invalid_pieces_are_an_error():
    good = made_up_pieces(50257)
    (last, token) = [*good.items()][-1]
    rest = {piece: i for piece, i in good.items() if piece not in (last, "A")}
    for changed, message in (
        ({last: token - 1, "A": good["A"]}, "gaps"),
        ({last: [token], "A": good["A"]}, "gaps"),
        ({"日本": token, "A": good["A"]}, "other characters"),
        ({last: token, "AAA": good["A"]}, "no piece 'A'"),
    ):
        vocab = rest | changed
        with pytest.raises(TokenizerError, match=f"some file: .*{message}"):
            Tokenizer(vocab, 51865, source="some file")


def test_invalid_merges_are_an_error(tmp_path):
    vocab = made_up_pieces(50257)
    write_tokenizer_json(tmp_path, vocab, [["x", "yz"]])
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: a merge results in 'xyz'"):
        Tokenizer.from_folder(tmp_path, 51865)
    pieces = [piece for piece in vocab if len(piece) == 2]
    Tokenizer(vocab, 51865, merges=pieces[5:])  # missing merges are accepted
    with pytest.raises(TokenizerError, match="some file: token 256 is merged after token 257"):
        Tokenizer(vocab, 51865, merges=[pieces[1], pieces[0]], source="some file")

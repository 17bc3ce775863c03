"""The decoder on a CPU equals the readable one, alone and in batches, and its cache is immutable."""

from dataclasses import replace

import numpy as np
import pytest

from engine_pair import CachePair, EnginePair, assert_close, lively_weights
from inputs import SMALL
from minwhisper.errors import ShapeError
from minwhisper.fast.cpu.cache import GROWTH
from minwhisper.fast.cpu.decoder import PROMPT_TILE
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity.comparison import relative_difference

BOUND = 1e-5  # over all blocks
# Products sum over more terms than one block has, and not over a whole number of blocks.
CONFIG = replace(SMALL, vocab_size=500, d_model=160, decoder_ffn_dim=300)


@pytest.fixture(scope="module")
def engines() -> EnginePair:
    weights = lively_weights(CONFIG, 3)
    return EnginePair(CpuEngine(weights, CONFIG, threads=2), PlainEngine(weights, CONFIG), BOUND)


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    """Return the features of three windows, (1, T, D) each."""
    return [*np.random.default_rng(0).standard_normal((3, 1, 1500, CONFIG.d_model), np.float32)]


@pytest.fixture(scope="module")
def text() -> list[int]:
    return np.random.default_rng(1).integers(0, CONFIG.vocab_size, 500).tolist()


@pytest.fixture
def begun(engines, features, text):
    """Return a function that returns the caches of the first window after a number of tokens."""

    def begin(length: int, rows: int = 1) -> CachePair:
        return engines.step([text[:length]], engines.new_cache(features[0]), []).reorder([0] * rows)

    return begin


def kv_of(cache) -> list[np.ndarray]:
    """Return copies of the self-attention keys and values of a cache's sequences."""
    return [
        part.copy()
        for pair in cache.self_attention.blocks
        for part in (pair.keys[..., : cache.length], pair.values[:, :, : cache.length])
    ]


def equal(before, after) -> bool:
    return all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


# --- One window


def test_cross_attention_keys_and_values_equal_the_readable_ones(engines, features):
    for positions in (1, 125, 126, 1500):
        caches = engines.new_cache(features[0][:, :positions])
        assert (caches.ours.rows, caches.ours.length) == (1, 0)
        for ours, theirs in zip(caches.ours.cross_attention, caches.theirs.cross_attention, strict=True):
            assert relative_difference(ours.keys, theirs.keys[0]) <= 1e-6
            assert relative_difference(ours.values, theirs.values[0]) <= 1e-6


PIECES = {  # number of sequences, and of tokens per call
    "token by token, past two ends of the buffers": (1, [1] * (2 * GROWTH + 3)),
    "a prompt of two tiles and a step": (1, [PROMPT_TILE + 1, 1]),
    "prompts that fill the context": (1, [PROMPT_TILE, 448 - PROMPT_TILE]),
    "a prompt across the end of the buffers": (1, [60, 10, 60]),
    "a few rows of several sequences": (5, [4, 2, 1]),
    "many rows of several sequences": (3, [6, 65, 1]),
}


@pytest.mark.parametrize(("sequences", "pieces"), PIECES.values(), ids=PIECES)
def test_tokens_in_pieces_equal_the_readable_decoder_on_all_of_them(engines, features, text, sequences, pieces):
    tokens = np.array([text[first : first + sum(pieces)] for first in range(sequences)])
    start, found = engines.new_cache(features[0]).reorder([0] * sequences), []
    cache = start.ours
    for piece in np.split(tokens, np.cumsum(pieces[:-1]), axis=1):
        [(logits, cache)] = engines.ours.decode_batch([DecoderInput(piece.tolist(), cache)])
        found.append(logits)
    assert (cache.rows, cache.length) == (sequences, sum(pieces))
    [(expected, _)] = engines.theirs.decode_batch([DecoderInput(tokens.tolist(), start.theirs)])
    assert_close(np.concatenate(found, axis=1), expected, BOUND)


@pytest.mark.parametrize(("length", "wanted"), [(5, [0]), (100, [0, -1]), (5, [4, 2, 2]), (100, [])], ids=str)
def test_logits_of_the_wanted_positions_equal_the_readable_ones(begun, engines, text, wanted, length):
    engines.step([text[:length], text[1 : length + 1]], begun(4, rows=2), wanted)


def test_sequences_may_fork_repeat_and_end(begun, engines, text):
    caches = begun(GROWTH - 3)  # the buffers have room for the first steps
    for step, rows in enumerate(([0] * 5, [0, 1, 2, 3, 4], [4, 2, 2, 0], [1, 1, 3], [2, 0], [1], [0] * 9)):
        different = [[text[100 + step + 7 * row]] for row in range(len(rows))]
        caches = engines.step(different, caches.reorder(rows))


# --- Several windows


def test_prompts_and_steps_of_several_windows_can_share_a_batch(engines, features, text):
    starts = [(text[:6], 3, 0), (text[:64], 1, 1), (text[:2], 2, 2), (text[:4], 1, 0)]  # tokens, sequences, window
    caches = [
        engines.step([tokens], engines.new_cache(features[window])).reorder([0] * sequences)
        for tokens, sequences, window in starts
    ]
    for lengths, wanted in (([1] * 4, [None] * 4), ([1, 100, 1, 5], [None, [99], [0], [0, 4]]), ([1] * 4, [None] * 4)):
        feeds = [
            ([text[100 + 5 * row : 100 + 5 * row + length] for row in range(pair.ours.rows)], pair, some)
            for length, pair, some in zip(lengths, caches, wanted, strict=True)
        ]
        engines.decode(*reversed(feeds))  # the order does not matter
        caches = engines.decode(*feeds)
    assert [pair.ours.length for pair in caches] == [9, 166, 5, 11]


# --- The cache is immutable


@pytest.mark.parametrize(("length", "count"), [(3, 70), (GROWTH, 1)])
def test_continuations_of_a_cache_change_neither_it_nor_each_other(begun, engines, text, length, count):
    caches = begun(length)
    before = kv_of(caches.ours)
    continuations = [[text[start : start + count]] for start in (length, 120, 200)]
    continued = [engines.step(tokens, caches) for tokens in continuations]
    assert equal(before, kv_of(caches.ours))
    assert caches.ours.length == length
    kept = [kv_of(longer.ours) for longer in continued]
    for longer, its in zip(continued, kept, strict=True):
        engines.step([[11]], longer)
        assert equal(its, kv_of(longer.ours))
    engines.step(continuations[0], caches)
    for longer in engines.decode(([[11]], caches), ([[13]], caches), ([[11]], caches)):  # in one batch
        engines.step([[290]], longer)


def test_reorder_leaves_the_cache_and_shares_the_window(begun, engines):
    caches = engines.step([[11], [13], [290], [257]], begun(5, rows=4))
    cache, before = caches.ours, kv_of(caches.ours)
    reordered = cache.reorder([2, 2])
    assert equal([array[[2, 2]] for array in before], kv_of(reordered))
    engines.ours.decode_batch([DecoderInput([[11], [13]], reordered)])
    assert equal(before, kv_of(cache))
    assert reordered.cross_attention is cache.cross_attention
    assert cache.reorder(range(4)) is cache  # nothing is copied
    assert cache.reorder([0, 1]) is not cache


# --- Errors


@pytest.mark.parametrize(
    "tokens", [[[1]] * 3, [[1, 2, 3]], [[[1]]], [[1] * 444] * 2], ids=["rows", "row", "deep", "more than 448"]
)
def test_invalid_tokens_are_rejected_and_leave_the_cache_unchanged(begun, engines, tokens):
    caches = begun(5, rows=2)
    with pytest.raises(ShapeError) as expected:
        engines.theirs.decode_batch([DecoderInput(tokens, caches.theirs)])
    valid, invalid = DecoderInput([[11], [13]], caches.ours), DecoderInput(tokens, caches.ours)
    for batch in ([invalid], [valid, invalid]):
        with pytest.raises(ShapeError) as raised:
            engines.ours.decode_batch(batch)
        assert str(raised.value) == str(expected.value)
    engines.step([[11], [13]], caches)  # the cache is unchanged

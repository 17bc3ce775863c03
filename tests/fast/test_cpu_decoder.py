"""The fast decoder equals the readable one with a cache, alone and in batches, and its cache is a value."""

from typing import NamedTuple

import numpy as np
import pytest

from minwhisper.errors import ShapeError
from minwhisper.fast.cpu import decoder as cpu_decoder
from minwhisper.fast.cpu.cache import GROWTH
from minwhisper.fast.cpu.decoder import PROMPT_TILE, DecoderWeights, decode_batch, decode_cached, new_cache
from minwhisper.fast.cpu.threads import Pool
from minwhisper.model import decoder
from minwhisper.model.engine import DecoderInput
from minwhisper.parity.comparison import relative_difference, window_mel

BLOCK = 1e-6
# Over all blocks. On these repetitive texts both decoders are up to 6e-6 from float64, though blocks differ by less
# than 1e-6. The bound shows that both attend to the same positions.
STACK = 3e-5
CLIPS = ["jfk.flac", "LJ001-0001.wav", "LJ001-0003.wav"]


class Readable(NamedTuple):
    """The readable decoder, with the interface of the fast one."""

    model: object

    def begin(self, features):
        return decoder.new_cache(features, self.model.weights["decoder"], self.model.config)

    def feed(self, tokens, cache, wanted=None):
        return decoder.decode_cached(
            np.asarray(tokens), cache, self.model.weights["decoder"], self.model.config, wanted
        )


class Fast(NamedTuple):
    """The fast decoder."""

    model: object
    weights: DecoderWeights
    pool: Pool

    def begin(self, features):
        return new_cache(features, self.weights, self.model.config, self.pool)

    def feed(self, tokens, cache, wanted=None):
        return decode_cached(DecoderInput(tokens, cache, wanted), self.weights, self.model.config, self.pool)

    def batch(self, *feeds):
        return decode_batch([DecoderInput(*feed) for feed in feeds], self.weights, self.model.config, self.pool)


@pytest.fixture(scope="module")
def plain(tiny_en) -> Readable:
    return Readable(tiny_en)


@pytest.fixture(scope="module")
def fast(tiny_en) -> Fast:
    return Fast(tiny_en, DecoderWeights.of(tiny_en.weights["decoder"]), Pool(2))


@pytest.fixture(scope="module")
def features(tiny_en, speech) -> list[np.ndarray]:
    """Return those of three windows, (1, T, D) each."""
    return [tiny_en.encode(window_mel(speech[clip], 80)) for clip in CLIPS]


@pytest.fixture(scope="module")
def text(tiny_en) -> list[int]:
    """Return more tokens than fit into the decoder: a prompt, then English."""
    words = (
        " And so, my fellow Americans, ask not what your country can do for you; ask what you can do for your country."
        " Printing, in the only sense with which we are at present concerned, differs from most if not from all the"
        " arts and crafts represented in the Exhibition."
    )
    prompt = tiny_en.tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    return [*prompt, *(tiny_en.tokenizer.encode(words) * 12)][:500]


def same(ours, theirs, bound=STACK) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    assert relative_difference(ours, theirs) <= bound
    for row, other in zip(ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, ours.shape[-1]), strict=True):
        assert relative_difference(row, other) <= 1e-4  # a position that attended elsewhere would differ more


def kv_of(cache) -> list[np.ndarray]:
    """Return copies of the keys and values of a cache's sequences."""
    return [
        part.copy()
        for pair in cache.self_attention.blocks
        for part in (pair.keys[..., : cache.length], pair.values[:, :, : cache.length])
    ]


# --- Parts


@pytest.mark.parametrize("positions", [1, 100, 125, 126, 1500])
def test_keys_and_values_of_the_window(plain, fast, features, positions):
    window = features[0][:, :positions]
    ours, theirs = fast.begin(window), plain.begin(window)
    assert (ours.rows, ours.length) == (1, 0)
    for (keys, values), expected in zip(ours.cross_attention, theirs.cross_attention, strict=True):
        assert relative_difference(keys, expected.keys[0]) <= BLOCK
        assert relative_difference(values, expected.values[0]) <= BLOCK


@pytest.mark.parametrize(
    ("sequences", "length", "past"),
    [(1, 1, 0), (1, 1, 6), (3, 1, 6), (1, 8, 0), (1, 9, 6), (3, 5, 0), (1, 64, 0), (1, 65, 6), (1, 130, 0), (3, 65, 6)],
)
def test_every_block(tiny_en, plain, fast, features, text, sequences, length, past):
    config, weights = tiny_en.config, tiny_en.weights["decoder"]
    heads = config.decoder_attention_heads
    tokens = np.array([text[number : number + past + length] for number in range(sequences)])
    ours, theirs = fast.begin(features[0]).reorder([0] * sequences), plain.begin(features[0]).reorder([0] * sequences)
    x = decoder.embed(tokens, weights, np.float32)
    for number, block in enumerate(weights["blocks"]):
        own, cache, after = theirs.self_attention[number], ours, []
        for start, stop in ((0, past), (past, past + length)):
            if start == stop:
                continue
            new = x[:, start:stop]
            expected, own, _ = decoder.decoder_block(new, own, theirs.cross_attention[number], block, heads)
            cache = cache.extend(stop - start)
            mine = new.reshape(-1, config.d_model).copy()
            rows = slice(0, len(mine))
            part = cpu_decoder.BatchItem(cache, rows, (sequences, stop - start), [])
            cpu_decoder.decoder_block(mine, number, [part], fast.weights.blocks[number], heads, fast.pool)
            assert relative_difference(mine.reshape(expected.shape), expected) <= BLOCK
            keys, values = cache.self_attention.blocks[number]
            assert relative_difference(keys[..., :stop], own.keys) <= BLOCK
            assert relative_difference(values[:, :, :stop], own.values) <= BLOCK
            after.append(expected)
        x = np.concatenate(after, axis=1)


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 40])
def test_unembed(tiny_en, fast, plain, features, text, rows):
    weights = tiny_en.weights["decoder"]
    x = decoder.embed(np.array([text[:rows]]), weights, np.float32)
    expected = decoder.unembed(x, weights)[0]
    assert relative_difference(cpu_decoder.unembed(x[0].copy(), fast.weights, fast.pool), expected) <= BLOCK


# --- One sequence


@pytest.mark.parametrize(
    ("length", "positions"), [(1, 1500), (5, 1500), (PROMPT_TILE, 130), (PROMPT_TILE + 1, 1500), (448, 1500)]
)
def test_a_prompt_and_a_step_after_it(plain, fast, features, text, length, positions):
    window = features[0][:, :positions]
    ours, cache = fast.feed([text[:length]], fast.begin(window))
    theirs, expected = plain.feed([text[:length]], plain.begin(window))
    same(ours, theirs)
    assert (cache.rows, cache.length) == (1, length)
    if length < 448:
        new = [text[length : length + 1]]
        same(fast.feed(new, cache)[0], plain.feed(new, expected)[0])


def test_steps_equal_a_prompt(plain, fast, features, text):
    """Token by token, past two ends of the buffers."""
    count = 2 * GROWTH + 3
    theirs, _ = plain.feed([text[:count]], plain.begin(features[0]))
    cache, ours = fast.begin(features[0]), []
    for token in text[:count]:
        logits, cache = fast.feed([[token]], cache)
        ours.append(logits)
    assert cache.length == count
    same(np.concatenate(ours, axis=1), theirs)


@pytest.mark.parametrize("cuts", [[3, 64, 65], [60, 10, 60], [1, 100, 2], [63, 1, 1]], ids=str)
def test_prompts_in_pieces_equal_one_prompt(plain, fast, features, text, cuts):
    theirs, _ = plain.feed([text[: sum(cuts)]], plain.begin(features[0]))
    cache, ours, start = fast.begin(features[0]), [], 0
    for count in cuts:
        logits, cache = fast.feed([text[start : start + count]], cache)
        ours.append(logits)
        start += count
    same(np.concatenate(ours, axis=1), theirs)


@pytest.mark.parametrize("wanted", [[0], [-1], [0, -1], [4, 2, 2], []], ids=str)
@pytest.mark.parametrize("length", [5, 100])
def test_logits_of_wanted_positions(plain, fast, features, text, wanted, length):
    tokens = [text[:length], text[1 : length + 1]]
    ours, cache = fast.feed(tokens, fast.begin(features[0]).reorder([0, 0]), wanted)
    theirs, _ = plain.feed(tokens, plain.begin(features[0]).reorder([0, 0]), wanted)
    assert ours.shape == (2, len(wanted), 51864)
    if wanted:
        same(ours, theirs)
    assert cache.length == length


# --- Several sequences


@pytest.mark.parametrize("length", [5, 100])
def test_sequences_that_fork_repeat_and_end(plain, fast, features, text, length):
    _, ours = fast.feed([text[:length]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:length]], plain.begin(features[0]))
    token = length
    for rows in ([0] * 5, [0, 1, 2, 3, 4], [4, 2, 2, 0], [1, 1, 3], [2, 0], [1], [0] * 9):
        ours, theirs = ours.reorder(rows), theirs.reorder(rows)
        assert ours.rows == len(rows)
        assert ours.length == theirs.length
        new = [[text[token + 7 * row]] for row in range(len(rows))]  # a different token for each
        mine, ours = fast.feed(new, ours)
        expected, theirs = plain.feed(new, theirs)
        same(mine, expected)
        token += 1


@pytest.mark.parametrize("sequences", [2, 5])
@pytest.mark.parametrize("length", [2, 40, 100])
def test_prompts_of_several_sequences(plain, fast, features, text, sequences, length):
    _, ours = fast.feed([text[:4]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:4]], plain.begin(features[0]))
    tokens = [text[4 + row : 4 + row + length] for row in range(sequences)]
    same(fast.feed(tokens, ours.reorder([0] * sequences))[0], plain.feed(tokens, theirs.reorder([0] * sequences))[0])


# --- Several windows


def test_windows_with_sequences_of_different_lengths(plain, fast, features, text):
    starts = [text[:3], text[:70], text[:12]]
    rows = [[0, 0, 0], [0], [0, 0]]
    ours, theirs = [], []
    for start, window, row in zip(starts, features, rows, strict=True):
        ours.append(fast.feed([start], fast.begin(window))[1].reorder(row))
        theirs.append(plain.feed([start], plain.begin(window))[1].reorder(row))
    for step in range(4):
        new = [[[text[80 + step + 5 * row]] for row in range(cache.rows)] for cache in ours]
        found = fast.batch(*zip(new, ours, strict=True))
        expected = [plain.feed(tokens, cache) for tokens, cache in zip(new, theirs, strict=True)]
        for (mine, _), (other, _) in zip(found, expected, strict=True):
            same(mine, other)
        ours, theirs = [cache for _, cache in found], [cache for _, cache in expected]
    assert [cache.length for cache in ours] == [7, 74, 16]


def test_prompts_and_steps_in_one_batch(plain, fast, features, text):
    lengths, wanted = [1, 100, 1, 5, 1], [None, [99], [0], [0, 4], None]
    windows = [features[number % 3] for number in range(5)]
    past = [text[:6], [], text[:2], text[:4], text[:64]]
    feeds, expected = [], []
    for length, want, window, before in zip(lengths, wanted, windows, past, strict=True):
        ours, theirs = fast.begin(window), plain.begin(window)
        if before:
            ours, theirs = fast.feed([before], ours)[1], plain.feed([before], theirs)[1]
        new = [text[100 : 100 + length]]
        feeds.append((new, ours, want))
        expected.append(plain.feed(new, theirs, want)[0])
    found = fast.batch(*feeds)
    for (mine, cache), theirs, feed in zip(found, expected, feeds, strict=True):
        same(mine, theirs)
        assert cache.length == feed[1].length + len(feed[0][0])
    again = [mine for mine, _ in fast.batch(*reversed(feeds))]
    for mine, theirs in zip(reversed(again), expected, strict=True):
        same(mine, theirs)


def test_an_empty_batch(fast):
    with pytest.raises(ValueError, match=r"at least one|need"):
        fast.batch()


# --- The cache is a value


@pytest.mark.parametrize(("length", "count"), [(3, 1), (3, 70), (GROWTH - 1, 2), (GROWTH, 1), (GROWTH + 1, 2)])
def test_caches_that_continue_the_same_one(plain, fast, features, text, length, count):
    _, cache = fast.feed([text[:length]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:length]], plain.begin(features[0]))
    before = kv_of(cache)
    continuations = [[text[start : start + count]] for start in (length, 120, 200)]
    found = [fast.feed(continuation, cache) for continuation in continuations]
    assert all(np.array_equal(old, new) for old, new in zip(before, kv_of(cache), strict=True))
    assert cache.length == length
    after = [kv_of(longer) for _, longer in found]
    for continuation, (logits, longer), kept in zip(continuations, found, after, strict=True):
        expected, follower = plain.feed(continuation, theirs)
        same(logits, expected)
        assert longer.length == length + count
        same(fast.feed([[11]], longer)[0], plain.feed([[11]], follower)[0])
        assert all(np.array_equal(old, new) for old, new in zip(kept, kv_of(longer), strict=True))
    assert np.array_equal(fast.feed(continuations[0], cache)[0], found[0][0])


def test_the_same_cache_twice_in_one_batch(plain, fast, features, text):
    _, cache = fast.feed([text[:5]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:5]], plain.begin(features[0]))
    found = fast.batch(([[11]], cache), ([[13]], cache), ([[11]], cache))
    for token, (logits, longer) in zip((11, 13, 11), found, strict=True):
        expected, follower = plain.feed([[token]], theirs)
        same(logits, expected)
        same(fast.feed([[290]], longer)[0], plain.feed([[290]], follower)[0])


def test_reorder_leaves_the_cache_and_shares_the_window(fast, features, text):
    _, cache = fast.feed([[token] for token in text[5:9]], fast.begin(features[0]).reorder([0] * 4))
    before = kv_of(cache)
    reordered = cache.reorder([2, 2])
    fast.feed([[11], [13]], reordered)
    assert all(np.array_equal(old, new) for old, new in zip(before, kv_of(cache), strict=True))
    assert cache.reorder([0, 1, 2, 3]) is cache
    assert cache.reorder(range(4)) is cache
    assert cache.reorder([0, 1]) is not cache
    assert reordered.cross_attention is cache.cross_attention
    for old, new in zip(before, kv_of(reordered), strict=True):
        assert np.array_equal(new, old[[2, 2]])


# --- Errors


@pytest.mark.parametrize(
    "tokens", [[[1]] * 3, [[1, 2, 3]], [[[1]]], [[1] * 444] * 2], ids=["rows", "row", "deep", "long"]
)
def test_invalid_tokens(plain, fast, features, text, tokens):
    _, ours = fast.feed([text[:5]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:5]], plain.begin(features[0]))
    with pytest.raises(ShapeError) as expected:
        plain.feed(tokens, theirs.reorder([0, 0]))
    for feeds in ([(tokens, ours.reorder([0, 0]))], [([[11]], ours), (tokens, ours.reorder([0, 0]))]):
        with pytest.raises(ShapeError) as raised:
            fast.batch(*feeds)
        assert str(raised.value) == str(expected.value)
    same(fast.feed([[11]], ours)[0], plain.feed([[11]], theirs)[0])  # the cache is unchanged


def test_at_most_448_tokens(fast, features, text):
    _, cache = fast.feed([text[:447]], fast.begin(features[0]), [])
    _, full = fast.feed([[11]], cache)
    assert full.length == 448
    with pytest.raises(ShapeError, match=r"at most 448 positions\), got \(1, 1\) after 448 earlier"):
        fast.feed([[11]], full)


# --- Threads


def test_threads_change_no_bit(tiny_en, fast, features, text):
    def everything(pool):
        engine = fast._replace(pool=pool)
        first, cache = engine.feed([text[:100]], engine.begin(features[0]))
        second, forked = engine.feed([[11], [13], [290], [257], [11]], cache.reorder([0] * 5))
        third, other = engine.feed([text[:5]], engine.begin(features[1]))
        batch = engine.batch(([[290]], other), ([[token] for token in text[5:10]], forked), ([[11]], cache))
        return [first, second, third, *(logits for logits, _ in batch)]

    expected = everything(Pool(1))
    for threads in (1, 2, 4):
        pool = Pool(threads)
        for _ in range(2):
            assert all(np.array_equal(a, b) for a, b in zip(everything(pool), expected, strict=True))

"""The decoder for speed against the readable one with a cache, alone and together; and its cache is a value."""

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
# Of all blocks together: on these texts, which say one thing many times, either way of computing is up to 6e-6 from
# float64 (tiny.en) and 2e-5 (base), though blocks differ by less than 1e-6. It shows that the same things were seen.
STACK = 3e-5
CLIPS = ["jfk.flac", "LJ001-0001.wav", "LJ001-0003.wav"]


class Readable(NamedTuple):
    """The decoder that is stood for, with the interface of ours."""

    model: object

    def begin(self, features):
        return decoder.new_cache(features, self.model.weights["decoder"], self.model.config)

    def feed(self, tokens, cache, wanted=None):
        return decoder.decode_cached(
            np.asarray(tokens), cache, self.model.weights["decoder"], self.model.config, wanted
        )


class Fast(NamedTuple):
    """Ours."""

    model: object
    weights: DecoderWeights
    pool: Pool

    def begin(self, features):
        return new_cache(features, self.weights, self.model.config, self.pool)

    def feed(self, tokens, cache, wanted=None):
        return decode_cached(DecoderInput(tokens, cache, wanted), self.weights, self.model.config, self.pool)

    def together(self, *feeds):
        return decode_batch([DecoderInput(*feed) for feed in feeds], self.weights, self.model.config, self.pool)


@pytest.fixture(scope="module")
def plain(tiny_en) -> Readable:
    return Readable(tiny_en)


@pytest.fixture(scope="module")
def fast(tiny_en) -> Fast:
    return Fast(tiny_en, DecoderWeights.of(tiny_en.weights["decoder"]), Pool(2))


@pytest.fixture(scope="module")
def features(tiny_en, speech) -> list[np.ndarray]:
    """Those of three windows, (1, T, D) each."""
    return [tiny_en.encode(window_mel(speech[clip], 80)) for clip in CLIPS]


@pytest.fixture(scope="module")
def text(tiny_en) -> list[int]:
    """More tokens of a prompt than fit: what begins a window, then English."""
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
        assert relative_difference(row, other) <= 1e-4  # a position that saw something else would be far off


def held(cache) -> list[np.ndarray]:
    """Copies of the keys and values of the text so far: those that belong to this cache."""
    return [
        part.copy()
        for pair in cache.self_attention.blocks
        for part in (pair.keys[..., : cache.length], pair.values[:, :, : cache.length])
    ]


# --- Its parts


@pytest.mark.parametrize("positions", [1, 100, 125, 126, 1500])
def test_keys_and_values_of_the_sound(plain, fast, features, positions):
    sound = features[0][:, :positions]
    ours, theirs = fast.begin(sound), plain.begin(sound)
    assert (ours.rows, ours.length) == (1, 0)
    for (keys, values), expected in zip(ours.cross_attention, theirs.cross_attention, strict=True):
        assert relative_difference(keys, expected.keys[0]) <= BLOCK
        assert relative_difference(values, expected.values[0]) <= BLOCK


@pytest.mark.parametrize(
    ("texts", "length", "past"),
    [(1, 1, 0), (1, 1, 6), (3, 1, 6), (1, 8, 0), (1, 9, 6), (3, 5, 0), (1, 64, 0), (1, 65, 6), (1, 130, 0), (3, 65, 6)],
)
def test_every_block(tiny_en, plain, fast, features, text, texts, length, past):
    config, weights = tiny_en.config, tiny_en.weights["decoder"]
    heads = config.decoder_attention_heads
    tokens = np.array([text[number : number + past + length] for number in range(texts)])
    ours, theirs = fast.begin(features[0]).reorder([0] * texts), plain.begin(features[0]).reorder([0] * texts)
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
            part = cpu_decoder.BatchItem(cache, rows, (texts, stop - start), [])
            cpu_decoder.decoder_block(mine, number, [part], fast.weights.blocks[number], heads, fast.pool)
            assert relative_difference(mine.reshape(expected.shape), expected) <= BLOCK
            keys, values = cache.self_attention.blocks[number]
            assert relative_difference(keys[..., :stop], own.keys) <= BLOCK
            assert relative_difference(values[:, :, :stop], own.values) <= BLOCK
            after.append(expected)
        x = np.concatenate(after, axis=1)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8, 9, 40])
def test_the_projection(tiny_en, fast, plain, features, text, rows):
    weights = tiny_en.weights["decoder"]
    x = decoder.embed(np.array([text[:rows]]), weights, np.float32)
    expected = decoder.unembed(x, weights)[0]
    assert relative_difference(cpu_decoder.unembed(x[0].copy(), fast.weights, fast.pool), expected) <= BLOCK


# --- One text


@pytest.mark.parametrize("length", [1, 5, PROMPT_TILE, PROMPT_TILE + 1, 100, 224, 448])
def test_a_prompt_and_a_step_after_it(plain, fast, features, text, length):
    ours, cache = fast.feed([text[:length]], fast.begin(features[0]))
    theirs, expected = plain.feed([text[:length]], plain.begin(features[0]))
    same(ours, theirs)
    assert (cache.rows, cache.length) == (1, length)
    if length < 448:
        same(fast.feed([text[length : length + 1]], cache)[0], plain.feed([text[length : length + 1]], expected)[0])


def test_a_prompt_with_base(base, speech, text):
    weights = DecoderWeights.of(base.weights["decoder"])
    plain, fast = Readable(base), Fast(base, weights, Pool(2))
    features = base.encode(window_mel(speech["jfk.flac"], 80))
    prompt = [*base.tokenizer.sot_sequence("en", "transcribe", timestamps=True), *text[4:74]]
    ours, cache = fast.feed([prompt], fast.begin(features))
    theirs, expected = plain.feed([prompt], plain.begin(features))
    same(ours, theirs)
    same(fast.feed([[11]], cache)[0], plain.feed([[11]], expected)[0])


def test_steps_say_what_a_prompt_says(plain, fast, features, text):
    """Token by token past two ends of the buffers."""
    count = 2 * GROWTH + 3
    theirs, _ = plain.feed([text[:count]], plain.begin(features[0]))
    cache, ours = fast.begin(features[0]), []
    for token in text[:count]:
        logits, cache = fast.feed([[token]], cache)
        ours.append(logits)
    assert cache.length == count
    same(np.concatenate(ours, axis=1), theirs)


@pytest.mark.parametrize("cuts", [[3, 64, 65], [60, 10, 60], [64, 64, 1], [1, 100, 2], [63, 1, 1]], ids=str)
def test_however_a_text_is_cut(plain, fast, features, text, cuts):
    theirs, _ = plain.feed([text[: sum(cuts)]], plain.begin(features[0]))
    cache, ours, start = fast.begin(features[0]), [], 0
    for count in cuts:
        logits, cache = fast.feed([text[start : start + count]], cache)
        ours.append(logits)
        start += count
    same(np.concatenate(ours, axis=1), theirs)


@pytest.mark.parametrize("wanted", [[0], [-1], [0, -1], [4, 2, 2], []], ids=str)
@pytest.mark.parametrize("length", [5, 100])
def test_logits_where_they_are_wanted(plain, fast, features, text, wanted, length):
    tokens = [text[:length], text[1 : length + 1]]
    ours, cache = fast.feed(tokens, fast.begin(features[0]).reorder([0, 0]), wanted)
    theirs, _ = plain.feed(tokens, plain.begin(features[0]).reorder([0, 0]), wanted)
    assert ours.shape == (2, len(wanted), 51864)
    if wanted:
        same(ours, theirs)
    assert cache.length == length


def test_half_a_window(plain, fast, features, text):
    sound = features[0][:, :130]
    same(fast.feed([text[:70]], fast.begin(sound))[0], plain.feed([text[:70]], plain.begin(sound))[0])


# --- Several texts


@pytest.mark.parametrize("length", [5, 100])
def test_texts_that_fork_end_and_repeat(plain, fast, features, text, length):
    _, ours = fast.feed([text[:length]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:length]], plain.begin(features[0]))
    token = length
    for rows in ([0] * 5, [0, 1, 2, 3, 4], [4, 2, 2, 0], [1, 1, 3], [2, 0], [1], [0] * 9):
        ours, theirs = ours.reorder(rows), theirs.reorder(rows)
        assert ours.rows == len(rows)
        assert ours.length == theirs.length
        new = [[text[token + 7 * row]] for row in range(len(rows))]  # another word for each
        mine, ours = fast.feed(new, ours)
        expected, theirs = plain.feed(new, theirs)
        same(mine, expected)
        token += 1


@pytest.mark.parametrize("texts", [2, 5])
@pytest.mark.parametrize("length", [2, 40, 100])
def test_several_tokens_of_several_texts(plain, fast, features, text, texts, length):
    _, ours = fast.feed([text[:4]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:4]], plain.begin(features[0]))
    tokens = [text[4 + row : 4 + row + length] for row in range(texts)]
    same(fast.feed(tokens, ours.reorder([0] * texts))[0], plain.feed(tokens, theirs.reorder([0] * texts))[0])


# --- Several windows


def test_windows_in_step_with_texts_of_different_lengths(plain, fast, features, text):
    starts = [text[:3], text[:70], text[:12]]
    rows = [[0, 0, 0], [0], [0, 0]]
    ours, theirs = [], []
    for start, sound, row in zip(starts, features, rows, strict=True):
        ours.append(fast.feed([start], fast.begin(sound))[1].reorder(row))
        theirs.append(plain.feed([start], plain.begin(sound))[1].reorder(row))
    for step in range(4):
        new = [[[text[80 + step + 5 * row]] for row in range(cache.rows)] for cache in ours]
        found = fast.together(*zip(new, ours, strict=True))
        expected = [plain.feed(tokens, cache) for tokens, cache in zip(new, theirs, strict=True)]
        for (mine, _), (other, _) in zip(found, expected, strict=True):
            same(mine, other)
        ours, theirs = [cache for _, cache in found], [cache for _, cache in expected]
    assert [cache.length for cache in ours] == [7, 74, 16]


def test_prompts_and_steps_mixed(plain, fast, features, text):
    lengths, wanted = [1, 100, 1, 5, 1], [None, [99], [0], [0, 4], None]
    sounds = [features[number % 3] for number in range(5)]
    past = [text[:6], [], text[:2], text[:4], text[:64]]
    feeds, expected = [], []
    for length, want, sound, before in zip(lengths, wanted, sounds, past, strict=True):
        ours, theirs = fast.begin(sound), plain.begin(sound)
        if before:
            ours, theirs = fast.feed([before], ours)[1], plain.feed([before], theirs)[1]
        new = [text[100 : 100 + length]]
        feeds.append((new, ours, want))
        expected.append(plain.feed(new, theirs, want)[0])
    found = fast.together(*feeds)
    for (mine, cache), theirs, feed in zip(found, expected, feeds, strict=True):
        same(mine, theirs)
        assert cache.length == feed[1].length + len(feed[0][0])
    again = [mine for mine, _ in fast.together(*reversed(feeds))]
    for mine, theirs in zip(reversed(again), expected, strict=True):
        same(mine, theirs)


def test_nothing_to_feed(fast):
    with pytest.raises(ValueError, match=r"at least one|need"):
        fast.together()


# --- The cache is a value


@pytest.mark.parametrize(("length", "count"), [(3, 1), (3, 70), (GROWTH - 1, 2), (GROWTH, 1), (GROWTH + 1, 2)])
def test_two_ways_on_from_the_same_cache(plain, fast, features, text, length, count):
    _, cache = fast.feed([text[:length]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:length]], plain.begin(features[0]))
    before = held(cache)
    ways = [[text[start : start + count]] for start in (length, 120, 200)]
    found = [fast.feed(way, cache) for way in ways]
    assert all(np.array_equal(old, new) for old, new in zip(before, held(cache), strict=True))
    assert cache.length == length
    after = [held(longer) for _, longer in found]
    for way, (logits, longer), kept in zip(ways, found, after, strict=True):
        expected, follower = plain.feed(way, theirs)
        same(logits, expected)
        assert longer.length == length + count
        same(fast.feed([[11]], longer)[0], plain.feed([[11]], follower)[0])
        assert all(np.array_equal(old, new) for old, new in zip(kept, held(longer), strict=True))
    assert np.array_equal(fast.feed(ways[0], cache)[0], found[0][0])


def test_the_same_cache_twice_in_one_step(plain, fast, features, text):
    _, cache = fast.feed([text[:5]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:5]], plain.begin(features[0]))
    found = fast.together(([[11]], cache), ([[13]], cache), ([[11]], cache))
    for token, (logits, longer) in zip((11, 13, 11), found, strict=True):
        expected, follower = plain.feed([[token]], theirs)
        same(logits, expected)
        same(fast.feed([[290]], longer)[0], plain.feed([[290]], follower)[0])


def test_taking_texts_changes_nothing_and_copies_no_sound(fast, features, text):
    _, cache = fast.feed([[token] for token in text[5:9]], fast.begin(features[0]).reorder([0] * 4))
    before = held(cache)
    taken = cache.reorder([2, 2])
    fast.feed([[11], [13]], taken)
    assert all(np.array_equal(old, new) for old, new in zip(before, held(cache), strict=True))
    assert cache.reorder([0, 1, 2, 3]) is cache
    assert cache.reorder(range(4)) is cache
    assert taken.cross_attention is cache.cross_attention
    for old, new in zip(before, held(taken), strict=True):
        assert np.array_equal(new, old[[2, 2]])


def test_a_part_of_the_texts_is_not_the_whole(fast, plain, features, text):
    _, cache = fast.feed([[token] for token in text[5:8]], fast.begin(features[0]).reorder([0] * 3))
    _, theirs = plain.feed([[token] for token in text[5:8]], plain.begin(features[0]).reorder([0] * 3))
    same(fast.feed([[11], [13]], cache.reorder([0, 1]))[0], plain.feed([[11], [13]], theirs.reorder([0, 1]))[0])
    same(fast.feed([[11]] * 3, cache)[0], plain.feed([[11]] * 3, theirs)[0])


# --- What is refused


@pytest.mark.parametrize(
    "tokens", [[[1]] * 3, [[1, 2, 3]], [[[1]]], [[1] * 444] * 2], ids=["rows", "row", "deep", "long"]
)
def test_what_are_no_tokens(plain, fast, features, text, tokens):
    _, ours = fast.feed([text[:5]], fast.begin(features[0]))
    _, theirs = plain.feed([text[:5]], plain.begin(features[0]))
    with pytest.raises(ShapeError) as expected:
        plain.feed(tokens, theirs.reorder([0, 0]))
    for feeds in ([(tokens, ours.reorder([0, 0]))], [([[11]], ours), (tokens, ours.reorder([0, 0]))]):
        with pytest.raises(ShapeError) as raised:
            fast.together(*feeds)
        assert str(raised.value) == str(expected.value)
    same(fast.feed([[11]], ours)[0], plain.feed([[11]], theirs)[0])  # as if nothing had been


def test_448_tokens_and_no_more(fast, features, text):
    _, cache = fast.feed([text[:447]], fast.begin(features[0]), [])
    _, full = fast.feed([[11]], cache)
    assert full.length == 448
    with pytest.raises(ShapeError, match=r"at most 448 positions\), got \(1, 1\) after 448 earlier"):
        fast.feed([[11]], full)


# --- Bit by bit


def test_bit_by_bit_the_same_with_any_number_of_threads_and_every_time(tiny_en, fast, features, text):
    def everything(pool):
        engine = fast._replace(pool=pool)
        first, cache = engine.feed([text[:100]], engine.begin(features[0]))
        second, forked = engine.feed([[11], [13], [290], [257], [11]], cache.reorder([0] * 5))
        third, other = engine.feed([text[:5]], engine.begin(features[1]))
        together = engine.together(([[290]], other), ([[token] for token in text[5:10]], forked), ([[11]], cache))
        return [first, second, third, *(logits for logits, _ in together)]

    expected = everything(Pool(1))
    for threads in (1, 2, 4):
        pool = Pool(threads)
        for _ in range(2):
            assert all(np.array_equal(a, b) for a, b in zip(everything(pool), expected, strict=True))

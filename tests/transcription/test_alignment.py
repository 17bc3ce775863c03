"""Alignment: attention scores, the alignment matrix, and words of real speech."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import minwhisper
from aligned import aligned
from minwhisper.errors import OptionError, ShapeError
from minwhisper.model.config import WhisperConfig
from minwhisper.model.decoder import decode
from minwhisper.model.layers import softmax
from minwhisper.transcription.alignment import alignment_matrix, check_alignment_heads, cross_attention_scores
from minwhisper.transcription.alignment_tools import median_filter

SMALL = WhisperConfig(51865, 80, 64, 1, 2, 64, 3, 2, 64)

# ------------------------------------------------------------------------------------------ scores and their matrix


def test_logits_are_those_of_the_plain_decoder(rng):
    model = minwhisper.Whisper.random(SMALL)
    tokens = np.array([[50258, 1, 2, 3]])
    features, weights = rng.standard_normal((1, 30, 64)).astype(np.float32), model.weights["decoder"]
    heads = [(2, 1), (0, 0), (2, 0), (0, 0)]
    logits, scores = cross_attention_scores(tokens, features, weights, SMALL, heads)
    np.testing.assert_array_equal(logits, decode(tokens, features, weights, SMALL))
    assert scores.shape == (4, 4, 30)
    assert scores.dtype == logits.dtype == np.float32
    for number, head in enumerate(heads):  # in the requested order
        alone = cross_attention_scores(tokens, features, weights, SMALL, [head])[1]
        np.testing.assert_array_equal(scores[number], alone[0])
    assert not np.allclose(scores[0], scores[2])


@pytest.mark.parametrize(
    ("tokens", "features"), [((2, 4), (1, 30, 64)), ((1, 4), (2, 30, 64)), ((4,), (1, 30, 64)), ((1, 4), (30, 64))]
)
def test_several_windows_are_rejected(tokens, features):
    weights = minwhisper.Whisper.random(SMALL).weights["decoder"]
    with pytest.raises(ShapeError, match="of one window"):
        cross_attention_scores(np.zeros(tokens, int), np.zeros(features, np.float32), weights, SMALL, [(0, 0)])


def test_the_matrix_ignores_padding(rng):
    scores = rng.standard_normal((3, 6, 40)).astype(np.float32)
    louder = scores.copy()
    louder[:, :, 25:] += 30.0
    np.testing.assert_array_equal(alignment_matrix(scores, 25), alignment_matrix(louder, 25))
    assert alignment_matrix(scores, 25).shape == (6, 25)
    assert alignment_matrix(scores, 25).dtype == np.float32


def test_the_matrix_is_normalised_over_tokens_then_filtered_then_averaged(rng):
    # If one position gets nearly all the attention of all tokens, the others get nearly none: e**-60 is
    # 1e-26, and its square underflows in float32. Their normalised values must be the same as without it.
    scores = rng.standard_normal((2, 5, 30)).astype(np.float32)
    scores[..., 0] = 0.0
    fainter = scores.copy()
    fainter[..., 1:] -= 60.0
    weights = np.exp(scores.astype(float))
    normalised = (weights - weights.mean(axis=1, keepdims=True)) / weights.std(axis=1, keepdims=True).clip(1e-30)
    expected = (median_filter(normalised[0], 7) + median_filter(normalised[1], 7)) / 2
    np.testing.assert_allclose(alignment_matrix(fainter, 30)[:, 4:-4], expected[:, 4:-4], rtol=1e-4)


def test_a_single_position_carries_no_information(rng):
    np.testing.assert_array_equal(alignment_matrix(rng.standard_normal((2, 5, 30)), 1), np.zeros((5, 1)))


def test_a_model_without_alignment_heads_is_rejected():
    check_alignment_heads([(1, 0)], "some/model")
    with pytest.raises(OptionError, match=r"^word_timestamps: some/model has no alignment heads.*published.*\[\["):
        check_alignment_heads((), "some/model")


# ------------------------------------------------------------------------------------------ real words


JFK = " And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


@pytest.fixture(scope="module")
def align(tiny_en, speech):
    """Return a function that aligns a text with the clip, or with its first frames."""
    mel = minwhisper.log_mel_spectrogram(speech["jfk.flac"], padding=480000)[:, :3000]
    features = tiny_en.encode(mel[None])

    parts = {name: getattr(tiny_en, name) for name in ("tokenizer", "alignment_heads", "weights", "config")}
    encoded = SimpleNamespace(encode=lambda _mel: features, **parts)
    return lambda text, frames=1100: aligned(encoded, mel, frames, tiny_en.tokenizer.encode(text))


def test_words_are_those_of_the_text_in_order_where_they_are_spoken(align, tiny_en):
    words = align(JFK)
    assert "".join(timing.word for timing in words) == JFK
    assert [token for timing in words for token in timing.tokens] == tiny_en.tokenizer.encode(JFK)
    assert words[0].start >= 0.0
    assert words[-1].end <= 11.0
    for before, after in pairwise(words):
        assert before.start <= before.end == after.start
    for timing in words:
        assert timing.start * 50 == pytest.approx(round(timing.start * 50))
        assert 0.0 < timing.probability <= 1.0
        assert type(timing.start) is type(timing.end) is type(timing.probability) is float
    spoken = [(" Americans", 0, 1.9), (" country", 0, 6.2), (" ask", 1, 8.45), (" country", 1, 10.3)]
    for word, occurrence, middle in spoken:
        timing = [timing for timing in words if timing.word == word][occurrence]
        assert timing.start < middle < timing.end < timing.start + 1.5


def test_a_probability_is_the_mean_of_the_tokens(align, tiny_en, speech):
    features = tiny_en.encode(minwhisper.log_mel_spectrogram(speech["jfk.flac"], padding=480000)[None, :, :3000])
    tokenizer = tiny_en.tokenizer
    text = tokenizer.encode(" Amerrycans")
    assert len(text) > 1
    logits = tiny_en.logits([[tokenizer.sot, tokenizer.no_timestamps, *text]], features)[0, 1:-1, : tokenizer.eot]
    expected = softmax(logits)[range(len(text)), text].mean()
    assert align(" Amerrycans")[0].probability == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("frames", [0, 3])
def test_words_in_a_window_of_three_frames_have_times(align, frames):
    words = align(" Oh no.", frames)
    assert [(timing.word, timing.start, timing.end) for timing in words] == [
        (text, 0.0, 0.0) for text in (" Oh", " no", ".")
    ]
    assert all(math.isfinite(timing.probability) for timing in words)
    assert align("", frames) == []


def test_words_are_not_aligned_with_padding(align):
    assert align(JFK, frames=400)[-1].end <= 4.0


def test_too_long_a_text_is_an_error(align):
    with pytest.raises(ShapeError, match="at most 448"):
        align(" so" * 446)

"""Words and their times against openai-whisper's: its functions and its model. Its loop: the tables' file."""

import itertools
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minwhisper
from aligned import aligned
from conftest import SPEECH
from minwhisper.parity.comparison import relative_difference
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.alignment import cross_attention_scores
from minwhisper.transcription.alignment_tools import dynamic_time_warping, median_filter
from minwhisper.transcription.word_timestamps import APPEND_PUNCTUATION, PREPEND_PUNCTUATION, add_word_timestamps
from minwhisper.transcription.words import (
    WordTiming,
    merge_punctuations,
    split_to_word_tokens,
    split_tokens_on_spaces,
    split_tokens_on_unicode,
)
from vocabularies import TEXT, installed

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
timing = pytest.importorskip("whisper.timing")
reference = pytest.importorskip("whisper.tokenizer")

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ------------------------------------------------------------------------------------------ tools


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (50,), (1, 9), (7, 50), (6, 20, 100), (2, 3, 5, 40)], ids=str)
@pytest.mark.parametrize("width", [1, 3, 7])
def test_the_median_filter_is_the_same(rng, shape, width):
    for x in (rng.standard_normal(shape), rng.integers(0, 3, shape)):
        x = x.astype(np.float32)
        np.testing.assert_array_equal(median_filter(x, width), timing.median_filter(torch.tensor(x), width).numpy())


@settings(deadline=None, max_examples=400)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["normal", "ties", "nearly ties"]),
)
def test_the_path_is_the_same(rows, columns, seed, kind):
    random = np.random.default_rng(seed)
    cost = random.standard_normal((rows, columns)) if kind == "normal" else random.integers(-1, 2, (rows, columns))
    if kind == "nearly ties":  # float64 tells such totals apart, float32 does not
        cost = 1e4 + 1e-5 * cost
    np.testing.assert_array_equal(dynamic_time_warping(cost), timing.dtw_cpu(cost.astype(np.float64)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (230, 1500)], ids=str)
def test_the_path_is_the_same_for_any_shape(rng, shape):
    cost = rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(dynamic_time_warping(cost), timing.dtw(torch.tensor(cost)))


# ------------------------------------------------------------------------------------------ words


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def tokenizers(request):
    """Ours and theirs."""
    return Tokenizer.from_folder(*installed(request.param)), their_tokenizer(request.param != "tiny.en", "en")


def their_tokenizer(multilingual: bool, language: str):
    return reference.get_tokenizer(multilingual, num_languages=99, language=language, task="transcribe")


def check_same_split(tokenizers, tokens):
    ours, theirs = tokenizers
    for split, their_split in (
        (split_tokens_on_unicode, theirs.split_tokens_on_unicode),
        (split_tokens_on_spaces, theirs.split_tokens_on_spaces),
    ):
        words, word_tokens = their_split(list(tokens))
        assert [(word, list(own)) for word, own in split(ours, tokens)] == list(zip(words, word_tokens, strict=True))


@UNHURRIED
@given(text=TEXT)
def test_text_is_split_the_same(tokenizers, text):
    check_same_split(tokenizers, tokenizers[0].encode(text))


@pytest.mark.parametrize("tokens", [[8404, 871, 287, 6, 246, 526, 3210, 20378], [246, 246, 6], [50364, 843, 50500]])
def test_tokens_are_split_the_same(tokens):
    check_same_split((Tokenizer.from_folder(*installed("base")), their_tokenizer(True, "en")), tokens)


@settings(UNHURRIED, max_examples=400)
@given(data=st.data())
def test_invalid_bytes_are_split_the_same(tokenizers, data):
    ours, theirs = tokenizers
    byte = st.integers(94, 255)  # most of the tokens of one byte that is no ASCII
    tokens = data.draw(st.lists(byte | st.integers(0, ours.eot - 1) | st.integers(ours.eot, ours.vocab_size - 1)))
    try:
        pieces, _ = theirs.split_tokens_on_unicode(tokens)
    except IndexError:  # it looks for what is beyond the text's end
        return
    mine = split_tokens_on_unicode(ours, tokens)
    assert [piece.word for piece in mine][: len(pieces)] == pieces
    if len(mine) == len(pieces):
        check_same_split(tokenizers, tokens)
    else:  # it forgot the tokens at the end
        assert len(mine) == len(pieces) + 1


@pytest.mark.parametrize("language", [*reference.LANGUAGES][:99])
def test_every_language_is_split_the_same(language):
    ours, theirs = Tokenizer.from_folder(*installed("base")), their_tokenizer(True, language)
    tokens = ours.encode(" l'été, 我是 สวัสดี (x)")
    words, word_tokens = theirs.split_to_word_tokens(tokens)
    mine = split_to_word_tokens(ours, tokens, language)
    assert [(word, list(own)) for word, own in mine] == list(zip(words, word_tokens, strict=True))


# ------------------------------------------------------------------------------------------ marks and segments

PIECES = [" a", " word", "'s", " (", "(", ")", ' "', '"', ".", ",", "?!", " -", "-", " ", "\n", "日本", "。", " é", "!"]
MARKS = st.sampled_from([PREPEND_PUNCTUATION, APPEND_PUNCTUATION, "", "(.", "!。-"])
STEPS = st.sampled_from([0, 0, 1, 5, 10, 17, 30, 40, 60, 100, 400])  # of 0.02 s


def theirs_of(timings):
    return [timing.WordTiming(t.word, list(t.tokens), t.start, t.end, t.probability) for t in timings]


@st.composite
def spoken(draw, least=0, most=12):
    """Words and marks of one or two tokens, one after the other."""
    timings, at = [], draw(STEPS)
    for word in draw(st.lists(st.sampled_from(PIECES), min_size=least, max_size=most)):
        end = at + draw(STEPS)
        tokens = tuple(range(draw(st.integers(1, 2))))
        timings.append(WordTiming(word, tokens, at / 50, end / 50, draw(st.sampled_from([0.1, 0.9]))))
        at = end
    return timings


@settings(UNHURRIED, max_examples=500)
@given(timings=spoken(), prepend=MARKS, append=MARKS)
def test_punctuation_is_merged_the_same(timings, prepend, append):
    theirs = theirs_of(timings)
    timing.merge_punctuations(theirs, prepend, append)
    expected = [WordTiming(t.word, tuple(t.tokens), t.start, t.end, t.probability) for t in theirs if t.word]
    assert merge_punctuations(timings, prepend, append) == expected


@settings(UNHURRIED, max_examples=500)
@given(data=st.data())
def test_segments_get_the_same_words_and_times(tokenizers, monkeypatch, data):
    ours, theirs = tokenizers
    timings = data.draw(spoken(least=1))
    count = sum(len(t.tokens) for t in timings)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    seek = data.draw(st.sampled_from([0, 1, 317, 2999, 123456]))
    prepend, append = data.draw(MARKS), data.draw(MARKS)
    last_speech_end = seek / 100 - data.draw(st.sampled_from([0.0, 0.5, 3.0, 20.0]))
    a_time = st.integers(0, 400).map(lambda step: seek / 100 + step * 0.02)
    segments = []
    for first, last in itertools.pairwise([0, *cuts, count]):
        start, end = sorted([data.draw(a_time), data.draw(a_time)])
        tokens = [ours.timestamp_begin, *range(last - first), ours.timestamp_begin + 3]
        segments.append({"id": 0, "seek": seek, "start": start, "end": end, "text": "x", "tokens": tokens})
    expected = deepcopy(segments)
    monkeypatch.setattr(timing, "find_alignment", lambda *_, **__: theirs_of(timings))
    timing.add_word_timestamps(
        segments=expected,
        model=None,
        tokenizer=theirs,
        mel=None,
        num_frames=3000,
        prepend_punctuations=prepend,
        append_punctuations=append,
        last_speech_timestamp=last_speech_end,
    )
    kept = deepcopy(segments)
    result = add_word_timestamps(
        segments, timings, tokenizer=ours, last_speech_end=last_speech_end, prepend=prepend, append=append
    )
    assert result == expected
    assert segments == kept


# ------------------------------------------------------------------------------------------ real models


def window_of(samples):
    """Return the spectrogram of the first window, and how many of its frames are audio."""
    mel = minwhisper.log_mel_spectrogram(samples, padding=480000)[:, :3000]
    return mel, min(3000, len(samples) // 160)


def test_published_alignment_heads_are_the_checkpoints(model, pytorch):
    theirs = whisper.model.Whisper(pytorch(model).dims)
    theirs.set_alignment_heads(whisper._ALIGNMENT_HEADS[model.name.split("/")[-1].removeprefix("whisper-")])
    assert theirs.alignment_heads.indices().T.tolist() == [list(pair) for pair in sorted(model.alignment_heads)]


def test_scores_are_those_of_pytorch(model, pytorch, speech):
    theirs = pytorch(model)
    mel, _ = window_of(speech["jfk.flac"])
    tokens = np.array(
        [[*model.tokenizer.sot_sequence("en", "transcribe", False), *model.tokenizer.encode(" And so, my")]]
    )
    every = list(itertools.product(range(model.config.decoder_layers), range(model.config.decoder_attention_heads)))
    features = model.encode(mel[None])
    logits, scores = cross_attention_scores(tokens, features, model.weights["decoder"], model.config, every)
    seen = []
    hooks = [
        block.cross_attn.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[1][0]))
        for block in theirs.decoder.blocks
    ]
    try:
        with torch.no_grad(), whisper.model.disable_sdpa():
            expected = theirs(torch.tensor(mel[None]), torch.tensor(tokens))
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == model.config.decoder_layers
    for ours, other in zip(scores, torch.cat(seen).numpy(), strict=True):
        assert relative_difference(ours, other) < 1e-4
    assert relative_difference(logits, expected.numpy()) < 1e-4


def check_same_words(model, theirs, samples, segments, language="en"):
    """Alignment and word times of a window agree. Returns how many words there are, and how many times differ."""
    mel, frames = window_of(samples)
    their = their_tokenizer(model.is_multilingual, language)
    text = [token for part in segments for token in part["tokens"] if token < model.tokenizer.eot]
    timings = aligned(model, mel, frames, text, language)
    raw = timing.find_alignment(theirs, their, text, torch.tensor(mel), frames)
    assert [(t.word, list(t.tokens)) for t in timings] == [(t.word, t.tokens) for t in raw]
    differing = 0
    for mine, other in zip(timings, raw, strict=True):
        assert mine.start == pytest.approx(other.start, abs=0.0201)
        assert mine.end == pytest.approx(other.end, abs=0.0201)
        assert mine.probability == pytest.approx(other.probability, abs=1e-3)
        differing += (mine.start, mine.end) != (other.start, other.end)

    expected = deepcopy(segments)
    result = add_word_timestamps(segments, timings, tokenizer=model.tokenizer, last_speech_end=0.0)
    timing.add_word_timestamps(
        segments=expected,
        model=theirs,
        tokenizer=their,
        mel=torch.tensor(mel),
        num_frames=frames,
        last_speech_timestamp=0.0,
    )
    for part, other_part in zip(result, expected, strict=True):
        assert part["start"] == pytest.approx(other_part["start"], abs=0.0201)
        assert part["end"] == pytest.approx(other_part["end"], abs=0.0201)
        for mine, other in zip(part["words"], other_part["words"], strict=True):
            assert mine["word"] == other["word"]
            assert mine["start"] == pytest.approx(other["start"], abs=0.0201)
            assert mine["end"] == pytest.approx(other["end"], abs=0.0201)
    return len(timings), differing


def segments_of(model, samples, language="en"):
    segments = model.transcribe(samples, language=language)["segments"]
    return [part for part in segments if part["seek"] == 0]


def test_words_of_a_full_window_have_the_same_times(tiny_en, pytorch, speech):
    gap = np.zeros(12000, np.float32)
    book = np.concatenate([part for path in SPEECH[1:6] for part in (speech[path.name], gap)])
    segments = segments_of(tiny_en, book)
    count, differing = check_same_words(tiny_en, pytorch(tiny_en), book, segments)
    assert len(segments) > 2
    assert count > 40
    assert differing <= 1


@pytest.mark.parametrize(
    ("text", "language"), [("私はアメリカ人です。", "ja"), (" l'été «à Paris»", "fr"), (" ...", "en")]
)
def test_words_of_any_text_have_the_same_times(base, pytorch, speech, text, language):
    tokens = base.tokenizer.encode(text)
    segments = [{"id": 0, "seek": 0, "start": 0.0, "end": 11.0, "text": text, "tokens": tokens}]
    check_same_words(base, pytorch(base), speech["jfk.flac"], segments, language)


def test_words_of_a_broken_character_have_the_same_times(base, pytorch, speech):
    tokens = [8404, 871, 287, 6, 246, 526, 3210, 20378]
    segments = [{"id": 0, "seek": 0, "start": 0.0, "end": 11.0, "text": "", "tokens": tokens}]
    check_same_words(base, pytorch(base), speech["jfk.flac"], segments, "fr")


@pytest.mark.parametrize("frames", [4, 7, 20, 300])
def test_words_of_short_audio_have_the_same_times(tiny_en, pytorch, speech, frames):
    mel, _ = window_of(speech["jfk.flac"])
    text = tiny_en.tokenizer.encode(" And so, my fellow Americans")
    raw = timing.find_alignment(pytorch(tiny_en), their_tokenizer(False, "en"), text, torch.tensor(mel), frames)
    mine = aligned(tiny_en, mel, frames, text)
    assert [(t.word, t.start, t.end) for t in mine] == [(t.word, t.start, t.end) for t in raw]

"""Words and their times against openai-whisper's: its functions and its model. Its loop: the tables' file."""

import itertools
from contextlib import ExitStack
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import minwhisper
from aligned import aligned
from minwhisper.parity.comparison import relative_difference
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.alignment import cross_attention_scores
from minwhisper.transcription.alignment_tools import dynamic_time_warping, median_filter
from minwhisper.transcription.word_timestamps import APPEND_PUNCTUATION, PREPEND_PUNCTUATION, add_word_timestamps
from minwhisper.transcription.words import (
    WordTiming,
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


def test_the_path_through_a_whole_window_is_the_same(rng):
    cost = rng.standard_normal((230, 1500)).astype(np.float32)
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
    assert pairs(split_tokens_on_unicode(ours, tokens)) == pairs(
        zip(*theirs.split_tokens_on_unicode(tokens), strict=True)
    )
    assert pairs(split_tokens_on_spaces(ours, tokens)) == pairs(
        zip(*theirs.split_tokens_on_spaces(tokens), strict=True)
    )


def pairs(words):
    return [(word, list(tokens)) for word, tokens in words]


@UNHURRIED
@given(text=TEXT)
def test_text_is_split_the_same(tokenizers, text):
    check_same_split(tokenizers, tokenizers[0].encode(text))


BYTES = st.integers(94, 255)  # most of the tokens of one byte that is no ASCII
BROKEN = [8404, 871, 287, 6, 246, 526, 3210, 20378]  # in French, with half a character


@settings(UNHURRIED, max_examples=400)
@given(tokens=st.lists(BYTES | st.integers(0, 50255) | st.integers(50256, 51863)))
@example(tokens=BROKEN)
@example(tokens=[246, 246, 6])
@example(tokens=[50364, 843, 50500])
def test_invalid_bytes_are_split_the_same(tokenizers, tokens):
    ours, theirs = tokenizers
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


def test_every_language_is_split_the_same():
    ours = Tokenizer.from_folder(*installed("base"))
    tokens = ours.encode(" l'été, 我是 สวัสดี (x)")
    for language in [*reference.LANGUAGES][:99]:
        theirs = their_tokenizer(True, language).split_to_word_tokens(tokens)
        assert pairs(split_to_word_tokens(ours, tokens, language)) == pairs(zip(*theirs, strict=True)), language


# ------------------------------------------------------------------------------------------ marks and segments

PIECES = [" a", " word", "'s", " (", "(", ")", ' "', '"', ".", ",", "?!", " -", "-", " ", "\n", "日本", "。", " é", "!"]
MARKS = st.sampled_from([PREPEND_PUNCTUATION, APPEND_PUNCTUATION, "", "(.", "!。-"])
STEPS = st.sampled_from([0, 0, 1, 5, 10, 17, 30, 40, 60, 100, 400])  # of 0.02 s


@st.composite
def spoken(draw):
    """Words and marks of one or two tokens, one after the other."""
    timings, at = [], draw(STEPS)
    for word in draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12)):
        end = at + draw(STEPS)
        tokens = tuple(range(draw(st.integers(1, 2))))
        timings.append(WordTiming(word, tokens, at / 50, end / 50, draw(st.sampled_from([0.1, 0.9]))))
        at = end
    return timings


@settings(UNHURRIED, max_examples=200)
@given(data=st.data(), timings=spoken(), prepend=MARKS, append=MARKS)
def test_segments_get_the_same_words_and_times(tokenizers, monkeypatch, data, timings, prepend, append):
    ours, theirs = tokenizers
    count = sum(len(t.tokens) for t in timings)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    seek = data.draw(st.sampled_from([0, 1, 317, 2999, 123456]))
    last_speech_end = seek / 100 - data.draw(st.sampled_from([0.0, 0.5, 3.0, 20.0]))
    a_time = st.integers(0, 400).map(lambda step: seek / 100 + step * 0.02)
    segments = []
    for first, last in itertools.pairwise([0, *cuts, count]):
        start, end = sorted([data.draw(a_time), data.draw(a_time)])
        tokens = [ours.timestamp_begin, *range(last - first), ours.timestamp_begin + 3]
        segments.append({"id": 0, "seek": seek, "start": start, "end": end, "text": "x", "tokens": tokens})
    expected = deepcopy(segments)
    words = [timing.WordTiming(t.word, list(t.tokens), t.start, t.end, t.probability) for t in timings]
    monkeypatch.setattr(timing, "find_alignment", lambda *_, **__: words)
    marks = {"prepend_punctuations": prepend, "append_punctuations": append, "last_speech_timestamp": last_speech_end}
    timing.add_word_timestamps(segments=expected, model=None, tokenizer=theirs, mel=None, num_frames=3000, **marks)
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
    prompt = model.tokenizer.sot_sequence("en", "transcribe", False)
    tokens = np.array([[*prompt, *model.tokenizer.encode(" And so, my")]])
    every = list(itertools.product(range(model.config.decoder_layers), range(model.config.decoder_attention_heads)))
    features = model.encode(mel[None])
    logits, scores = cross_attention_scores(tokens, features, model.weights["decoder"], model.config, every)
    seen = []
    with torch.no_grad(), whisper.model.disable_sdpa(), ExitStack() as hooks:
        for block in theirs.decoder.blocks:
            hook = block.cross_attn.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[1][0]))
            hooks.callback(hook.remove)
        expected = theirs(torch.tensor(mel[None]), torch.tensor(tokens))
    assert len(seen) == model.config.decoder_layers
    for ours, other in zip(scores, torch.cat(seen).numpy(), strict=True):
        assert relative_difference(ours, other) < 1e-4
    assert relative_difference(logits, expected.numpy()) < 1e-4


def check_same_words(model, theirs, samples, segments, language="en"):
    """Alignment and word times of a window agree. Returns how many words there are, and how many times differ."""

    def near(mine, other):
        return mine == pytest.approx(other, abs=0.0201)

    mel, frames = window_of(samples)
    their = their_tokenizer(model.is_multilingual, language)
    text = [token for part in segments for token in part["tokens"] if token < model.tokenizer.eot]
    timings = aligned(model, mel, frames, text, language)
    raw = timing.find_alignment(theirs, their, text, torch.tensor(mel), frames)
    assert [(t.word, list(t.tokens)) for t in timings] == [(t.word, t.tokens) for t in raw]
    for mine, other in zip(timings, raw, strict=True):
        assert near((mine.start, mine.end), (other.start, other.end))
        assert mine.probability == pytest.approx(other.probability, abs=1e-3)

    expected = deepcopy(segments)
    result = add_word_timestamps(segments, timings, tokenizer=model.tokenizer, last_speech_end=0.0)
    given = {"tokenizer": their, "mel": torch.tensor(mel), "num_frames": frames, "last_speech_timestamp": 0.0}
    timing.add_word_timestamps(segments=expected, model=theirs, **given)
    for part, other_part in zip(result, expected, strict=True):
        assert near((part["start"], part["end"]), (other_part["start"], other_part["end"]))
        for mine, other in zip(part["words"], other_part["words"], strict=True):
            assert mine["word"] == other["word"]
            assert near((mine["start"], mine["end"]), (other["start"], other["end"]))
    return len(timings), sum((one.start, one.end) != (it.start, it.end) for one, it in zip(timings, raw, strict=True))


@pytest.mark.parametrize(("text", "language"), [("私はアメリカ人です。", "ja"), (BROKEN, "fr")])
def test_words_of_any_text_have_the_same_times(base, pytorch, speech, text, language):
    tokens = base.tokenizer.encode(text) if isinstance(text, str) else text
    segments = [{"id": 0, "seek": 0, "start": 0.0, "end": 11.0, "text": str(text), "tokens": tokens}]
    check_same_words(base, pytorch(base), speech["jfk.flac"], segments, language)


@pytest.mark.parametrize("frames", [4, 300])
def test_words_of_short_audio_have_the_same_times(tiny_en, pytorch, speech, frames):
    mel, _ = window_of(speech["jfk.flac"])
    text = tiny_en.tokenizer.encode(" And so, my fellow Americans")
    raw = timing.find_alignment(pytorch(tiny_en), their_tokenizer(False, "en"), text, torch.tensor(mel), frames)
    mine = aligned(tiny_en, mel, frames, text)
    assert [(t.word, t.start, t.end) for t in mine] == [(t.word, t.start, t.end) for t in raw]

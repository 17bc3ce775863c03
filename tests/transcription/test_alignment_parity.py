"""Words and times compared with openai-whisper's functions and model; test_transcribe_tables_parity.py has its loop."""

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


@pytest.mark.parametrize("shape", [(3,), (4,), (7, 50), (2, 3, 5, 40)], ids=str)
@pytest.mark.parametrize("width", [1, 3, 7])
def test_the_median_filter_is_the_same(rng, shape, width):
    x = rng.integers(-3, 3, shape).astype(np.float32)
    np.testing.assert_array_equal(median_filter(x, width), timing.median_filter(torch.tensor(x), width).numpy())


@settings(deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["normal", "ties", "nearly ties"]),
)
def test_the_path_is_the_same(rows, columns, seed, kind):
    random = np.random.default_rng(seed)
    cost = random.standard_normal((rows, columns)) if kind == "normal" else random.integers(-1, 2, (rows, columns))
    if kind == "nearly ties":  # float64 can distinguish such totals, float32 cannot
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


BYTES = st.integers(94, 255)  # mostly tokens of a single byte outside ASCII
BROKEN = [8404, 871, 287, 6, 246, 526, 3210, 20378]  # French text with half a character


@settings(UNHURRIED, max_examples=200)
@given(tokens=st.lists(BYTES | st.integers(0, 50255) | st.integers(50256, 51863)))
@example(tokens=BROKEN)
@example(tokens=[246, 246, 6])
@example(tokens=[50364, 843, 50500])
def test_invalid_bytes_are_split_the_same(tokenizers, tokens):
    ours, theirs = tokenizers
    try:
        pieces, _ = theirs.split_tokens_on_unicode(tokens)
    except IndexError:  # openai-whisper looks past the end of the text
        return
    mine = split_tokens_on_unicode(ours, tokens)
    assert [piece.word for piece in mine][: len(pieces)] == pieces
    if len(mine) == len(pieces):
        check_same_split(tokenizers, tokens)
    else:  # openai-whisper drops the tokens at the end
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
STEPS = st.sampled_from([0, 0, 1, 5, 10, 17, 30, 40, 60, 100, 400])  # in units of 0.02 s


@st.composite
def spoken(draw):
    """Draw consecutive words and punctuation marks of one or two tokens each."""
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


@pytest.fixture(scope="module")
def jfk_mel(speech):
    return minwhisper.log_mel_spectrogram(speech["jfk.flac"], padding=480000)[:, :3000]


def test_published_alignment_heads_are_the_checkpoints(model, pytorch):
    theirs = whisper.model.Whisper(pytorch(model).dims)
    theirs.set_alignment_heads(whisper._ALIGNMENT_HEADS[model.name.split("/")[-1].removeprefix("whisper-")])
    assert theirs.alignment_heads.indices().T.tolist() == [list(pair) for pair in sorted(model.alignment_heads)]


def test_scores_are_those_of_pytorch(model, pytorch, jfk_mel):
    theirs = pytorch(model)
    prompt = model.tokenizer.sot_sequence("en", "transcribe", False)
    tokens = np.array([[*prompt, *model.tokenizer.encode(" And so, my")]])
    every = list(itertools.product(range(model.config.decoder_layers), range(model.config.decoder_attention_heads)))
    features = model.encode(jfk_mel[None])
    logits, scores = cross_attention_scores(tokens, features, model.weights["decoder"], model.config, every)
    seen = []
    with torch.no_grad(), whisper.model.disable_sdpa(), ExitStack() as hooks:
        for block in theirs.decoder.blocks:
            hook = block.cross_attn.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[1][0]))
            hooks.callback(hook.remove)
        expected = theirs(torch.tensor(jfk_mel[None]), torch.tensor(tokens))
    assert len(seen) == model.config.decoder_layers
    for ours, other in zip(scores, torch.cat(seen).numpy(), strict=True):
        assert relative_difference(ours, other) < 1e-4
    assert relative_difference(logits, expected.numpy()) < 1e-4


ALIGNED = {  # model, text or tokens, language, frames of audio, tolerance of times
    "of a language without spaces": ("base", "私はアメリカ人です。", "ja", 1100, 0.0201),
    "with half a character": ("base", BROKEN, "fr", 1100, 0.0201),
    "in two positions": ("tiny.en", " And so, my fellow Americans", "en", 4, 0.0),
    "in three seconds": ("tiny.en", " And so, my fellow Americans", "en", 300, 0.0),
}


@pytest.mark.parametrize(("name", "text", "language", "frames", "tolerance"), ALIGNED.values(), ids=ALIGNED)
def test_words_have_the_same_times(name, text, language, frames, tolerance, request, pytorch, jfk_mel):
    model = request.getfixturevalue(name.replace(".", "_"))
    tokens = model.tokenizer.encode(text) if isinstance(text, str) else text
    theirs = their_tokenizer(model.is_multilingual, language)
    expected = timing.find_alignment(pytorch(model), theirs, tokens, torch.tensor(jfk_mel), frames)
    found = aligned(model, jfk_mel, frames, tokens, language)
    assert [(t.word, list(t.tokens)) for t in found] == [(t.word, t.tokens) for t in expected]
    for mine, other in zip(found, expected, strict=True):
        assert (mine.start, mine.end) == pytest.approx((other.start, other.end), rel=0, abs=tolerance)
        assert mine.probability == pytest.approx(other.probability, abs=1e-3)

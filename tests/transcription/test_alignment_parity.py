"""Words and their times against openai-whisper's: its functions, its model, and its main loop with hand-made words."""

import itertools
import sys
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
from minwhisper.transcription.word_timestamps import (
    APPEND_PUNCTUATION,
    PREPEND_PUNCTUATION,
    add_word_timestamps,
    assign_words,
    last_word_end,
    skip_hallucinations,
    skip_leading_silence,
)
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


def test_a_word_merged_over_a_boundary_goes_to_the_same_segment(monkeypatch):
    # The opening mark is the first segment's token, the word is the second's.
    timings = [WordTiming(" a", (1,), 0.0, 1.0, 0.9), WordTiming(" (", (2,), 1.0, 1.5, 0.9)]
    timings += [WordTiming("b", (3,), 1.5, 2.0, 0.9), WordTiming(")", (4,), 2.0, 2.5, 0.9)]
    merged = merge_punctuations(timings, "(", ")")
    assert [[word["word"] for word in words] for words in assign_words(merged, [2, 2], 0.0)] == [[" a", " (b)"], []]
    segments = [{"seek": 0, "start": 0.0, "end": 9.0, "tokens": [1, 2]}, {"seek": 0, "start": 9.0, "end": 9.0}]
    segments[1]["tokens"] = [3, 4]
    monkeypatch.setattr(timing, "find_alignment", lambda *_, **__: theirs_of(timings))
    theirs = their_tokenizer(False, "en")
    timing.add_word_timestamps(
        segments=segments, model=None, tokenizer=theirs, mel=None, num_frames=9, last_speech_timestamp=0.0
    )
    assert [[word["word"] for word in segment["words"]] for segment in segments] == [[" a", " (b)"], []]


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


@pytest.mark.parametrize("clip", ["jfk.flac", "LJ001-0005.wav"])  # all clips: test_transcribe_parity.py
def test_words_of_a_clip_have_the_same_times(tiny_en, pytorch, speech, clip):
    segments = segments_of(tiny_en, speech[clip])
    count, differing = check_same_words(tiny_en, pytorch(tiny_en), speech[clip], segments)
    assert count > 3
    assert differing <= 1  # none did, of 220 words in thirteen clips


@pytest.mark.grid
@pytest.mark.parametrize("clip", ["LJ001-0005.wav"])
def test_words_of_a_clip_have_the_same_times_in_a_multilingual_model(base, pytorch, speech, clip):
    segments = segments_of(base, speech[clip])
    count, differing = check_same_words(base, pytorch(base), speech[clip], segments)
    assert count > 3
    assert differing <= 1


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


# ------------------------------------------------------------------------------------------ invented words

FRAMES = 3000


class ScriptedModel:
    """The part of a model that openai-whisper's ``transcribe`` uses; its output is scripted, then empty."""

    device = torch.device("cpu")
    dims = whisper.ModelDimensions(80, 1500, 4, 1, 1, 51864, 448, 4, 1, 1)
    is_multilingual = False
    num_languages = 99

    def __init__(self, script):
        self.script = script
        self.window = -1

    def decode(self, mel, options):
        self.window += 1
        return whisper.DecodingResult(None, "en", tokens=tokens_of(*self.now()), avg_logprob=0.0, temperature=0.0)

    def now(self):
        """Return the segments of this window, relative to it, and whether it ends with a single timestamp."""
        return self.script[self.window] if self.window < len(self.script) else ([], True)


ZERO, WORD = 50363, 1000


def tokens_of(segments, single):
    """As many segments of a word, half a second each."""
    tokens = []
    for number in range(max(1, len(segments))):
        tokens += [ZERO + 25 * number, WORD, ZERO + 25 * (number + 1)]
    return tokens if single else [*tokens, tokens[-1]]


def placed(relative, seek):
    """Return the words and times of a scripted segment in a window that starts at ``seek``."""
    offset = seek / 100
    words = [
        {"word": word, "start": round(offset + start, 2), "end": round(offset + end, 2), "probability": chance}
        for word, start, end, chance in relative["words"]
    ]
    start, end = round(offset + relative["start"], 2), round(offset + relative["end"], 2)
    return {"start": start, "end": end, "words": words}


def their_windows(monkeypatch, script, content, threshold):
    """Return the start of every window of openai-whisper, and the segments it keeps, as (start, end)."""
    module = sys.modules["whisper.transcribe"]
    model = ScriptedModel(script)
    seeks = []

    def attach(*, segments, last_speech_timestamp, **_):
        seek = segments[0]["seek"]
        seeks.append((seek, last_speech_timestamp))
        scripted = model.now()[0]
        for segment, relative in zip(segments, scripted, strict=bool(scripted)):
            segment.update(placed(relative, seek))
        for segment in segments:
            segment.setdefault("words", [])

    monkeypatch.setattr(module, "add_word_timestamps", attach)
    monkeypatch.setattr(module, "log_mel_spectrogram", lambda *_, **__: torch.zeros(80, content + FRAMES))
    result = whisper.transcribe(
        model, "", word_timestamps=True, hallucination_silence_threshold=threshold, fp16=False, temperature=0.0
    )
    kept = [(segment["start"], segment["end"]) for segment in result["segments"]]
    return seeks, kept


def our_windows(script, content, threshold):
    """Return the same with this package's functions, in a loop of its own."""
    seek, number, last_speech_end = 0, -1, 0.0
    seeks, kept = [], []
    while seek < content:
        number += 1
        scripted, single = script[number] if number < len(script) else ([], True)
        size = min(FRAMES, content - seek)
        seeks.append((seek, last_speech_end))
        segments = [placed(relative, seek) for relative in scripted]
        if not scripted:
            segments = [{"start": seek / 100, "end": seek / 100 + 0.5, "words": []}]
        following = seek + size if single else seek + 50 * max(1, len(scripted))
        end = last_word_end(segments)
        if not single and end > seek / 100:
            remainder = (seek + FRAMES) / 100 - end
            following = round(end * 100) if remainder > threshold else seek + size
        late = skip_leading_silence(segments, seek=seek, threshold=threshold)
        if late is not None:
            seek = late
            continue
        segments, restart = skip_hallucinations(
            segments, seek=seek, size=size, content=content, threshold=threshold, last_speech_end=last_speech_end
        )
        kept += [(segment["start"], segment["end"]) for segment in segments]
        if segments:
            last_speech_end = last_word_end(segments)
        seek = following if restart is None else restart
    return seeks, kept


GAPS = st.sampled_from([0.0, 0.3, 1.0, 1.9, 2.0, 2.1, 4.0, 8.0])


@st.composite
def scripted_window(draw):
    segments, at = [], 0.0
    for kind in draw(st.lists(st.sampled_from(["odd", "odd", "fine", "fine", "wordless"]), min_size=1, max_size=6)):
        at = start = round(at + draw(GAPS), 2)
        words = []
        if kind != "wordless":
            for _ in range(draw(st.integers(1, 4))):
                length = draw(st.sampled_from([0.3, 0.6] if kind == "fine" else [0.02, 0.1, 0.5, 4.0]))
                chance = draw(st.sampled_from([0.9, 0.5] if kind == "fine" else [0.05, 0.1, 0.9]))
                words.append((draw(st.sampled_from([" a", " b", ".", "?"])), at, round(at + length, 2), chance))
                at = round(at + length, 2)
        end = at if words else round(at + 0.5, 2)
        early = draw(st.sampled_from([0.0, 0.0, 0.5]))  # a segment need not start with its first word
        segments.append({"start": max(0.0, start - early), "end": end, "words": words})
        at = end
    return segments, draw(st.booleans())


@settings(UNHURRIED, max_examples=400)
@given(
    script=st.lists(scripted_window(), min_size=1, max_size=3),
    content=st.sampled_from([1500, 3000, 3700, 9000]),
    threshold=st.sampled_from([0.5, 2.0, 5.0]),
)
def test_the_same_windows_are_transcribed_and_the_same_segments_kept(monkeypatch, script, content, threshold):
    theirs = their_windows(monkeypatch, script, content, threshold)
    assert our_windows(script, content, threshold) == theirs

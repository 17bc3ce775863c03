"""Transcription: the loop over windows, with scripted output."""

from dataclasses import fields
from itertools import cycle, pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.decoding.options import DecodingOptions
from minwhisper.errors import LanguageError, MinWhisperError, OptionError
from minwhisper.transcription import transcribe as chapter
from scripted import (
    ENGLISH,
    HOP,
    KEYS,
    MULTILINGUAL,
    RATE,
    REPETITIVE,
    SILENT,
    NumberedSpectrogram,
    OutputTokens,
    Scripted,
    any_tokens,
    is_closed,
    made_up_tokenizer,
    output,
    places,
    quiet,
    run,
    start,
    timestamp,
)

# ------------------------------------------------------------------------------------------ windows

WINDOWS = {  # frames, script, windows, segments
    "a single timestamp at the end": (
        4000, [output(0.0, " one", 9.0), output(0.0, " two", 10.0)], [(0, 3000), (3000, 1000)],
        [(0, 0, 9, " one"), (3000, 30, 40, " two")],
    ),
    "consecutive timestamps": (
        4500, [output(0.0, " one", 5.0, 5.2, " two", 10.0, 10.0, " thr"), output(0.2, " three", 10.0), output(" four")],
        [(0, 3000), (1000, 3000), (4000, 500)],
        [(0, 0, 5, " one"), (0, 5.2, 10, " two"), (1000, 10, 20, " three"), (4000, 40, 45, " four")],
    ),
    "timestamps without progress": (
        5, [output(0.0, 0.0)] * 3, [(0, 5), (2, 3), (4, 1)], [(0, 0, 0, ""), (2, 0.02, 0.02, ""), (4, 0.04, 0.04, "")],
    ),
    "a frame more than a window, and no tokens": (
        3001, [output(0.0, " one", 29.0), output()], [(0, 3000), (3000, 1)],
        [(0, 0, 29, " one"), (3000, 30, 30.01, "")],
    ),
    "segments of no length or no text are kept empty": (
        300, [output(0.0, " one", 1.0, 1.0, 1.0, "  ", 2.0, 2.0, " two", 3.0)], [(0, 300)],
        [(0, 0, 1, " one"), (0, 1, 1, ""), (0, 1, 2, ""), (0, 2, 3, " two")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frames", "script", "windows", "segments"), WINDOWS.values(), ids=WINDOWS)
def test_windows_follow_each_other(frames, script, windows, segments):
    model = Scripted(script)
    result = run(model, frames)
    assert model.windows == windows
    assert places(result) == segments
    assert [s["id"] for s in result["segments"]] == list(range(len(segments)))
    assert result["text"] == "".join(text for *_, text in segments)
    assert next(model.script, None) is None  # all of the script was used


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("samples", [0, 159])
def test_audio_shorter_than_a_frame_has_no_window(samples, batch_size):
    model = Scripted([])
    running = model.stream(quiet(samples), progress=lambda *_: pytest.fail("reported"), batch_size=batch_size)
    assert list(running) == []
    assert running.transcript == {"text": "", "segments": [], "language": "en"}
    assert running.seconds == samples / RATE
    assert model.windows == []


def test_a_segment_has_openai_whispers_keys_and_the_windows_values():
    t = made_up_tokenizer(ENGLISH)
    one = (timestamp(t, 0), *t.encode(" one"), t.sot_lm, timestamp(t, 1))  # the text has no special token
    scripted = OutputTokens((*one, timestamp(t, 1), *t.encode(" "), timestamp(t, 2)), -0.5, 0.25, 1.5)
    first, second = run(Scripted([scripted]), 300)["segments"]
    assert list(first) == list(second) == KEYS
    assert first == dict(zip(KEYS, [0, 0, 0.0, 1.0, " one", list(one), 0.0, -0.5, 1.5, 0.25], strict=True))
    assert second["tokens"] == []


# ------------------------------------------------------------------------------------------ any audio, any tokens


@st.composite
def frames_and_clips(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Draw the length of a recording and the bounds of clips in it that do not overlap, in frames."""
    frames = draw(st.integers(1, 60) | st.integers(2900, 6100))
    bounds = draw(st.lists(st.integers(0, frames), max_size=4, unique=True).map(sorted))
    if len(bounds) % 2 and bounds[-1] == frames:
        bounds.pop()  # a last clip would be empty
    return frames, bounds


@settings(deadline=None, max_examples=60)
@given(
    layout=frames_and_clips(),
    answers=st.lists(any_tokens(), min_size=1, max_size=8),
    threshold=st.sampled_from([0.6, None]),
)
def test_arbitrary_tokens_advance_every_window_and_cover_the_clips(layout, answers, threshold):
    frames, bounds = layout
    repeated = cycle(answers)
    model = Scripted(lambda *_: next(repeated))
    reports: list[tuple[float, float]] = []
    options = {"temperature": 0.0, "no_speech_threshold": threshold, "clip_timestamps": [b / 100 for b in bounds]}
    result = run(model, frames, progress=lambda *report: reports.append(report), **options)
    edges = bounds or [0]
    edges = edges if len(edges) % 2 == 0 else [*edges, frames]
    clips = list(zip(edges[::2], edges[1::2], strict=True))
    assert len(model.calls) == len(model.windows) <= sum(end - begin for begin, end in clips)
    for begin, end in clips:
        windows = [(seek, size) for seek, size in model.windows if begin <= seek < end]
        assert [seek for seek, _ in windows][:1] == [begin]
        assert sum(windows[-1]) == end
        for (seek, size), (following, _) in pairwise(windows):
            assert size == min(3000, end - seek)
            assert seek < following <= seek + size  # forward, without skipping audio
    assert all(any(begin <= seek < end for begin, end in clips) for seek in model.seeks)
    assert [segment["id"] for segment in result["segments"]] == list(range(len(result["segments"])))
    done = [report[0] for report in reports]
    assert len(done) == len(model.windows)
    assert done == sorted(set(done))
    assert done[-1] == reports[0][1] == pytest.approx(sum(end - begin for begin, end in clips) / 100)


# ------------------------------------------------------------------------------------------ clips and progress


def progress(model, frames, **options):
    """Transcribe; return the seconds done in each progress report, the total seconds, and the transcript."""
    reports: list[tuple[float, float]] = []
    result = run(model, frames, progress=lambda *report: reports.append(report), **options)
    done = [report[0] for report in reports]
    assert {report[1] for report in reports} == {done[-1]}
    return done, result


CLIPS = {  # clips of 40 s of audio, their windows, and the seconds done after each
    "several": ("1,2,30,39.5", [(100, 100), (3000, 950)], [1, 10.5]),
    "a long one": ([5, 39], [(500, 3000), (3500, 400)], [30, 34]),
    "the last end left out": ([1, 2, 38], [(100, 100), (3800, 200)], [1, 3]),
    "between frames": ([0.996, 2.014], [(100, 101)], [1.018]),
    "less than a frame": ([1.001, 1.004, 2, 3], [(200, 100)], [1.003]),
    "about half a frame": ([0, 0.006, 1, 1.006], [(0, 1), (100, 1)], [0.006, 0.012]),
}


@pytest.mark.parametrize(("clips", "windows", "done"), CLIPS.values(), ids=CLIPS)
def test_each_clip_has_its_own_windows_and_counts_in_seconds(clips, windows, done):
    model = Scripted(lambda _options, window: output(f" {window[0]}"))
    seconds, result = progress(model, 4000, clip_timestamps=clips)
    assert model.windows == windows
    assert places(result) == [(seek, seek / 100, (seek + size) / 100, f" {seek}") for seek, size in windows]
    assert seconds == pytest.approx(done)


def test_progress_counts_what_is_done():
    outputs = [output(0.0, " a", 20.0, 20.0), output(" b")]
    assert progress(Scripted(outputs), 4500)[0] == [20.0, 45.0]
    assert progress(Scripted([SILENT, outputs[1]]), 4500)[0] == [30.0, 45.0]
    more = progress(Scripted([outputs[1], outputs[1]]), 4500, more=100)[0]  # the rest of a frame
    assert more == pytest.approx([30 * 45.00625 / 45, 45.00625])
    beyond = Scripted([output(0.0, " a", 9.0, 9.0), outputs[1]])  # past the clip's end
    assert progress(beyond, 4500, clip_timestamps=[1, 2, 5, 6])[0] == [1.0, 2.0]


def test_a_clip_may_end_with_the_audio_within_a_frame():
    model = Scripted([output(" one")])
    assert places(run(model, 4000, more=159, clip_timestamps=[39, 40 + 159 / RATE])) == [(3900, 39, 40, " one")]


@pytest.mark.parametrize(("clips", "closed"), [([5, 4], []), ("0,40.1", [True]), ([40], [True])])
def test_invalid_clips_are_rejected_before_any_work(opened, clips, closed):
    model = Scripted([])
    with pytest.raises(OptionError, match="clip_timestamps: expected"):
        start(model, 4000, clip_timestamps=clips)
    assert model.windows == []
    assert [is_closed(audio) for audio in opened] == closed


# ------------------------------------------------------------------------------------------ languages


def test_a_given_language_is_not_detected():
    model = Scripted([output(**REPETITIVE), output()], made_up_tokenizer(MULTILINGUAL))
    running = start(model, 300, language=" FRENCH ", task="translate")
    assert running.language == "fr"
    list(running)
    assert (running.language_probs, model.detected_at) == (None, [])
    assert [(options.language, options.task) for options in model.calls] == [("fr", "translate")] * 2
    assert running.transcript["language"] == "fr"
    with start(Scripted([]), 300, language_detection_windows=3) as english_only:
        assert (english_only.language, english_only.language_probs) == ("en", None)


HEARD = [{"fr": 0.6, "de": 0.4}, {"fr": 0.2, "de": 0.8}, {"fr": 0.9, "de": 0.1}, {"de": 1.0}]


@pytest.mark.parametrize(
    ("frames", "windows", "listened", "expected"),
    [
        (9001, 2, [0, 3000], {"fr": 0.4, "de": 0.6}),
        (9000, 9, [0, 3000, 6000], {"fr": 1.7 / 3, "de": 1.3 / 3}),
        (0, 1, [0], {"fr": 0.6, "de": 0.4}),
    ],
)
def test_the_language_is_detected_in_the_first_windows(frames, windows, listened, expected):
    model = Scripted(lambda *_: output(), made_up_tokenizer(MULTILINGUAL), HEARD)
    # Detection uses the start of the audio, whatever the clips.
    clips = [frames / 200, frames / 100] if frames > 2 else []
    running = start(model, frames, language_detection_windows=windows, clip_timestamps=clips)
    assert model.detected_at == listened
    assert {code: p for code, p in running.language_probs.items() if p} == pytest.approx(expected)
    assert list(running.language_probs) == list(model.tokenizer.languages)
    assert running.language == max(expected, key=expected.get)
    list(running)
    assert {options.language for options in model.calls} <= {running.language}
    assert running.transcript["language"] == running.language


@pytest.mark.parametrize(
    ("size", "options", "error", "match"),
    [
        (MULTILINGUAL, {"language": "Frensh"}, LanguageError, "unknown language 'Frensh'.*did you mean 'french'"),
        (MULTILINGUAL, {"language": "yue"}, LanguageError, "Cantonese"),
        (ENGLISH, {"language": "fr"}, LanguageError, "'fr'.*English only"),
        (ENGLISH, {"language": ""}, LanguageError, "unknown language ''"),
        (ENGLISH, {"task": "translate"}, MinWhisperError, "cannot translate"),
        (ENGLISH, {"laguage": "fr"}, OptionError, "unknown option 'laguage': did you mean 'language'"),
        (ENGLISH, {"suppress_tokens": [99999]}, OptionError, "suppress_tokens: expected ids from -1"),
        (ENGLISH, {"prefix": [99999]}, OptionError, "prefix"),
        *((ENGLISH, {"batch_size": size}, OptionError, "batch_size") for size in (0, 2.0, None)),
    ],
)
def test_invalid_options_are_rejected_before_any_work(size, options, error, match):
    model = Scripted([], made_up_tokenizer(size))
    for call in (model.stream, model.transcribe):
        with pytest.raises(error, match=match):
            call("/no/such/file", **options)  # before the file is opened
    assert model.windows == model.detected_at == []


# ------------------------------------------------------------------------------------------ the stream

TALK = [output(0.0, " one", 5.0, 5.0, " two", 29.0), output(0.0, " three", 29.0), output(0.0, " four", 1.0)]


def test_segments_come_as_soon_as_their_window_is_done_and_the_audio_is_released_at_the_end(opened):
    model = Scripted(TALK)
    running = start(model, 6100)
    assert model.windows == []  # nothing is transcribed before the first segment is requested
    assert running.transcript == {"text": "", "segments": [], "language": "en"}
    first = next(running)
    early = running.transcript
    seen = [(segment["text"], len(model.calls), len(running.segments)) for segment in running]
    assert seen == [(" two", 1, 2), (" three", 2, 3), (" four", 3, 4)]
    assert (early["text"], early["segments"]) == (" one", [first])  # a snapshot
    assert is_closed(opened[0])
    assert running._mel.forgotten  # a finished transcription holds no spectrogram
    assert next(running, None) is None
    assert running.transcript["text"] == " one two three four"
    with patch.object(chapter, "Spectrogram", NumberedSpectrogram):
        assert Scripted(TALK).transcribe(quiet(6100 * HOP)) == running.transcript


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_a_stream_can_be_closed_at_any_time(opened, taken):
    model = Scripted(TALK)
    with start(model, 6100) as running:
        for _ in range(taken):
            next(running)
        assert not is_closed(opened[0])
    assert is_closed(opened[0])
    assert next(running, None) is None
    running.close()  # twice is harmless
    assert [s["text"] for s in running.transcript["segments"]] == [" one", " two", " three", " four"][:taken]
    assert len(model.calls) == [0, 1, 1, 2, 3][taken]


def interrupt(*_report):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("script", "progress", "error"),
    [(TALK, interrupt, KeyboardInterrupt), ([TALK[0], RuntimeError("no memory")], None, RuntimeError)],
    ids=["of progress", "in a window"],
)
def test_an_error_keeps_the_segments_so_far(opened, script, progress, error):
    running = start(Scripted(script), 6100, progress=progress)
    found = [next(running), next(running)]
    with pytest.raises(error):
        next(running)
    assert is_closed(opened[0])
    assert running.transcript == {"text": " one two", "segments": found, "language": "en"}
    assert next(running, None) is None


def test_an_error_in_language_detection_closes_the_audio(opened):
    model = Scripted([], made_up_tokenizer(MULTILINGUAL))  # language_probs is an empty list
    with pytest.raises(IndexError):
        start(model, 100)
    assert is_closed(opened[0])


def test_one_generator_samples_for_all_windows():
    def sampled(generator: np.random.Generator | None) -> list[float]:
        model = Scripted(lambda *_: output(" x", **REPETITIVE))
        run(model, 3500, generator=generator, temperature=(0.2, 0.4))
        (only,) = {id(g): g for g in model.generators}.values()
        assert len(model.generators) == 4
        return only.random(3).tolist()

    assert sampled(None) == sampled(np.random.default_rng(0)) == np.random.default_rng(0).random(3).tolist()
    assert sampled(np.random.default_rng(1)) == np.random.default_rng(1).random(3).tolist()


def test_the_options_reach_the_decoder():
    model = Scripted([output()])
    given = {"sample_len": 7, "prefix": "so", "suppress_tokens": "1,2", "suppress_blank": False,
             "without_timestamps": True, "max_initial_timestamp": None}  # fmt: skip
    run(model, 100, **given)
    (call,) = model.calls
    expected = DecodingOptions(language="en", prompt=[], **given)
    assert all(getattr(call, f.name) == getattr(expected, f.name) for f in fields(DecodingOptions))

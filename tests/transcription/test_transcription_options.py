"""Options of a transcription: every rejection with its message, fallback temperatures, and clips."""

import itertools
import re

import numpy as np
import pytest

from minwhisper import DecodingOptions, TranscriptionOptions
from minwhisper.errors import OptionError
from minwhisper.printable import short_repr
from minwhisper.transcription.options import FALLBACK_TEMPERATURES
from option_values import NOT_COUNTS, NOT_FLAGS, NOT_NUMBERS, rejected

NO_TRACKS = [0, True, 1.0, " ", b"en", (1,), 10**9, "a" * 101]
REJECTED = [
    # too large, and shown only in part
    ({"temperature": [0.0, 10**5000]}, "temperature: expected numbers, 0 or more, got a value of type int"),
    ({"temperature": [0.5] * 200}, "at most 128, got 200"),
    ({"clip_timestamps": [10**400]}, "clip_timestamps: expected start,end,start,end,… in seconds, got (1000"),
    ({"clip_timestamps": itertools.count()}, "clip_timestamps: expected at most 1,000,000 values, got more"),
    ({"patience": 1e308, "beam_size": 5}, "patience: expected at most 1,000,000, got 1e+308"),
    ({"beam_size": 257}, "beam_size: expected a whole number, at most 256, got 257"),
    ({"initial_prompt": "a" * 100_001}, "initial_prompt: expected at most 100,000 characters, got 100,001"),
    ({"word_timestamps": [[]] * 10_000}, "word_timestamps: expected True or False, got [[], [], "),
    # options without an effect
    ({"carry_initial_prompt": True}, "carry_initial_prompt: give initial_prompt too"),
    ({"hallucination_silence_threshold": 2.0}, "hallucination_silence_threshold: needs the times of words; give word_"),
    ({"best_of": 5, "temperature": 0}, "best_of: sampling needs a temperature above 0; raise it, or use beam_size"),
    ({"beam_size": 5, "temperature": (0.2, 0.4)}, "beam_size: beam search needs temperature 0, which is not among "),
    ({"patience": 2.0, "best_of": 2}, "patience: applies to beam search only; give beam_size too"),
    # unknown names
    ({"colour": True}, "unknown option 'colour': expected one of compression_ratio_threshold"),
    ({"log_prob_threshold": 1}, "'log_prob_threshold': did you mean 'logprob_threshold'"),  # faster-whisper's
    ({"fp16": False}, "fp16: the precision is chosen when the model is loaded: load_model(name, dtype='float16')"),
    ({"prompt": "names"}, "prompt: in a transcription every window has its own prompt; use"),
    # clips that are negative, empty or overlap
    ({"clip_timestamps": "-1"}, "clip_timestamps: expected start,end,start,end,… in seconds, each 0 or more, got -1"),
    ({"clip_timestamps": "0,nan"}, "each 0 or more, got nan"),
    ({"clip_timestamps": "5,5"}, "each end after its start; got 5 to 5"),
    ({"clip_timestamps": "0,10,5"}, "without overlaps; got an end at 10, then a start at 5"),
    # tracks
    ({"audio_track": "0"}, "audio_track: expected a number, 1 for the first audio track, or a language, got 0"),
    *(({"audio_track": wrong}, f"track, or a language, got {short_repr(wrong)}") for wrong in NO_TRACKS),
]


@pytest.mark.parametrize(("options", "message"), REJECTED, ids=[f"{message:.60}" for _, message in REJECTED])
def test_options_are_rejected_with_a_short_message(options, message):
    line = rejected(TranscriptionOptions, options, message)
    assert len(line) < (1000 if "expected one of" in line else 500)  # a list of all option names takes more


THRESHOLDS = ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")
FLAGS = ("condition_on_previous_text", "carry_initial_prompt", "word_timestamps", "record")
SILENCE = "hallucination_silence_threshold"
WRONG = {
    **dict.fromkeys(THRESHOLDS, (NOT_NUMBERS, "expected a number, or None for no threshold, got {}")),
    **dict.fromkeys(FLAGS, (NOT_FLAGS, "expected True or False, got {}")),
    "vad_filter": ([*NOT_FLAGS, "Silero", np.array(["silero"])], "expected True, False or 'silero', got {}"),
    SILENCE: ([*NOT_NUMBERS, -0.1], "expected seconds, 0 or more, or None, got {}"),
    "language_detection_windows": ([*NOT_COUNTS, None], "expected a whole number, at least 1, got {}"),
    "prepend_punctuations": ([None], "expected a string of marks, got {}"),
    "append_punctuations": ([[","]], "expected a string of marks, got {}"),
    "initial_prompt": ([[1, 2]], "expected a text, got {}"),
    "temperature": (
        [*NOT_NUMBERS[:-2], None, -0.2, "", np.array(0.5), (0.0, "x")],
        "expected numbers, 0 or more, got ",
    ),
    "clip_timestamps": (
        ["a", "0:30", b"1,2", 5.0, None, (None,), ("x",), (True,), np.array(5.0), ([1],)],
        "expected start,end,start,end,… in seconds, got {}",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_value_is_rejected_by_name(name):
    values, message = WRONG[name]
    others = {"word_timestamps": True} if name == SILENCE else {}
    for wrong in values:
        rejected(TranscriptionOptions, {name: wrong, **others}, f"{name}: {message.format(repr(wrong))}")


@pytest.mark.parametrize("none", [[], (), np.zeros(0)], ids=repr)
def test_an_empty_list_of_temperatures_is_rejected(none):
    rejected(TranscriptionOptions, {"temperature": none}, "temperature: expected a number or several, such as (0.0, ")


def test_valid_values_are_kept():
    for name, right in itertools.product(THRESHOLDS, [-1.0, 0, np.float32(2.5), None]):
        assert getattr(TranscriptionOptions.named(**{name: right}), name) == right
    assert TranscriptionOptions.named(language_detection_windows=np.int64(3)).language_detection_windows == 3


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, None), (np.int64(2), 2), (" 2", 2), ("French", "fr"), ("pt-BR", "pt-br")],
)
def test_an_audio_track_is_a_number_or_a_language(given, meant):
    assert TranscriptionOptions.named(audio_track=given).audio_track == meant


# ------------------------------------------------------------------------------------------ fallback temperatures


def test_there_are_six_fallback_temperatures_by_default():
    assert FALLBACK_TEMPERATURES == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert TranscriptionOptions.named().decoding_options == tuple(
        DecodingOptions(temperature=t) for t in FALLBACK_TEMPERATURES
    )


def test_beam_search_and_sampling_share_the_other_options():
    shared = {"length_penalty": 0.6, "language": "fr", "suppress_tokens": (1, 2)}
    search = {"beam_size": 3, "patience": 2.0, "best_of": 4, "suppress_tokens": iter([1, 2])}
    options = TranscriptionOptions.named(temperature=(0.4, 0), logprob_threshold=None, **shared | search)
    assert options.decoding_options == (
        DecodingOptions(temperature=0.4, best_of=4, **shared),
        DecodingOptions(temperature=0.0, beam_size=3, patience=2.0, **shared),
    )
    assert options.logprob_threshold is None


@pytest.mark.parametrize("temperature", [0.5, iter((0.5,)), np.float32(0.5), np.array([0.5], "float16")])
def test_one_temperature_or_several_become_plain_numbers(temperature):
    (options,) = TranscriptionOptions.named(temperature=temperature).decoding_options
    assert options == DecodingOptions(temperature=0.5)
    assert type(options.temperature) is float


# ------------------------------------------------------------------------------------------ clips


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [(0, 60)]),
        ("5,", [(5, 60)]),
        (" 5 , 7.5 ", [(5, 7.5)]),
        ("5,7,7,9.5,20", [(5, 7), (7, 9.5), (20, 60)]),
        ("0,60", [(0, 60)]),
        (iter([1, 2]), [(1, 2)]),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],  # an iterator's kind, without its address
)
def test_clips_are_pairs_of_start_and_end_and_the_last_end_may_be_omitted(given, expected):
    options = TranscriptionOptions.named(clip_timestamps=given)
    for _ in range(2):  # an iterator can be read only once
        assert options.clips(60.0) == tuple(expected)


@pytest.mark.parametrize(
    ("past", "seconds", "message"),
    [
        ("0,60.5", 60.0, "each at most 60.00, the length of the audio; got 60.5"),
        ("60", 60.0, "each end after its start; got 60 to 60"),
        ("0,5", 0.0, "each at most 0.00, the length of the audio; got 5"),
    ],
)
def test_clips_past_the_end_of_the_audio_are_rejected(past, seconds, message):
    options = TranscriptionOptions.named(clip_timestamps=past)  # the length of the audio is not known yet
    with pytest.raises(OptionError, match=re.escape(message)):
        options.clips(seconds)


def test_empty_audio_has_one_empty_clip():
    assert TranscriptionOptions.named().clips(0.0) == ((0.0, 0.0),)

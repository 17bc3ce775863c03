"""What can be asked for: every refusal with its message, what is accepted and kept, and how a window is attempted."""

import copy
import itertools
import math
import pickle
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwhisper import DecodingOptions
from minwhisper.decoding.options import FALLBACK_TEMPERATURES, TranscriptionOptions
from minwhisper.errors import OptionError
from minwhisper.printable import short_repr

NO_NUMBERS = ["0.5", b"1", True, np.bool_(False), math.nan, np.float32("nan"), math.inf, -math.inf, [0.5], 1j]
NO_COUNTS = [0, -1, 2.5, 3.0, "5", True, np.bool_(True), np.int64(0), np.float64(2.0), [1], math.nan]
NO_FLAGS = [0, 1, "yes", 1.0, [], None]


def refused(cls: type, options: dict[str, object], message: str) -> None:
    """The options are refused with a message of one line that has this in it."""
    with pytest.raises(OptionError) as caught:
        cls.named(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------ of every size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 10**400}, "temperature: expected numbers, 0 or more, got 1000"),
        ({"temperature": [0.0, 10**5000]}, "temperature: expected numbers, 0 or more, got a value of type int"),
        ({"temperature": itertools.count()}, "temperature: expected at most 65,536 values, got more"),
        ({"temperature": [0.5] * 200}, "at most 128, got 200"),
        ({"clip_timestamps": [10**400]}, "clip_timestamps: expected start,end,start,end,… in seconds, got (1000"),
        ({"clip_timestamps": itertools.count()}, "clip_timestamps: expected at most 1,000,000 values, got more"),
        ({"patience": 1e308, "beam_size": 5}, "patience: expected at most 1,000,000, got 1e+308"),
        ({"beam_size": 257}, "beam_size: expected a whole number, at most 256, got 257"),
        ({"best_of": 10**30}, "best_of: expected a whole number, at most 256, got 1000"),
        ({"task": np.array(["transcribe", "translate"])}, "task: expected 'transcribe' or 'translate', got array(["),
        ({"suppress_tokens": range(10**12)}, "suppress_tokens: expected at most 65,536 values, got more"),
        ({"initial_prompt": "a" * 100_001}, "initial_prompt: expected at most 100,000 characters, got 100,001"),
        ({"word_timestamps": [[]] * 10_000}, "word_timestamps: expected True or False, got [[], [], "),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str) else "",
)
def test_no_value_is_too_large_to_be_refused(options, message):
    refused(TranscriptionOptions, options, message)
    with pytest.raises(OptionError) as caught:
        TranscriptionOptions.named(**options)
    assert len(str(caught.value)) < 500


def test_what_is_no_option_is_checked_too(tiny_en):
    mel = np.zeros((80, 3000), np.float32)
    for call, message in (
        (lambda: tiny_en.decode(mel, {"beam_size": 5}), "options: expected DecodingOptions or None, got {'beam_size'"),
        (lambda: tiny_en.decode(mel, generator=7), "generator: expected a numpy.random.Generator"),
        (lambda: tiny_en.transcribe("x", generator=7), "generator: expected a numpy.random.Generator"),
        (lambda: tiny_en.transcribe("x", progress="bar"), "progress: expected a function"),
        (lambda: tiny_en.transcribe_many(["x"], seed=1.5), "seed: expected a whole number, 0 or more, got 1.5"),
        (lambda: tiny_en.transcribe_many(["x"], seed=2**128), "seed: expected a whole number, at most "),
    ):
        with pytest.raises(OptionError, match=re.escape(message)):
            call()


# ------------------------------------------------------------------------------------------ a window, one by one


@pytest.mark.parametrize("wrong", ["transcript", "", None, 1])
def test_there_are_two_tasks(wrong):
    refused(DecodingOptions, {"task": wrong}, f"task: expected 'transcribe' or 'translate', got {wrong!r}")


def test_hearing_the_language_is_no_task_here():
    refused(DecodingOptions, {"task": "lang_id"}, "task: 'lang_id' is a method of its own here, detect_language")


@pytest.mark.parametrize("wrong", [7, b"en", ["en"]])
def test_a_language_is_a_text(wrong):
    refused(DecodingOptions, {"language": wrong}, f"language: expected a code or an English name, got {wrong!r}")


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -0.1, np.float64(-1e-9), None, (0.0, 0.2)], ids=repr)
def test_a_temperature_is_0_or_above(wrong):
    message = f"temperature: expected 0, or above for sampling, got {wrong!r}"
    refused(DecodingOptions, {"temperature": wrong}, message)


@pytest.mark.parametrize("wrong", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("name", ["sample_len", "best_of", "beam_size"])
def test_counts_are_whole_numbers_from_1(name, wrong):
    temperature = 0.5 if name == "best_of" else 0.0
    message = f"{name}: expected a whole number, at least 1, got {wrong!r}"
    refused(DecodingOptions, {name: wrong, "temperature": temperature}, message)


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, 0, 0.0, -1], ids=repr)
def test_patience_is_above_0(wrong):
    message = f"patience: expected a number above 0, such as 1.0, got {wrong!r}"
    refused(DecodingOptions, {"patience": wrong, "beam_size": 5}, message)


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -0.01, 1.01], ids=repr)
def test_a_length_penalty_lies_from_0_to_1(wrong):
    refused(DecodingOptions, {"length_penalty": wrong}, f"length_penalty: expected 0 to 1, got {wrong!r}")


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -0.02, 30.02], ids=repr)
def test_max_initial_timestamp_lies_within_a_window(wrong):
    message = f"max_initial_timestamp: expected 0 to 30 seconds, got {wrong!r}"
    refused(DecodingOptions, {"max_initial_timestamp": wrong}, message)


@pytest.mark.parametrize("wrong", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("name", ["suppress_blank", "without_timestamps"])
def test_flags_are_true_or_false(name, wrong):
    refused(DecodingOptions, {name: wrong}, f"{name}: expected True or False, got {wrong!r}")


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (5, "5"),
        (b"And so", "b'And so'"),
        (1.5, "1.5"),
        ([1, 2.0], "2.0 among them"),
        ([True], "True among them"),
        (["so"], "'so' among them"),
        (np.array([1.0, 2.0]), "among them"),
        (np.array(5), "array(5)"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_what_comes_before_is_text_or_ids(name, wrong, shown):
    refused(DecodingOptions, {name: wrong}, f"{name}: expected a text or token ids, got ")
    refused(DecodingOptions, {name: wrong}, shown)


@pytest.mark.parametrize(
    "wrong", ["one", "1;2", "1.5", "1 2", [1.5], ["x"], [None], [True], 7, b"1,2", np.array([0.5])], ids=repr
)
def test_suppressed_tokens_are_ids(wrong):
    refused(DecodingOptions, {"suppress_tokens": wrong}, "suppress_tokens: expected ids such as '-1' or '1,2,3', got ")


# ------------------------------------------------------------------------------------------ a window, together


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 5, "best_of": 5}, "beam_size, best_of: a beam search does not sample; leave one of them out"),
        (
            {"beam_size": 5, "best_of": 5, "temperature": 0.5},
            "beam_size, best_of: a beam search does not sample; leave one of them out",
        ),
        ({"beam_size": 5, "temperature": 0.4}, "beam_size: a beam search has temperature 0, got 0.4; or use best_of"),
        ({"best_of": 5}, "best_of: candidates differ above temperature 0 only; raise it, or use beam_size"),
        ({"patience": 2.0}, "patience: a beam search has it; give beam_size too"),
        ({"patience": 2.0, "temperature": 0.5}, "patience: a beam search has it; give beam_size too"),
        ({"beam_size": 4, "patience": 0.125}, "patience: expected more than 0.125 for this beam_size, got 0.125"),
        ({"beam_size": 1, "patience": 0.4}, "patience: expected more than 0.5 for this beam_size, got 0.4"),
    ],
)
def test_contradictions_are_refused(options, message):
    refused(DecodingOptions, options, message)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 4, "patience": 0.126},
        {"beam_size": np.int64(5), "patience": np.float32(2), "length_penalty": np.float64(0.6)},
        {"best_of": np.int32(3), "temperature": np.float32(0.4)},
        {"best_of": 1, "temperature": 1},
        {"length_penalty": 0},
        {"length_penalty": 1},
        {"sample_len": np.uint8(200)},
        {"max_initial_timestamp": 0},
        {"max_initial_timestamp": 30.0},
        {"max_initial_timestamp": None},
        {"suppress_blank": np.bool_(True), "without_timestamps": np.False_},
        {"prompt": "", "prefix": " "},
        {"prompt": [], "prefix": ()},
        {"suppress_tokens": "-1, 2,"},
        {"language": "klingon"},  # the model says what it knows
    ],
    ids=str,
)
def test_what_makes_sense_is_taken_as_it_is(options):
    taken = DecodingOptions.named(**options)
    for name, value in options.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(taken, name) == expected


@given(
    temperature=st.sampled_from([0.0, 0.7]),
    best_of=st.sampled_from([None, 2]),
    beam_size=st.sampled_from([None, 3]),
    patience=st.sampled_from([None, 0.1, 0.5, 2.0]),
)
def test_what_is_taken_can_be_carried_out(temperature, best_of, beam_size, patience):
    # A search for the truth table of the contradictions, said differently than in the code.
    sampled = temperature > 0
    sense = (
        not (beam_size and sampled)
        and not (best_of and not sampled)
        and (patience is None or (beam_size is not None and patience > 0.1))
    )
    options = {"temperature": temperature, "best_of": best_of, "beam_size": beam_size, "patience": patience}
    if sense:
        DecodingOptions(**options)
    else:
        with pytest.raises(OptionError):
            DecodingOptions(**options)


def test_options_can_be_given_by_place_replaced_copied_and_stored():
    options = DecodingOptions("translate", "fr", prompt=[1, 2], suppress_tokens=[3])
    assert (options.task, options.language) == ("translate", "fr")
    assert replace(options, language="de", prompt=None) == DecodingOptions(
        task="translate", language="de", suppress_tokens=(3,)
    )
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options
    assert len({options, copy.copy(options)}) == 1
    with pytest.raises(FrozenInstanceError):
        options.task = "transcribe"


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, lambda ids: (np.int64(i) for i in ids)])
def test_ids_of_any_collection_are_kept(make):
    # One that can be read once only would be empty for the second window.
    for name in ("prompt", "prefix", "suppress_tokens"):
        kept = getattr(DecodingOptions(**{name: make([5, 7])}), name)
        assert kept == (5, 7)
        assert {type(i) for i in kept} == {int}


# ------------------------------------------------------------------------------------------ names


def test_an_unknown_option_is_an_error_that_names_it_and_the_others():
    refused(DecodingOptions, {"width": 5}, "unknown option 'width': expected one of task, language, temperature, ")
    refused(
        TranscriptionOptions, {"colour": True}, "unknown option 'colour': expected one of compression_ratio_threshold"
    )


@pytest.mark.parametrize(
    ("cls", "given", "meant"),
    [
        (DecodingOptions, "lnguage", "'language'"),
        (DecodingOptions, "beam_sise", "'beam_size'"),
        (TranscriptionOptions, "lnguage", "'language'"),
        (TranscriptionOptions, "word_timestamp", "'word_timestamps'"),
        (TranscriptionOptions, "temperatures", "'temperature'"),
        (TranscriptionOptions, "log_prob_threshold", "'logprob_threshold'"),  # as faster-whisper has it
    ],
)
def test_a_misspelt_option_is_an_error_that_names_the_right_one(cls, given, meant):
    with pytest.raises(OptionError, match=f"unknown option '{given}': did you mean .*{meant}.*\\? expected one of "):
        cls.named(task="translate", **{given: 1})


def test_precision_and_the_windows_prompt_have_hints_of_their_own():
    fp16 = "fp16: precision is chosen when the model is loaded: load_model(name, dtype='float16')"
    refused(DecodingOptions, {"fp16": False}, fp16)
    refused(TranscriptionOptions, {"fp16": False}, fp16)
    prompt = "prompt: in a transcription every window has its own; use initial_prompt"
    refused(TranscriptionOptions, {"prompt": "names"}, prompt)
    assert DecodingOptions.named(prompt="names").prompt == "names"


def test_attempts_are_made_and_not_given():
    refused(TranscriptionOptions, {"decoding_options": ()}, "unknown option 'decoding_options'")


# ------------------------------------------------------------------------------------------ suppressed tokens


def test_minus_one_suppresses_what_is_not_spoken_and_what_only_a_prompt_may_have(model):
    tokenizer = model.tokenizer
    expected = tokenizer.suppressed_tokens
    assert set(tokenizer.non_speech_tokens) < set(expected)
    for given_ids in ("-1", [-1], (-1,), [np.int64(-1)], np.array([-1]), " -1 "):
        assert DecodingOptions(suppress_tokens=given_ids).suppressed_ids(tokenizer) == expected


def test_without_suppressed_tokens_those_of_the_prompt_alone_stay_forbidden(model):
    t = model.tokenizer
    prompt_only = tuple(sorted([t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech]))
    for nothing in ("", None, [], (), " , "):
        assert DecodingOptions(suppress_tokens=nothing).suppressed_ids(t) == prompt_only


def test_suppressed_ids_can_be_listed(model):
    t = model.tokenizer
    prompt_only = {t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech}
    for two in ("1,2", "2, 1", "1,2,", [1, 2], (2, 1, 1), np.array([1, 2]), {1, 2}):
        assert DecodingOptions(suppress_tokens=two).suppressed_ids(t) == tuple(sorted({1, 2} | prompt_only))
    ours_too = next(i for i in range(t.eot) if i not in t.non_speech_tokens)
    both = DecodingOptions(suppress_tokens=f"-1,{ours_too}").suppressed_ids(t)
    assert set(both) == {ours_too, *t.suppressed_tokens}


def test_an_id_that_is_listed_stays_suppressed_without_minus_one(tiny_en):
    some = tiny_en.tokenizer.non_speech_tokens[:2]
    assert set(some) <= set(DecodingOptions(suppress_tokens=some).suppressed_ids(tiny_en.tokenizer))


@pytest.mark.parametrize("wrong", [-2, 51864])
def test_suppressed_ids_outside_of_the_vocabulary_are_refused(tiny_en, wrong):
    with pytest.raises(OptionError, match=f"suppress_tokens: {wrong} is no id of a vocabulary of 51864"):
        DecodingOptions(suppress_tokens=[1, wrong]).suppressed_ids(tiny_en.tokenizer)


# ------------------------------------------------------------------------------------------ a whole sound


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("name", ["compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"])
def test_thresholds_are_numbers_or_none(name, wrong):
    message = f"{name}: expected a number, or None for no threshold, got {wrong!r}"
    refused(TranscriptionOptions, {name: wrong}, message)


@pytest.mark.parametrize("right", [-1.0, 0, np.float32(2.5), None])
@pytest.mark.parametrize("name", ["compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"])
def test_every_threshold_is_taken(name, right):
    assert getattr(TranscriptionOptions.named(**{name: right}), name) == right


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -0.1], ids=repr)
def test_a_stretch_of_silence_is_not_negative(wrong):
    message = f"hallucination_silence_threshold: expected seconds, 0 or more, or None, got {wrong!r}"
    refused(TranscriptionOptions, {"hallucination_silence_threshold": wrong, "word_timestamps": True}, message)


@pytest.mark.parametrize("wrong", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("name", ["condition_on_previous_text", "carry_initial_prompt", "word_timestamps"])
def test_the_flags_of_a_transcription_are_true_or_false(name, wrong):
    refused(TranscriptionOptions, {name: wrong}, f"{name}: expected True or False, got {wrong!r}")


@pytest.mark.parametrize("wrong", [*NO_COUNTS, None], ids=repr)
def test_at_least_one_window_tells_the_language(wrong):
    message = f"language_detection_windows: expected a whole number, at least 1, got {wrong!r}"
    refused(TranscriptionOptions, {"language_detection_windows": wrong}, message)
    assert TranscriptionOptions.named(language_detection_windows=np.int64(3)).language_detection_windows == 3


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "", " ", "0", b"en", (1,), 10**9, "a" * 101])
def test_audio_tracks_that_there_cannot_be(wrong):
    got = 0 if wrong == "0" else wrong
    message = f"audio_track: expected a number, 1 for the first audio track, or a language, got {short_repr(got)}"
    refused(TranscriptionOptions, {"audio_track": wrong}, message)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, None), (2, 2), (np.int64(2), 2), (" 2", 2), ("French", "fr"), ("fra", "fra"), ("pt-BR", "pt-br")],
)
def test_audio_tracks_by_number_and_by_language(given, meant):
    assert TranscriptionOptions.named(audio_track=given).audio_track == meant


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prepend_punctuations": None}, "prepend_punctuations: expected a text with the marks, got None"),
        ({"append_punctuations": [","]}, "append_punctuations: expected a text with the marks, got [',']"),
        ({"initial_prompt": [1, 2]}, "initial_prompt: expected a text, got [1, 2]"),
        (
            {"carry_initial_prompt": True},
            "carry_initial_prompt: there is none to carry; give initial_prompt too",
        ),
        (
            {"hallucination_silence_threshold": 2.0},
            "hallucination_silence_threshold: it goes by the words' times; give word_timestamps too",
        ),
    ],
)
def test_what_a_transcription_cannot_do_is_refused(options, message):
    refused(TranscriptionOptions, options, message)


# ------------------------------------------------------------------------------------------ attempts


def test_by_default_a_window_is_tried_at_six_temperatures():
    assert FALLBACK_TEMPERATURES == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert TranscriptionOptions.named().decoding_options == tuple(
        DecodingOptions(temperature=t) for t in FALLBACK_TEMPERATURES
    )


def test_one_search_and_one_sampling_share_their_options():
    options = TranscriptionOptions.named(
        temperature=(0.4, 0),
        beam_size=3,
        patience=2.0,
        best_of=4,
        length_penalty=0.6,
        language="fr",
        suppress_tokens=iter([1, 2]),
        logprob_threshold=None,
    )
    shared = {"length_penalty": 0.6, "language": "fr", "suppress_tokens": (1, 2)}
    assert options.decoding_options == (
        DecodingOptions(temperature=0.4, best_of=4, **shared),
        DecodingOptions(temperature=0.0, beam_size=3, patience=2.0, **shared),
    )
    assert options.logprob_threshold is None


@pytest.mark.parametrize(
    "temperature", [0.5, [0.5], iter((0.5,)), np.float32(0.5), np.array([0.5]), np.array([0.5], "float16")]
)
def test_a_temperature_can_be_one_or_several_and_becomes_a_plain_number(temperature):
    (attempt,) = TranscriptionOptions.named(temperature=temperature).decoding_options
    assert attempt == DecodingOptions(temperature=0.5)
    assert type(attempt.temperature) is float


@pytest.mark.parametrize("wrong", [[], (), np.zeros(0)], ids=repr)
def test_there_is_at_least_one_temperature(wrong):
    refused(TranscriptionOptions, {"temperature": wrong}, "temperature: expected a number or several, such as (0.0, ")


@pytest.mark.parametrize("wrong", [*NO_NUMBERS[:-2], None, -0.2, "", np.array(0.5)], ids=repr)
def test_temperatures_are_0_or_above(wrong):
    refused(TranscriptionOptions, {"temperature": wrong}, f"temperature: expected numbers, 0 or more, got {wrong!r}")
    several = (0.0, wrong)
    refused(TranscriptionOptions, {"temperature": several}, f"temperature: expected numbers, 0 or more, got {wrong!r}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"best_of": 5, "temperature": 0},
            "best_of: candidates differ above temperature 0 only; raise it, or use beam_size",
        ),
        (
            {"beam_size": 5, "temperature": (0.2, 0.4)},
            "beam_size: a beam search has temperature 0, which is not among those given; or use best_of",
        ),
        ({"patience": 2.0}, "patience: a beam search has it; give beam_size too"),
        ({"patience": 2.0, "temperature": 0.5}, "patience: a beam search has it; give beam_size too"),
        ({"patience": 2.0, "temperature": 0.5, "best_of": 2}, "patience: a beam search has it; give beam_size too"),
        ({"beam_size": 0}, "beam_size: expected a whole number, at least 1, got 0"),
        ({"best_of": 0}, "best_of: expected a whole number, at least 1, got 0"),
        ({"length_penalty": 2}, "length_penalty: expected 0 to 1, got 2"),
        ({"task": "translat"}, "task: expected 'transcribe' or 'translate', got 'translat'"),
    ],
)
def test_an_option_that_no_attempt_could_use_is_refused(options, message):
    refused(TranscriptionOptions, options, message)


# ------------------------------------------------------------------------------------------ clips


@pytest.mark.parametrize(
    ("given_clips", "expected"),
    [
        ("0", [(0, 60)]),
        ("", [(0, 60)]),
        ([], [(0, 60)]),
        ("5", [(5, 60)]),
        ("5,", [(5, 60)]),
        (" 5 , 7.5 ", [(5, 7.5)]),
        ("5,7,7,9.5,20", [(5, 7), (7, 9.5), (20, 60)]),
        ("0,60", [(0, 60)]),
        ([1, 2.5, 3], [(1, 2.5), (3, 60)]),
        ((1.0, 2.0), [(1, 2)]),
        (iter([1, 2]), [(1, 2)]),
        (np.array([1, 2, 3]), [(1, 2), (3, 60)]),
        ("1e1,2e1", [(10, 20)]),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],  # of an iterator, its kind
)
def test_clips_are_pairs_of_start_and_end_and_the_last_may_be_open(given_clips, expected):
    options = TranscriptionOptions.named(clip_timestamps=given_clips)
    for _ in range(2):  # asked again, they are still there
        assert options.clips(60.0) == tuple(expected)


@pytest.mark.parametrize(
    "wrong", ["a", "0:30", "1;2", b"1,2", 5, 5.0, None, (None,), ("x",), (True,), np.array(5.0), ([1],)], ids=repr
)
def test_clips_are_numbers(wrong):
    message = f"clip_timestamps: expected start,end,start,end,… in seconds, got {wrong!r}"
    refused(TranscriptionOptions, {"clip_timestamps": wrong}, message)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("-1", "each 0 or more, got -1"),
        ("0,nan", "each 0 or more, got nan"),
        ("0,inf", "each 0 or more, got inf"),
        ("5,3", "each end after its start; got 5 to 3"),
        ("5,5", "each end after its start; got 5 to 5"),
        ("0,10,5,20", "no clip before the last one ended; got 10, then 5"),
        ("0,10,5", "no clip before the last one ended; got 10, then 5"),
        ("20,30,0,10", "no clip before the last one ended; got 30, then 0"),
    ],
)
def test_clips_go_forward(wrong, message):
    refused(TranscriptionOptions, {"clip_timestamps": wrong}, f"start,end,… in seconds, {message}")


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ("61", "each at most 60.00, where the sound ends; got 61"),
        ("0,60.5", "each at most 60.00, where the sound ends; got 60.5"),
        ("60", "each end after its start; got 60 to 60"),
    ],
)
def test_clips_lie_within_the_sound(past, message):
    options = TranscriptionOptions.named(clip_timestamps=past)  # how long the sound is, is not known yet
    with pytest.raises(OptionError, match=re.escape(message)):
        options.clips(60.0)


def test_of_no_sound_at_all_there_is_one_stretch():
    assert TranscriptionOptions.named().clips(0.0) == ((0.0, 0.0),)
    with pytest.raises(OptionError, match=r"each at most 0\.00, where the sound ends; got 5"):
        TranscriptionOptions.named(clip_timestamps="0,5").clips(0.0)

"""Options of decoding: every rejection with its message, and the values that are accepted and kept."""

import copy
import pickle
import re
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import numpy as np
import pytest

from minwhisper import DecodingOptions
from minwhisper.errors import OptionError
from option_values import NOT_COUNTS, NOT_FLAGS, NOT_NUMBERS, rejected

# ------------------------------------------------------------------------------------------ single values


NOT_TEMPERATURES = [*NOT_NUMBERS, -0.1, np.float64(-1e-9), None, (0.0, 0.2)]
NOT_IDS = ["one", "1;2", "1.5", "1 2", [1.5], ["x"], [None], [True], 7, b"1,2", np.array([0.5])]
NOT_TEXTS = [5, b"And so", [1, 2.0], [True], ["so"], np.array([1.0, 2.0]), np.array(5)]
WRONG = {  # the option, values, the message
    "a task": ("task", ["transcript", "", None, 1], "expected 'transcribe' or 'translate', got {}"),
    "a language": ("language", [7, b"en", ["en"]], "expected a code or an English name, got {}"),
    "a temperature": ("temperature", NOT_TEMPERATURES, "expected 0, or above for sampling, got {}"),
    "a patience": ("patience", [*NOT_NUMBERS, 0, 0.0, -1], "expected a number above 0, such as 1.0, got {}"),
    "a penalty": ("length_penalty", [*NOT_NUMBERS, -0.01, 1.01], "expected 0 to 1, got {}"),
    "a time": ("max_initial_timestamp", [*NOT_NUMBERS, -0.02, 30.02], "expected 0 to 30 seconds, got {}"),
    "lang_id": ("task", ["lang_id"], "'lang_id' is not supported here; call detect_language"),
    "a length": ("sample_len", NOT_COUNTS, "expected a whole number, at least 1, got {}"),
    "a best_of": ("best_of", NOT_COUNTS, "expected a whole number, at least 1, got {}"),
    "a beam": ("beam_size", NOT_COUNTS, "expected a whole number, at least 1, got {}"),
    "suppress_blank": ("suppress_blank", NOT_FLAGS, "expected True or False, got {}"),
    "without_timestamps": ("without_timestamps", NOT_FLAGS, "expected True or False, got {}"),
    "ids": ("suppress_tokens", NOT_IDS, "expected ids such as '-1' or '1,2,3', got "),
    "a prompt": ("prompt", NOT_TEXTS, "expected text or token ids, got "),
    "a prefix": ("prefix", NOT_TEXTS, "expected text or token ids, got "),
    "an id": ("prompt", [[1, 2.0]], "expected text or token ids, got 2.0 among them"),
}


@pytest.mark.parametrize(("name", "values", "message"), WRONG.values(), ids=WRONG)
def test_an_invalid_value_is_rejected_by_name(name, values, message):
    others = {"patience": {"beam_size": 5}, "best_of": {"temperature": 0.5}}.get(name, {})
    for wrong in values:
        rejected(DecodingOptions, {name: wrong, **others}, f"{name}: {message.format(repr(wrong))}")


# ------------------------------------------------------------------------------------------ combinations


CONTRADICTIONS = [
    ({"beam_size": 5, "best_of": 5, "temperature": 0.5}, "beam_size, best_of: a beam search does not sample; omit one"),
    *(
        ({"beam_size": 5, "temperature": half}, "beam_size: beam search needs temperature 0, got 0.5; or use best_of")
        for half in (0.5, np.float32(0.5), Fraction(1, 2))
    ),
    ({"best_of": 5}, "best_of: sampling needs a temperature above 0; raise it, or use beam_size"),
    ({"patience": 2.0}, "patience: applies to beam search only; give beam_size too"),
    ({"beam_size": 4, "patience": 0.125}, "patience: expected more than 0.125 for this beam_size, got 0.125"),
]


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS, ids=str)
def test_contradictions_are_rejected(options, message):
    rejected(DecodingOptions, options, message)


# ------------------------------------------------------------------------------------------ accepted values


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 4, "patience": 0.126, "length_penalty": 1},
        {"beam_size": np.int64(5), "patience": np.float32(2), "length_penalty": np.float64(0.6)},
        {"best_of": np.int32(3), "temperature": Fraction(1, 2), "sample_len": np.uint8(200), "length_penalty": 0},
        {"best_of": 1, "temperature": 1, "max_initial_timestamp": 0},
        {"max_initial_timestamp": 30.0, "suppress_blank": np.bool_(True), "without_timestamps": np.False_},
        {"max_initial_timestamp": None},
        {"prompt": "", "prefix": " "},
        {"suppress_tokens": "-1, 2,"},
        {"language": "klingon"},  # only the model knows its languages
    ],
    ids=str,
)
def test_valid_options_are_kept(options):
    taken = DecodingOptions.named(**options)
    for name, value in options.items():
        kept = getattr(taken, name)
        assert kept == value
        assert isinstance(kept, int | float | str | np.bool_ | None)  # no other type of number


def test_options_can_be_positional_replaced_copied_and_pickled():
    options = DecodingOptions("translate", "fr", prompt=[1, 2], suppress_tokens=[3])
    assert (options.task, options.language) == ("translate", "fr")
    german = DecodingOptions(task="translate", language="de", suppress_tokens=(3,))
    assert replace(options, language="de", prompt=None) == german
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options
    assert len({options, copy.copy(options)}) == 1
    with pytest.raises(FrozenInstanceError):
        options.task = "transcribe"


@pytest.mark.parametrize("make", [list, np.array, lambda ids: (np.int64(i) for i in ids)])
def test_ids_of_any_collection_are_kept_as_a_tuple(make):
    """A generator would be exhausted after the first window."""
    for name in ("prompt", "prefix", "suppress_tokens"):
        kept = getattr(DecodingOptions(**{name: make([5, 7])}), name)
        assert kept == (5, 7)
        assert {type(i) for i in kept} == {int}


def test_arguments_of_decode_and_transcribe_that_are_not_options_are_checked_too(tiny_en):
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


# ------------------------------------------------------------------------------------------ suppressed tokens


def test_suppressed_ids_are_those_listed_and_those_that_belong_in_a_prompt(model):
    t = model.tokenizer
    prompt_only = {t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech}
    symbols = set(t.non_speech_tokens)
    assert symbols | prompt_only == set(t.suppressed_tokens)
    text = next(i for i in range(t.eot) if i not in symbols)
    for given_ids, expected in (
        *((minus_one, symbols) for minus_one in ([-1], np.array([-1]), " -1 ")),
        *((nothing, set()) for nothing in ("", None, [], " , ")),
        *((two, {1, 2}) for two in ("2, 1,", (2, 1, 1), {1, 2})),
        (f"-1,{text}", {text, *symbols}),
        (t.non_speech_tokens[:2], set(t.non_speech_tokens[:2])),
    ):
        suppressed = DecodingOptions(suppress_tokens=given_ids).suppressed_ids(t)
        assert suppressed == tuple(sorted(expected | prompt_only))

"""Answers inside the real model: Whisper writes the clip's words with each of them, and with all together."""

import inspect
from unittest.mock import Mock

import pytest

from minwhisper.decoding import logit_filters, search
from minwhisper.exercises import EXERCISES, in_the_model, real_model
from minwhisper.exercises.in_the_model import SOLUTIONS, is_clip_text, lines_with, parts_with
from minwhisper.exercises.loading import load_functions
from minwhisper.exercises.own_network import OwnNetwork
from minwhisper.exercises.whisper_of_your_own import OwnWindow, transcribe
from minwhisper.model import decoder, encoder, layers
from minwhisper.parity.comparison import clip_samples
from minwhisper.transcription import alignment_tools
from wrong_answers import FOLDER

WITHOUT_ENCODER = [exercise for exercise in EXERCISES if exercise.number > 5]
IN_ENCODER = [exercise for exercise in EXERCISES if exercise.number <= 5]


@pytest.fixture(scope="module")
def model(tiny_en):
    return real_model.real_model()


@pytest.fixture
def short_encoder(monkeypatch):
    """Let the encoder run only one block: all its functions are called, in a quarter of the time."""

    def encode(self, mel):
        blocks = self.weights["encoder"]["blocks"]
        self.weights = {**self.weights, "encoder": {**self.weights["encoder"], "blocks": blocks[:1]}}
        first(self, mel)
        return in_the_model.clip_features()[0]

    first = OwnNetwork.encode
    monkeypatch.setattr(OwnNetwork, "encode", encode)


@pytest.mark.parametrize("exercise", WITHOUT_ENCODER, ids=lambda exercise: exercise.functions[0])
def test_whisper_writes_the_words_of_the_clip_with_an_answer(exercise, model):
    functions = load_functions(FOLDER / f"{exercise.functions[0]}.py", exercise)
    functions = [Mock(side_effect=function, __name__=function.__name__) for function in functions]
    lines = list(lines_with(exercise, functions, model))
    assert lines[0][0].startswith(f"With your {exercise.functions[0]}")
    assert lines[0][1]
    assert all(function.called for function in functions)
    expected = {7: " And| so| my", 11: "0.00 And 0.74 so", 12: "at temperature 0.4: And so"}
    assert expected.get(exercise.number, "") in lines[-1][0]


@pytest.mark.parametrize("exercise", IN_ENCODER, ids=lambda exercise: exercise.functions[0])
def test_an_answer_to_an_exercise_of_the_encoder_runs_there(exercise, model, short_encoder):
    functions = [Mock(side_effect=function, __name__=function.__name__) for function in exercise.solutions]
    (line, right), *_ = lines_with(exercise, functions, model)
    assert right, line
    assert all(function.called for function in functions)


def test_a_wrong_answer_inside_the_model_is_seen_in_its_text(model):
    exercise = EXERCISES[5]

    def without_bias(x, weights, cache, heads):
        out, cache = exercise.solutions[0](x, weights, cache, heads)
        return out * 0.2, cache

    (line, right), *_ = lines_with(exercise, [without_bias], model)
    assert line.startswith("With your step, Whisper writes: ")
    assert not right


def test_an_answer_takes_the_place_of_helpers_of_the_same_name_in_other_solutions():
    def softmax(x):
        return None

    parts = parts_with({"softmax": softmax})
    assert parts.softmax is softmax
    assert parts.step.__globals__["softmax"] is softmax
    assert SOLUTIONS.step.__globals__["softmax"] is not softmax
    assert parts.conv1d is SOLUTIONS.conv1d


def test_the_solutions_transcribe_the_clip_without_calling_the_packages_layers(model, monkeypatch, short_encoder):
    monkeypatch.setattr(OwnWindow, "searches", ("greedy_search",))
    used = []
    for module in (layers, encoder, decoder, search, logit_filters, alignment_tools):
        for name, thing in vars(module).items():
            if inspect.isfunction(thing) and thing.__module__.startswith("minwhisper."):
                monkeypatch.setattr(module, name, lambda *a, _name=name, **k: used.append(_name))
    segments = list(transcribe(OwnNetwork(model, SOLUTIONS), clip_samples()))
    assert used == []
    assert is_clip_text(" ".join(segment.text for segment in segments))
    assert [(segment.start, segment.end) for segment in segments] == [(0.0, 8.0), (8.0, 11.0)]
    starts = {word.text.strip(" ,."): word.start for segment in segments for word in segment.words}
    assert starts["Americans"] == pytest.approx(1.7, abs=0.3)
    assert starts["country"] == pytest.approx(10.2, abs=0.3)
    assert OwnNetwork(model, SOLUTIONS).symbol_tokens() == set(model.tokenizer.non_speech_tokens)  # never spoken


@pytest.mark.parametrize(
    ("tokens", "times", "advance"),
    [
        ([50363, 11, 12, 50463], [(0.0, 2.0)], 480000),
        ([50363, 11, 50463, 50463, 12], [(0.0, 2.0)], 32000),
        ([50363, 11, 50463, 50463], [(0.0, 2.0)], 32000),
        ([50363, 11], [(0.0, 30.0)], 480000),
        ([], [], 480000),
    ],
)
def test_a_segment_that_does_not_close_is_left_to_the_next_window(tokens, times, advance, model, monkeypatch):
    monkeypatch.setattr(OwnWindow, "words", lambda self, text: [])
    window = OwnWindow(OwnNetwork(model, SOLUTIONS), in_the_model.clip_features()[0], 480000)
    segments, found = window.segments(tokens)
    assert [(segment.start, segment.end) for segment in segments] == times
    assert found == advance


def test_silence_gives_no_text(model, monkeypatch):
    window = OwnWindow(OwnNetwork(model, SOLUTIONS), in_the_model.clip_features()[0], 480000)
    silent = {"text": "you", "tokens": [5], "sum_logprob": -4.0, "no_speech_prob": 0.9}
    monkeypatch.setattr(window, "attempt", lambda temperature: silent)
    assert window.tokens() == []

"""The record of a transcription agrees with the transcript, and costs nothing if it is not requested."""

import json
import math
from unittest.mock import patch

import numpy as np
import pytest

from minwhisper.decoding import search
from minwhisper.transcription.record import MARGIN, attention_values
from scripted import MULTILINGUAL, Scripted, made_up_tokenizer, run

SETTINGS = {
    "beam search": {"beam_size": 3},
    "sampling": {"temperature": 0.2, "best_of": 2},
    "words in chunks": {"batch_size": 2, "word_timestamps": True},
}


@pytest.fixture(scope="module")
def samples(speech):
    return speech["LJ001-0008.wav"]  # "has never been surpassed"


@pytest.fixture(scope="module")
def recorded(tiny_en, samples):
    """Return, for each setting, a transcript with a record."""
    return {name: tiny_en.transcribe(samples, record=True, **how) for name, how in SETTINGS.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_recording_changes_nothing_else(recorded, name, tiny_en, samples):
    plain = tiny_en.transcribe(samples, **SETTINGS[name])
    assert plain == {key: value for key, value in recorded[name].items() if key != "windows"}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_steps_are_those_of_the_transcript(recorded, name, tiny_en):
    transcript = recorded[name]
    (window,) = transcript["windows"]
    (attempt,) = window["attempts"]
    assert attempt["tokens"] == [token for segment in transcript["segments"] for token in segment["tokens"]]
    assert [step["token"] for step in attempt["steps"]] == [*attempt["tokens"], tiny_en.tokenizer.eot]
    mean = sum(math.log(step["probability"]) for step in attempt["steps"]) / len(attempt["steps"])
    assert mean == pytest.approx(attempt["avg_logprob"], abs=1e-3)
    for step in attempt["steps"]:
        probabilities = [other["probability"] for other in step["alternatives"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.0 + 1e-5
        same = [other for other in step["alternatives"] if other["token"] == step["token"]]
        assert all(other["probability"] == pytest.approx(step["probability"], abs=2e-6) for other in same)
        if name == "words in chunks":  # greedy search
            assert step["alternatives"][0]["token"] == step["token"]


def test_candidates_that_lost_are_recorded(recorded):
    for name, count in (("words in chunks", 1), ("beam search", 3), ("sampling", 2)):
        (window,) = recorded[name]["windows"]
        attempt = window["attempts"][0]
        assert len(attempt["candidates"]) == count
        best = max(attempt["candidates"], key=lambda candidate: candidate["avg_logprob"])
        assert attempt["tokens"] in [candidate["tokens"] for candidate in attempt["candidates"]]
        assert best["avg_logprob"] >= attempt["avg_logprob"] - 1e-9


def test_attention_is_highest_where_the_word_is(recorded):
    transcript = recorded["words in chunks"]
    (window,) = transcript["windows"]
    tokens = [entry["token"] for entry in window["attention"]]
    assert tokens == [token for segment in transcript["segments"] for token in segment["tokens"] if token < 50257]
    higher = []
    for entry in window["attention"]:
        values = attention_values(entry).astype(float)
        own = slice(entry["first"] - entry["start"], max(entry["last"], entry["first"] + 1) - entry["start"])
        higher.append(values[own].max() > values.mean())
        assert len(values) <= entry["last"] - entry["first"] + 2 * MARGIN
    assert np.mean(higher) > 0.9


def test_every_attempt_is_recorded_and_silence_is_marked(tiny_en, samples):
    with_fallback = tiny_en.transcribe(
        samples, record=True, logprob_threshold=-0.01, temperature=(0.0, 0.2), sample_len=5, no_speech_threshold=None
    )
    (window,) = with_fallback["windows"]
    assert [attempt["temperature"] for attempt in window["attempts"]] == [0.0, 0.2]
    assert not window["silence"]
    options = {"record": True, "temperature": 0.0, "logprob_threshold": 0.0, "sample_len": 5}
    silent = tiny_en.transcribe(np.zeros(32000, np.float32), **options)
    assert [window["silence"] for window in silent["windows"]] == [True]
    assert silent["segments"] == []
    assert silent["windows"][0]["attempts"][0]["text"]


def test_the_language_probabilities_are_in_the_transcript():
    transcript = run(Scripted([], made_up_tokenizer(MULTILINGUAL), [{"de": 0.4, "fr": 0.6}]), 0, record=True)
    assert transcript["language"] == "fr"
    assert {code: p for code, p in transcript["language_probs"].items() if p} == {"de": 0.4, "fr": 0.6}


def test_a_record_can_be_written_as_json(recorded):
    transcript = recorded["words in chunks"]
    assert json.loads(json.dumps(transcript, allow_nan=False)) == transcript


def test_nothing_is_computed_for_a_record_that_is_not_wanted(tiny_en, samples):
    with patch.object(search, "top_tokens", side_effect=AssertionError):
        tiny_en.transcribe(samples, temperature=0.0, sample_len=1)


def test_a_record_takes_logits_even_from_an_engine_that_chooses_tokens_itself(tiny_en, samples):
    """A GPU's kernels return only the chosen tokens."""
    with patch.object(type(tiny_en.engine), "choose_batch", side_effect=AssertionError, create=True):
        tiny_en.transcribe(samples, record=True, sample_len=1, temperature=0.0)
        with pytest.raises(AssertionError):
            tiny_en.transcribe(samples, sample_len=1, temperature=0.0)

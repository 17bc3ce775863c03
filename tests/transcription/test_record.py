"""The record of a transcription agrees with the transcript, and costs nothing when it is not asked for."""

import json
import math
from unittest.mock import patch

import numpy as np
import pytest

from minwhisper.decoding import search
from minwhisper.transcription.record import MARGIN, attention_values
from minwhisper.transcription.segments import Transcript

SETTINGS = {
    "greedy": {},
    "beam search": {"beam_size": 3},
    "sampling": {"temperature": 0.6, "best_of": 2},
    "chunks": {"batch_size": 2},
    "words": {"word_timestamps": True},
}


@pytest.fixture(scope="module")
def samples(speech):
    return speech["jfk.flac"][: 6 * 16000]


@pytest.fixture(scope="module")
def recorded(tiny_en, samples):
    """Return, for each setting, a transcript without and one with a record."""
    return {
        name: (tiny_en.transcribe(samples, **how), tiny_en.transcribe(samples, record=True, **how))
        for name, how in SETTINGS.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_recording_changes_nothing_else(recorded, name):
    plain, with_record = recorded[name]
    assert plain.keys() == with_record.keys() - {"windows"}
    assert {key: with_record[key] for key in plain} == plain


@pytest.mark.parametrize("name", SETTINGS)
def test_the_steps_are_those_of_the_transcript(recorded, name, tiny_en):
    _, transcript = recorded[name]
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
        if name in ("greedy", "chunks", "words"):
            assert step["alternatives"][0]["token"] == step["token"]


def test_candidates_that_lost_are_recorded(recorded):
    for name, count in (("greedy", 1), ("beam search", 3), ("sampling", 2)):
        (window,) = recorded[name][1]["windows"]
        attempt = window["attempts"][0]
        assert len(attempt["candidates"]) == count
        best = max(attempt["candidates"], key=lambda candidate: candidate["avg_logprob"])
        assert attempt["tokens"] in [candidate["tokens"] for candidate in attempt["candidates"]]
        assert best["avg_logprob"] >= attempt["avg_logprob"] - 1e-9


def test_attention_is_highest_where_the_word_is(recorded):
    _, transcript = recorded["words"]
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


def test_every_attempt_is_recorded_and_silence_is_said(tiny_en, samples):
    with_fallback = tiny_en.transcribe(
        samples, record=True, logprob_threshold=-0.01, temperature=(0.0, 0.2), no_speech_threshold=None
    )
    (window,) = with_fallback["windows"]
    assert [attempt["temperature"] for attempt in window["attempts"]] == [0.0, 0.2]
    assert not window["silence"]
    silent = tiny_en.transcribe(np.zeros(32000, np.float32), record=True, temperature=0.0, logprob_threshold=0.0)
    assert [window["silence"] for window in silent["windows"]] == [True]
    assert silent["segments"] == []
    assert silent["windows"][0]["attempts"][0]["text"]


def test_the_language_probabilities_are_in_the_transcript(base, samples):
    transcript = base.transcribe(samples, record=True)
    assert max(transcript["language_probs"], key=transcript["language_probs"].get) == transcript["language"] == "en"


def test_a_record_can_be_written_as_json(recorded):
    transcript: Transcript = recorded["words"][1]
    assert json.loads(json.dumps(transcript, allow_nan=False)) == transcript


def test_nothing_is_computed_for_a_record_that_is_not_wanted(tiny_en, samples):
    with patch.object(search, "top_tokens", side_effect=AssertionError):
        tiny_en.transcribe(samples, temperature=0.0)


def test_an_engine_that_chooses_on_its_own_is_asked_for_logits(tiny_en, samples):
    """A GPU's kernels return the chosen token only."""

    class Choosing:
        def __init__(self, engine):
            self.engine = engine

        def __getattr__(self, name):
            return getattr(self.engine, name)

        def choose_batch(self, _):
            raise AssertionError("no alternatives come from here")

    features = tiny_en.encode(np.zeros((1, 80, 3000), np.float32))
    wanted = search.DecoderRequest(
        [0], [[tiny_en.tokenizer.sot]], [search.Candidate((), 0.0)], (), search.Sampler(search.greedy)
    )
    engine = Choosing(tiny_en.engine)
    with tiny_en.engine.session():
        cache = tiny_en.engine.new_cache(features)
        ((response, _),) = search.choose_batch(engine, [(wanted._replace(alternatives=3), cache)])
    assert len(response.alternatives[0]) == 3
    with pytest.raises(AssertionError, match="no alternatives"):
        search.choose_batch(engine, [(wanted, cache)])

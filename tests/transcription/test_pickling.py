"""Transcriptions can be sent to another process: a pickle holds the results, but not the model or the audio."""

import copy
import pickle

import numpy as np
import pytest

from minwhisper.errors import AudioError
from scripted import Scripted, output, start

RESULTS = ("transcript", "segments", "language", "seconds", "language_probs", "audio_track", "windows")
SCRIPT = [output(0.0, " one", 5.0, 5.0, " two", 10.0, 10.0), output(0.0, " three", 20.0)]


def results(transcription):
    return {name: getattr(transcription, name) for name in RESULTS}


@pytest.mark.parametrize("clone", [copy.copy, lambda running: pickle.loads(pickle.dumps(running))])
def test_a_pickle_has_the_results_and_cannot_continue(clone):
    running = start(Scripted(SCRIPT), 3000)
    next(running)
    begun = clone(running)
    early = results(begun)
    assert early == results(running)
    assert len(early["segments"]) == 1
    with pytest.raises(AudioError, match=r"a pickle or a copy, .*: it cannot continue; use its \.segments"):
        next(begun)
    rest = list(running)
    assert results(begun) == early
    finished = clone(clone(running))
    assert results(finished) == results(running)
    assert finished.transcript["text"] == " one two three"
    assert rest == running.segments[1:]
    assert list(finished) == []
    with begun:  # closing it is harmless
        pass
    assert list(begun) == []


def test_transcriptions_and_errors_are_pickled_without_the_model(tiny_en):
    noise = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    options = {"sample_len": 4, "temperature": 0.0, "record": True}
    transcription, error = tiny_en.stream_many([noise, "missing.wav"], batch_size=2, **options)
    again = pickle.loads(stored := pickle.dumps(transcription))
    assert len(stored) < 50_000
    assert results(again) == results(transcription)
    assert again.windows
    assert list(again) == []
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

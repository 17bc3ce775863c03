"""Transcriptions go from one process to another: a pickle holds the results, not the model and the audio."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from hf_checkpoint import SMALL
from minwhisper.errors import AudioError
from minwhisper.model.weights import random_weights
from minwhisper.whisper import Whisper
from scripted import ENGLISH, Scripted, output, start
from vocabularies import made_up_tokenizer

RESULTS = ("transcript", "segments", "language", "seconds", "language_probs", "audio_track", "windows")
SCRIPT = [output(0.0, " one", 5.0, 5.0, " two", 10.0, 10.0), output(0.0, " three", 20.0)]


def results(transcription):
    return {name: getattr(transcription, name) for name in RESULTS}


@pytest.mark.parametrize("clone", [copy.copy, lambda running: pickle.loads(pickle.dumps(running))])
def test_a_pickle_has_the_results_and_cannot_go_on(clone):
    running = start(Scripted(SCRIPT), 3000)
    next(running)
    begun = clone(running)
    early = results(begun)
    assert early == results(running)
    assert len(early["segments"]) == 1
    with pytest.raises(AudioError, match=r"a pickle or a copy, .*: it cannot go on; use its \.segments"):
        next(begun)
    rest = list(running)
    assert results(begun) == early
    finished = clone(clone(running))
    assert results(finished) == results(running)
    assert finished.transcript["text"] == " one two three"
    assert rest == running.segments[1:]
    assert list(finished) == []
    with begun:  # closing is harmless
        pass
    assert list(begun) == []


def test_what_a_model_yields_is_pickled_without_the_model():
    size = replace(SMALL, vocab_size=ENGLISH, num_mel_bins=80, max_source_positions=1500, max_target_positions=32)
    model = Whisper(size, random_weights(size, 0, "float32", "cpu"), made_up_tokenizer(ENGLISH), plain=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    options = {"sample_len": 4, "temperature": 0.0, "record": True}
    for found in model.stream_many([noise, "missing.wav", noise], batch_size=2, **options):
        stored = pickle.dumps(found)
        assert len(stored) < 50_000
        again = pickle.loads(stored)
        if isinstance(found, AudioError):
            assert str(again) == str(found)
        else:
            assert results(again) == results(found)
            assert again.windows
            assert list(again) == []

"""Sequential transcription: its requests, and what becomes of the results."""

import numpy as np

from minwhisper.decoding.decode import WindowRequest
from minwhisper.transcription.options import TranscriptionOptions
from minwhisper.transcription.sequential import SequentialTranscription
from scripted import HOP, NumberedSpectrogram, Scripted, output, quiet


def begin(frames, *script):
    """Return a transcription of this many frames, its model, the list of its reports and its generator."""
    model, reports = Scripted(script), []
    mel = NumberedSpectrogram(quiet(frames * HOP), 80)
    generator = np.random.default_rng(5)
    options = TranscriptionOptions.named()
    return SequentialTranscription(model, mel, options, "en", generator, reports.append), model, reports, generator


def test_a_request_is_yielded_and_its_result_becomes_segments():
    said = output(0.0, " one", 2.0, 2.0, " two", 6.0, average=-0.5)
    transcription, model, reports, generator = begin(700, said)
    steps = transcription.run(0, 700)
    request = next(steps)
    assert isinstance(request, WindowRequest)
    assert request.features.shape == (1, 1500, 384)
    assert request.generator is generator
    assert (request.options.language, tuple(request.options.prompt), request.options.temperature) == ("en", (), 0.0)
    first = steps.send(model.decode_window(request))
    assert (first["start"], first["end"], first["text"], first["avg_logprob"]) == (0.0, 2.0, " one", -0.5)
    assert reports == []  # a window is done when its segments are taken
    assert next(steps)["text"] == " two"
    assert next(steps, None) is None
    assert model.windows == [(0, 700)]
    assert reports == [700]
    waiting = transcription.run(0, 500)
    next(waiting)
    waiting.close()
    assert (next(waiting, None), reports) == (None, [700])


def test_times_after_the_end_of_a_chunk_are_moved_to_it():
    """Another chunk starts there, so text after it has no time left and is cleared."""
    said = output(0.0, " one", 4.0, 4.0, " two", 6.0, 6.0, " three", 7.0)
    transcription, model, _, _ = begin(700, said)
    steps = transcription.run(0, 500, clamp=True)
    segments = [steps.send(model.decode_window(next(steps))), *steps]
    assert [(s["start"], s["end"], s["text"]) for s in segments] == [(0, 4, " one"), (4, 5, " two"), (5, 5, "")]
    assert segments[-1]["tokens"] == []

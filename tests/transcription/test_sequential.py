"""Sequential transcription of a chunk; of a whole recording: test_transcribe.py."""

import numpy as np

from minwhisper.transcription.options import TranscriptionOptions
from minwhisper.transcription.sequential import SequentialTranscription
from scripted import HOP, NumberedSpectrogram, Scripted, output, quiet


def test_times_after_the_end_of_a_chunk_are_moved_to_it():
    """Another chunk starts there, so text after it has no time left and is cleared."""
    said = output(0.0, " one", 4.0, 4.0, " two", 6.0, 6.0, " three", 7.0)
    model, mel, options = Scripted([said]), NumberedSpectrogram(quiet(700 * HOP), 80), TranscriptionOptions.named()
    transcription = SequentialTranscription(model, mel, options, "en", np.random.default_rng(5), lambda _: None)
    steps = transcription.run(0, 500, clamp=True)
    segments = [steps.send(model.decode_window(next(steps))), *steps]
    assert [(s["start"], s["end"], s["text"]) for s in segments] == [(0, 4, " one"), (4, 5, " two"), (5, 5, "")]
    assert segments[-1]["tokens"] == []

"""The picture in the README: a recording, its spectrogram, the attention of the text to it, and the words."""

import numpy as np

from ..audio.load import SAMPLE_RATE
from ..common.backend import to_numpy
from ..parity.comparison import clip_samples, window_mel
from ..transcription.alignment import POSITIONS_PER_SECOND, alignment_matrix, cross_attention_scores
from ..whisper import load_model
from . import drawings
from .drawing import Drawing


def draw_overview(name: str = "tiny.en") -> Drawing:
    """Draw the way from waveform to words for the package's clip, with this model: J. F. Kennedy, 1961, 11 s."""
    model = load_model(name)
    samples = clip_samples()
    positions = samples.size * POSITIONS_PER_SECOND // SAMPLE_RATE
    mel = window_mel(samples, model.config.num_mel_bins)  # (1, M, 3000)
    segments = model.transcribe(samples, word_timestamps=True)["segments"]
    words = [(word["word"].strip(), word["start"], word["end"]) for segment in segments for word in segment["words"]]
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    text = [token for segment in segments for token in segment["tokens"] if token < model.tokenizer.eot]
    tokens = np.array([[*prompt, *text, model.tokenizer.eot]])
    _, scores = cross_attention_scores(
        tokens, model.encode(mel), model.weights["decoder"], model.config, model.alignment_heads
    )
    attention = to_numpy(alignment_matrix(scores, positions))[len(prompt) - 1 : -1]  # a row per token of text, and eot
    return drawings.overview(samples, mel[0, :, : 2 * positions], attention, words)

"""Cutting recordings at silence."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from book import join_clips
from minwhisper import cut_at_silence
from minwhisper.errors import AudioError, OptionError
from minwhisper.transcription.chunking import (
    MIN_CHUNK_FRAMES,
    MIN_CHUNK_FRAMES_UNTIMED,
    chunk_at_silence,
    quietest,
)
from scripted import RATE


class Made:
    """A fake spectrogram (M, T)."""

    def __init__(self, mel):
        self.mel = mel
        self.content_frames = mel.shape[1]

    def read(self, first, last):
        assert 0 <= first <= last <= self.content_frames
        return self.mel[:, first:last]


def made_up(frames, kind, seed):
    """Return a spectrogram with two bins: noise, constant, rising, falling, or noise with pauses."""
    rng = np.random.default_rng(seed)
    mel = rng.uniform(-1, 1, (2, frames)).astype(np.float32)
    if kind in ("alike", "louder", "quieter"):
        slope = {"alike": 0, "louder": 1, "quieter": -1}[kind]
        mel[:] = slope * np.linspace(-1, 1, frames)
    elif kind == "pauses":
        for start in rng.integers(0, frames + 1, frames // 200):
            mel[:, start : start + rng.integers(1, 100)] = -1
    return Made(mel)


SPECTROGRAMS = st.builds(
    made_up,
    st.integers(0, 3100) | st.integers(2990, 12000),
    st.sampled_from(["noise", "alike", "louder", "quieter", "pauses"]),
    st.integers(0, 2**32 - 1),
)


@settings(deadline=None, max_examples=100)
@given(mel=SPECTROGRAMS, data=st.data())
def test_chunks_are_consecutive_and_of_the_right_length(mel, data):
    start = data.draw(st.just(0) | st.integers(0, mel.content_frames))
    end = data.draw(st.just(mel.content_frames) | st.integers(start, mel.content_frames))
    shortest = data.draw(st.sampled_from([MIN_CHUNK_FRAMES, MIN_CHUNK_FRAMES_UNTIMED]))
    parts = list(chunk_at_silence(mel, start, end, shortest))
    edges = [start, *(stop for _, stop in parts)]
    assert parts == list(pairwise(edges))
    assert edges[-1] == end
    sizes = [stop - first for first, stop in parts]
    assert all(0 < size <= 3000 for size in sizes)
    assert all(size >= shortest for size in sizes[:-1])
    if end - start <= 3000:
        assert len(parts) == (start < end)
    assert all(type(edge) is int for part in parts for edge in part)


def test_the_first_of_equal_silences_between_20_and_30_seconds_is_chosen():
    mel = made_up(4000, "alike", 0)
    mel.mel[:] = 1
    mel.mel[:, :2000] = mel.mel[:, 3000:] = -5  # quiet frames elsewhere are ignored
    mel.mel[:, 2100:2130] = mel.mel[:, 2600:2630] = 0
    assert list(chunk_at_silence(mel, 0, 4000)) == [(0, 2115), (2115, 4000)]


# ------------------------------------------------------------------------------------------ any bounds


@settings(deadline=None, max_examples=50)
@given(mel=SPECTROGRAMS, data=st.data())
def test_the_quietest_place_is_found_piece_by_piece(mel, data):
    first = data.draw(st.integers(0, max(0, mel.content_frames - 30)))
    last = data.draw(st.just(mel.content_frames) | st.integers(first + 30, max(first + 30, mel.content_frames)))
    if first + 30 <= last <= mel.content_frames:
        means = sliding_window_view(mel.mel[:, first:last].mean(axis=0, dtype=np.float64), 30).mean(axis=1)
        cut = quietest(mel, first, last)
        assert means[cut - 15 - first] == pytest.approx(means.min(), abs=1e-9)


def test_a_recording_is_cut_into_parts_of_any_length_in_pauses(speech):
    samples, spans = join_clips(speech, range(12), pause=1.0)
    book = np.concatenate([samples, samples[:100]])  # 100 samples are less than a frame
    for shortest, longest in ((5, 20), (20, 70)):  # 70 - 20 s is more than a window
        parts = cut_at_silence(book, shortest, longest)
        assert len(parts) > 1
        edges = [0.0, *(end for _, end in parts)]
        assert parts == list(pairwise(edges))
        assert edges[-1] == book.size / RATE
        assert all(shortest <= end - start <= longest for start, end in parts[:-1])
        assert parts[-1][1] - parts[-1][0] <= longest
        assert all(any(end <= cut <= end + 1 for _, end in spans) for cut in edges[1:-1])


def test_a_short_recording_is_one_part_and_an_empty_one_none():
    assert cut_at_silence(np.zeros(RATE), 0, 1) == [(0.0, 1.0)]
    assert cut_at_silence(np.zeros(10), 0, 1) == [(0.0, 10 / RATE)]
    assert cut_at_silence(np.zeros(0), 0, 1) == []
    (first, second) = cut_at_silence(np.zeros(RATE + 1), 0.7, 1)  # one sample longer than a part may be
    assert (first[0], second[1]) == (0.0, (RATE + 1) / RATE)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((-1, 5), "min_seconds: expected a number from 0 to 1,000,000,000, got -1"),
        ((1, 1e308), "max_seconds: expected a number from 0 .*, got 1e\\+308"),
        ((5, 5.29), r"max_seconds: expected at least min_seconds \+ 0.3, .*got min_seconds 5 and max_seconds 5.29"),
    ],
)
def test_impossible_bounds_are_refused(bounds, message):
    with pytest.raises(OptionError, match=message):
        cut_at_silence("not opened", *bounds)
    with pytest.raises(AudioError, match="no such file"):
        cut_at_silence("missing.wav", 5, 5.3)

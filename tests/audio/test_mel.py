"""The spectrogram, step by step and as a whole; against PyTorch it is held in test_audio_parity.py."""

import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.audio import mel, sample_store
from minwhisper.audio.load import HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, load_audio, open_audio
from minwhisper.audio.mel import (
    LogMel,
    Spectrogram,
    block_starts,
    clamp,
    fourier_waves,
    hann_window,
    hertz_to_mel,
    log_energy,
    log_mel_spectrogram,
    mel_filters,
    mel_to_hertz,
    power,
    read_reflected,
    scale,
    split_frames,
)
from minwhisper.errors import AudioError

JFK = Path(__file__).parents[1] / "data" / "jfk.flac"
CLIPS = sorted(path for path in JFK.parent.iterdir() if path.suffix in {".wav", ".flac", ".aiff"})


def exact_log_mel(samples, n_mels=80, padding=0):
    """The same formula in float64, all at once, with NumPy's own padding and Fourier transform."""
    sound = np.pad(np.pad(samples.astype(np.float64), (0, padding)), N_FFT // 2, mode="reflect")
    window = np.sin(np.pi * np.arange(N_FFT) / N_FFT) ** 2
    stack = np.stack([sound[i : i + N_FFT] for i in range(0, sound.size - N_FFT + 1, HOP_LENGTH)])[:-1]
    energy = mel_filters(n_mels).astype(np.float64) @ (np.abs(np.fft.rfft(stack * window)) ** 2).T
    logs = np.log10(np.maximum(energy, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


def noise(size, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


# --- The steps


@settings(max_examples=30, deadline=None)
@given(size=st.integers(N_FFT, 4000))
def test_frames(size):
    samples = np.arange(size)
    stack = split_frames(samples)
    assert stack.shape == ((size - N_FFT) // HOP_LENGTH + 1, N_FFT)
    assert np.shares_memory(stack, samples)
    for t, frame in enumerate(stack):
        assert np.array_equal(frame, samples[t * HOP_LENGTH : t * HOP_LENGTH + N_FFT])


@settings(max_examples=30, deadline=None)
@given(size=st.integers(0, 600), padding=st.integers(0, 600), data=st.data())
def test_mirrored(size, padding, data):
    if size + padding <= 200:
        return
    samples = noise(size)
    expected = np.pad(np.pad(samples, (0, padding)), 200, mode="reflect")
    start = data.draw(st.integers(0, expected.size - 1))
    stop = data.draw(st.integers(start + 1, expected.size))
    samples = read_reflected(open_audio(samples), padding, start, stop)
    assert samples.dtype == np.float64
    assert np.array_equal(samples, expected[start:stop])


def test_hann_window():
    window = hann_window()
    assert window.shape == (400,)
    assert window[0] == 0
    assert window[200] == 1
    assert np.allclose(window[1:], window[:0:-1], atol=1e-15)
    assert np.allclose(window[:200] + window[200:], 1, atol=1e-15)  # half overlapped, it adds up to one


def test_power_is_that_of_the_fourier_transform():
    stack = noise((7, N_FFT)).astype(np.float64)
    expected = np.abs(np.fft.rfft(stack)) ** 2
    assert np.allclose(power(stack, *fourier_waves()), expected, rtol=1e-9, atol=1e-12)


def test_power_of_a_tone_is_in_its_frequency():
    tone = np.cos(2 * np.pi * 1000 * np.arange(N_FFT) / 16000 + 0.3)
    energy = power(tone[None], *fourier_waves())[0]
    assert energy.argmax() == 25  # 25 × 40 Hz
    assert energy[25] == pytest.approx(200**2)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters(n_mels):
    filters = mel_filters(n_mels)
    assert filters.shape == (n_mels, 201)
    assert filters.dtype == np.float32
    assert filters.min() == 0
    assert (filters.max(axis=1) > 0).all()
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) >= 0).all()


def test_mel_filters_by_hand():
    # 2 bins: corners at 0, 15.08, 30.16 and 45.25 mels; the first rises by 1/1005.6 Hz to an area of one.
    filters = mel_filters(2)
    corners = mel_to_hertz(np.linspace(0, hertz_to_mel(8000), 4))
    assert filters[0, 10] == pytest.approx(400 / corners[1] * 2 / corners[2])
    assert filters[:, 0].tolist() == [0, 0]
    assert filters.sum(axis=1) * 40 == pytest.approx([1, 1], rel=1e-2)


def test_mel_scale():
    assert hertz_to_mel(500) == 7.5
    assert hertz_to_mel(1000) == 15
    assert hertz_to_mel(6400) == pytest.approx(42)
    for hertz in (0.0, 999.0, 1000.0, 1001.0, 8000.0):
        assert mel_to_hertz(np.array(hertz_to_mel(hertz))) == pytest.approx(hertz)


@pytest.mark.parametrize("n_mels", [0, -1, 80.0, "80", True, None])
def test_n_mels_must_be_a_number(n_mels):
    with pytest.raises(AudioError, match="n_mels"):
        log_mel_spectrogram(noise(1000), n_mels)


def test_log_energy_and_scale():
    assert log_energy(np.array([0.0, 1e-12, 1e-10, 1.0, 100.0])).tolist() == [-10, -10, -10, 0, 2]
    assert scale(np.array([-4.0, 0.0])).tolist() == [0, 1]


def test_clamp():
    bins = np.array([[3.0, 0.9, -1.5]], np.float32)
    clamped = clamp(bins, log_max=8.0)
    assert clamped is bins
    assert clamped.tolist() == [[3, 1, 1]]


# --- The whole


def test_every_value_is_the_nearest_float32():
    samples = load_audio(JFK)
    exact = exact_log_mel(samples)
    result = log_mel_spectrogram(samples)
    assert result.dtype == np.float32
    assert result.shape == exact.shape == (80, 1100)
    assert np.array_equal(result, exact.astype(np.float32))


@pytest.mark.parametrize(("size", "padding"), [(201, 0), (400, 0), (16000, 1), (16000, 30000), (0, 201), (5, 480000)])
def test_sizes_and_padding(size, padding):
    samples = noise(size)
    result = log_mel_spectrogram(samples, padding=padding)
    assert result.shape == (80, (size + padding) // 160)
    assert np.abs(result - exact_log_mel(samples, padding=padding)).max() < 2e-7
    zeros = np.zeros(padding, np.float32)
    assert np.array_equal(result, log_mel_spectrogram(np.concatenate([samples, zeros])))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_leave_no_seam(block, monkeypatch):
    samples = noise(20000)
    whole = log_mel_spectrogram(samples, 128)
    monkeypatch.setattr(mel, "BLOCK_FRAMES", block)
    assert np.allclose(log_mel_spectrogram(samples, 128), whole, rtol=0, atol=1.2e-7)


def test_the_clamp_looks_at_the_whole_sound():
    samples = noise(40 * 16000)
    samples[: 31 * 16000] *= 1e-6  # the first block is quiet, the second loud
    result = log_mel_spectrogram(samples)
    assert result.max() - result.min() <= 2.0 + 1e-6
    assert np.abs(result - exact_log_mel(samples)).max() < 1e-7


def test_silence():
    result = log_mel_spectrogram(np.zeros(N_SAMPLES, np.float32))
    assert result.shape == (80, N_FRAMES)
    assert (result == -1.5).all()


def test_sources():
    expected = log_mel_spectrogram(load_audio(JFK))
    assert np.array_equal(log_mel_spectrogram(JFK), expected)
    assert np.array_equal(log_mel_spectrogram(str(JFK)), expected)
    assert np.array_equal(log_mel_spectrogram(JFK.read_bytes()), expected)


def test_samples_are_not_written_to():
    samples = noise(5000)
    before = samples.copy()
    log_mel_spectrogram(samples)
    assert np.array_equal(samples, before)


@pytest.mark.parametrize(("size", "padding"), [(0, 0), (1, 0), (100, 0), (200, 0), (100, 100)])
def test_too_short(size, padding):
    with pytest.raises(AudioError, match=f"^{size} samples and {padding} of padding are too short.*padding=480000$"):
        log_mel_spectrogram(noise(size), padding=padding)


@pytest.mark.parametrize("padding", [-1, 0.5, None, True])
def test_padding_must_be_a_number(padding):
    with pytest.raises(AudioError, match="padding"):
        log_mel_spectrogram(noise(1000), padding=padding)


def test_bad_samples():
    with pytest.raises(AudioError, match="1 of 500"):
        log_mel_spectrogram(np.where(np.arange(500) == 3, np.nan, 0.0))


def test_an_hour_needs_little_memory():
    hour = np.zeros(3600 * 16000, np.float32)
    tracemalloc.start()
    result = log_mel_spectrogram(hour, padding=N_SAMPLES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.shape == (80, 363_000)
    assert peak < result.nbytes + 20e6


# --- Only what is read


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
@pytest.mark.parametrize("n_mels", [80, 128])
def test_windows_are_those_of_the_whole(clip, n_mels):
    samples = load_audio(clip)
    whole = log_mel_spectrogram(samples, n_mels, padding=N_SAMPLES)
    with open_audio(clip) as sound:
        spectrogram = Spectrogram(sound, n_mels)
        assert spectrogram.content_frames == samples.size // 160 == whole.shape[1] - N_FRAMES
        end = spectrogram.content_frames
        for first, last in [
            (0, end),
            (end // 3, end),
            (1, 2),
            (end - 1, end),
            (7, end // 2 + 1),
            (end - 5, end + 3000),
        ]:
            window = spectrogram.read(first, last)
            assert window.dtype == np.float32
            assert np.array_equal(window, whole[:, first:last])


@pytest.fixture(
    scope="module", params=[0, 4 * 128 * 2000, mel.CACHE_BYTES], ids=["nothing kept", "20 s kept", "all kept"]
)
def minute(request):
    """A minute of noise of changing loudness, its spectrogram, and what reads it."""
    samples = noise(60 * 16000 + 77) * np.linspace(1e-5, 1, 60 * 16000 + 77, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mel, "CACHE_BYTES", request.param)
        return log_mel_spectrogram(samples, 128, padding=N_SAMPLES), Spectrogram(open_audio(samples), 128)


def test_what_is_kept_is_not_computed_again(monkeypatch):
    monkeypatch.setattr(mel, "CACHE_BYTES", 4 * 80 * 700)  # two blocks of 300 frames
    spectrogram = Spectrogram(open_audio(noise(20 * 16000)))
    assert sum(block.nbytes for block in spectrogram._cache.values()) == 4 * 80 * 600
    computed = []
    block = LogMel.block

    def counted(self, start):
        computed.append(start)
        return block(self, start)

    monkeypatch.setattr(LogMel, "block", counted)
    spectrogram.read(0, 600)
    assert computed == []
    spectrogram.read(100, 1300)
    assert computed == [600, 900, 1200]


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 9000), size=st.integers(0, 3001))
def test_any_window_is_that_of_the_whole(minute, first, size):
    whole, spectrogram = minute
    last = min(first + size, 9000)
    assert np.array_equal(spectrogram.read(first, last), whole[:, first:last])


@pytest.mark.parametrize("size", [0, 1, 159, 160, 161, 200, 201, 399, 401, 3 * 16000, 3 * 16000 + 161])
def test_short_sounds(size):
    samples = noise(size)
    spectrogram = Spectrogram(open_audio(samples))
    assert spectrogram.content_frames == size // 160
    whole = spectrogram.read(0, spectrogram.content_frames + N_FRAMES)
    assert np.array_equal(whole, log_mel_spectrogram(samples, padding=N_SAMPLES))
    assert spectrogram.read(0, 0).shape == (80, 0)


@pytest.mark.parametrize("place", [0, 300_000, 30 * 16000, 700_000, 800 * 1000 - 1])
def test_the_first_window_is_clamped_by_the_whole_sound(place):
    samples = noise(800_000) * np.float32(1e-6)
    load_without_warning = Spectrogram(open_audio(samples)).read(0, N_FRAMES)
    samples[place] = 1
    window = Spectrogram(open_audio(samples)).read(2000, N_FRAMES)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, 2000:3000])
    assert (window > load_without_warning[:, 2000:]).mean() > 0.5


@pytest.mark.parametrize("frames_of_sound", [100, 298, 299, 300])
def test_what_is_heard_behind_the_last_frame_counts(frames_of_sound):
    # The sample is at the edge of the last frame that is read, and in the middle of one behind it.
    samples = np.zeros(frames_of_sound * HOP_LENGTH + 159, np.float32)
    samples[-1] = 1
    window = Spectrogram(open_audio(samples)).read(0, frames_of_sound)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, :frames_of_sound])
    assert window.min() > -1.5


@pytest.mark.parametrize(
    ("first", "last", "starts"), [(0, 1, [0]), (299, 300, [0]), (299, 301, [0, 300]), (301, 302, [300])]
)
def test_a_frame_is_always_in_the_same_block(first, last, starts):
    assert list(block_starts(first, last)) == starts
    log_mel = LogMel(open_audio(noise(320 * 160)), 80, 0)
    whole = {start: log_mel.block(start) for start in (0, 300)}
    assert [logs.shape for logs in whole.values()] == [(80, 300), (80, 20)]
    for start in starts:
        assert np.array_equal(log_mel.block(start), whole[start])  # in float64


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 4), (0, 3101), (3101, 3101)])
def test_frames_that_are_none(first, last):
    spectrogram = Spectrogram(open_audio(noise(16000)))
    with pytest.raises(AudioError, match=rf"^read\({first}, {last}\): expected frames from 0 to 3100"):
        spectrogram.read(first, last)


@pytest.mark.parametrize("n_mels", [0, 80.0, None])
def test_n_mels_of_a_spectrogram_must_be_a_number(n_mels):
    with pytest.raises(AudioError, match="n_mels"):
        Spectrogram(open_audio(noise(1000)), n_mels)


def test_a_closed_sound_has_no_more_windows():
    with open_audio(noise(1000)) as sound:
        spectrogram = Spectrogram(sound)
    with pytest.raises(AudioError, match="closed"):
        spectrogram.read(0, 5)


def test_two_sounds_are_read_in_turn(monkeypatch):
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    one, other = CLIPS[0], JFK
    with open_audio(one) as first, open_audio(other) as second:
        spectrograms = Spectrogram(first), Spectrogram(second)
        for start in (150, 10):
            for clip, spectrogram in zip((one, other), spectrograms, strict=True):
                whole = log_mel_spectrogram(clip, padding=N_SAMPLES)
                assert np.array_equal(spectrogram.read(start, start + 20), whole[:, start : start + 20])


def peak_of_reading(path, minutes):
    """The most memory, in bytes, that a WAV of so many minutes takes to be opened and read window by window."""
    second = np.sin(0.3 * np.arange(16000)) * np.random.default_rng(0).random(16000)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        for number in range(60 * minutes):
            out.writeframesraw((3000 * (1 + number % 10) * second).astype("<i2").tobytes())
    tracemalloc.start()
    with open_audio(path) as sound:
        spectrogram = Spectrogram(sound)
        assert spectrogram.content_frames == minutes * 6000
        for first in range(0, spectrogram.content_frames, N_FRAMES):
            assert spectrogram.read(first, first + N_FRAMES).shape == (80, N_FRAMES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_long_sound_needs_no_more_memory_than_a_short_one(tmp_path):
    short = peak_of_reading(tmp_path / "short.wav", 5)
    long = peak_of_reading(tmp_path / "long.wav", 20)  # more than is kept in memory; an hour shows the same
    assert long < 30e6
    assert long < 1.3 * short


def test_digital_silence_is_what_is_computed_of_it():
    silence = np.zeros(40 * 16000, np.float32)
    click = silence.copy()
    click[20 * 16000] = 0.5
    windowed = split_frames(np.zeros(N_FFT)) * hann_window()
    computed = log_energy(mel_filters(80).astype(np.float64) @ power(windowed, *fourier_waves()).T)  # (80, 1)
    with open_audio(click) as sound:
        block = LogMel(sound, 80, 0).block(0)
        assert block.shape == (80, 300)
        assert np.array_equal(block, np.broadcast_to(computed, block.shape))
        assert LogMel(sound, 80, 0).block(1800).max() > block.max()

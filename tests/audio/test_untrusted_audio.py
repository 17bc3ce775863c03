"""Untrusted and damaged audio files: they give samples or an AudioError, in bounded time and memory, and never crash.

``pytest tests/audio/test_untrusted_audio.py --fuzz 60 -s`` runs the fuzzer for a minute and prints the number of cases.
"""

import time

import numpy as np
import pytest

from audio_files import assert_rejected, encode_audio, wav_bytes
from command_line import run_helper
from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError, is_out_of_memory

NOISE = np.random.default_rng(0).integers(-3000, 3000, 20_000).astype(np.int16)


@pytest.mark.parametrize("rate", [999, 3_000_001, 134_000_000])
def test_implausible_rates_are_rejected_at_once(rate):
    content = wav_bytes(NOISE[:, None], rate=rate)
    begin = time.process_time()
    assert_rejected(content, f"states {rate} samples per second", "expected 1000 to 3000000")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("rate", [1000, 3_000_000])
def test_plausible_rates_load(rate):
    size = load_audio(wav_bytes(NOISE[:, None], rate=rate)).size
    assert size == pytest.approx(NOISE.size * 16000 / rate, abs=2)


def test_the_audio_is_bounded_in_proportion_to_the_file_size(monkeypatch):
    from minwhisper.audio import reader  # needs PyAV

    silence = encode_audio(np.zeros(16000 * 60, np.int16), "flac", "flac")
    assert load_audio(silence).size == 16000 * 60
    monkeypatch.setattr(reader, "FREE_SECONDS", 10.0)
    monkeypatch.setattr(reader, "SECONDS_PER_BYTE", 0)
    assert_rejected(silence, f"{len(silence)} bytes with more than 10 seconds of audio", "is the file damaged?")


def test_the_number_of_format_changes_is_bounded():
    options = {"write_xing": "0", "id3v2_version": "0"}
    one, other = (encode_audio(NOISE[:2000], "mp3", "libmp3lame", rate=rate, **options) for rate in (16000, 32000))
    assert_rejected(20 * (one + other), "changes of format")
    load_audio(4 * (one + other))


def test_wrong_timestamps_do_not_give_days_of_silence():
    content = bytearray(encode_audio(NOISE[:2000], "caf", "pcm_s16be"))
    at = content.index(b"desc") + 12 + 20
    content[at : at + 4] = (0x04000001).to_bytes(4, "big")  # frames per packet, the unit of the timestamps
    with pytest.warns(UserWarning, match="timestamps after implausibly long gaps were ignored"):
        loaded = load_audio(bytes(content), timeline=True)
    assert loaded.size < (600 + 0.01 * len(content) + 10) * 16000


def test_wrong_sizes_in_a_header_do_not_take_memory():
    """FFmpeg would allocate gigabytes for them. The error must be about the file, not about memory."""
    content = bytearray(encode_audio(NOISE, "ipod", "alac"))
    at = content.index(b"stts") + 8
    content[at : at + 4] = (0x0FFFFFFF).to_bytes(4, "big")  # entries of a table
    with pytest.raises(AudioError, match="a size in it requires more memory than audio needs") as caught:
        load_audio(bytes(content))
    assert not is_out_of_memory(caught.value)

    content = bytearray(encode_audio(NOISE, "wav", "pcm_s16le"))
    for name, size in ((b"LIST", 0x6E00001A), (b"ISFT", 0x6E000000)):  # ISFT holds the name of the encoder
        at = content.index(name) + 4
        content[at : at + 4] = size.to_bytes(4, "little")
    pytest.importorskip("resource")  # not on Windows
    from audio_fuzzing import peak_memory

    before = peak_memory()
    assert_rejected(bytes(content), "FFmpeg")
    assert peak_memory() < before + (100 << 20)


# --- The fuzzer

FEW, MANY = 460, 10**9
TIME_LIMIT = 60.0  # seconds for the few default cases, enough on a slow machine


def test_damaged_files_give_samples_or_an_error(pytestconfig):
    pytest.importorskip("resource", reason="it limits and measures memory")  # not on Windows
    seconds = pytestconfig.getoption("fuzz")
    numbers = 0, MANY if seconds else FEW, seconds or TIME_LIMIT
    child = run_helper("audio_fuzzing.py", *numbers, timeout=(seconds or TIME_LIMIT) + 60)
    loaded = child.stdout.split()
    print(f"{len(loaded)} damaged audio files")
    assert child.returncode == 0, f"ended with {child.returncode} at case {loaded[-1:]}: {child.stderr[-3000:]}"
    assert child.stderr == ""  # FFmpeg and PyAV print nothing
    assert len(loaded) >= (FEW if not seconds else 1)

"""Untrusted audio files: their claims are bounded, nothing of a library is printed, errors of reading are not lost."""

import io
import time

import numpy as np
import pytest

from audio_files import assert_rejected, av, encode_audio, wav_bytes
from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError, is_out_of_memory

NOISE = np.random.default_rng(0).integers(-3000, 3000, 20_000).astype(np.int16)


@pytest.mark.parametrize("rate", [1, 7, 999, 3_000_001, 134_000_000])
def test_rates_that_no_audio_has_are_refused_at_once(rate):
    begin = time.process_time()
    assert_rejected(
        wav_bytes(NOISE[:, None], rate=rate), f"states {rate} samples per second", "expected 1000 to 3000000"
    )
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("rate", [1000, 8000, 44_100, 768_000, 2_822_400, 3_000_000])
def test_rates_that_audio_has_are_read(rate):
    size = load_audio(wav_bytes(NOISE[:, None], rate=rate)).size
    assert size == pytest.approx(NOISE.size * 16000 / rate, abs=2)


def test_a_file_may_not_become_more_audio_than_its_bytes_can_hold(monkeypatch):
    from minwhisper.audio import reader as sound_file  # cannot be imported without PyAV

    silence = encode_audio(np.zeros(16000 * 60, np.int16), "flac", "flac")
    assert load_audio(silence).size == 16000 * 60
    monkeypatch.setattr(sound_file, "FREE_SECONDS", 10.0)
    monkeypatch.setattr(sound_file, "SECONDS_PER_BYTE", 0)
    assert_rejected(silence, f"{len(silence)} bytes with more than 10 seconds of audio", "is the file damaged?")


def test_a_format_that_changes_all_the_time_is_refused():
    rates = [16000, 32000] * 20
    parts = [
        encode_audio(NOISE[:2000], "mp3", "libmp3lame", rate=rate, write_xing="0", id3v2_version="0") for rate in rates
    ]
    assert_rejected(b"".join(parts), "changes of format")
    load_audio(b"".join(parts[:8]))


def test_timestamps_do_not_make_silence_of_days():
    content = bytearray(encode_audio(NOISE, "caf", "pcm_s16be"))
    at = content.index(b"desc") + 12 + 20
    content[at : at + 4] = (0x04000001).to_bytes(4, "big")  # frames per packet, by which timestamps count
    with pytest.warns(UserWarning, match="timestamps after implausibly long gaps were ignored"):
        loaded = load_audio(bytes(content), timeline=True)
    assert loaded.size < (600 + 0.01 * len(content) + 10) * 16000


def test_sizes_in_a_header_do_not_take_memory():
    """FFmpeg would allocate gigabytes for these; a refusal is about the file and not about the computer's memory."""
    content = bytearray(encode_audio(NOISE, "ipod", "alac"))
    at = content.index(b"stts") + 8
    content[at : at + 4] = (0x0FFFFFFF).to_bytes(4, "big")  # entries of a table
    with pytest.raises(AudioError, match="a size in it asks for more memory than audio needs") as caught:
        load_audio(bytes(content))
    assert not is_out_of_memory(caught.value)

    content = bytearray(encode_audio(NOISE, "wav", "pcm_s16le"))
    for name, size in ((b"LIST", 0x6E00001A), (b"ISFT", 0x6E000000)):  # the name of the program that wrote it
        at = content.index(name) + 4
        content[at : at + 4] = size.to_bytes(4, "little")
    pytest.importorskip("resource")  # not on Windows
    from audio_fuzzing import peak_memory

    before = peak_memory()
    assert_rejected(bytes(content), "FFmpeg")
    assert peak_memory() < before + (100 << 20)


class Interrupted(io.BytesIO):
    """A file during whose reading somebody presses Ctrl-C, or memory runs out."""

    def __init__(self, content, error):
        super().__init__(content)
        self.error, self.reads = error, 0

    def read(self, size=-1):
        self.reads += 1
        if self.reads > 1:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_an_interruption_while_ffmpeg_reads_is_not_lost(error, monkeypatch, capfd):
    content = encode_audio(np.tile(NOISE, 20), "wav", "pcm_s16le")
    monkeypatch.setattr("builtins.open", lambda *_: Interrupted(content, error))
    with pytest.raises(type(error)):
        load_audio("some.wav")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("offset", [-1, -(10**9), 1 << 62, 1 << 64])
def test_a_seek_out_of_range_answers_like_a_file_of_ffmpeg(offset):
    from minwhisper.audio.input import InputFile

    data = InputFile("x", io.BytesIO(b"abc"))
    position = data.seek(offset)
    assert position < 0 or position == offset
    assert data.read_at(offset, 2) == b""
    assert data.read_at(1, 5) == b"bc"
    data.raise_read_error()


def test_nothing_of_a_library_is_printed(capfd):
    content = bytearray(encode_audio(NOISE, "caf", "pcm_s16be"))
    at = content.index(b"data") + 4
    for size in (0, -1, -2, -(1 << 40), 1 << 62, (1 << 63) - 1):
        content[at : at + 8] = size.to_bytes(8, "big", signed=True)
        try:
            load_audio(bytes(content))
        except ValueError as error:
            assert "bytes given" in str(error)  # noqa: PT017 (either will do)
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() is None

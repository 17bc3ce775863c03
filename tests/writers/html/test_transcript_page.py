"""The page: complete, limited in size, and safe for any content of a transcript."""

import gzip
import json
import re
import struct
import zlib
from base64 import b64decode

import numpy as np
import pytest

from made_transcripts import HOSTILE, segment, transcript, word
from minwhisper import load_audio
from minwhisper.errors import OptionError
from minwhisper.writers.html import PageOptions, transcript_page
from minwhisper.writers.html.sound import encode_opus, png, spectrogram_tiles


def script_of(page, name):
    return re.search(f'<script type="text/plain" id="{name}">(.*?)</script>', page, re.S)[1]


def data_of(page):
    return json.loads(gzip.decompress(b64decode(script_of(page, "data"))))


@pytest.fixture(scope="module")
def short():
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(2 * 16000)).astype(np.float32)


def test_text_from_outside_does_not_become_markup():
    made = transcript(segment(HOSTILE, 0, 1, [word(HOSTILE, 0, 1)]))
    page = transcript_page(made, HOSTILE, audio_link=HOSTILE, model=HOSTILE)
    plain = transcript_page(transcript(segment(" a", 0, 1)), "a", audio_link="a")
    assert page.count("<script") == plain.count("<script")
    assert "alert(1)</script>" not in page
    found = data_of(page)
    assert [found["title"], found["link"], found["model"], found["words"][0][0]] == [HOSTILE] * 4


def test_the_policy_allows_no_network():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', transcript_page(transcript(), "a"))[1]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|\*|connect-src|unsafe-eval", policy)
    assert "media-src blob: data: ;" in policy


def test_the_text_is_there_without_javascript():
    page = transcript_page(transcript(segment(" Ask <what>", 0, 1), segment(" you can do", 9, 10)), "a")
    assert re.search(r"<main.*?>\s*<p>Ask &lt;what&gt;</p>\s*<p>you can do</p>", page, re.S)


def test_the_embedded_recording_keeps_its_length_and_pitch(short):
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * 16000) / 16000)).astype(np.float32)
    page = transcript_page(transcript(segment(" a", 0, 3)), "a", samples=tone)
    decoded = load_audio(b64decode(script_of(page, "audio")))
    assert abs(len(decoded) - len(tone)) < 1600
    spectrum = np.abs(np.fft.rfft(decoded[16000:32000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert data_of(page)["duration"] == 3000


def test_a_page_stays_below_its_size_limit(short):
    made = transcript(segment(" a", 0, 2))
    whole = transcript_page(made, "a", samples=short)
    smaller = transcript_page(made, "a", samples=short, options=PageOptions(max_bytes=len(whole.encode()) - 500))
    assert len(smaller.encode()) <= len(whole.encode()) - 500
    assert script_of(smaller, "audio")  # at a lower bit rate
    none = transcript_page(made, "a", samples=short, audio_link="a.mp3", options=PageOptions(max_bytes=1000))
    assert script_of(none, "audio") == ""
    assert "media-src blob: data: 'self' file:" in none


def test_the_bit_rate_is_kept(short):
    speech = np.tile(short, 10)
    for bit_rate in (24_000, 16_000):
        measured = len(encode_opus(speech, bit_rate)) * 8 / (len(speech) / 16000)
        assert 0.5 * bit_rate < measured < 1.15 * bit_rate


def test_tiles_are_images_of_the_spectrogram():
    silence_then_tone = np.zeros(35 * 16000, np.float32)
    silence_then_tone[31 * 16000 :] = np.sin(2 * np.pi * 3000 * np.arange(4 * 16000) / 16000)
    first, second = map(pixels, spectrogram_tiles(silence_then_tone))
    assert first.shape == (40, 750)
    assert second.shape == (40, 125)
    assert first.max() < 2  # silence
    assert second[:, 80].argmax() == pytest.approx(40 - 1 - 27, abs=2)  # 3 kHz, counted from the top
    assert spectrogram_tiles(np.zeros(100, np.float32)) == []
    odd = np.random.default_rng(0).integers(0, 16, (5, 7)).astype(np.uint8)
    assert np.array_equal(pixels(png(odd)), odd)


def pixels(image):
    """Decode a PNG with four bits of grey per pixel."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    columns, rows, bits = struct.unpack(">IIB", image[16:25])
    assert bits == 4
    at, data = 8, b""
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, content = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        assert struct.unpack(">I", image[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + content)
        data += content if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(rows, -1)
    assert not lines[:, 0].any()
    return np.stack([lines[:, 1:] >> 4, lines[:, 1:] & 15], axis=-1).reshape(rows, -1)[:, :columns]


@pytest.mark.parametrize("options", [{"max_bytes": -1}, {"max_bytes": True}, {"embed_audio": 1}])
def test_invalid_options_are_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        PageOptions(**options)

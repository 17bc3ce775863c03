"""The audio of the page: the recording as Opus, and its spectrogram as small greyscale images."""

import struct
import zlib
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...audio.load import SAMPLE_RATE
from ...audio.mel import log_mel_spectrogram

BIT_RATE, MIN_BIT_RATE = 24_000, 16_000  # of Opus: clear speech, and still intelligible
TILE_SECONDS = 30
TILE_ROWS, COLUMNS_PER_SECOND = 40, 25
SHADES = 16


def encode_opus(samples: NDArray[np.float32], bit_rate: int = BIT_RATE) -> bytes:
    """Encode samples (N,) at 16 kHz as Opus in an Ogg file."""
    file = BytesIO()
    with av.open(file, "w", format="ogg") as container:
        # Packets of 60 ms have the least overhead; the player's clock does not need shorter ones.
        options = {"vbr": "on", "application": "voip", "frame_duration": "60"}
        stream: Any = container.add_stream("libopus", rate=SAMPLE_RATE, options=options)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        integers = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")
        for start in range(0, len(integers), SAMPLE_RATE):
            frame = av.AudioFrame.from_ndarray(integers[None, start : start + SAMPLE_RATE], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def spectrogram_tiles(samples: NDArray[np.float32]) -> list[bytes]:
    """Return the log-mel spectrogram as PNG images of ``TILE_SECONDS`` each, low frequencies at the bottom."""
    if len(samples) <= 200:
        return []
    mel = log_mel_spectrogram(samples, TILE_ROWS)  # (rows, frames)
    step = 100 // COLUMNS_PER_SECOND
    mel = mel[:, : mel.shape[1] // step * step].reshape(TILE_ROWS, -1, step).mean(axis=2)
    if not mel.size:
        return []
    low = mel.min()
    shades = np.round((mel - low) / max(float(mel.max() - low), 1e-9) * (SHADES - 1)).astype(np.uint8)[::-1]
    width = TILE_SECONDS * COLUMNS_PER_SECOND
    return [png(shades[:, start : start + width]) for start in range(0, shades.shape[1], width)]


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image of 16 shades of grey, (rows, columns) from 0 to 15, as a PNG file."""
    rows, columns = pixels.shape
    padded = np.pad(pixels, ((0, 0), (0, columns % 2)))
    packed = padded[:, ::2] << 4 | padded[:, 1::2]  # two pixels to a byte
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), packed], axis=1)  # each begins with its filter type: 0, none

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 4, 0, 0, 0, 0)
    data = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

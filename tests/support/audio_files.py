"""Small audio files, encoded on the fly, and checks of how they load: the ffmpeg command and expected errors."""

import contextlib
import io
import re
import shutil
import subprocess
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest

from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError

av = pytest.importorskip("av")  # without PyAV, test modules that import this one are skipped

SHORT = Path(__file__).parents[1] / "data" / "LJ001-0002.wav"  # 1.9 s
SPEECH = np.round(load_audio(SHORT) * 32768).astype(np.int16)  # its samples (N,) at 16 kHz

# Samples are equal if both FFmpeg versions are; the tolerance is for the version that comes with PyAV.
FFMPEG_TOLERANCE = 3.01 / 32768


def add_video_stream(out):
    """Add a video stream of small pictures to an open container."""
    stream = out.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def encode_video(out, stream, count):
    """Write black pictures and the end of their stream."""
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        picture.pts = number
        out.mux(stream.encode(picture))
    out.mux(stream.encode(None))


def encode_audio(
    pcm, container, codec, *, rate=16000, video=False, layout=None, start=0.0, keep=lambda _time: True, **options
):
    """Encode (N,) or (N, channels) int16 samples; return the bytes of the file.

    The audio starts at ``start`` seconds. Packets are dropped if ``keep`` is false for their time in seconds.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as out:
        pictures = add_video_stream(out) if video else None
        packets = list(_packets(out, pcm, codec, rate, layout, start))
        for packet in packets if not pictures else []:
            if packet.pts is None or keep(float(packet.pts * packet.time_base)):
                out.mux(packet)
        if pictures:
            encode_video(out, pictures, 5)
            out.mux(packets)
    return file.getvalue()


def encode_tracks(container, codec, tracks, rate=16000):
    """Return the bytes of a file with several audio tracks, each given by samples (N,), N >= 0, and a language."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        streams = [out.add_stream(codec, rate=rate, layout="mono") for _ in tracks]
        for stream, (_, language) in zip(streams, tracks, strict=True):
            stream.metadata["language"] = language
        out.start_encoding()
        for stream, (pcm, _) in zip(streams, tracks, strict=True):
            out.mux(list(_packets(out, pcm, codec, rate, None, 0, stream))) if pcm.size else None
    return file.getvalue()


def _packets(out, pcm, codec, rate, layout, start, stream=None):
    layout = layout or ("mono" if pcm.ndim == 1 else "stereo")
    stream = stream or out.add_stream(codec, rate=rate, layout=layout)
    converter = av.AudioResampler(stream.format.name, layout, rate, stream.codec_context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), "s16", layout)
    frame.sample_rate, frame.pts = rate, round(start * rate)
    for piece in [*converter.resample(frame), *converter.resample(None), None]:
        yield from stream.encode(piece)


def wav_bytes(samples, *, rate=16000, width=2):
    """Return the bytes of a PCM WAV file with (N, channels) integers of ``width`` bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(width)
        out.setframerate(rate)
        raw = np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(*samples.shape, 4)
        out.writeframes(raw[..., :width].tobytes())
    return file.getvalue()


def write_wav(path, samples, rate=16000):
    """Write samples (N,) or (N, channels), from -1 to 1, as a 16-bit PCM WAV file."""
    path.write_bytes(wav_bytes((samples.reshape(len(samples), -1) * 32767).astype(np.int16), rate=rate))


def video_without_audio():
    """Return the bytes of an MP4 file with three pictures and no audio track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        encode_video(out, add_video_stream(out), 3)
    return file.getvalue()


def load_without_warning(source, **options):
    """Load a file, and fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_audio(source, **options)


def assert_rejected(source, *parts, **options):
    """Assert that loading fails with a one-line message that contains all parts; return the message."""
    with pytest.raises(AudioError) as caught:
        load_without_warning(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message
    return message


def ffmpeg_command() -> str | None:
    """Return the path of imageio-ffmpeg's ffmpeg or of an installed one, or None if there is neither.

    Versions before 7 are not used: they resample in 16 bits, with errors of up to 4 of 32768.
    """
    with contextlib.suppress(ImportError):
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    path = shutil.which("ffmpeg")
    if path is None:
        return None
    version = subprocess.run([path, "-version"], capture_output=True, check=True, text=True).stdout
    number = re.match(r"ffmpeg version n?(\d+)", version)
    return path if number and int(number[1]) >= 7 else None


FFMPEG = ffmpeg_command()
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg 7 or later is not installed")


def ffmpeg(path):
    """Decode a file with the ffmpeg command: (N,) at 16 kHz."""
    command = [FFMPEG, "-v", "error", "-nostdin", "-i", str(path), "-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<i2") / 32768.0


def assert_same_as_ffmpeg(path):
    """Assert that a file loads with the samples that the ffmpeg command decodes; warnings are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = load_audio(path)
    expected = ffmpeg(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE

"""Sound files made on the spot, as bytes, and how they are judged: by the ffmpeg command and by refusals."""

import contextlib
import io
import re
import shutil
import subprocess
import warnings
import wave

import numpy as np
import pytest

from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError

av = pytest.importorskip("av")  # without it, modules that import this one are skipped, and the others collected

# Samples are equal where FFmpeg is the same; a little leeway for versions that PyAV may come with.
FFMPEG_TOLERANCE = 3.01 / 32768


def add_video_stream(out):
    """A stream of small pictures in an open container."""
    stream = out.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def encode_video(out, stream, count):
    """As many black pictures, and the end of their stream."""
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        picture.pts = number
        out.mux(stream.encode(picture))
    out.mux(stream.encode(None))


def encode_audio(
    pcm, container, codec, *, rate=16000, video=False, layout=None, start=0.0, keep=lambda _time: True, **options
):
    """A sound file's bytes, made of (N,) or (N, channels) int16 samples.

    The audio begins at ``start`` seconds, and packets are left out whose time in seconds is not ``keep``.
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
    """The bytes of a file with several audio tracks, each of samples (N,), which may be none, and a language."""
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
    """A PCM WAV of (N, channels) integers that fill ``width`` bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(width)
        out.setframerate(rate)
        raw = np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(*samples.shape, 4)
        out.writeframes(raw[..., :width].tobytes())
    return file.getvalue()


def video_without_audio():
    """An MP4 of three pictures without a sound track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        encode_video(out, add_video_stream(out), 3)
    return file.getvalue()


def assert_rejected(source, *parts, **options):
    """Assert that loading fails with one line that holds all parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError) as caught:
            load_audio(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message
    return message


def ffmpeg_command() -> str | None:
    """The ffmpeg of imageio-ffmpeg, or the one installed; before version 7 it resampled in 16 bits, 4 of 32768 off."""
    with contextlib.suppress(ImportError):
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    found = shutil.which("ffmpeg")
    if found is None:
        return None
    version = subprocess.run([found, "-version"], capture_output=True, check=True, text=True).stdout
    number = re.match(r"ffmpeg version n?(\d+)", version)
    return found if number and int(number[1]) >= 7 else None


FFMPEG = ffmpeg_command()
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="there is no ffmpeg of version 7 or later here")


def ffmpeg(path):
    command = [FFMPEG, "-v", "error", "-nostdin", "-i", str(path), "-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<i2") / 32768.0

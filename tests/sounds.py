"""Sound files made on the spot, as bytes."""

import io
import wave

import numpy as np
import pytest

av = pytest.importorskip("av")  # without it, modules that import this one are skipped, and the others collected


def add_pictures(out):
    """A stream of small pictures in an open container."""
    stream = out.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def write_pictures(out, stream, count):
    """As many black pictures, and the end of their stream."""
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        picture.pts = number
        out.mux(stream.encode(picture))
    out.mux(stream.encode(None))


def encode(pcm, container, codec, *, rate=16000, video=False, **options):
    """A sound file's bytes, made of (N,) or (N, channels) int16 samples."""
    file = io.BytesIO()
    layout = "mono" if pcm.ndim == 1 else "stereo"
    with av.open(file, "w", format=container, options=options) as out:
        pictures = add_pictures(out) if video else None
        stream = out.add_stream(codec, rate=rate, layout=layout)
        converter = av.AudioResampler(stream.format.name, layout, rate, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), "s16", layout)
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*converter.resample(frame), *converter.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
        if pictures:
            write_pictures(out, pictures, 5)
    return file.getvalue()


def wav(samples, *, rate=16000, width=2):
    """A PCM WAV of (N, channels) integers that fill ``width`` bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(width)
        out.setframerate(rate)
        raw = np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(*samples.shape, 4)
        out.writeframes(raw[..., :width].tobytes())
    return file.getvalue()


def silent_film():
    """An MP4 of three pictures without a sound track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        write_pictures(out, add_pictures(out), 3)
    return file.getvalue()

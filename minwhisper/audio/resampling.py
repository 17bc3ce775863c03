"""Chapter 1: decoded frames of any format → mono samples at one rate, by FFmpeg's filters.

A bug in PyAV (17.1 to 18.1) needs a workaround. A *custom* channel layout, such as 7.1 in a MOV file, points to a list
of channels. PyAV copies the layout of each frame but not the list, and frees the list with each copy, so that it is
freed twice and the process crashes. ``describe_layout`` detaches the list from each copy.

Walkthrough: section 2.
"""

import ctypes
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as AtEnd
from av.filter import Graph
from numpy.typing import NDArray

UNSPECIFIED, CUSTOM = 0, 2  # values of FFmpeg's AVChannelOrder
PYOBJECT_SIZE = (
    object.__basicsize__
)  # bytes of a Python object before FFmpeg's AVChannelLayout: int order, int count, pointer


def describe_layout(layout: AudioLayout) -> str:
    """Return a layout as FFmpeg's filters write it, such as "5.1", and make it safe to delete.

    Call this once for the layout of each decoded frame and codec context, before either is deleted.
    """
    name = layout.name
    if "+" in name:  # FFmpeg describes a custom layout as "2 channels (FR+FL)"
        name = "+".join(channel.name for channel in layout.channels)
    if _is_custom(layout):
        if _LAYOUT_IS_KNOWN:
            ctypes.c_int.from_address(id(layout) + PYOBJECT_SIZE).value = UNSPECIFIED  # no list to free
        else:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))  # never freed: about 50 bytes per frame
    return name


def _order(layout: AudioLayout) -> int:
    return ctypes.c_int.from_address(id(layout) + PYOBJECT_SIZE).value


def _layout_is_known() -> bool:
    """Return whether PyAV's objects hold FFmpeg's structure at the expected offset, tested on safe layouts."""
    examples = {"mono": (1, 1), "3 channels": (UNSPECIFIED, 3), "FR+FL": (CUSTOM, 2)}
    return AudioLayout.__basicsize__ >= PYOBJECT_SIZE + 24 and all(
        (_order(layout), ctypes.c_int.from_address(id(layout) + PYOBJECT_SIZE + 4).value) == expected
        for layout, expected in ((AudioLayout(name), expected) for name, expected in examples.items())
    )


def _is_custom(layout: AudioLayout) -> bool:
    return _order(layout) == CUSTOM if _LAYOUT_IS_KNOWN else layout.nb_channels > 2


_LAYOUT_IS_KNOWN = _layout_is_known()


class Resampler:
    """A converter of frames to mono samples of ``sample_format`` at ``rate`` per second."""

    def __init__(self, sample_format: str, rate: int) -> None:
        self._output = {"sample_fmts": sample_format, "sample_rates": str(rate), "channel_layouts": "mono"}
        self._graph: Graph | None = None
        self._format: tuple[str, str, int] | None = None  # sample format, layout, rate
        self.formats = 0  # the number of formats so far; each change of format adds one

    def push(self, frame: AudioFrame, layout: str) -> list[NDArray[Any]]:
        """Convert a frame with this layout, from ``describe_layout``; return the samples that are ready, each (N,).

        If the format changes, as in concatenated files, a new filter starts. As with the ffmpeg command, the last
        millisecond of the old format, still in the old filter, is lost.
        """
        frame_format = (frame.format.name, layout, frame.sample_rate)
        if self._graph is None or frame_format != self._format:
            self.formats += frame_format != self._format
            self._graph, self._format = self._make_graph(*frame_format), frame_format
        frame.pts, frame.time_base = None, Fraction(1, frame.sample_rate)
        self._graph.push(frame)
        return _pull_all(self._graph)

    def flush(self) -> list[NDArray[Any]]:
        """Return the samples still in the filter; the next frame starts a new filter."""
        if self._graph is None:
            return []
        graph, self._graph = self._graph, None
        graph.push(None)
        return _pull_all(graph)

    def _make_graph(self, sample_format: str, layout: str, rate: int) -> Graph:
        graph = Graph()
        graph.link_nodes(
            graph.add(
                "abuffer",
                sample_fmt=sample_format,
                channel_layout=layout,
                sample_rate=str(rate),
                time_base=f"1/{rate}",
            ),
            graph.add("aformat", **self._output),
            graph.add("abuffersink"),
        ).configure()
        return graph


def _pull_all(graph: Graph) -> list[NDArray[Any]]:
    pieces: list[NDArray[Any]] = []
    while True:
        try:
            frame = graph.pull()
        except (NothingYet, AtEnd):
            return pieces
        assert isinstance(frame, AudioFrame)
        pieces.append(frame.to_ndarray()[0])


def resample(samples: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """Resample (N,) float32 from ``rate`` to ``to`` samples per second; about N · to / rate samples."""
    resampler = Resampler("flt", to)
    pieces = [piece for frame in _array_frames(samples, rate) for piece in resampler.push(frame, "mono")]
    return np.concatenate([samples[:0], *pieces, *resampler.flush()])


def _array_frames(samples: NDArray[np.float32], rate: int) -> Iterable[AudioFrame]:
    """Split samples (N,) into FFmpeg's frames of up to 32,768 samples."""
    for start in range(0, samples.size, 1 << 15):
        block = np.ascontiguousarray(samples[None, start : start + (1 << 15)])
        frame = AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate = rate
        yield frame

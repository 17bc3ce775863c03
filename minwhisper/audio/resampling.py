"""Chapter 1, beneath it: decoded frames of any layout and rate become mono samples at one rate, by FFmpeg's filters.

PyAV copies the channel layout of every frame without copying the list of channels that a *custom* layout points to, and
frees that list together with each copy, so that FFmpeg frees it a second time and the process dies (PyAV 17.1 to 18.1;
layouts such as 7.1 in a MOV file). :func:`describe_layout` therefore takes the list away from each copy.

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

UNSPECIFIED, CUSTOM = 0, 2  # orders of channels: FFmpeg's AVChannelOrder
PYOBJECT_SIZE = (
    object.__basicsize__
)  # bytes of a Python object before FFmpeg's AVChannelLayout: int order, int count, pointer


def describe_layout(layout: AudioLayout) -> str:
    """Return a layout in the form that FFmpeg's filters read, such as "5.1", and make it safe to forget.

    Call it once on each layout that belongs to a decoded frame or a codec context, before any of these is dropped.
    """
    name = layout.name
    if "+" in name:  # FFmpeg describes a custom layout as "2 channels (FR+FL)"
        name = "+".join(channel.name for channel in layout.channels)
    if _is_custom(layout):
        if _LAYOUT_IS_KNOWN:
            ctypes.c_int.from_address(
                id(layout) + PYOBJECT_SIZE
            ).value = UNSPECIFIED  # nothing is freed with it any more
        else:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))  # it is never freed: some 50 bytes for each frame
    return name


def _order(layout: AudioLayout) -> int:
    return ctypes.c_int.from_address(id(layout) + PYOBJECT_SIZE).value


def _layout_is_known() -> bool:
    """Check on layouts that are safe that PyAV's objects hold FFmpeg's structure where it is expected."""
    examples = {"mono": (1, 1), "3 channels": (UNSPECIFIED, 3), "FR+FL": (CUSTOM, 2)}
    return AudioLayout.__basicsize__ >= PYOBJECT_SIZE + 24 and all(
        (_order(layout), ctypes.c_int.from_address(id(layout) + PYOBJECT_SIZE + 4).value) == expected
        for layout, expected in ((AudioLayout(name), expected) for name, expected in examples.items())
    )


def _is_custom(layout: AudioLayout) -> bool:
    return _order(layout) == CUSTOM if _LAYOUT_IS_KNOWN else layout.nb_channels > 2


_LAYOUT_IS_KNOWN = _layout_is_known()


class Resampler:
    """Convert frames of one format, layout and rate to mono samples of ``sample_format`` at ``rate``."""

    def __init__(self, sample_format: str, rate: int) -> None:
        self._output = {"sample_fmts": sample_format, "sample_rates": str(rate), "channel_layouts": "mono"}
        self._graph: Graph | None = None
        self._shape: tuple[str, str, int] | None = None
        self.changes = 0  # of the format

    def feed(self, frame: AudioFrame, layout: str) -> list[NDArray[Any]]:
        """Return the samples (N,) that are ready after this frame, whose layout :func:`describe_layout` has described.

        Where the format changes, as in files that were joined, the filter starts anew. As in the ffmpeg command, the
        last millisecond of the old format, which the filter still holds, is lost.
        """
        shape = (frame.format.name, layout, frame.sample_rate)
        if self._graph is None or shape != self._shape:
            self.changes += shape != self._shape
            self._graph, self._shape = self._make_graph(*shape), shape
        frame.pts, frame.time_base = None, Fraction(1, frame.sample_rate)
        self._graph.push(frame)
        return _pull_all(self._graph)

    def flush(self) -> list[NDArray[Any]]:
        """Return the samples that the filter still holds; the next frame starts anew."""
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
    """Samples (N,) at ``rate`` per second as samples at ``to`` per second, about N · to / rate of them, in float32."""
    resampler = Resampler("flt", to)
    pieces = [piece for frame in _array_frames(samples, rate) for piece in resampler.feed(frame, "mono")]
    return np.concatenate([samples[:0], *pieces, *resampler.flush()])


def _array_frames(samples: NDArray[np.float32], rate: int) -> Iterable[AudioFrame]:
    """Samples (N,) in FFmpeg's frames, a second each or so."""
    for start in range(0, samples.size, 1 << 15):
        block = np.ascontiguousarray(samples[None, start : start + (1 << 15)])
        frame = AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate = rate
        yield frame

"""CUDA graphs: many kernels captured once and then replayed by one launch."""

from collections.abc import Callable
from typing import Any

from ..devices import is_gpu_out_of_memory
from .memory import memory_pool


def capture_graph(launch: Callable[[], None]) -> Any:
    """Return a CUDA graph of the kernels that ``launch`` launches.

    CUDA needs memory for it. If there is none, CuPy's pool frees the blocks kept for reuse, and we try again.
    """
    try:
        return _capture(launch)
    except Exception as error:  # CuPy raises its own types, and the driver's
        if not is_gpu_out_of_memory(error):
            raise
        memory_pool().free_all_blocks()
        return _capture(launch)


def _capture(launch: Callable[[], None]) -> Any:
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
    with stream:
        stream.begin_capture()
        try:
            launch()
        finally:
            graph = stream.end_capture()
    return graph

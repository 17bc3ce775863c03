"""As in openai-whisper; tensors of PyTorch come in as arrays. Its CUDA kernels have no counterpart."""

import numpy as np

from minwhisper.transcription import alignment_tools

dtw_cpu = alignment_tools.dynamic_time_warping
dtw_cuda = None  # its tests are left out


def median_filter(x, filter_width: int):
    """The filter for a tensor."""
    return alignment_tools.median_filter(np.asarray(x), filter_width)

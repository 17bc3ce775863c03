"""As in openai-whisper; tensors of PyTorch come in as arrays. Its CUDA kernels have no counterpart."""

import numpy as np

from minwhisper.transcription import alignment

dtw_cpu = alignment.dynamic_time_warping
dtw_cuda = None  # its tests are left out


def median_filter(x, filter_width: int):
    """The filter for a tensor."""
    return alignment.median_filter(np.asarray(x), filter_width)

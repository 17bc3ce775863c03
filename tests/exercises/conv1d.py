"""An answer to exercise 3: neighbouring frames side by side, and one matrix product."""

import numpy as np


def conv1d(x, weight, bias, stride):
    none = np.zeros((1, x.shape[1]))
    before = np.concatenate([none, x[:-1]])
    after = np.concatenate([x[1:], none])
    seen = np.concatenate([before, x, after], axis=1)
    matrix = np.concatenate([weight[:, :, 0], weight[:, :, 1], weight[:, :, 2]], axis=1)
    out = seen @ matrix.T + bias
    return out[::stride]

"""An answer to exercise 1, a row at a time."""

import numpy as np


def softmax(x):
    rows = [soft_row(row) for row in x.reshape(-1, x.shape[-1])]
    return np.stack(rows).reshape(x.shape)


def soft_row(row):
    weights = np.exp(row - max(row))
    return weights / weights.sum()


def log_softmax(x):
    top = np.max(x, -1)[..., None]
    total = np.sum(np.exp(x - top), -1)[..., None]
    return x - (top + np.log(total))

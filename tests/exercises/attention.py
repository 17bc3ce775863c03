"""An answer to exercise 5, a head at a time."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(queries, keys, values, mask):
    out = np.empty(queries.shape)
    for head in range(len(queries)):
        scores = queries[head] @ keys[head].T / np.sqrt(queries.shape[-1])
        if mask is not None:
            scores = scores + mask
        out[head] = softmax(scores) @ values[head]
    return out

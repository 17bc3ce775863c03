"""An answer to exercise 4, with NumPy's statistics and a vectorised math.erf."""

import math

import numpy as np

EPS = 1e-5


def layer_norm(x, weight, bias):
    mean = np.mean(x, axis=-1, keepdims=True)
    var = np.var(x, axis=-1, keepdims=True)
    normed = (x - mean) / (var + EPS) ** 0.5
    return normed * weight + bias


def gelu(x):
    phi = np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[float])
    return phi(x) * x

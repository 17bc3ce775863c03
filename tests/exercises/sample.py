"""An answer to exercise 12, with searchsorted and a generator."""

import zlib

import numpy as np


def sample(logits, temperature, number):
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max())
    weights = weights / weights.sum()
    return int(np.searchsorted(np.cumsum(weights), number, side="right"))


def fallback(attempt, temperatures):
    for temperature in temperatures:
        last = attempt(temperature)
        text, count = last["text"].encode("utf-8"), len(last["tokens"]) + 1
        mean = last["sum_logprob"] / count
        varied = len(text) <= 2.4 * len(zlib.compress(text))
        good = last["no_speech_prob"] > 0.6 if mean < -1 else varied
        if good:
            return last
    return last

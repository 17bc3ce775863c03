"""openai-whisper made to draw the random numbers of this package, so that what both sample can be compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from whisper import decoding


@contextmanager
def same_draws(seed: int = 0) -> Iterator[None]:
    """Within it, openai-whisper draws tokens with a NumPy generator of this seed, as ``search.draw`` does.

    PyTorch's generator is another one, so tokens drawn at a temperature could not be alike without this. Its
    distribution, the one it would have drawn from, stays its own: only the number from 0 to 1 that is looked up in it
    is ours. Candidates that have ended draw no number here, and there what they draw is not used.
    """
    generator = np.random.default_rng(seed)
    ended = np.zeros(0, bool)
    choose_next = decoding.GreedyDecoder.update

    def update(self, tokens, logits, sum_logprobs):
        nonlocal ended
        ended = (tokens[:, -1] == self.eot).numpy()
        return choose_next(self, tokens, logits, sum_logprobs)

    class Categorical:
        def __init__(self, logits):
            self.greedy = logits.argmax(dim=-1).numpy()
            self.reached = np.cumsum(torch.softmax(logits.double(), dim=-1).numpy(), axis=-1)

        def sample(self):
            tokens = self.greedy.copy()  # one that is allowed: what it adds to a sum is multiplied by zero
            going = np.flatnonzero(~ended)
            drawn = generator.random((len(going), 1)) * self.reached[going, -1:]
            tokens[going] = (self.reached[going] > drawn).argmax(axis=-1)
            return torch.tensor(tokens)

    with patch.object(decoding.GreedyDecoder, "update", update), patch.object(decoding, "Categorical", Categorical):
        yield

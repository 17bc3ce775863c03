"""Make openai-whisper sample with this package's random numbers, so that both sample the same tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from whisper import decoding


@contextmanager
def same_draws(seed: int = 0) -> Iterator[None]:
    """Within this context, openai-whisper samples with a NumPy generator of this seed, as ``search.sample`` does.

    Only the uniform numbers are ours; the distribution is openai-whisper's. Finished candidates take no number here,
    and openai-whisper ignores their samples.
    """
    generator = np.random.default_rng(seed)
    finished = np.zeros(0, bool)
    choose_next = decoding.GreedyDecoder.update

    def update(self, tokens, logits, sum_logprobs):
        nonlocal finished
        finished = (tokens[:, -1] == self.eot).numpy()
        return choose_next(self, tokens, logits, sum_logprobs)

    class Categorical:
        def __init__(self, logits):
            self.greedy = logits.argmax(dim=-1).numpy()
            self.cumulative = np.cumsum(torch.softmax(logits.double(), dim=-1).numpy(), axis=-1)

        def sample(self):
            tokens = self.greedy.copy()  # ignored for finished candidates
            active = np.flatnonzero(~finished)
            uniform = generator.random((len(active), 1)) * self.cumulative[active, -1:]
            tokens[active] = (self.cumulative[active] > uniform).argmax(axis=-1)
            return torch.tensor(tokens)

    with patch.object(decoding.GreedyDecoder, "update", update), patch.object(decoding, "Categorical", Categorical):
        yield

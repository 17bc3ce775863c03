"""The encoder beside openai-whisper's, in turn, on the clip that comes with the package.

Run: python tests/benchmarks/encoder.py [MODEL], with the extras `offline` and `parity` installed.
"""

import statistics
import sys
import time

import torch

import minwhisper
from minwhisper import parity

ROUNDS = 11

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "tiny.en"
    model = minwhisper.load_model(name)
    theirs = parity.pytorch_model(model)
    mel = parity.window_mel(parity.clip_samples(), model.config.num_mel_bins)
    times = []
    with torch.no_grad():
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            model.encode(mel)
            middle = time.perf_counter()
            theirs.encoder(torch.tensor(mel))
            times.append((middle - start, time.perf_counter() - middle))
    ours, pytorch = (statistics.median(column) for column in zip(*times[1:], strict=True))  # the first warms up
    print(f"{name}: encoder {ours:.3f} s, PyTorch {torch.__version__} {pytorch:.3f} s, ratio {ours / pytorch:.2f}")

"""Run every kernel once or twice on a small model, for compute-sanitizer, which is slow.

compute-sanitizer --tool memcheck python tests/benchmarks/gpu_memcheck.py float32
"""

import sys
from typing import Any

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is run)
import minwhisper
from minwhisper.common.backend import to_numpy
from minwhisper.model.config import WhisperConfig
from minwhisper.model.engine import DecoderInput

LITTLE = WhisperConfig(
    vocab_size=1003,
    num_mel_bins=8,
    d_model=128,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=192,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=192,
    max_source_positions=130,
    max_target_positions=72,
)


def check(model: Any) -> None:
    """Encode two windows; decode prompts, steps of one and several windows, and a beam that reorders its rows."""
    engine, frames = model.engine, 2 * model.config.max_source_positions
    mel = np.random.default_rng(0).standard_normal((1, model.config.num_mel_bins, frames)).astype(np.float32)
    features = [model.encode(mel), model.encode(mel[..., ::-1].copy())]
    with engine.session():
        for windows, rows in (([0], 1), ([0], 5), ([0, 1, 0], 1), ([0, 1], 3)):
            caches = [engine.new_cache(features[window]) for window in windows]
            prompts = [DecoderInput([list(range(1, 34))], cache, [0, 32]) for cache in caches]
            caches = [cache.reorder([0] * rows) for _, cache in engine.decode_batch(prompts)]
            for _ in range(3):
                moved = [cache.reorder([*range(1, rows), 0]) for cache in caches]
                found = engine.decode_batch([DecoderInput([[7]] * rows, cache, [0]) for cache in moved])
                caches = [cache for _, cache in found]
            assert all(np.isfinite(to_numpy(logits)).all() for logits, _ in found)


if __name__ == "__main__":
    check(minwhisper.Whisper.random(LITTLE, device="cuda", dtype=sys.argv[1]))

"""The encoder on threads equals the readable one."""

from dataclasses import replace

import numpy as np
import pytest

from engine_pair import lively_weights
from inputs import SMALL
from minwhisper.errors import ShapeError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.model import encoder
from minwhisper.model.engine import PlainEngine
from minwhisper.parity.comparison import relative_difference

BOUND = 1e-6
# Products sum over more terms than one block has, and not over a whole number of blocks.
CONFIG = replace(SMALL, d_model=160, encoder_layers=2, encoder_ffn_dim=300)


@pytest.fixture(scope="module")
def plain() -> PlainEngine:
    return PlainEngine(lively_weights(CONFIG, 3), CONFIG)


@pytest.fixture(scope="module")
def fast(plain) -> CpuEngine:
    return CpuEngine(plain.weights, CONFIG, threads=2)


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, CONFIG.num_mel_bins, 3000), np.float32)


@pytest.mark.parametrize("frames", [1, 2, 7, 250, 251, 2999, 3000])
def test_any_number_of_frames_gives_the_readable_features(fast, plain, mel, frames):
    ours, theirs = fast.encode(mel[..., :frames]), plain.encode(mel[..., :frames])
    assert ours.shape == theirs.shape == (1, (frames + 1) // 2, CONFIG.d_model)
    assert ours.dtype == np.float32
    assert relative_difference(ours, theirs) <= BOUND


def test_windows_do_not_depend_on_each_other_or_on_their_layout(fast, mel):
    assert fast.encode(mel[:0, :, :200]).shape == (0, 100, CONFIG.d_model)
    windows = np.concatenate([mel[..., :500], mel[:, ::-1, :500]])
    windows.flags.writeable = False
    both = fast.encode(windows)
    kept = both.copy()
    for number in range(2):
        assert np.array_equal(fast.encode(np.asfortranarray(windows[number : number + 1]))[0], kept[number])
    assert np.array_equal(both, kept)  # later calls reuse the buffers, but not the results


def test_large_scores_do_not_overflow(mel):
    """The queries are so large that the maximum has to be subtracted before exp."""
    config, mel = replace(CONFIG, encoder_layers=1), mel[..., :600]
    weights = lively_weights(config, 3)
    weights["encoder"]["blocks"][0]["attention"]["query"]["weight"][...] *= 30
    with np.errstate(over="raise", invalid="raise"):
        ours = CpuEngine(weights, config, threads=2).encode(mel)
    exact = encoder.encode(mel.astype(np.float64), weights["encoder"], config)
    # The errors of such scores are large too, even in the readable block.
    readable = relative_difference(PlainEngine(weights, config).encode(mel), exact)
    assert relative_difference(ours, exact) <= max(BOUND, 1.3 * readable)


@pytest.mark.parametrize("shape", [(8, 3000), (1, 7, 3000), (1, 8, 0), (1, 8, 3001), (1, 1, 8, 200)], ids=str)
def test_a_mel_of_another_shape_is_rejected(fast, plain, shape):
    for engine in (fast, plain):
        with pytest.raises(ShapeError, match=r"mel: expected \(batch, 8, 1 to 3000 frames\), got ") as caught:
            engine.encode(np.zeros(shape, np.float32))
        assert str(caught.value).endswith(str(shape))

"""Both real models on the clip that comes with the package, stage by stage, against stored float64 numbers.

No PyTorch is needed: what its float32 shows over the same numbers is stored beside them.
"""

from pathlib import Path

import numpy as np
import pytest

from minwhisper.common.backend import to_numpy
from minwhisper.parity import comparison as parity

LIMIT = 1e-5  # of the relative difference; PyTorch itself shows up to 4e-6


@pytest.fixture(scope="module")
def name(model):
    return model.name


@pytest.fixture(scope="module")
def reference(name):
    return parity.load_reference(name)


@pytest.fixture(scope="module")
def mel(model):
    return parity.window_mel(parity.clip_samples(), model.config.num_mel_bins)


@pytest.fixture(scope="module")
def differences(model, reference, mel):
    """Of every stage of ours from the stored numbers, relative to their norm."""
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    every = {"mel": mel, **dict(parity.stages(model, mel, [[*prompt, *reference.tokens]]))}
    parts = {stage: parity.subsample(stage, to_numpy(array), reference.rows[stage]) for stage, array in every.items()}
    return {stage: parity.relative_difference(part, reference.exact[stage]) for stage, part in parts.items()}


def test_every_stage_is_within_rounding_of_the_exact_one(model, reference, differences):
    blocks = [f"encoder.blocks.{i}" for i in range(model.config.encoder_layers)]
    blocks += [f"decoder.blocks.{i}" for i in range(model.config.decoder_layers)]
    assert set(differences) == {"mel", "stem", "encoder", "logits", *blocks} == set(reference.exact)
    assert {stage: far for stage, far in differences.items() if not far <= LIMIT} == {}


def test_no_stage_is_further_from_the_exact_one_than_pytorchs(reference, differences):
    assert {stage: far for stage, far in differences.items() if not far <= reference.pytorch[stage]} == {}


def test_the_same_tokens_are_said(model, reference, mel):
    assert parity.generated_tokens(model, mel) == reference.tokens
    assert "ask not what your country can do for you" in model.tokenizer.decode(reference.tokens)


def test_the_reference_is_of_what_it_says(reference):
    for stage, exact in reference.exact.items():
        assert exact.dtype == np.float64
        assert np.isfinite(exact).all()
        assert len(exact) == len(reference.rows[stage]) > 0
        # Stored wrongly, PyTorch's own figure would not be that of rounding to single precision.
        assert 1e-8 < reference.pytorch[stage] < LIMIT


def test_the_reference_is_small(name):
    assert Path(str(parity.REFERENCE_FOLDER / f"{name}.npz")).stat().st_size < 350_000


def test_a_model_without_a_reference_has_none():
    assert parity.load_reference("small") is None

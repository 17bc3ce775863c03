"""Whole models compared with openai-whisper and Transformers, and with openai-whisper in float64."""

from typing import Any

import numpy as np
import pytest

import minwhisper
from inputs import SPEECH
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.model.config import WhisperConfig
from minwhisper.model.decoder import decode
from minwhisper.model.encoder import encode
from minwhisper.model.weight_names import expected_shapes, flatten, from_hugging_face
from minwhisper.parity.comparison import generated_tokens, pytorch_model, relative_difference, stages, window_mel

torch = pytest.importorskip("torch")
pytest.importorskip("whisper")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

LIMIT = 1e-5  # relative difference between two float32 programs, each about 1e-6 off the exact result


# --- openai-whisper: tiny.en on two of thirteen clips, and base too with --grid; tests/parity/test_golden.py has both

CLIPS = [path.name for path in SPEECH]
LARGEST_ERROR = "LJ001-0007.wav"  # the clip with the largest error of a block
ALWAYS = {"tiny.en": {LARGEST_ERROR, CLIPS[0]}, "base": set()}
CASES = [
    pytest.param(name, clip, marks=[] if clip in always else [pytest.mark.grid])
    for name, always in ALWAYS.items()
    for clip in CLIPS
]


class Recorded:
    """An openai-whisper model that records the output of every stage."""

    def __init__(self, model: minwhisper.Whisper, double: bool = False) -> None:
        self.module = pytorch_model(model, double)
        self.dtype = torch.float64 if double else torch.float32
        self.stages: dict[str, np.ndarray] = {}
        encoder, decoder = self.module.encoder, self.module.decoder
        encoder.blocks[0].register_forward_pre_hook(lambda _module, inputs: self.keep("stem", inputs[0]))
        encoder.register_forward_hook(lambda _module, _inputs, output: self.keep("encoder", output))
        for half in ("encoder", "decoder"):
            for i, block in enumerate(getattr(self.module, half).blocks):
                name = f"{half}.blocks.{i}"
                block.register_forward_hook(lambda _module, _inputs, output, name=name: self.keep(name, output))
        # The logits are computed again here, because openai-whisper always rounds them to float32.
        table = decoder.token_embedding.weight
        decoder.ln.register_forward_hook(lambda _module, _inputs, output: self.keep("logits", output @ table.T))

    def keep(self, name: str, output: Any) -> None:
        self.stages[name] = output.numpy()

    def __call__(self, mel: np.ndarray, tokens: list[list[int]]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            self.module(torch.tensor(mel, dtype=self.dtype), torch.tensor(tokens))
        return self.stages


@pytest.fixture(scope="module")
def single(model) -> Recorded:
    return Recorded(model)


@pytest.fixture(scope="module")
def double(model) -> Recorded:
    return Recorded(model, double=True)


@pytest.mark.parametrize(("model", "clip"), CASES, indirect=["model"])
def test_every_stage_equals_pytorchs_and_the_outputs_are_more_exact(model, single, double, speech, clip):
    mel = window_mel(speech[clip], model.config.num_mel_bins)
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    tokens = [[*prompt, *generated_tokens(model, mel)]]
    assert len(tokens[0]) > len(prompt) + 3
    ours, theirs, exact = dict(stages(model, mel, tokens)), single(mel, tokens), double(mel, tokens)
    assert set(ours) == set(theirs) == set(exact)
    our_error = {stage: relative_difference(ours[stage], exact[stage]) for stage in ours}
    their_error = {stage: relative_difference(theirs[stage], exact[stage]) for stage in ours}
    for stage, array in ours.items():
        assert exact[stage].dtype == np.float64
        assert our_error[stage] <= LIMIT, stage
        # Two programs with PyTorch's error may differ by twice that error: in the residual stream of base, where a
        # few values outweigh all others, one block of one clip reaches 1.04e-5.
        assert relative_difference(array, theirs[stage]) <= max(LIMIT, 2 * their_error[stage]), stage
    for stage in ("encoder", "logits"):
        assert relative_difference(ours[stage], theirs[stage]) <= LIMIT
        assert our_error[stage] <= their_error[stage]
    assert np.array_equal(ours["logits"].argmax(-1), theirs["logits"].argmax(-1))


# --- Transformers


def their_config(config: WhisperConfig) -> Any:
    """Return the configuration for Transformers: the same names, and special tokens that fit any vocabulary."""
    shape = {name: getattr(config, name) for name in config.__dataclass_fields__}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    return transformers.WhisperConfig(**shape, **tokens, begin_suppress_tokens=None)


def their_model(config: WhisperConfig) -> Any:
    return transformers.WhisperForConditionalGeneration(their_config(config)).eval()


def our_name(theirs: str) -> str:
    """Translate the name of one of their tensors; their output projection is our token embedding."""
    return "decoder.token_embedding" if theirs == "proj_out.weight" else from_hugging_face(theirs)[0]


def run(theirs: Any, mel: np.ndarray, tokens: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and logits of their model."""
    with torch.no_grad():
        features = theirs.model.encoder(torch.tensor(mel)).last_hidden_state
        logits = theirs(encoder_outputs=(features,), decoder_input_ids=torch.tensor(tokens)).logits
    return features.numpy(), logits.numpy()


def test_logits_equal_those_of_transformers(model, speech):
    theirs = their_model(model.config)
    ours = dict(flatten(model.weights))
    theirs.load_state_dict({name: torch.tensor(ours[our_name(name)]) for name in theirs.state_dict()})
    assert {our_name(name) for name in theirs.state_dict()} == set(ours)
    mel = window_mel(speech["jfk.flac"], model.config.num_mel_bins)
    tokens = [[*model.tokenizer.sot_sequence("en", "transcribe", timestamps=True), *range(400, 410)]]
    features, logits = run(theirs, mel, tokens)
    own = model.encode(mel)
    assert relative_difference(own, features) <= LIMIT
    assert relative_difference(model.logits(tokens, own), logits) <= LIMIT


def shape(**changes: int) -> WhisperConfig:
    """Return a small configuration in which all sizes that may differ do."""
    sizes = {
        "vocab_size": 300,
        "num_mel_bins": 80,
        "d_model": 48,
        "encoder_layers": 3,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 112,
        "decoder_layers": 2,
        "decoder_attention_heads": 3,
        "decoder_ffn_dim": 176,
        "max_source_positions": 40,
        "max_target_positions": 24,
    }
    return WhisperConfig(**sizes | changes)


LARGE_V3 = shape(
    num_mel_bins=128, vocab_size=51866, d_model=320, encoder_attention_heads=20, decoder_attention_heads=20
)
WIDE = shape(num_mel_bins=128, d_model=1280, encoder_attention_heads=20, decoder_attention_heads=20, encoder_layers=1)


def randomised(config: WhisperConfig) -> Any:
    """Return their model with random parameters, except the sinusoids: biases of 0 would hide a mix-up."""
    theirs = their_model(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            if name == "model.encoder.embed_positions.weight":
                continue
            spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 and "embed" not in name else 0.3
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=generator))
    return theirs


@pytest.mark.parametrize(
    ("config", "dtype", "how"),
    [
        (shape(), "float32", {}),
        (shape(), "float16", {}),
        (shape(), "bfloat16", {}),
        (shape(), "float32", {"max_shard_size": "100KB"}),
        (LARGE_V3, "float32", {}),
        (WIDE, "float32", {}),
    ],
    ids=["uneven", "float16", "bfloat16", "shards", "large-v3's vocabulary", "large-v3's width"],
)
def test_a_model_that_transformers_saved(config, dtype, how, tmp_path):
    theirs = randomised(config).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path, **how)
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 2) == ("max_shard_size" in how)
    checkpoint = load_checkpoint(find_checkpoint(tmp_path))
    assert checkpoint.config == config
    assert {name: array.shape for name, array in flatten(checkpoint.weights)} == expected_shapes(config)
    rng = np.random.default_rng(0)
    mel = rng.standard_normal((2, config.num_mel_bins, 2 * config.max_source_positions), np.float32)
    tokens = rng.integers(0, config.vocab_size, (2, 7))
    features, logits = run(theirs.float(), mel, tokens.tolist())
    own = encode(mel, checkpoint.weights["encoder"], config)
    own_logits = decode(tokens, own, checkpoint.weights["decoder"], config)
    for ours, other in ((own, features), (own_logits, logits)):
        assert ours.shape == other.shape
        assert relative_difference(ours, other) <= LIMIT

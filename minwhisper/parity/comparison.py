"""Measure the error of every stage against a stored reference, and against PyTorch if it is installed.

The references for ``tiny.en`` and ``base`` come with the package. They hold, for a clip of speech, some values of every
stage of openai-whisper's model in float64, and the relative error of its float32. So this package can be compared with
PyTorch without installing it. If openai-whisper is installed, all values of every stage are compared as well. Only this
module imports PyTorch, and only in the functions that need it.

Walkthrough: section 15.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.load import N_FRAMES, N_SAMPLES, load_audio, pad_or_trim
from ..audio.mel import log_mel_spectrogram
from ..common.backend import Array, on_device, to_device, to_numpy
from ..compat.model import dimensions
from ..errors import ModelNotFoundError
from ..model.config import PUBLISHED
from ..model.decoder import decoder_block, embed, new_cache, unembed
from ..model.encoder import encoder_block, stem
from ..model.layers import layer_norm
from ..model.weight_names import flatten
from ..whisper import Whisper

REFERENCE_FOLDER = files(__package__) / "reference"
CLIP = "jfk.flac"  # 11 s at 16 kHz, so that no resampler affects the comparison
COLUMN_STRIDE = 7  # of a stored row, every seventh value is kept
VOCABULARY_STRIDE = 131  # of a row of logits, which is longer, every 131st
TOLERANCE = 1e-5  # largest accepted relative difference of a stage; PyTorch reaches 4e-6
Stages = dict[str, Array]


@dataclass(frozen=True)
class Reference:
    """Reference values of a model for the clip."""

    rows: dict[str, NDArray[np.intp]]  # by stage: the positions that are stored
    exact: dict[str, NDArray[np.float64]]  # by stage: their values in float64
    pytorch: dict[str, float]  # by stage: the relative difference of PyTorch's float32
    tokens: list[int]  # the output of greedy decoding


@dataclass(frozen=True)
class StageComparison:
    """The errors of one stage. Without a stored reference the first three are None."""

    stage: str
    shape: tuple[int, ...]
    max_error: float | None  # max |ours - exact|
    relative_error: float | None  # ‖ours - exact‖ / ‖exact‖
    pytorch_error: float | None  # ‖PyTorch's - exact‖ / ‖exact‖
    from_pytorch: float | None  # ‖ours - PyTorch's‖ / ‖PyTorch's‖; None if PyTorch is not installed


def relative_difference(ours: Array, reference: Array) -> float:
    """Return ‖ours - reference‖ / ‖reference‖, computed in float64."""
    wide = np.asarray(reference, np.float64)
    return float(np.linalg.norm(np.asarray(ours, np.float64) - wide) / np.linalg.norm(wide))


def clip_samples() -> NDArray[np.float32]:
    """Return the clip that comes with the package: 11 s of J. F. Kennedy, 1961, at 16 kHz, (176000,)."""
    return load_audio((REFERENCE_FOLDER / CLIP).read_bytes())


def window_mel(samples: NDArray[np.float32], n_mels: int) -> NDArray[np.float32]:
    """Return the mel of the first window as transcription computes it: samples (N,) -> (1, M, 3000)."""
    return _first_window(log_mel_spectrogram(samples, n_mels, padding=N_SAMPLES))


def _first_window(mel: Array) -> Array:
    """Return the first window, (1, M, 3000), of the mel of audio and 30 s of silence; the silence becomes zeros."""
    return pad_or_trim(mel[:, : min(N_FRAMES, mel.shape[1] - N_FRAMES)], N_FRAMES)[None]


def load_reference(name: str) -> Reference | None:
    """Return the stored reference of a model, given its published name, or None."""
    path = REFERENCE_FOLDER / f"{name}.npz"
    if name not in PUBLISHED or not path.is_file():
        return None
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    facts = json.loads(str(arrays.pop("facts")))
    return Reference(
        rows={key.removeprefix("rows:"): value for key, value in arrays.items() if key.startswith("rows:")},
        exact={key.removeprefix("exact:"): value for key, value in arrays.items() if key.startswith("exact:")},
        pytorch=facts["pytorch"],
        tokens=facts["tokens"],
    )


def stages(model: Whisper, mel: Array, tokens: Sequence[Sequence[int]]) -> Iterator[tuple[str, Array]]:
    """Yield the name and the output of each stage: (1, T, D) in the encoder, (1, S, D) in the decoder, (1, S, V)."""
    config, encoder, decoder = model.config, model.weights["encoder"], model.weights["decoder"]
    x = stem(to_device(np.asarray(mel, model.compute_dtype), model.device), encoder)
    yield "stem", x
    for i, block in enumerate(encoder["blocks"]):
        x = encoder_block(x, block, config.encoder_attention_heads)
        yield f"encoder.blocks.{i}", x
    features = layer_norm(x, **encoder["norm"])
    yield "encoder", features
    x = embed(to_device(np.asarray(tokens), model.device), decoder, features.dtype)
    cache = new_cache(features, decoder, config)
    for i, (block, kv, cross_kv) in enumerate(zip(decoder["blocks"], *cache, strict=True)):
        x, _, _ = decoder_block(x, kv, cross_kv, block, config.decoder_attention_heads)
        yield f"decoder.blocks.{i}", x
    yield "logits", unembed(x, decoder)


def generated_tokens(model: Whisper, mel: Array) -> list[int]:
    """Return the tokens of greedy decoding in English, given the mel of a window, (1, M, 3000)."""
    return model.decode(mel[0], language="en").tokens


def subsample(stage: str, array: Array, rows: NDArray[np.intp]) -> Array:
    """Return the values of a stage's array (1, rows, columns) that a reference stores: these rows, some columns."""
    return array[0, rows, :: VOCABULARY_STRIDE if stage == "logits" else COLUMN_STRIDE]


def check_comparable(name: str) -> None:
    """Raise ``ModelNotFoundError`` if there is neither a stored reference nor PyTorch to compare with."""
    if load_reference(name) is None and not _has_pytorch():
        raise ModelNotFoundError(
            f"{name}: only tiny.en and base have a stored reference; to compare another model with PyTorch, run "
            "pip install torch openai-whisper"
        )


def _has_pytorch() -> bool:
    return find_spec("torch") is not None and find_spec("whisper") is not None


def compare(model: Whisper, name: str) -> tuple[list[StageComparison], list[tuple[str, bool]]]:
    """Compare every stage, and the generated tokens, on the clip.

    Returns a ``StageComparison`` per stage, and whether the tokens equal those of each reference, by its name.
    Raises the error of ``check_comparable``.
    """
    check_comparable(name)
    reference, with_pytorch = load_reference(name), _has_pytorch()
    samples = clip_samples()
    mel = window_mel(samples, model.config.num_mel_bins)
    tokens = generated_tokens(model, mel)
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    sequences = [[*prompt, *(reference.tokens if reference else tokens)]]
    theirs: Stages = {}
    token_checks = []
    if reference is not None:
        token_checks.append(("the stored ones", tokens == reference.tokens))
    if with_pytorch:
        theirs = pytorch_stages(model, samples, sequences)
        token_checks.append(("those of PyTorch", tokens == pytorch_tokens(model, theirs["mel"])))
    comparisons = []
    with on_device(model.device):
        outputs = [("mel", mel), *((stage, to_numpy(array)) for stage, array in stages(model, mel, sequences))]
    for stage, ours in outputs:
        max_error = relative_error = None
        if reference is not None:
            part, exact = subsample(stage, ours, reference.rows[stage]), reference.exact[stage]
            max_error, relative_error = float(abs(part - exact).max()), relative_difference(part, exact)
        comparisons.append(
            StageComparison(
                stage,
                ours.shape,
                max_error,
                relative_error,
                None if reference is None else reference.pytorch[stage],
                relative_difference(ours, theirs[stage]) if theirs else None,
            )
        )
    return comparisons, token_checks


def openai_name(name: str) -> str:
    """Return openai-whisper's name of a weight of this package.

    >>> openai_name("decoder.blocks.3.cross_attention_norm.weight")
    'decoder.blocks.3.cross_attn_ln.weight'
    """
    for ours, openai in (
        ("attention_norm", "attn_ln"),
        ("attention", "attn"),
        ("mlp_norm", "mlp_ln"),
        ("mlp.fc1", "mlp.0"),
        ("mlp.fc2", "mlp.2"),
        ("encoder.norm", "encoder.ln_post"),
        ("decoder.norm", "decoder.ln"),
        ("token_embedding", "token_embedding.weight"),
        ("positions", "positional_embedding"),
    ):
        name = name.replace(ours, openai)
    return name


def pytorch_model(model: Whisper, double: bool = False) -> Any:
    """Return openai-whisper's model with the same weights and alignment heads, in float32 or float64.

    Its layer norm always computes in float32, so PyTorch's own replaces it in float64.
    """
    import torch
    import whisper

    config = model.config
    theirs = whisper.model.Whisper(whisper.model.ModelDimensions(**asdict(dimensions(config))))
    theirs.load_state_dict(
        {openai_name(name): torch.tensor(np.asarray(to_numpy(w), np.float32)) for name, w in flatten(model.weights)}
    )
    heads = torch.zeros(config.decoder_layers, config.decoder_attention_heads, dtype=torch.bool)
    for block, head in model.alignment_heads:
        heads[block, head] = True
    theirs.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    if double:
        theirs = theirs.double()
        for module in theirs.modules():
            if isinstance(module, whisper.model.LayerNorm):
                module.forward = torch.nn.LayerNorm.forward.__get__(module)
    return theirs.eval()


def pytorch_stages(
    model: Whisper, samples: NDArray[np.float32], tokens: Sequence[Sequence[int]], double: bool = False
) -> Stages:
    """Return the mel and the outputs of ``stages``, computed by openai-whisper in float32 or float64."""
    import torch
    import whisper

    theirs = pytorch_model(model, double)
    if double:
        mel = _float64_mel(samples, model.config.num_mel_bins)
    else:
        whole = whisper.log_mel_spectrogram(torch.tensor(samples), model.config.num_mel_bins, padding=N_SAMPLES)
        mel = _first_window(whole.numpy())
    outputs: Stages = {"mel": mel}
    modules = {
        f"{half}.blocks.{i}": b for half in ("encoder", "decoder") for i, b in enumerate(getattr(theirs, half).blocks)
    }
    modules["encoder"] = theirs.encoder
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output.numpy())
        )
    theirs.encoder.blocks[0].register_forward_pre_hook(
        lambda _module, inputs: outputs.__setitem__("stem", inputs[0].numpy())
    )
    with torch.no_grad():
        # In float32 it gets this package's mel, so that the stages do not show the rounding of its own spectrogram.
        given = mel if double else window_mel(samples, model.config.num_mel_bins)
        features = theirs.encoder(torch.tensor(given))
        normed: dict[str, Any] = {}
        theirs.decoder.ln.register_forward_hook(lambda _module, _inputs, output: normed.update(out=output))
        theirs.decoder(torch.tensor(tokens), features)
        # Its decoder rounds the logits to float32, so the last matmul is repeated here.
        outputs["logits"] = (normed["out"] @ theirs.decoder.token_embedding.weight.T).numpy()
    return outputs


def _float64_mel(samples: NDArray[np.float32], n_mels: int) -> Array:
    """Return the mel of the first window by openai-whisper's formula, computed by PyTorch in float64."""
    import torch
    import whisper

    padded = torch.nn.functional.pad(torch.tensor(samples, dtype=torch.float64), (0, N_SAMPLES))
    window = torch.hann_window(400, dtype=torch.float64)
    power = torch.stft(padded, 400, 160, window=window, return_complex=True)[..., :-1].abs() ** 2
    mel = torch.clamp(whisper.audio.mel_filters("cpu", n_mels).double() @ power, min=1e-10).log10()
    mel = (torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
    return _first_window(mel.numpy())


def pytorch_tokens(model: Whisper, mel: Array) -> list[int]:
    """Return the tokens of openai-whisper's greedy decoding in float32, given the mel of a window, (1, M, 3000)."""
    import torch
    import whisper

    options = whisper.DecodingOptions(language="en", temperature=0.0, fp16=False)
    return list(pytorch_model(model).decode(torch.tensor(mel[0]), options).tokens)

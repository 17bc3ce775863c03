"""How exact this package is, stage by stage: against stored reference outputs, and against PyTorch if it is there.

The reference for ``tiny.en`` and ``base`` comes with the package: a clip of speech, and for every stage some of
what openai-whisper's graph gives in float64, with how far PyTorch itself is from them in float32. So the question
"is this as exact as PyTorch?" has an answer without PyTorch. Where openai-whisper is installed, every stage is also
compared with it as a whole. (This is the one module that imports PyTorch, and only if asked to compare.)

Walkthrough: section 15.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.load import N_FRAMES, N_SAMPLES, load_audio, pad_or_trim
from ..audio.mel import log_mel_spectrogram
from ..common.backend import Array, on_device, to_device, to_numpy
from ..decoding.decode import DecodingResult
from ..errors import ModelNotFoundError
from ..model.config import PUBLISHED
from ..model.decoder import decoder_block, embed, new_cache, unembed
from ..model.encoder import encoder_block, stem
from ..model.layers import layer_norm
from ..model.weight_names import flatten
from ..whisper import Whisper

REFERENCE_FOLDER = files(__package__) / "reference"
CLIP = "jfk.flac"  # 11 s at 16 kHz, so that no resampler is part of the comparison
COLUMN_STRIDE = 7  # of a stored row every seventh number is kept,
VOCABULARY_STRIDE = 131  # and of a row of logits, which is long, every 131st
TOLERANCE = 1e-5  # the relative difference a stage may have; PyTorch itself shows up to 4e-6
Stages = dict[str, Array]


@dataclass(frozen=True)
class Reference:
    """What a model should give for the clip."""

    rows: dict[str, NDArray[np.intp]]  # for each stage, the positions that were stored
    exact: dict[str, NDArray[np.float64]]  # their values in float64
    pytorch: dict[str, float]  # relative difference of PyTorch's float32 from them
    tokens: list[int]  # what greedy decoding says


@dataclass(frozen=True)
class StageComparison:
    """One stage of the comparison. Differences are from the exact values unless they say otherwise."""

    stage: str
    shape: tuple[int, ...]
    max_error: float | None  # absolute; None where nothing is stored for the stage
    relative_error: float | None  # ‖ours - exact‖ / ‖exact‖
    pytorch_error: float | None  # the same of PyTorch
    from_pytorch: float | None  # ‖ours - PyTorch's‖ / ‖PyTorch's‖; None where it is not installed


def relative_difference(ours: Array, reference: Array) -> float:
    """‖ours - reference‖ / ‖reference‖, in float64."""
    wide = np.asarray(reference, np.float64)
    return float(np.linalg.norm(np.asarray(ours, np.float64) - wide) / np.linalg.norm(wide))


def clip_samples() -> NDArray[np.float32]:
    """The clip that comes with the package: 11 s of J. F. Kennedy, 1961, at 16 kHz."""
    return load_audio((REFERENCE_FOLDER / CLIP).read_bytes())


def window_mel(samples: NDArray[np.float32], n_mels: int) -> NDArray[np.float32]:
    """The mel of a sound's first window as transcription sees it: samples (N,) -> (1, M, 3000)."""
    return _first_window(log_mel_spectrogram(samples, n_mels, padding=N_SAMPLES))


def _first_window(mel: Array) -> Array:
    """Of the mel of a sound and 30 s of silence behind it the first window, zeros beyond the sound: (1, M, 3000)."""
    return pad_or_trim(mel[:, : min(N_FRAMES, mel.shape[1] - N_FRAMES)], N_FRAMES)[None]


def load_reference(name: str) -> Reference | None:
    """The stored reference of a model by its published name, if there is one."""
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
    """Every stage of the model in order: its name, and the array (1, T, D), (1, S, D) or (1, S, V) it gives."""
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
    """What greedy decoding says of a window, mel (1, M, 3000), in English where there is a choice."""
    result: DecodingResult = model.decode(mel[0], language="en")
    return result.tokens


def subsample(stage: str, array: Array, rows: NDArray[np.intp]) -> Array:
    """What a reference stores of a stage's array: some rows, and of these some numbers."""
    return array[0, rows, :: VOCABULARY_STRIDE if stage == "logits" else COLUMN_STRIDE]


def check_comparable(name: str) -> None:
    """Raise :class:`ModelNotFoundError` where neither a stored reference nor PyTorch is there to compare with."""
    if load_reference(name) is None and not _has_pytorch():
        raise ModelNotFoundError(
            f"no reference is stored for {name!r} (there is one for tiny.en and base), and PyTorch and openai-whisper "
            "are not installed to compare with: pip install torch openai-whisper"
        )


def _has_pytorch() -> bool:
    return find_spec("torch") is not None and find_spec("whisper") is not None


def compare(model: Whisper, name: str) -> tuple[list[StageComparison], list[tuple[str, bool]]]:
    """Compare every stage on the clip: a line a stage, and for the tokens, against whom and whether equal.

    Raises :class:`ModelNotFoundError` where neither a stored reference nor PyTorch is there to compare with.
    """
    check_comparable(name)
    reference, with_pytorch = load_reference(name), _has_pytorch()
    samples = clip_samples()
    mel = window_mel(samples, model.config.num_mel_bins)
    tokens = generated_tokens(model, mel)
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    spoken = [[*prompt, *(reference.tokens if reference else tokens)]]
    theirs: Stages = {}
    verdicts = []
    if reference is not None:
        verdicts.append(("the stored ones", tokens == reference.tokens))
    if with_pytorch:
        theirs = pytorch_stages(model, samples, spoken)
        verdicts.append(("those of PyTorch", tokens == pytorch_tokens(model, theirs["mel"])))
    lines = []
    with on_device(model.device):
        ours_by_stage = [("mel", mel), *((stage, to_numpy(array)) for stage, array in stages(model, mel, spoken))]
    for stage, ours in ours_by_stage:
        largest = relative = None
        if reference is not None:
            part, exact = subsample(stage, ours, reference.rows[stage]), reference.exact[stage]
            largest, relative = float(abs(part - exact).max()), relative_difference(part, exact)
        lines.append(
            StageComparison(
                stage,
                ours.shape,
                largest,
                relative,
                None if reference is None else reference.pytorch[stage],
                relative_difference(ours, theirs[stage]) if theirs else None,
            )
        )
    return lines, verdicts


def openai_name(name: str) -> str:
    """What openai-whisper calls a weight of this package.

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
    """openai-whisper's model with the same weights and alignment heads, in float32 or float64.

    Its layer norm always calculates in float32; in float64 it is replaced by PyTorch's own.
    """
    import torch
    import whisper

    c = model.config
    dimensions = whisper.model.ModelDimensions(
        n_mels=c.num_mel_bins,
        n_audio_ctx=c.max_source_positions,
        n_audio_state=c.d_model,
        n_audio_head=c.encoder_attention_heads,
        n_audio_layer=c.encoder_layers,
        n_vocab=c.vocab_size,
        n_text_ctx=c.max_target_positions,
        n_text_state=c.d_model,
        n_text_head=c.decoder_attention_heads,
        n_text_layer=c.decoder_layers,
    )
    theirs = whisper.model.Whisper(dimensions)
    theirs.load_state_dict(
        {openai_name(name): torch.tensor(np.asarray(to_numpy(w), np.float32)) for name, w in flatten(model.weights)}
    )
    heads = torch.zeros(c.decoder_layers, c.decoder_attention_heads, dtype=torch.bool)
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
    """The same stages as :func:`stages`, and the mel, from openai-whisper's graph in float32 or float64."""
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
        # The float32 network is given the same mel as ours, so that each stage shows its own rounding and what
        # came before, and not another spectrogram's.
        given = mel if double else window_mel(samples, model.config.num_mel_bins)
        features = theirs.encoder(torch.tensor(given))
        normed: dict[str, Any] = {}
        theirs.decoder.ln.register_forward_hook(lambda _module, _inputs, output: normed.update(out=output))
        theirs.decoder(torch.tensor(tokens), features)
        # Its decoder rounds the logits to float32 at the end, so the last product is repeated here.
        outputs["logits"] = (normed["out"] @ theirs.decoder.token_embedding.weight.T).numpy()
    return outputs


def _float64_mel(samples: NDArray[np.float32], n_mels: int) -> Array:
    """openai-whisper's formula for the mel of a window, evaluated in float64 by PyTorch."""
    import torch
    import whisper

    padded = torch.nn.functional.pad(torch.tensor(samples, dtype=torch.float64), (0, N_SAMPLES))
    window = torch.hann_window(400, dtype=torch.float64)
    power = torch.stft(padded, 400, 160, window=window, return_complex=True)[..., :-1].abs() ** 2
    mel = torch.clamp(whisper.audio.mel_filters("cpu", n_mels).double() @ power, min=1e-10).log10()
    mel = (torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
    return _first_window(mel.numpy())


def pytorch_tokens(model: Whisper, mel: Array) -> list[int]:
    """What openai-whisper says of a window by greedy decoding in float32."""
    import torch
    import whisper

    options = whisper.DecodingOptions(language="en", temperature=0.0, fp16=False)
    return list(pytorch_model(model).decode(torch.tensor(mel[0]), options).tokens)

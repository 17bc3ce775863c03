"""The names that other implementations give to the stages, and the orders of axes that they use.

An array of another implementation is matched by our name, by the name of the module of Transformers or of
openai-whisper whose output it is, or by a name that Transformers' models give to their inputs and outputs. ``readings``
then puts its axes into our order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from ..common.backend import Array
from ..model.config import WhisperConfig
from .graph import Stage

# One pattern for each name of a part of a block: ours, Transformers', openai-whisper's.
_PARTS = (
    ("attention_norm", "self_attn_layer_norm", "attn_ln"),
    ("attention.query", "self_attn.q_proj", "attn.query"),
    ("attention.key", "self_attn.k_proj", "attn.key"),
    ("attention.value", "self_attn.v_proj", "attn.value"),
    ("attention.out", "self_attn.out_proj", "attn.out"),
    ("attention.out", "self_attn", "attn"),
    ("cross_attention_norm", "encoder_attn_layer_norm", "cross_attn_ln"),
    ("cross_attention.query", "encoder_attn.q_proj", "cross_attn.query"),
    ("cross_attention.key", "encoder_attn.k_proj", "cross_attn.key"),
    ("cross_attention.value", "encoder_attn.v_proj", "cross_attn.value"),
    ("cross_attention.out", "encoder_attn.out_proj", "cross_attn.out"),
    ("cross_attention.out", "encoder_attn", "cross_attn"),
    ("mlp_norm", "final_layer_norm", "mlp_ln"),
    ("mlp.fc1", "fc1", "mlp.0"),
    ("mlp.hidden", "activation_fn", "mlp.1"),
    ("mlp.fc2", "fc2", "mlp.2"),
    ("mlp.fc2", "fc2", "mlp"),
    ("", "", ""),  # the block itself
)

_SINGLE = {
    "samples": ("audio", "waveform", "pcm", "raw_speech"),
    "mel": ("input_features", "features_mel", "log_mel_spectrogram", "mel_spectrogram"),
    "encoder.conv1": (),
    "encoder.conv1_gelu": ("encoder.gelu1",),
    "encoder.conv2": (),
    "encoder.conv2_gelu": ("encoder.gelu2",),
    "encoder.stem": ("encoder_hidden_states.0",),
    "encoder.norm": ("encoder", "encoder.layer_norm", "encoder.ln_post", "encoder_last_hidden_state", "features"),
    "decoder.token_embedding": ("decoder.embed_tokens",),
    "decoder.stem": ("decoder_hidden_states.0",),
    "decoder.norm": ("decoder.layer_norm", "decoder.ln", "decoder_last_hidden_state", "last_hidden_state"),
    "logits": ("proj_out", "lm_head", "decoder"),
    "log_probabilities": ("logprobs", "log_probs"),
    "tokens": ("decoder_input_ids", "input_ids", "ids"),
    "next_tokens": ("generated", "argmax"),
}


def hugging_face_name(stage: str) -> str:
    """Return the name of Transformers' module whose output a stage is, or the stage's own if there is none.

    >>> hugging_face_name("decoder.blocks.2.cross_attention.query")
    'model.decoder.layers.2.encoder_attn.q_proj'
    """
    if match := re.fullmatch(r"(encoder|decoder)\.blocks\.(\d+)\.?(.*)", stage):
        half, index, part = match.groups()
        for ours, theirs, _ in _PARTS:
            if ours == part:
                return f"model.{half}.layers.{index}.{theirs}".rstrip(".")
        return stage
    fixed = {
        "mel": "input_features",
        "encoder.conv1": "model.encoder.conv1",
        "encoder.conv2": "model.encoder.conv2",
        "encoder.norm": "model.encoder.layer_norm",
        "decoder.token_embedding": "model.decoder.embed_tokens",
        "decoder.norm": "model.decoder.layer_norm",
        "logits": "proj_out",
        "tokens": "decoder_input_ids",
    }
    return fixed.get(stage, stage)


def known_names(stages: Mapping[str, Stage], config: WhisperConfig) -> dict[str, str]:
    """Return the stage, or the input, that each known name stands for."""
    names = {name: name for name in stages} | {"tokens": "tokens"}
    for half, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for i in range(layers):
            for ours, hugging_face, openai in _PARTS:
                stage = f"{half}.blocks.{i}.{ours}".rstrip(".")
                if stage in stages:
                    names.setdefault(f"{half}.layers.{i}.{hugging_face}".rstrip("."), stage)
                    names.setdefault(f"{half}.blocks.{i}.{openai}".rstrip("."), stage)
            if i < layers - 1:  # the last of Transformers' hidden states is normalised
                names[f"{half}_hidden_states.{i + 1}"] = f"{half}.blocks.{i}"
            names[f"{half}_attentions.{i}"] = f"{half}.blocks.{i}.attention.weights"
        names[f"{half}_hidden_states.{layers}"] = f"{half}.norm"
    for i in range(config.decoder_layers):
        names[f"cross_attentions.{i}"] = f"decoder.blocks.{i}.cross_attention.weights"
    for stage, others in _SINGLE.items():
        for other in others:
            names.setdefault(other, stage)
    return names


def match(
    given: Sequence[str], stages: Mapping[str, Stage], config: WhisperConfig, chosen: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the stage for each of the given names, and the names that match none.

    ``chosen`` maps names to stages, ahead of the known names. Of two names for one stage, the first counts, and the
    other is in neither result.
    """
    known = known_names(stages, config)
    found: dict[str, str] = {}
    unknown: list[str] = []
    for name in given:
        plain = re.sub(r"^(model\.|whisper\.|base_model\.)+", "", name)
        stage = chosen.get(name) or known.get(name) or known.get(plain)
        if stage is None:
            unknown.append(name)
        elif stage not in found.values():
            found[name] = stage
    return found, unknown


# --- Axes ---------------------------------------------------------------------------------------------------------


def sizes(config: WhisperConfig, half: str) -> dict[str, int]:
    """Return the size of each axis of the letter key that the configuration determines; B, N, S and T are free."""
    encoder = half == "encoder"
    heads = config.encoder_attention_heads if encoder else config.decoder_attention_heads
    return {
        "D": config.d_model,
        "F": config.encoder_ffn_dim if encoder else config.decoder_ffn_dim,
        "H": heads,
        "K": config.d_model // heads,
        "V": config.vocab_size,
        "M": config.num_mel_bins,
        "C": 201,
        "W": 400,
    }


def readings(array: Array, shape: str, config: WhisperConfig, half: str) -> Iterator[tuple[Array, str]]:
    """Yield each way to read an array with the axes ``shape``, such as "B T D", and what was done to it.

    That is: as it is, with axes permuted, with a batch axis put in front, with heads side by side. Nothing is yielded
    for an array that does not fit; only a spectrogram may have another number of mel bins.
    """
    known = sizes(config, half)
    yield from (found := list(_readings(array, shape, known)))
    if not found and "M" in shape.split():
        yield from _readings(array, shape, {letter: size for letter, size in known.items() if letter != "M"})


def _readings(array: Array, shape: str, known: Mapping[str, int]) -> Iterator[tuple[Array, str]]:
    letters = shape.split()
    if array.ndim == len(letters) - 1 and letters[0] == "B":
        for found, note in _readings(array[None], shape, known):
            yield found, _joined("without a batch axis", note)
        return
    if array.ndim == len(letters) + 1 and letters[-1] == "D":  # heads apart
        split = f"{shape[:-1]}H K"
        for found, note in _readings(array, split, known):
            yield found.reshape(*found.shape[:-2], -1), _joined(note, "heads apart")
        return
    if array.ndim == len(letters) + 1 and array.shape[0] == 1:
        for found, note in _readings(array[0], shape, known):
            yield found, _joined("with a batch axis", note)
        return
    if array.ndim != len(letters):
        return
    if letters[0] == "B" and letters[-1] == "D" and known["D"] not in array.shape:  # heads apart, without a batch axis
        for found, note in _readings(array[None], shape, known):
            yield found, _joined("without a batch axis", note)
        return
    for order in permutations(range(array.ndim)):  # the identity first
        lengths = [array.shape[axis] for axis in order]
        if any(length != known.get(letter, length) for length, letter in zip(lengths, letters, strict=True)):
            continue
        if letters[0] == "B" and order[0] != 0 and lengths[0] != 1:
            continue  # an axis other than the first can be the batch only if its length is 1
        theirs = [letters[order.index(axis)] for axis in range(array.ndim)]
        yield array.transpose(order), "" if theirs == letters else f"axes {' '.join(theirs)}"


def _joined(*notes: str) -> str:
    return ", ".join(filter(None, notes))

"""The catalogue of known mistakes in implementations of Whisper.

Each mistake is an edit of the function that someone got wrong, like a line of a diff: ``edit(scores, "q * q.shape[-1]
** -0.5", "q")`` is attention whose scores are not scaled. To diagnose a stage, every mistake in its functions is made
and the result is compared with the other implementation's values (``parity.doctor``). In the new text of an edit,
``theirs`` is the array that is to be explained: if a mistake has an unknown quantity, such as the length of a prompt,
that quantity is fitted to the array.

The hint of a mistake states what was done, and how to fix it.
"""

from collections.abc import Callable
from typing import Any

from ..audio.mel import split_frames
from ..common.edits import Edit, Mistake
from ..model.layers import conv1d, gelu, layer_norm, linear
from . import graph


def edit(function: Callable[..., Any], old: str, new: str) -> Edit:
    """Return the edit that replaces ``old`` in the source of ``function``."""
    return Edit(old, new, function)


# --- Samples and spectrogram ---------------------------------------------------------------------------------------

_LOAD = "recording.samples()"
_FILTERS = "mel_filters(at.config.num_mel_bins)"
_CLAMP = "np.maximum(log_mel, log_mel.max() - DYNAMIC_RANGE)"
_MIRROR = 'np.pad(samples, N_FFT // 2, mode="reflect")'

AUDIO = {
    "int16 not scaled": Mistake(
        "The samples are 16-bit integers. Divide them by 32768: full scale is -1 to 1.",
        (edit(graph.window, _LOAD, f"{_LOAD} * 32768"),),
    ),
    "channels summed": Mistake(
        "The channels are added up. Take their mean.",
        (edit(graph.window, _LOAD, "mixed_to_mono(recording, lambda channels: channels.sum(axis=1))"),),
    ),
    "one channel only": Mistake(
        "Only the first channel is used. Take the mean of all channels.",
        (edit(graph.window, _LOAD, "mixed_to_mono(recording, lambda channels: channels[:, 0])"),),
    ),
    "channels interleaved": Mistake(
        "The channels alternate in the samples, as in the file. Take the mean of the channels at each time.",
        (edit(graph.window, _LOAD, "mixed_to_mono(recording, lambda channels: channels.reshape(-1))"),),
    ),
    "not resampled": Mistake(
        "The samples have the file's own rate, but are used as if it were 16 kHz. Resample them.",
        (edit(graph.window, _LOAD, "mixed_to_mono(recording, lambda channels: channels.mean(axis=1), 16000)"),),
    ),
    "no centring": Mistake(
        "The frames are not centred: the first starts with the first sample. Mirror 200 samples at both ends.",
        (edit(graph.frames, f"{_MIRROR})[:-1]", "np.pad(samples, (0, 240)))"),),
    ),
    "zeros instead of mirroring": Mistake(
        "The ends are padded with zeros. Mirror them: padding mode 'reflect'.",
        (edit(graph.frames, 'mode="reflect"', 'mode="constant"'),),
    ),
    "last frame kept": Mistake(
        "There is one frame too many. Drop the last one: 3,000 remain.", (edit(graph.frames, "[:-1]", ""),)
    ),
    "first frame dropped": Mistake(
        "The first frame is dropped. Drop the last one: everything is 10 ms early otherwise.",
        (edit(graph.frames, "[:-1]", "[1:]"),),
    ),
    "hop of 256": Mistake(
        "Frames are 256 samples apart. Whisper's hop length is 160 samples, 10 ms.",
        (edit(split_frames, "[::HOP_LENGTH]", "[::256]"),),
    ),
    "symmetric window": Mistake(
        "The Hann window is symmetric. Use the periodic one, of 400 samples: numpy.hanning(401)[:-1].",
        (edit(graph.power, "hann_window()", "np.hanning(N_FFT)"),),
    ),
    "Hamming window": Mistake(
        "The window is Hamming's. Use Hann's.",
        (edit(graph.power, "hann_window()", "(0.08 + 0.92 * hann_window())"),),
    ),
    "no window": Mistake(
        "The frames are not multiplied by a window. Use the periodic Hann window.",
        (edit(graph.power, "frames * hann_window().astype(frames.dtype)", "frames"),),
    ),
    "magnitude": Mistake(
        "The magnitudes of the spectrum are pooled. Square them: Whisper pools energies.",
        (edit(graph.power, " ** 2", ""),),
    ),
    "divided by the frame length": Mistake(
        "The energies are divided by 400, the length of a frame. Do not divide them.",
        (edit(graph.power, " ** 2", " ** 2 / N_FFT"),),
    ),
    "HTK's mel scale": Mistake(
        "The filters follow HTK's mel scale. Whisper's follow Slaney's, librosa's default.",
        (edit(graph.log_mel, _FILTERS, "htk_filters(at.config.num_mel_bins)"),),
    ),
    "filters without an area of 1": Mistake(
        "The filters have a height of 1. Divide each by half of its width, so that its area is 1: norm='slaney'.",
        (edit(graph.log_mel, _FILTERS, f"({_FILTERS} / {_FILTERS}.max(axis=1, keepdims=True))"),),
    ),
    "128 bins for 80": Mistake(
        "The spectrogram has 128 bins, as large-v3 and turbo take it. This model takes 80.",
        (edit(graph.log_mel, _FILTERS, "mel_filters(128)"),),
    ),
    "80 bins for 128": Mistake(
        "The spectrogram has 80 bins. This model takes 128, as do large-v3 and turbo.",
        (edit(graph.log_mel, _FILTERS, "mel_filters(80)"),),
    ),
    "natural logarithm": Mistake(
        "The logarithm is the natural one. Use log10.", (edit(graph.log_mel, "np.log10(", "np.log("),)
    ),
    "decibels": Mistake(
        "The logarithm is in decibels. Do not multiply log10 by 10.",
        (edit(graph.log_mel, "np.log10(", "10 * np.log10("),),
    ),
    "another floor": Mistake(
        "Energies are clamped at 1e-5 before the logarithm. Clamp them at 1e-10.",
        (edit(graph.log_mel, "MIN_ENERGY", "1e-5"),),
    ),
    "log of 1 + energy": Mistake(
        "The logarithm is of 1 + energy. Use that of the energy, clamped at 1e-10.",
        (edit(graph.log_mel, "np.maximum(energy, MIN_ENERGY)", "1 + energy"),),
    ),
    "not clamped": Mistake(
        "The spectrogram is not clamped. Raise its values to at least the maximum - 8.",
        (edit(graph.mel, _CLAMP, "log_mel"),),
    ),
    "clamped at the maximum of each bin": Mistake(
        "Each bin is clamped below its own maximum. Take the maximum of the window.",
        (edit(graph.mel, "log_mel.max()", "log_mel.max(axis=1, keepdims=True)"),),
    ),
    "not scaled": Mistake(
        "The spectrogram is not scaled. The encoder's input is (x + 4) / 4.", (edit(graph.mel, "scale(", "("),)
    ),
    "standardised": Mistake(
        "The spectrogram is scaled to mean 0 and deviation 1. The encoder's input is (x + 4) / 4.",
        (edit(graph.mel, f"scale({_CLAMP})", f"(({_CLAMP} - {_CLAMP}.mean()) / {_CLAMP}.std())"),),
    ),
    "maximum of the whole recording": Mistake(
        "The spectrogram is clamped below another maximum than the window's, such as the whole recording's. "
        "openai-whisper's transcribe does that, its decode and Transformers do not.",
        (edit(graph.mel, "log_mel.max()", "(log_mel.max() + 0.5 if theirs is None else 4 * theirs.min() + 4)"),),
    ),
    "zeros for silence": Mistake(
        "The spectrogram is 0 after the end of the recording. The spectrogram of silence is the lowest value, the "
        "maximum - 2. openai-whisper's transcribe has zeros there, its decode and Transformers have silence.",
        (
            edit(
                graph.mel,
                f"scale({_CLAMP})[None]",
                f"zeros_for_silence(scale({_CLAMP})[None], theirs)",
            ),
        ),
    ),
}

# --- Stem and positions --------------------------------------------------------------------------------------------

_PADDED = "((0, 0), (1, 1), (0, 0))"
_GELU = "gelu(x)"
_AUDIO_POSITIONS = 'at.weights["encoder"]["positions"][: x.shape[1]]'
_TEXT_POSITIONS = 'at.weights["decoder"]["positions"][: x.shape[1]]'
_STRIDED = "[:, :length:stride]", "[:, 1 : 1 + length : stride]", "[:, 2 : 2 + length : stride]"

STEM = {
    "'same' padding of XLA": Mistake(
        "The second convolution is padded at the end only, as 'same' padding of XLA and TensorFlow does for a stride "
        "of 2. Pad one zero on each side: otherwise every output sees one frame later.",
        (edit(conv1d, _PADDED, "((0, 0), (1, 1) if stride == 1 else (0, 2), (0, 0))"),),
    ),
    "padded at the end only": Mistake(
        "The convolutions are padded at the end only. Pad one zero on each side.",
        (edit(conv1d, _PADDED, "((0, 0), (0, 2), (0, 0))"),),
    ),
    "padded at the start only": Mistake(
        "The convolution is padded at the start only, as causal ones are. Pad one zero on each side.",
        (edit(conv1d, _PADDED, "((0, 0), (2, 0), (0, 0))"),),
    ),
    "not padded": Mistake(
        "The convolution is not padded. Pad one zero on each side.",
        (edit(conv1d, _PADDED, "((0, 0), (0, 0), (0, 0))"), edit(conv1d, "x.shape[1]", "x.shape[1] - 2")),
    ),
    "kernel flipped": Mistake(
        "The kernel is flipped, as in mathematics. Deep learning's convolution is a correlation: do not flip it.",
        (edit(conv1d, ".transpose(2, 1, 0).copy()", ".transpose(2, 1, 0)[::-1].copy()"),),
    ),
    "input and output of the kernel swapped": Mistake(
        "The kernel's input and output channels are swapped. Its shape is (output, input, 3).",
        (edit(conv1d, "(2, 1, 0)", "((2, 0, 1) if weight.shape[0] == weight.shape[1] else (2, 1, 0))"),),
    ),
    "no bias in the convolution": Mistake(
        "The bias of the convolution is missing.", (edit(conv1d, "return y + bias", "return y"),)
    ),
    "first convolution with stride 2": Mistake(
        "The first convolution has a stride of 2. It should be 1; the second has a stride of 2.",
        (edit(graph.conv1, '["conv1"])', '["conv1"], stride=2)'),),
    ),
    "second convolution with stride 1": Mistake(
        "The second convolution has a stride of 1. It should be 2.", (edit(graph.conv2, "stride=2", "stride=1"),)
    ),
    "no GELU after the first convolution": Mistake(
        "There is no GELU after the first convolution.", (edit(graph.gelu_after_conv1, _GELU, "x"),)
    ),
    "no GELU after the second convolution": Mistake(
        "There is no GELU after the second convolution.", (edit(graph.gelu_after_conv2, _GELU, "x"),)
    ),
    "no positions": Mistake(
        "The positions are not added to the output of the convolutions.",
        (edit(graph.audio_positions, "x + ", "x + 0 * "),),
    ),
    "positions added twice": Mistake(
        "The positions are added twice.", (edit(graph.audio_positions, "x + ", "x + 2 * "),)
    ),
    "positions from 1": Mistake(
        "The positions start at 1. The first position is 0.",
        (edit(graph.audio_positions, _AUDIO_POSITIONS, "sinusoids(x.shape[1] + 1, x.shape[2])[1:]"),),
    ),
    "sines and cosines interleaved": Mistake(
        "Sines and cosines alternate in the table of positions, as in 'Attention is all you need'. In Whisper, the "
        "sines are the first half of the width and the cosines the second.",
        (
            edit(
                graph.audio_positions,
                _AUDIO_POSITIONS,
                f"{_AUDIO_POSITIONS}.reshape(x.shape[1], 2, -1).transpose(0, 2, 1).reshape(x.shape[1:])",
            ),
        ),
    ),
    "cosines first": Mistake(
        "The cosines come before the sines in the table of positions. The sines are the first half of the width.",
        (edit(graph.audio_positions, _AUDIO_POSITIONS, f"np.roll({_AUDIO_POSITIONS}, x.shape[2] // 2, axis=1)"),),
    ),
    "wavelengths of another formula": Mistake(
        "The wavelengths of the positions are 10000 ** (i / half). In Whisper, the last one is 10000 exactly: divide "
        "by half - 1.",
        (
            edit(
                graph.audio_positions,
                _AUDIO_POSITIONS,
                "np.concatenate([f(np.arange(x.shape[1])[:, None] * 10000.0 ** (-2 * np.arange(x.shape[2] // 2) / "
                "x.shape[2])) for f in (np.sin, np.cos)], axis=1)",
            ),
        ),
    ),
}

# --- Layers that both halves have ----------------------------------------------------------------------------------

_EPS = "variance + eps"
_BLOCK = "blocks"

LAYERS = {
    "tanh approximation of GELU": Mistake(
        "GELU is computed by its tanh approximation. Whisper's is exact, x Φ(x): approximate='none'.",
        (edit(gelu, "x * normal_cdf(x)", "tanh_gelu(x)"),),
    ),
    "quick GELU": Mistake(
        "GELU is computed as x σ(1.702 x). Whisper's is exact, x Φ(x).",
        (edit(gelu, "x * normal_cdf(x)", "quick_gelu(x)"),),
    ),
    "ReLU for GELU": Mistake("ReLU is used instead of GELU.", (edit(gelu, "x * normal_cdf(x)", "np.maximum(x, 0)"),)),
    "SiLU for GELU": Mistake(
        "SiLU, x σ(x), is used instead of GELU.", (edit(gelu, "x * normal_cdf(x)", "x / (1 + np.exp(-x))"),)
    ),
    "no GELU in the MLP": Mistake("There is no GELU in the MLP.", (edit(graph.hidden, _GELU, "x"),)),
    "epsilon 1e-6": Mistake(
        "Layer norm's epsilon is 1e-6. It should be 1e-5.", (edit(layer_norm, _EPS, "variance + 1e-6"),)
    ),
    "epsilon 1e-12": Mistake(
        "Layer norm's epsilon is 1e-12, or missing. It should be 1e-5.", (edit(layer_norm, _EPS, "variance + 1e-12"),)
    ),
    "epsilon outside of the root": Mistake(
        "Layer norm adds epsilon to the standard deviation. Add it to the variance.",
        (edit(layer_norm, "sqrt(variance + eps)", "(sqrt(variance) + eps)"),),
    ),
    "variance over D - 1": Mistake(
        "Layer norm divides the squares by D - 1 (ddof=1). Divide by D.",
        (
            edit(
                layer_norm,
                ".mean(axis=-1, keepdims=True)\n    return",
                ".sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)\n    return",
            ),
        ),
    ),
    "norm without its bias": Mistake(
        "Layer norm's bias is not added.", (edit(layer_norm, "* weight + bias", "* weight"),)
    ),
    "norm without its weight": Mistake(
        "Layer norm's weight is not applied.", (edit(layer_norm, "* weight + bias", "+ bias"),)
    ),
    "RMS norm": Mistake(
        "The norm does not subtract the mean (RMS norm). Whisper has layer norm.",
        (edit(layer_norm, "x - x.mean(axis=-1, keepdims=True)", "x"),),
    ),
    "norm over positions": Mistake(
        "The norm is taken over the positions. Take it over the width, the last axis.",
        (
            edit(layer_norm, "x.mean(axis=-1, keepdims=True)", "x.mean(axis=-2, keepdims=True)"),
            edit(
                layer_norm,
                "(centred * centred).mean(axis=-1, keepdims=True)",
                "(centred * centred).mean(axis=-2, keepdims=True)",
            ),
        ),
    ),
    "no norm before a layer": Mistake(
        "The norm before attention or the MLP is missing.",
        (edit(graph.block_norm, 'layer_norm(x, **block_weights(at)[f"{at.part}_norm"])', "x"),),
    ),
    "norm after the layer": Mistake(
        "The norm comes after the sum with the residual stream (post-norm). Whisper's comes before each layer.",
        (
            edit(graph.block_norm, 'layer_norm(x, **block_weights(at)[f"{at.part}_norm"])', "x"),
            edit(graph.residual, "x + change", 'layer_norm(x + change, **block_weights(at)[f"{at.part}_norm"])'),
        ),
    ),
    "no final norm": Mistake(
        "The norm after the last block is missing.",
        (edit(graph.final_norm, 'layer_norm(x, **at.weights[at.half]["norm"])', "x"),),
    ),
    "weights transposed": Mistake(
        "A square weight is used transposed. As in PyTorch it has one row per output: x @ weight.T + bias.",
        (edit(linear, "weight.T", "(weight if weight.shape[0] == weight.shape[1] else weight.T)"),),
    ),
    "no bias": Mistake("The bias of a linear layer is missing.", (edit(linear, " + bias", ""),)),
    "bias added twice": Mistake(
        "The bias of a linear layer is added twice.", (edit(linear, " + bias", " + 2 * bias"),)
    ),
    "blocks in the order of their names": Mistake(
        "The blocks have each other's weights: they were sorted by name, 0, 1, 10, 11, 2 … Sort by number.",
        (
            edit(
                graph.block_weights,
                '["blocks"][at.index]',
                '["blocks"][sorted(range(len(at.weights[at.half]["blocks"])), key=str)[at.index]]',
            ),
        ),
    ),
    "blocks in reverse": Mistake(
        "The blocks have each other's weights, in reverse order.",
        (edit(graph.block_weights, "[at.index]", "[-1 - at.index]"),),
    ),
    "weights of the first block in all": Mistake(
        "All blocks have the weights of the first.", (edit(graph.block_weights, "[at.index]", "[0]"),)
    ),
    "no residual": Mistake(
        "The output of a layer replaces the residual stream. Add it to the layer's input.",
        (edit(graph.residual, "x + change", "change"),),
    ),
    "residual from the normed input": Mistake(
        "The output of a layer is added to the normed input. Add it to the input as it was before the norm.",
        (edit(graph.residual, "x + change", 'at.other(f"{at.block}.{at.part}_norm") + change'),),
    ),
}

# --- Attention -----------------------------------------------------------------------------------------------------

_SCALE = "q * q.shape[-1] ** -0.5"
_SPLIT = "split_heads(query, at.heads), split_heads(key, at.heads)"

_FROM_TEXT = '(at.other(f"{at.block}.{at.part}_norm") if at.part == "cross_attention" else source), **'
_FROM_LAST_BLOCK = (
    '(at.other(f"encoder.blocks.{at.config.encoder_layers - 1}") if at.part == "cross_attention" else source), **'
)

ATTENTION = {
    "query and value swapped": Mistake(
        "The projections of query and value have each other's weights.",
        (edit(graph.query, '["query"]', '["value"]'), edit(graph.value, '["value"]', '["query"]')),
    ),
    "query and key swapped": Mistake(
        "The projections of query and key have each other's weights.",
        (edit(graph.query, '["query"]', '["key"]'), edit(graph.key, '["key"]', '["query"]')),
    ),
    "key and value swapped": Mistake(
        "The projections of key and value have each other's weights.",
        (edit(graph.key, '["key"]', '["value"]'), edit(graph.value, '["value"]', '["key"]')),
    ),
    "a bias for the key": Mistake(
        "The key has a bias, that of the query or the value. It should have none.",
        (
            edit(
                graph.key,
                'linear(source, **block_weights(at)[at.part]["key"])',
                'nearest(theirs, (linear(source, block_weights(at)[at.part]["key"]["weight"], '
                'block_weights(at)[at.part][name]["bias"]) for name in ("query", "value")))',
            ),
        ),
    ),
    "scores not scaled": Mistake(
        "The scores are not divided by the square root of K, the width of a head.", (edit(graph.scores, _SCALE, "q"),)
    ),
    "scores scaled twice": Mistake(
        "The scores are divided by K. Divide by its square root once: some implementations scale query and key, each "
        "by the fourth root.",
        (edit(graph.scores, _SCALE, "q / q.shape[-1]"),),
    ),
    "scores scaled by D": Mistake(
        "The scores are divided by the square root of D. Divide by that of K, the width of one head.",
        (edit(graph.scores, _SCALE, "q * query.shape[-1] ** -0.5"),),
    ),
    "heads split along the wrong axis": Mistake(
        "Heads are split by reshaping (B, S, D) to (B, H, S, K). Reshape to (B, S, H, K), then swap the axes of S "
        "and H.",
        (
            edit(
                graph.scores,
                _SPLIT,
                "(x.reshape(x.shape[0], at.heads, x.shape[1], -1) for x in (query, key))",
            ),
            edit(
                graph.mixed,
                "split_heads(value, at.heads)",
                "value.reshape(value.shape[0], at.heads, value.shape[1], -1)",
            ),
        ),
    ),
    "heads interleaved": Mistake(
        "Neighbouring columns belong to different heads: (B, S, K, H). The columns of a head are adjacent: (B, S, H, "
        "K).",
        (
            edit(graph.scores, _SPLIT, "(interleaved_heads(x, at.heads) for x in (query, key))"),
            edit(graph.mixed, "split_heads(value", "interleaved_heads(value"),
        ),
    ),
    "one head": Mistake(
        "There is one head of width D.",
        (
            edit(graph.scores, _SPLIT, "query[:, None], key[:, None]"),
            edit(graph.mixed, "split_heads(value, at.heads)", "value[:, None]"),
        ),
    ),
    "heads merged along the wrong axis": Mistake(
        "Heads are merged by reshaping (B, H, S, K) to (B, S, D). Swap the axes of H and S first.",
        (
            edit(
                graph.mixed,
                "merge_heads(matmul(weights, split_heads(value, at.heads)))",
                "matmul(weights, split_heads(value, at.heads)).reshape(weights.shape[0], weights.shape[2], -1)",
            ),
        ),
    ),
    "query and key in each other's place": Mistake(
        "The scores are keys times queries. Queries are the rows of the scores, keys the columns.",
        (edit(graph.scores, _SPLIT, "split_heads(key, at.heads), split_heads(query, at.heads)"),),
    ),
    "no causal mask": Mistake(
        "The causal mask is missing: a token attends to later ones.", (edit(graph.scores, "at.causal", "False"),)
    ),
    "causal mask one too far": Mistake(
        "The causal mask is off by one: a token attends to the next one. Mask from the diagonal above the main one.",
        (
            edit(
                graph.scores,
                "causal_mask(products.shape[2], products.shape[3] - products.shape[2], products)",
                "causal_mask(products.shape[2], 1, products)[:, : products.shape[3]]",
            ),
        ),
    ),
    "causal mask on the diagonal": Mistake(
        "The causal mask hides a token from itself. A token should attend to itself, too.",
        (
            edit(
                graph.scores,
                "causal_mask(products.shape[2], products.shape[3] - products.shape[2], products)",
                "np.where(np.eye(len(products[0, 0]), k=0) * (np.arange(len(products[0, 0])) > 0), -np.inf, "
                "causal_mask(products.shape[2], 0, products))",
            ),
        ),
    ),
    "causal mask in the encoder": Mistake(
        "The encoder has a causal mask. It should attend to the whole window.",
        (edit(graph.scores, "at.causal", 'at.part == "attention"'),),
    ),
    "softmax over the queries": Mistake(
        "Softmax is taken over the queries. Take it over the keys, the last axis.",
        (edit(graph.attention_weights, "softmax(scores)", "softmax(scores.swapaxes(2, 3)).swapaxes(2, 3)"),),
    ),
    "softmax over the heads": Mistake(
        "Softmax is taken over the heads. Take it over the keys, the last axis.",
        (edit(graph.attention_weights, "softmax(scores)", "softmax(scores.swapaxes(1, 3)).swapaxes(1, 3)"),),
    ),
    "no softmax": Mistake(
        "The scores are used as weights, without softmax.",
        (edit(graph.attention_weights, "softmax(scores)", "scores"),),
    ),
    "no output projection": Mistake(
        "The output projection of attention is missing.",
        (edit(graph.out, 'linear(mixed, **block_weights(at)[at.part]["out"])', "mixed"),),
    ),
    "cross-attention to the text": Mistake(
        "The keys and values of cross-attention come from the text. They should come from the encoder.",
        (
            edit(
                graph.key,
                "source, **",
                _FROM_TEXT,
            ),
            edit(
                graph.value,
                "source, **",
                _FROM_TEXT,
            ),
        ),
    ),
    "features not normalised": Mistake(
        "Cross-attention reads the output of the encoder's last block. Apply the encoder's final norm first.",
        (
            edit(
                graph.key,
                "source, **",
                _FROM_LAST_BLOCK,
            ),
            edit(
                graph.value,
                "source, **",
                _FROM_LAST_BLOCK,
            ),
        ),
    ),
    "cache not reordered": Mistake(
        "The newest token of a sequence attends to the values of another sequence: the cache was not reordered when "
        "beam search changed the order of its sequences.",
        (
            edit(
                graph.mixed,
                "matmul(weights, split_heads(value, at.heads))",
                "last_row_swapped(weights, split_heads(value, at.heads))",
            ),
        ),
    ),
}

# --- Decoder -------------------------------------------------------------------------------------------------------

DECODER = {
    "token embedding scaled": Mistake(
        "The token embedding is multiplied by the square root of D. Whisper's is not scaled.",
        (
            edit(
                graph.embed_tokens,
                "embedding(tokens, at.weights",
                "embedding(tokens, at.config.d_model ** 0.5 * at.weights",
            ),
        ),
    ),
    "ids of the multilingual vocabulary": Mistake(
        "The special tokens have the ids of the multilingual vocabulary, which are one higher. Take them from the "
        "model's own tokenizer.",
        (edit(graph.embed_tokens, "tokens,", "tokens + (tokens >= at.tokenizer.eot),"),),
    ),
    "ids of the English-only vocabulary": Mistake(
        "The special tokens have the ids of the English-only vocabulary, which are one lower. Take them from the "
        "model's own tokenizer.",
        (edit(graph.embed_tokens, "tokens,", "tokens - (tokens > at.tokenizer.eot),"),),
    ),
    "no positions of tokens": Mistake(
        "The positions are not added to the token embedding.", (edit(graph.text_positions, "x + ", "x + 0 * "),)
    ),
    "positions of tokens from 1": Mistake(
        "The positions of tokens start at 1. The first is 0.",
        (edit(graph.text_positions, "[: x.shape[1]]", "[1 : 1 + x.shape[1]]"),),
    ),
    "positions of tokens from 2": Mistake(
        "The positions of tokens start at 2, as in BART. The first is 0.",
        (edit(graph.text_positions, "[: x.shape[1]]", "[2 : 2 + x.shape[1]]"),),
    ),
    "positions of tokens added twice": Mistake(
        "The positions are added to the token embedding twice.", (edit(graph.text_positions, "x + ", "x + 2 * "),)
    ),
    "the encoder's positions for tokens": Mistake(
        "Tokens have the encoder's table of positions. The decoder has a learned one of its own.",
        (edit(graph.text_positions, '["decoder"]', '["encoder"]'),),
    ),
    "position one behind with a cache": Mistake(
        "After the prompt, each token has the position before its own: with a cache, the position of the first new "
        "token is the number of tokens in the cache.",
        (
            edit(
                graph.text_positions,
                f"x + {_TEXT_POSITIONS}",
                'shifted_positions(x, at.weights["decoder"]["positions"], theirs, -1)',
            ),
        ),
    ),
    "position one ahead with a cache": Mistake(
        "After the prompt, each token has the position after its own: with a cache, the position of the first new "
        "token is the number of tokens in the cache.",
        (
            edit(
                graph.text_positions,
                f"x + {_TEXT_POSITIONS}",
                'shifted_positions(x, at.weights["decoder"]["positions"], theirs, 1)',
            ),
        ),
    ),
    "position 0 with a cache": Mistake(
        "After the prompt, each token has position 0: with a cache, positions go on from the number of tokens in it.",
        (
            edit(
                graph.text_positions,
                f"x + {_TEXT_POSITIONS}",
                'shifted_positions(x, at.weights["decoder"]["positions"], theirs, 0)',
            ),
        ),
    ),
    "log-softmax for logits": Mistake(
        "These are log-probabilities, not logits: softmax was taken already.",
        (
            edit(
                graph.logits,
                'matmul(x, at.weights["decoder"]["token_embedding"].T)',
                'log_softmax(matmul(x, at.weights["decoder"]["token_embedding"].T))',
            ),
        ),
    ),
    "softmax for logits": Mistake(
        "These are probabilities, not logits: softmax was taken already.",
        (
            edit(
                graph.logits,
                'matmul(x, at.weights["decoder"]["token_embedding"].T)',
                'softmax(matmul(x, at.weights["decoder"]["token_embedding"].T))',
            ),
        ),
    ),
    "logits scaled": Mistake(
        "The logits are divided by the square root of D.",
        (edit(graph.logits, "matmul(x,", "matmul(x * x.shape[-1] ** -0.5,"),),
    ),
    "logits of softmax without a logarithm": Mistake(
        "These are probabilities. Take the logarithm.",
        (edit(graph.log_probabilities, "log_softmax(logits)", "softmax(logits)"),),
    ),
    "nothing suppressed": Mistake(
        "No token is suppressed. Some must never be generated: suppress_tokens in generation_config.json, and "
        "timestamps after <|notimestamps|>.",
        (
            edit(graph.next_tokens, "allowed[..., list(at.tokenizer.suppressed_tokens)] = -np.inf", "pass"),
            edit(graph.next_tokens, "allowed[..., at.tokenizer.timestamp_begin :] = -np.inf", "pass"),
        ),
    ),
    "timestamps not suppressed": Mistake(
        "Timestamps are not suppressed after <|notimestamps|>.",
        (edit(graph.next_tokens, "allowed[..., at.tokenizer.timestamp_begin :] = -np.inf", "pass"),),
    ),
}

MISTAKES: dict[str, Mistake] = {**AUDIO, **STEM, **LAYERS, **ATTENTION, **DECODER}
"""All mistakes by name, in the order of the stages."""

HARMLESS = frozenset({"maximum of the whole recording", "zeros for silence"})
"""Differences that openai-whisper itself makes in places: reported, but not as a mistake."""

UNTIED = (
    "The logits have nothing to do with the token embedding: the output projection is random, or another model's. It "
    "should be the token embedding itself (tied), which a checkpoint lists only once."
)

"""openai-whisper's ``whisper.timing``: when each word was spoken."""

from collections.abc import Sequence
from typing import Any

from ..errors import OptionError
from ..transcription import alignment as native
from ..transcription import alignment_tools, word_timestamps, words
from ..transcription.options import APPEND_PUNCTUATION, PREPEND_PUNCTUATION
from ..transcription.segments import Segment
from ..transcription.words import WordTiming
from .conversion import Tensor, as_array, as_tensor, wrapped_model
from .tokenizer import Tokenizer

__all__ = [
    "WordTiming",
    "add_word_timestamps",
    "dtw",
    "dtw_cpu",
    "dtw_cuda",
    "find_alignment",
    "median_filter",
    "merge_punctuations",
]


def median_filter(x: Any, filter_width: int) -> Tensor:
    """Replace each entry by the median of the ``filter_width`` entries around it, along the last axis."""
    filtered: Tensor = as_tensor(alignment_tools.median_filter(as_array(x), filter_width))
    return filtered


def dtw(x: Any) -> Any:
    """Return the cheapest path through a matrix of costs (N, M): rows and columns of its cells, (2, L)."""
    return alignment_tools.dynamic_time_warping(as_array(x))


dtw_cpu = dtw_cuda = dtw  # it always runs on the CPU


def find_alignment(
    model: Any,
    tokenizer: Tokenizer,
    text_tokens: Sequence[int],
    mel: Any,
    num_frames: int,
    *,
    medfilt_width: int = alignment_tools.FILTER_WIDTH,
    qk_scale: float = 1.0,
) -> list[WordTiming]:
    """Find when each word of a window's text was spoken.

    ``text_tokens`` are without timestamps, mel is (M, 3000), and ``num_frames`` of it are not padding. Raises
    ``ValueError`` for a width or scale other than the default.
    """
    if medfilt_width != alignment_tools.FILTER_WIDTH or qk_scale != 1.0:
        raise OptionError(f"medfilt_width, qk_scale: expected the defaults, {alignment_tools.FILTER_WIDTH} and 1.0")
    whisper = wrapped_model(model)
    native.check_alignment_heads(whisper.alignment_heads, whisper.name)
    return native.find_alignment(
        list(text_tokens),
        whisper.encode(as_array(mel)[None]),
        num_frames,
        prompt=tokenizer.sot_sequence,
        heads=whisper.alignment_heads,
        weights=whisper.engine.decoder_weights,
        config=whisper.config,
        tokenizer=tokenizer.wrapped,
        language=tokenizer.language,
    )


def merge_punctuations(alignment: list[WordTiming], prepended: str, appended: str) -> None:
    """Merge punctuation into the words that it belongs to, in place."""
    alignment[:] = words.merge_punctuations(alignment, prepended, appended)


def add_word_timestamps(
    *,
    segments: Sequence[Segment],
    model: Any,
    tokenizer: Tokenizer,
    mel: Any,
    num_frames: int,
    prepend_punctuations: str = PREPEND_PUNCTUATION,
    append_punctuations: str = APPEND_PUNCTUATION,
    last_speech_timestamp: float,
    **alignment: Any,
) -> None:
    """Add words with their times to the segments of a window, in place.

    ``alignment`` holds keyword arguments of ``find_alignment``.
    """
    text = [token for segment in segments for token in segment["tokens"] if token < tokenizer.eot]
    with_words = word_timestamps.add_word_timestamps(
        segments,
        find_alignment(model, tokenizer, text, mel, num_frames, **alignment),
        tokenizer=tokenizer.wrapped,
        last_speech_end=last_speech_timestamp,
        prepend=prepend_punctuations,
        append=append_punctuations,
    )
    for segment, changed in zip(segments, with_words, strict=True):
        segment.update(changed)

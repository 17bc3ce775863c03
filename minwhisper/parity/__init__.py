"""The exactness of each stage of the model: the mel, the stem, every block, the logits, the generated tokens.

In: a model. Out: per stage, its relative difference from values that openai-whisper's model computed in float64, beside
that of openai-whisper in float32. ``comparison`` has all of it; ``reference/`` holds the stored values and the clip.

Walkthrough: section 15.
"""

from .comparison import (
    TOLERANCE,
    Reference,
    StageComparison,
    check_comparable,
    clip_samples,
    compare,
    generated_tokens,
    load_reference,
    pytorch_model,
    pytorch_stages,
    pytorch_tokens,
    relative_difference,
    stages,
    subsample,
    window_mel,
)

__all__ = [
    "TOLERANCE",
    "Reference",
    "StageComparison",
    "check_comparable",
    "clip_samples",
    "compare",
    "generated_tokens",
    "load_reference",
    "pytorch_model",
    "pytorch_stages",
    "pytorch_tokens",
    "relative_difference",
    "stages",
    "subsample",
    "window_mel",
]

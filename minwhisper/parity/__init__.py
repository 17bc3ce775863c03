"""How exact each stage is, compared with stored reference values and with PyTorch.

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

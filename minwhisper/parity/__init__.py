"""How exact each stage is, compared with stored reference values and with PyTorch.

Walkthrough: section 15.
"""

from .comparison import (
    TOLERANCE,
    Line,
    Reference,
    check_comparable,
    clip_samples,
    compare,
    load_reference,
    pytorch_model,
    pytorch_stages,
    pytorch_tokens,
    relative_difference,
    said,
    stages,
    stored_part,
    window_mel,
)

__all__ = [
    "TOLERANCE",
    "Line",
    "Reference",
    "check_comparable",
    "clip_samples",
    "compare",
    "load_reference",
    "pytorch_model",
    "pytorch_stages",
    "pytorch_tokens",
    "relative_difference",
    "said",
    "stages",
    "stored_part",
    "window_mel",
]

"""Values that no option of a given kind accepts."""

import math

import numpy as np
import pytest

from minwhisper.errors import OptionError

NOT_NUMBERS = ["0.5", b"1", True, np.bool_(False), math.nan, np.float32("nan"), math.inf, -math.inf, [0.5], 1j]
NOT_COUNTS = [0, -1, 2.5, 3.0, "5", True, np.bool_(True), np.int64(0), np.float64(2.0), [1], math.nan]
NOT_FLAGS = [0, 1, "yes", 1.0, [], None]


def rejected(cls: type, options: dict[str, object], message: str) -> str:
    """Check that options are rejected with one line that contains the message; return the line."""
    with pytest.raises(OptionError) as caught:
        cls.named(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)

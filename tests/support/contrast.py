"""Contrast of colours, as defined by the Web Content Accessibility Guidelines."""

import numpy as np


def linear_rgb(colour: str) -> np.ndarray:
    """Return the linear intensities of a colour such as ``"#3488df"``: (3,), 0 to 1."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    low, high = sorted(float(linear_rgb(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)

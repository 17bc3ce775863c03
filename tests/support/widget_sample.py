"""Made-up values for the page's interactive figures: three steps, two blocks of two heads, two seconds."""

import numpy as np

from minwhisper.walkthrough.widgets import TEMPERATURES, Step, WidgetData

TOKENS = (" Ask", " <b>not", "<|endoftext|>")


def step(token: str, rng: np.random.Generator) -> Step:
    """Make up logits for a vocabulary of 40 tokens, in which the given token is the most likely."""
    logits = np.sort(rng.normal(0, 3, 40))[::-1]
    logits -= logits[0]
    sums = np.array([np.log(np.exp(logits / temperature).sum()) for temperature in TEMPERATURES])
    return Step([token, *(f" other{at}" for at in range(9))], logits[:10], sums)


def small_data() -> WidgetData:
    """Return made-up values with the shapes of real ones."""
    rng = np.random.default_rng(0)
    shares = {kind: rng.dirichlet(np.ones(columns), (2, 2, rows)) for kind, rows, columns in SHAPES}
    return WidgetData(
        seconds=2.0,
        mel=rng.normal(0, 1, (80, 200)),
        steps=[step(token, rng) for token in TOKENS],
        starts=[0.0, 0.5, 1.5],
        alignment=rng.normal(0, 1, (3, 100)),
        **shares,
    )


SHAPES = (("encoder", 25, 25), ("cross", 3, 50), ("decoder", 3, 3))

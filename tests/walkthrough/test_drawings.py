"""The pictures of the walkthrough: each is small, labelled and reproducible, and shows the right data."""

import inspect
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from minwhisper.audio import mel
from minwhisper.model.encoder import sinusoids
from minwhisper.model.layers import gelu, softmax
from minwhisper.parity.comparison import clip_samples
from minwhisper.transcription.alignment_tools import dynamic_time_warping
from minwhisper.walkthrough import decoder_drawings, drawing, drawings, drawings_heads
from minwhisper.walkthrough.decoder_drawings import END
from minwhisper.walkthrough.drawing import INK, Drawing, summary

pytest.importorskip("matplotlib")

WORDS = [" And", " so", ",", " my", " fellow", "$5", "<|endoftext|>"]


def clip_frames(scale: float) -> np.ndarray:
    return mel.split_frames(np.pad(scale * clip_samples().astype(np.float64), 200, mode="reflect"))[:1100]


def energies(scale: float) -> np.ndarray:
    return mel.power_spectrum(clip_frames(scale))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def attention_matrix(scale: float) -> np.ndarray:
    return softmax(scale * 3 * noise(550, 550))


def similarities(scale: float) -> dict[str, np.ndarray]:
    vectors = noise(550, 24) + scale
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict.fromkeys(("silence", "noise", "speech"), vectors @ vectors.T)


def beam_history(scale: float) -> list[list[tuple[str, float, int]]]:
    """Return two candidates per step; at every third step, the second forks from the first, and one finishes early."""
    history = [[(" a", -scale, 0), (" b", -2 * scale, 0)]]
    for step in range(1, 26):
        history.append([(f" {step}", -(step + 1) * scale, 0), (" x", -(step + 2) * scale, int(step % 3 > 0))])
    history[10].insert(0, (END, -20 * scale, 0))
    history.append([(END, -27 * scale, 0), (" z", -30 * scale, 1)])
    return history


def table(scale: float) -> dict[str, dict[str, float]]:
    return {"tiny": {"one": 30e6, "two": scale * 50e6}, "large": {"one": 800e6, "two": 90e6}}


def aligned(scale: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    matrix = scale * (np.eye(24).repeat(23, axis=1)[:, :550] + 0.3 * noise(24, 550))
    return matrix, dynamic_time_warping(-matrix), WORDS * 3 + WORDS[:3]


def activation(scale: float) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    x = np.linspace(-6, 6, 2001, dtype=np.float32)
    error = np.abs(gelu(x) - gelu(x.astype(np.float64)))
    return x, gelu(x), {"ours": scale * error, "another": np.full(x.size, 1e-4)}


EXAMPLES = {
    "sizes": lambda s: (table(s),),
    "waveform": lambda s: (s * clip_samples(), energies(s)),
    "overview": lambda s: (
        s * clip_samples(),
        s * mel.log_mel_spectrogram(clip_samples()),
        s * aligned(1.0)[0],
        [(word, 0.7 * number, 0.7 * number + 0.6 * s) for number, word in enumerate(["Americans", "so"] * 7)],
    ),
    "one_frame": lambda s: (clip_frames(s)[40], clip_frames(s)[40] * mel.hann_window(), energies(s)[40]),
    "filters": lambda s: (s * mel.mel_filters(80),),
    "log_mel": lambda s: (s * mel.log_mel_spectrogram(clip_samples()),),
    "positions": lambda s: (s * sinusoids(1500, 384),),
    "attention_map": lambda s: (attention_matrix(s),),
    "gelu": activation,
    "three_sounds": lambda s: (similarities(s),),
    "spectra": lambda s: ({"trained": s * np.arange(384.0)[::-1], "untrained": np.ones(384)},),
    "lengths": lambda s: ({"English": {"bytes": int(40 * s), "tokens": 9}, "German": {"bytes": 48}},),
    "token_probabilities": lambda s: (WORDS * 4, [0.5 * s] * 28, [(" or", 0.3)] * 28),
    "work": lambda s: ([s * 1e6 * n for n in range(1, 200)], [1e6] * 199),
    "beams": lambda s: (beam_history(s),),
    "alignment": aligned,
    "cache_use": lambda s: (WORDS, 2 if s == 1.0 else 3),
    "temperatures": lambda s: (WORDS, {0.5: s * np.linspace(0.9, 0, 7), 1.0: s * np.linspace(0.5, 0.1, 7)}),
    "cross_attention_heads": lambda s: (s * softmax(4 * noise(4, 6, 25, 550)), [(0, 1), (3, 5)][: 1 + (s == 1.0)]),
    "windows": lambda s: ([(0.0, 0.0, 12.0), (0.0, 12.0, 24.0), (24.0, 24.0, 30.0 + s)], 35.0),
    "encoder_heads": lambda s: ([softmax(4 * s * noise(2, 30, 30)) for _ in range(2)],),
    "fallback": lambda s: ([0.0, 0.2, 0.4], [-0.9 * s, -1.1, -3.0], [3.0, 2.0, 1.5], (-1.0, 2.4)),
    "words_by_probability": lambda s: ([{"word": word, "probability": s * 0.15 * n} for n, word in enumerate(WORDS)],),
    "memory": lambda s: (table(s), 0.2e9),
    "errors_by_stage": lambda s: (["mel", "stem", "logits"], [s * 3e-8, 2e-7, 5e-7], [5e-7, 6e-7, 9e-7]),
}


def named(name: str):
    return next(getattr(one, name) for one in (drawings, decoder_drawings, drawings_heads) if hasattr(one, name))


def draw(name: str, scale: float = 1.0) -> Drawing:
    return named(name)(*EXAMPLES[name](scale))


@pytest.fixture
def figures(monkeypatch):
    """Return a list that collects the Matplotlib figure of each picture that is drawn."""
    seen = []
    real = drawing.to_drawing
    monkeypatch.setattr(drawing, "to_drawing", lambda figure, *rest: (seen.append(figure), real(figure, *rest))[1])
    return seen


def test_every_picture_has_an_example():
    public = {
        name
        for module in (drawings, decoder_drawings, drawings_heads)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__.startswith("minwhisper.walkthrough.") and name[0] != "_"
    }
    assert public - {"to_numpy", "facts_of"} == set(EXAMPLES)


class DeviceArray:
    """An array on a GPU, which can only be copied to the host."""

    def __init__(self, values: np.ndarray) -> None:
        self.get = lambda: values


def to_fake_device(value):
    if isinstance(value, np.ndarray):
        return DeviceArray(value)
    return {name: to_fake_device(part) for name, part in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_picture_is_small_labelled_and_readable_and_depends_on_its_data_alone(name, figures):
    from matplotlib.text import Text

    picture, other = draw(name, 1.0), named(name)(*map(to_fake_device, EXAMPLES[name](0.6)))
    assert picture.svg != other.svg
    assert picture.facts != other.facts
    ElementTree.fromstring(picture.svg)
    assert len(picture.svg.encode()) < 60_000
    assert INK not in picture.svg
    assert "currentColor" in picture.svg
    assert ("~" in picture.facts) == (name in {"gelu", "errors_by_stage"})  # values that differ between machines
    figure = figures[0]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if any(label.get_visible() and label.get_text() for label in axis.get_ticklabels()):
                assert axis.get_label_text() or name == "overview", axis.axis_name  # its panels share the x axis
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text()):
        assert text.get_fontsize() >= 9
        assert text.get_color() == INK
    assert figure.get_figwidth() == 7.2
    assert 1.5 <= figure.get_figheight() <= 6.8
    tight = figure.get_tightbbox()  # nothing sticks out of the picture
    assert min(tight.x0, tight.y0) >= -0.02
    assert tight.x1 <= figure.get_figwidth() + 0.02
    assert tight.y1 <= figure.get_figheight() + 0.02


# ------------------------------------------------------------------------------------------ their data


def assert_facts(name: str, arguments: list, *parts: str) -> str:
    """Draw a picture, check that its facts contain all parts, and return them."""
    shown = named(name)(*arguments).facts
    for part in parts:
        assert part in shown, shown
    return shown


def test_the_waveform_is_over_seconds_and_its_spectrogram_in_decibels():
    samples = np.zeros(32_000, np.float32)  # 2 s
    samples[25_000:25_002] = 0.5, -0.25  # peaks must survive in a long series
    energy = np.ones((200, 201))
    energy[:, 100] = 1e6
    decibels = "min 0.000, max 30.00"  # 60 dB, the mean of one frequency and its silent neighbour
    shown = assert_facts("waveform", [samples, energy], "min -0.2500, max 0.5000", "image: 101 × 200; ", decibels)
    assert re.search(r"shape lowest and highest: \d+ points; x mean 0.99\d+, std \S+, min 0.00\d+, max 1.99\d;", shown)
    assert "nan" not in assert_facts("waveform", [np.zeros(16_000), np.zeros((100, 201))])  # silence


def test_a_small_image_shows_every_value_and_a_large_one_means_over_blocks():
    image = "image: 2 × 3; mean 3.000, std 2.582, min 0.000, max 8.000"
    assert_facts("log_mel", [np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]])], image, "colours: scaled log energy")
    large = np.tile([[0.0, 1.0], [2.0, 3.0]], (80, 600))  # (160, 1200)
    assert_facts("log_mel", [large], "image: 80 × 400; mean 1.500, std ")
    last = np.zeros((1, 1102))
    last[:, -1] = 10.0
    assert_facts("log_mel", [last], "image: 1 × 368; ", "max 10.00")  # its last block has one column instead of three


def test_an_error_of_zero_is_drawn_at_the_minimum():
    x = np.linspace(-1, 1, 11)
    points = "11 points; x mean ~0.000, std ~0.6325, min ~-1.000, max ~1.000; y mean"
    lines = f"line none: {points} ~1.000e-09", f"line some: {points} ~0.001000"
    assert_facts("gelu", [x, gelu(x), {"none": np.zeros(11), "some": -1e-3 * np.ones(11)}], *lines)


def test_doubtful_words_are_marked_with_their_probabilities():
    words = [(" so", 0.95), (",", 0.9), (" $5", 0.42), (" may", 0.65), (" be", 0.66), (" it", 0.899)]
    as_dicts = [{"word": word, "probability": probability} for word, probability in words]
    shown = assert_facts(
        "words_by_probability",
        [as_dicts],
        "shape probability below 50 %: 5 points",  # the four corners of a box, closed
        "shape 50 to 70 %: 10 points",
        "shape 70 to 90 %: 5 points",
        r"text: so | , | \$5 | 42 | may | 65 | be | 66 | it | 90",
    )
    assert drawings.words_by_probability([SimpleNamespace(**word) for word in as_dicts]).facts == shown
    drawings.words_by_probability([])


def test_the_winner_of_a_beam_search_has_the_highest_mean_of_the_finished():
    history = [
        [(" a", -1.0, 0), (" b", -1.5, 0)],
        [(END, -2.0, 0), (" c", -2.5, 0), (" d", -1.75, 1)],  # mean -2.000 of one token
        [(" e", -2.75, 1), (" f", -6.0, 0)],  # rows 0 and 1 are the active candidates, " c" and " d"
        [(END, -3.0, 0), (" g", -2.9, 0)],  # mean -1.000 of three
    ]
    best = summary([0.0, -1.5, -1.75, -2.75, -3.0])
    others = [0, -1, 0, -1.5, -1, -2, -1, -2.5, -1.5, -1.75, -1.75, -2.75, -2.5, -6, -2.75, -3, -2.75, -2.9]
    shown = assert_facts(
        "beams",
        [history],
        f"along x: ␣b | ␣d | ␣e | {END}",
        f"line the winner: 5 points; x mean 2.000, std 1.414, min 0.000, max 4.000; y {best}",
        "line an end: 2 points",
    )
    assert re.search(rf"shape other candidates: 18 points; x mean .*; y {re.escape(summary(others))}", shown)
    going = [[(" a", -1.0, 0), (" b", -1.5, 0)], [(" c", -2.5, 0), (" d", -1.75, 1)]]  # the last step decides
    assert "an end" not in assert_facts("beams", [going], "along x: ␣b | ␣d")


@pytest.mark.parametrize(
    ("logprobs", "ratios"), [([-0.5, -0.6], [1.0, 1.1]), ([-5.0, -3.0], [9.0, 5.0]), ([-1.0, -1.0], [2.4, 2.4])]
)
def test_both_sides_of_a_threshold_are_visible(logprobs, ratios, figures):
    attempts = [[0.0, 0.2], logprobs, ratios, (-1.0, 2.4)]
    assert_facts("fallback", attempts, "text: fails below −1", "text: fails above 2.4")
    for axes, limit in zip(figures[0].axes, (-1.0, 2.4), strict=True):
        low, high = axes.get_ylim()
        assert low < limit < high

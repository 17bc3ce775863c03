"""The values of the interactive figures are the model's, and packing does not change them."""

from io import BytesIO

import numpy as np
import pytest

from minwhisper.common.backend import to_numpy
from minwhisper.model.layers import softmax
from minwhisper.parity.comparison import clip_samples, window_mel
from minwhisper.walkthrough.figures import Figures
from minwhisper.walkthrough.widgets import (
    CROSS_CELL,
    TEMPERATURES,
    alignment_picture,
    head_sheet,
    png,
    probability,
    spectrogram,
    values,
)
from widget_sample import small_data


def test_the_steps_are_the_models_distributions(widget_data, tiny_en):
    tokenizer = tiny_en.tokenizer
    prompt = [*tokenizer.sot_sequence("en", "transcribe", timestamps=False)]
    text = tokenizer.encode("".join(step.names[0] for step in widget_data.steps[:-1]))
    assert tokenizer.decode(text).startswith(" And so my fellow Americans ask not")
    features = tiny_en.encode(window_mel(clip_samples(), tiny_en.config.num_mel_bins))
    logits = to_numpy(tiny_en.logits([[*prompt, *text]], features))[0, len(prompt) - 1 :].astype(np.float64)
    assert len(logits) == len(widget_data.steps)
    assert widget_data.steps[-1].names[0] == tokenizer.name(tokenizer.eot)
    for step, row in zip(widget_data.steps, logits, strict=True):
        for temperature in (TEMPERATURES[0], 1.0, TEMPERATURES[-1]):
            exact = softmax(row / temperature)
            likeliest = np.argsort(-exact)[:5]
            assert step.names[:5] == [tokenizer.name(int(token)) for token in likeliest]
            shown = [probability(step, at, temperature) for at in range(5)]
            np.testing.assert_allclose(shown, exact[likeliest], rtol=2e-3)


def test_attention_weights_of_a_position_add_up_to_at_most_one(widget_data, tiny_en):
    blocks, heads = tiny_en.config.encoder_layers, tiny_en.config.encoder_attention_heads
    steps, cells = len(widget_data.steps), 138  # 550 positions, four per cell
    assert widget_data.encoder.shape == (blocks, heads, cells, cells)
    assert widget_data.decoder.shape == (blocks, heads, steps, steps)
    assert widget_data.cross.shape == (blocks, heads, steps, 275)
    for shares in (widget_data.encoder, widget_data.decoder, widget_data.cross):
        assert shares.min() >= 0
        assert shares.sum(axis=-1).max() < 1.0001
    assert np.triu(widget_data.decoder, 1).max() == 0  # no token attends to later ones
    assert np.median(np.abs(widget_data.encoder[0, 0].argmax(axis=1) - np.arange(cells))) <= 2  # a head of neighbours


def test_tokens_begin_where_the_walkthrough_says(widget_data):
    assert widget_data.starts[:5] == [0.0, 0.76, 1.06, 1.46, 1.76]
    assert widget_data.starts == sorted(widget_data.starts)
    spoken = np.array([row.argmax() for row in widget_data.cross[3, 1]]) * CROSS_CELL / 50
    assert np.median(np.abs(spoken - widget_data.starts)) < 0.5  # an alignment head attends near the time of a token
    assert len(Figures(widget_data).script().encode()) < 1_000_000


def opened(content):
    return pytest.importorskip("PIL.Image").open(BytesIO(content))


@pytest.mark.parametrize("shape", [(1, 1), (40, 7)])
def test_a_png_holds_its_pixels(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert (np.asarray(opened(png(pixels))) == pixels).all()
    smooth = np.cumsum(np.ones(shape, np.uint8), axis=0, dtype=np.uint8)
    assert (np.asarray(opened(png(smooth))) == smooth).all()
    colours = np.random.default_rng(2).integers(0, 256, (256, 3), dtype=np.uint8)
    assert (np.asarray(opened(png(pixels, colours)).convert("RGB")) == colours[pixels]).all()


def test_the_image_of_all_heads_gives_the_attention_weights_back():
    data = small_data()
    sheet = np.asarray(opened(head_sheet(data.cross)), np.float64)
    brightest = values(data)["heads"]["cross"]["brightest"]
    rows, columns = data.cross.shape[2:]
    assert sheet.shape == (2 * rows, 2 * columns)
    for block, head in ((0, 0), (1, 0), (1, 1)):
        pixels = sheet[block * rows : (block + 1) * rows, head * columns : (head + 1) * columns]
        share = brightest[block][head] * (pixels / 255) ** 2
        np.testing.assert_allclose(share, np.minimum(data.cross[block, head], brightest[block][head]), atol=1.5e-3)


def test_pictures_have_low_frequencies_at_the_bottom_and_a_row_per_token():
    data = small_data()
    data.mel[:10] = 9.0
    picture = np.asarray(opened(spectrogram(data.mel)).convert("L"), np.float64)
    assert picture.shape == (80, 100)
    assert picture[-10:].min() > picture[:-10].max()
    assert opened(alignment_picture(data.alignment)).size == (100, 3)

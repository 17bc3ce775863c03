"""Windows decoded against openai-whisper: the same weights, sound and random numbers, token for token."""

import csv

import numpy as np
import pytest

from conftest import DATA
from minwhisper import DecodingOptions, load_audio
from minwhisper.decoding.decode import compression_ratio, initial_tokens
from minwhisper.parity.comparison import window_mel

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
from same_draws import same_draws  # noqa: E402 (needs both)

SENTENCE = "LJ001-0001.wav"  # 10 s
SHORT = "LJ001-0002.wav"  # 2 s
LENGTHS = (0, 5, 222, 223, 300)  # of prompts: 223 is the most that there is room for


@pytest.fixture(scope="session")
def mel(speech):
    """Return the mel of a clip's window, (80, 3000); of noise for "noise"."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(480_000)).astype(np.float32)
    sounds = {**speech, "noise": noise, "french": load_audio(DATA / "french.aiff")}
    made = {}

    def get(name):
        if name not in made:
            made[name] = window_mel(sounds[name], 80)[0]
        return made[name]

    return get


@pytest.fixture(scope="session")
def heard(pytorch, mel):
    """Return a clip's features by our encoder and by pytorch, (1500, D): each decoder goes on from its own."""
    made = {}

    def get(model, name):
        if (model.name, name) not in made:
            with torch.no_grad():
                other = pytorch(model).encoder(torch.tensor(mel(name)[None]))[0]
            made[model.name, name] = model.encode(mel(name)[None])[0], other
        return made[model.name, name]

    return get


@pytest.fixture(scope="session")
def words(tiny_en) -> list[int]:
    """Three hundred tokens of a book."""
    with (DATA / "lj_texts.csv").open(newline="", encoding="utf-8") as file:
        text = " ".join(row[-1] for row in csv.reader(file))
    tokens = tiny_en.tokenizer.encode(" " + text)
    return (tokens * (1 + 300 // len(tokens)))[:300]


def same(ours, other) -> None:
    """Both results agree in everything that both have."""
    assert ours.tokens == other.tokens
    assert ours.text == other.text
    assert ours.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
    assert ours.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-3)
    assert ours.compression_ratio == other.compression_ratio
    assert ours.temperature == other.temperature
    assert ours.language == other.language
    np.testing.assert_allclose(ours.audio_features, other.audio_features.numpy(), atol=0.05)


def check(heard, pytorch, model, clip: str, **options):
    """Decode a clip with both, check that they agree, and return our result."""
    options.setdefault("language", "en")
    mine, other = heard(model, clip)
    result = model.decode(mine, **options)
    same(result, pytorch(model).decode(other, whisper.DecodingOptions(fp16=False, **options)))
    return result


# ------------------------------------------------------------------------------------------ what the decoder is told


def task(pytorch, model, **options):
    return whisper.decoding.DecodingTask(pytorch(model), whisper.DecodingOptions(language="en", fp16=False, **options))


@pytest.mark.parametrize("length", LENGTHS)
def test_prompts_are_the_same(model, pytorch, words, length):
    for more in ({}, {"without_timestamps": True}, {"prefix": words[:7]}):
        options = {"prompt": words[:length], **more}
        expected = task(pytorch, model, **options)._get_initial_tokens()
        assert initial_tokens(DecodingOptions(**options), "en", model.tokenizer, model.config) == expected


@pytest.mark.parametrize("sample_len", [None, 1, 100, 200, 219, 223, 224])
@pytest.mark.parametrize("prefix", [" And so ", [50], 5, 24, 124, 200], ids=str)
def test_prefixes_are_the_same(tiny_en, pytorch, words, prefix, sample_len):
    options = {"prefix": words[:prefix] if isinstance(prefix, int) else prefix, "sample_len": sample_len}
    expected = task(pytorch, tiny_en, **options)._get_initial_tokens()
    assert initial_tokens(DecodingOptions(**options), "en", tiny_en.tokenizer, tiny_en.config) == expected


def test_a_prefix_is_not_cut_if_sample_len_exceeds_half(tiny_en, pytorch, words):
    # openai-whisper cuts off as many tokens in front as sample_len is above 224, which leaves no more room than before.
    options = {"prefix": words[:100], "sample_len": 300}
    assert task(pytorch, tiny_en, **options)._get_initial_tokens()[1:] == tuple(words[76:100])
    assert initial_tokens(DecodingOptions(**options), "en", tiny_en.tokenizer, tiny_en.config)[1:] == tuple(words[:100])


# ------------------------------------------------------------------------------------------ search


@pytest.mark.parametrize("clip", ["jfk.flac", SENTENCE, SHORT, "noise"])
def test_greedy_decoding_is_the_same(heard, pytorch, tiny_en, clip):
    check(heard, pytorch, tiny_en, clip)


@pytest.mark.parametrize("clip", ["jfk.flac", SHORT])
def test_beam_search_is_the_same(heard, pytorch, tiny_en, clip):
    check(heard, pytorch, tiny_en, clip, beam_size=5)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 2},
        {"beam_size": 3, "patience": 2.0, "length_penalty": 0.0},
        {"beam_size": 3, "patience": 2.0, "length_penalty": 0.6},
        {"beam_size": 3, "patience": 2.0, "length_penalty": 1.0},
        {"beam_size": 5, "patience": 0.5},
        {"beam_size": 3, "sample_len": 5},
        {"sample_len": 5},
        {"sample_len": 200},
        {"without_timestamps": True},
        {"without_timestamps": True, "beam_size": 2},
        {"max_initial_timestamp": None, "suppress_blank": False, "suppress_tokens": [6, 13]},
    ],
    ids=str,
)
def test_options_mean_the_same(heard, pytorch, tiny_en, options):
    check(heard, pytorch, tiny_en, SHORT if "patience" in options else SENTENCE, **options)


@pytest.mark.parametrize("length", LENGTHS)
def test_decoding_with_a_prompt_is_the_same(heard, pytorch, tiny_en, words, length):
    check(heard, pytorch, tiny_en, SHORT, prompt=words[:length])


def test_a_prompt_as_text_equals_its_tokens(heard, pytorch, tiny_en):
    text = "A talk on printing, for readers of The Times."
    result = check(heard, pytorch, tiny_en, SENTENCE, prompt=text)
    assert result == tiny_en.decode(heard(tiny_en, SENTENCE)[0], prompt=tiny_en.tokenizer.encode(" " + text))


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sample_len": 200}], ids=str)
def test_decoding_with_a_prefix_is_the_same(heard, pytorch, tiny_en, options):
    ids = tiny_en.tokenizer.encode(" Printing, in the only sense")
    for prefix in ("Printing, in the only sense", ids):
        result = check(heard, pytorch, tiny_en, SENTENCE, prefix=prefix, without_timestamps=True, **options)
    assert result.text.startswith("with which we are")


def test_batches_of_mels_and_features_are_decoded_the_same(heard, pytorch, tiny_en, mel):
    clips = ("jfk.flac", SHORT)
    mels = np.stack([mel(clip) for clip in clips])
    asked = whisper.DecodingOptions(language="en", fp16=False)
    expected = pytorch(tiny_en).decode(torch.tensor(mels), asked)
    of_features = tiny_en.decode(np.stack([heard(tiny_en, clip)[0] for clip in clips]))
    of_mels = tiny_en.decode(mels)
    for results in (of_mels, of_features):
        assert len(results) == 2
        for ours, other in zip(results, expected, strict=True):
            same(ours, other)


def test_a_single_mel_is_decoded_the_same(pytorch, tiny_en, mel):
    asked = whisper.DecodingOptions(language="en", fp16=False)
    same(tiny_en.decode(mel(SHORT)), pytorch(tiny_en).decode(torch.tensor(mel(SHORT)), asked))


# ------------------------------------------------------------------------------------------ languages


@pytest.mark.parametrize("options", [{}, {"task": "translate"}, {"beam_size": 2}], ids=str)
def test_french_is_detected_transcribed_and_translated_the_same(heard, pytorch, base, options):
    result = check(heard, pytorch, base, "french", language=None, **options)
    assert result.language == "fr"
    _, expected = pytorch(base).detect_language(heard(base, "french")[1])
    assert result.language_probs == pytest.approx(expected, abs=1e-4)
    asked = dict(options, language="fr")
    assert base.decode(heard(base, "french")[0], **asked).tokens == result.tokens


# ------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize("best_of", [1, 3])
@pytest.mark.parametrize("temperature", [0.4, 1.0])
@pytest.mark.parametrize("clip", [SHORT, "noise"])
def test_sampling_is_the_same_with_the_same_random_numbers(heard, pytorch, tiny_en, clip, temperature, best_of):
    mine, other = heard(tiny_en, clip)
    options = {"temperature": temperature, "best_of": best_of, "language": "en", "sample_len": 30}
    asked = whisper.DecodingOptions(fp16=False, **options)
    drawn = set()
    for seed in (0, 1):
        result = tiny_en.decode(mine, generator=np.random.default_rng(seed), **options)
        with same_draws(seed):
            same(result, pytorch(tiny_en).decode(other, asked))
        drawn.add(tuple(result.tokens))
    assert temperature < 1 or len(drawn) == 2  # at random it is


def test_without_a_generator_the_seed_is_0(heard, pytorch, tiny_en):
    with same_draws(0):
        check(heard, pytorch, tiny_en, SHORT, temperature=1.0, length_penalty=0.5, best_of=2)


# ------------------------------------------------------------------------------------------ the text


@pytest.mark.parametrize("text", ["", "a", "And so my fellow Americans", "ha " * 100, "Ça va ? ♪"])
def test_compression_ratios_are_the_same(text):
    assert compression_ratio(text) == whisper.utils.compression_ratio(text)

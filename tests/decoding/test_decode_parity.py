"""Windows are decoded like openai-whisper's, token for token, from the same weights, audio and random numbers."""

import csv

import numpy as np
import pytest

from inputs import DATA
from minwhisper import DecodingOptions, load_audio
from minwhisper.decoding.decode import initial_tokens
from minwhisper.parity.comparison import window_mel

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
from same_draws import same_draws  # noqa: E402 (needs both)

SENTENCE = "LJ001-0001.wav"  # 10 s
SHORT = "LJ001-0002.wav"  # 2 s


@pytest.fixture(scope="session")
def mel(speech):
    """Return the mel of a clip's window, (80, 3000), or of noise for "noise"."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(480_000)).astype(np.float32)
    samples = {**speech, "noise": noise, "french": load_audio(DATA / "french.aiff")}
    made = {}

    def get(name):
        if name not in made:
            made[name] = window_mel(samples[name], 80)[0]
        return made[name]

    return get


@pytest.fixture(scope="session")
def features_of(pytorch, mel):
    """Return a clip's features from our encoder and PyTorch's, (1500, D): each decoder reads those of its own model."""
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
    """Return 300 tokens of a book."""
    with (DATA / "lj_texts.csv").open(newline="", encoding="utf-8") as file:
        text = " ".join(row[-1] for row in csv.reader(file))
    tokens = tiny_en.tokenizer.encode(" " + text)
    return (tokens * (1 + 300 // len(tokens)))[:300]


def same(ours, other) -> None:
    """Check that both results agree in every field that both have."""
    assert ours.tokens == other.tokens
    assert ours.text == other.text
    assert ours.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
    assert ours.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-3)
    assert ours.compression_ratio == other.compression_ratio
    assert ours.temperature == other.temperature
    assert ours.language == other.language
    np.testing.assert_allclose(ours.audio_features, other.audio_features.numpy(), atol=0.05)


def check(features_of, pytorch, model, clip: str, **options):
    """Decode a clip with both, check that they agree, and return our result."""
    options.setdefault("language", "en")
    mine, other = features_of(model, clip)
    result = model.decode(mine, **options)
    same(result, pytorch(model).decode(other, whisper.DecodingOptions(fp16=False, **options)))
    return result


# ------------------------------------------------------------------------------------------ the prompt


def check_initial_tokens(pytorch, model, **options) -> None:
    their_options = whisper.DecodingOptions(language="en", fp16=False, **options)
    expected = whisper.decoding.DecodingTask(pytorch(model), their_options)._get_initial_tokens()
    assert initial_tokens(DecodingOptions(**options), "en", model.tokenizer, model.config) == expected


@pytest.mark.parametrize("length", [0, 5, 223, 300])  # 223 is the maximum that fits
@pytest.mark.parametrize("prefix", [None, range(1000, 1007)], ids=["no prefix", "a prefix"])
def test_prompts_are_the_same(model, pytorch, words, length, prefix):
    for without in (False, True):
        given = None if prefix is None else list(prefix)
        check_initial_tokens(pytorch, model, prompt=words[:length], prefix=given, without_timestamps=without)


@pytest.mark.parametrize("sample_len", [None, 1, 200, 219, 223, 224])
@pytest.mark.parametrize("prefix", [" And so ", 5, 24, 200], ids=str)
def test_prefixes_are_the_same(tiny_en, pytorch, words, prefix, sample_len):
    given = words[:prefix] if isinstance(prefix, int) else prefix
    check_initial_tokens(pytorch, tiny_en, prefix=given, sample_len=sample_len)


def test_a_prefix_is_not_cut_if_sample_len_exceeds_half(tiny_en, pytorch, words):
    # If sample_len exceeds 224, openai-whisper cuts that many more tokens off the front, which gains no room.
    with pytest.raises(AssertionError):
        check_initial_tokens(pytorch, tiny_en, prefix=words[:100], sample_len=300)
    check_initial_tokens(pytorch, tiny_en, prefix=words[:100], sample_len=224)


# ------------------------------------------------------------------------------------------ search


SEARCHES = [
    *((clip, {}) for clip in ("jfk.flac", "noise")),
    (SHORT, {"beam_size": 5}),
    *((SHORT, {"beam_size": 3, "patience": 2.0, "length_penalty": penalty}) for penalty in (0.0, 1.0)),
    (SHORT, {"beam_size": 5, "patience": 0.5}),
    (SENTENCE, {"beam_size": 3, "sample_len": 5}),
    (SHORT, {"without_timestamps": True}),
    (SENTENCE, {"max_initial_timestamp": None, "suppress_blank": False, "suppress_tokens": [6, 13]}),
    (SHORT, {"prompt": "A talk on printing, for readers of The Times."}),
    (SENTENCE, {"prefix": "Printing, in the only sense", "without_timestamps": True, "sample_len": 200}),
]


@pytest.mark.parametrize(("clip", "options"), SEARCHES, ids=str)
def test_decoding_is_the_same(features_of, pytorch, tiny_en, clip, options):
    check(features_of, pytorch, tiny_en, clip, **options)


def test_french_is_detected_and_translated_the_same(features_of, pytorch, base):
    assert check(features_of, pytorch, base, "french", language=None, task="translate").language == "fr"


# ------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize(("clip", "temperature", "best_of"), [(SHORT, 0.4, 1), (SHORT, 1.0, 3), ("noise", 1.0, 1)])
def test_sampling_is_the_same_with_the_same_random_numbers(features_of, pytorch, tiny_en, clip, temperature, best_of):
    mine, other = features_of(tiny_en, clip)
    options = {"temperature": temperature, "best_of": best_of, "language": "en", "sample_len": 20}
    their_options = whisper.DecodingOptions(fp16=False, **options)
    sampled = set()
    for seed in (0, 1):
        result = tiny_en.decode(mine, generator=np.random.default_rng(seed), **options)
        with same_draws(seed):
            same(result, pytorch(tiny_en).decode(other, their_options))
        sampled.add(tuple(result.tokens))
    assert temperature < 1 or len(sampled) == 2

"""Decoding a window: the prompt, the filters, the sampler, the result, and language detection."""

import zlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from minwhisper import DecodingOptions
from minwhisper.decoding import decode as chapter
from minwhisper.decoding.decode import (
    DecodingResult,
    WindowRequest,
    compression_ratio,
    decode_windows,
    initial_tokens,
    logit_filters_for,
    sampler_for,
)
from minwhisper.decoding.search import Candidate, DecoderRequest, Sampler, SearchResult, beam_step, greedy, sample
from minwhisper.errors import LanguageError, OptionError
from minwhisper.model.layers import log_softmax, softmax
from minwhisper.parity.comparison import clip_samples, load_reference, window_mel

ALICE = "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do. "


@pytest.fixture(scope="module")
def jfk(tiny_en) -> np.ndarray:
    """Return tiny.en's features of the JFK clip: (1, T, D)."""
    features = tiny_en.encode(window_mel(clip_samples(), tiny_en.config.num_mel_bins))
    features.flags.writeable = False  # tests must not modify them
    return features


def decode_window(model, features, generator=None, **options) -> DecodingResult:
    request = WindowRequest(features, DecodingOptions(**options), generator)
    (result,) = decode_windows([request], model.engine, model.tokenizer)
    return result


# ------------------------------------------------------------------------------------------ the prompt


def prompt_tokens(model, language="en", **options) -> tuple[int, ...]:
    return initial_tokens(DecodingOptions(**options), language, model.tokenizer, model.config)


def test_the_prompt_is_the_start_sequence_and_text_has_one_space_before_it(base, tiny_en):
    t = base.tokenizer
    assert prompt_tokens(base, "French", task="translate") == (t.sot, t.language_token("fr"), t.translate)
    t = tiny_en.tokenizer
    for nothing in ({}, {"prompt": "", "prefix": ()}, {"prompt": [], "prefix": ""}):
        assert prompt_tokens(tiny_en, **nothing) == (t.sot,)
    words = t.encode(" And so")
    tokens = prompt_tokens(tiny_en, prompt="And so", prefix="  And so\n", without_timestamps=True)
    assert tokens == (t.sot_prev, *words, t.sot, t.no_timestamps, *words)


@pytest.mark.parametrize(
    ("prompt", "prefix", "sample_len", "kept_prompt", "kept_prefix"),
    [
        (223, 0, None, 223, 0),
        (300, 223, None, 223, 223),
        (0, 447, None, 0, 447),
        (0, 100, None, 0, 100),
        (0, 100, 124, 0, 100),
        (0, 100, 125, 0, 99),
        (0, 100, 223, 0, 1),
        (
            0,
            100,
            448,
            0,
            100,
        ),  # as it takes all of that half
    ],
)
def test_prompt_and_prefix_are_cut_to_their_halves(tiny_en, prompt, prefix, sample_len, kept_prompt, kept_prefix):
    t, before, after = tiny_en.tokenizer, list(range(1000, 1000 + prompt)), list(range(2000, 2000 + prefix))
    tokens = prompt_tokens(tiny_en, prompt=before, prefix=after, sample_len=sample_len)
    start = (t.sot_prev, *before[-kept_prompt:]) if prompt else ()
    assert tokens == (*start, t.sot, *(after[-kept_prefix:] if prefix else ()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": [1, 51864]}, OptionError, "prompt: expected token ids from 0 to 51863, got 51864$"),
        ({"prefix": [np.int64(-1)]}, OptionError, "prefix: expected token ids from 0 to 51863, got -1$"),
        (
            {"prefix": [51863] * 448},
            OptionError,
            "prefix: expected at most 447 tokens, which is what fits after",
        ),
        ({"prefix": [1] * 224, "prompt": [1] * 300}, OptionError, "prefix: expected at most 223 tokens, .*, got 224"),
        ({"suppress_tokens": [1, 51864]}, OptionError, "suppress_tokens: expected ids from -1 to 51863, got 51864"),
        ({"suppress_tokens": [-2]}, OptionError, "suppress_tokens: expected ids from -1 to 51863, got -2"),
        ({"language": "klingon"}, LanguageError, "unknown language 'klingon'"),
        ({"language": ""}, LanguageError, "unknown language ''"),
        ({"language": "fr"}, LanguageError, "this model is English only"),
        ({"beam_sise": 5}, OptionError, "unknown option 'beam_sise': did you mean 'beam_size'"),
        ({"fp16": False}, OptionError, "fp16: the precision is chosen when the model is loaded"),
        ({"best_of": 5}, OptionError, "best_of: sampling needs a temperature above 0"),
    ],
    ids=str,
)
def test_unsupported_options_are_rejected_before_any_work(tiny_en, options, error, message):
    with pytest.raises(error, match=message):
        tiny_en.decode("not a mel, which would fail later", **options)


# ------------------------------------------------------------------------------------------ filters and samplers


@pytest.mark.parametrize(("max_initial", "steps"), [(0.0, 0), (0.99, 50), (30, 1500), (None, 1500)])
def test_the_first_timestamp_is_at_most_max_initial_timestamp(tiny_en, max_initial, steps):
    (filters,) = logit_filters_for(DecodingOptions(max_initial_timestamp=max_initial), tiny_en.tokenizer)
    allowed = np.flatnonzero(filters(np.zeros((1, 51864), np.float32), [[]])[0] > -np.inf)
    assert allowed.tolist() == list(range(50363, 50363 + steps + 1))


ANY_GENERATOR = np.random.default_rng(7)
SAMPLERS = {  # options; sampler and its settings; candidates at the start, in the result, and finished at the end
    "greedy": ({"length_penalty": 0.5, "sample_len": 3}, greedy, {}, (1, 1, 1)),
    "a beam": ({"beam_size": np.int64(5)}, beam_step, {"beam_size": 5}, (1, 5, 5)),
    "patience rounded down": ({"beam_size": 3, "patience": 1.4}, beam_step, {"beam_size": 3}, (1, 3, 4)),
    "one sample": ({"temperature": np.float32(0.5)}, sample, {"temperature": 0.5}, (1, 1, 1)),
    "the best of four": ({"temperature": 0.5, "best_of": 4}, sample, {"temperature": 0.5}, (4, 4, 4)),
}


@pytest.mark.parametrize(("options", "function", "settings", "counts"), SAMPLERS.values(), ids=SAMPLERS)
def test_the_sampler_follows_the_options(options, function, settings, counts):
    sampler = sampler_for(DecodingOptions(**options), 9, ANY_GENERATOR)
    assert sampler[1:4] == counts
    assert {type(count) for count in sampler[1:4]} == {int}
    assert getattr(sampler.choose, "func", sampler.choose) is function
    more = {beam_step: {"eot": 9}, sample: {"generator": ANY_GENERATOR}}.get(function, {})
    assert getattr(sampler.choose, "keywords", {}) == settings | more
    # A GPU runs the same in two parts: a beam may contain the end token beside beam_size others.
    _, top, temperature, generator = sampler.kernel_sampler
    assert top == (settings["beam_size"] + 1 if function is beam_step else 1)
    assert (temperature, generator) == ((0.5, ANY_GENERATOR) if function is sample else (0.0, None))


# ------------------------------------------------------------------------------------------ the result


def test_a_result_has_every_field(tiny_en, jfk):
    result = decode_window(tiny_en, jfk)
    t = tiny_en.tokenizer
    assert result.tokens == load_reference("tiny.en").tokens
    assert result.text == t.decode(result.tokens).strip() != t.decode(result.tokens)
    assert (result.language, result.language_probs, result.temperature) == ("en", None, 0.0)
    assert result.compression_ratio == compression_ratio(result.text)
    np.testing.assert_array_equal(result.audio_features, jfk[0])
    numbers = [result.avg_logprob, result.no_speech_prob, result.temperature, result.compression_ratio]
    assert {type(one) for one in numbers} == {float}
    assert (type(result.tokens), {type(token) for token in result.tokens}) == (list, {int})
    with pytest.raises(FrozenInstanceError):
        result.text = ""
    assert "audio_features" not in repr(result)


@pytest.mark.parametrize(
    "options",
    [
        {"without_timestamps": True, "prompt": "The president spoke.", "sample_len": 10},
        {"beam_size": 3, "sample_len": 10},
        {"temperature": 0.8, "best_of": 2, "sample_len": 10},
    ],
    ids=["greedy after a prompt", "beam", "sampling"],
)
def test_scores_follow_from_the_logits_of_the_plain_decoder(tiny_en, jfk, options):
    t = tiny_en.tokenizer
    result, prompt = decode_window(tiny_en, jfk, **options), prompt_tokens(tiny_en, **options)
    generated = [*result.tokens, t.eot][: options.get("sample_len")]
    logits = tiny_en.logits([[*prompt, *generated]], jfk)[0]  # all positions at once: (S, V)
    (filters,) = logit_filters_for(DecodingOptions(**options), t)
    rows = [filters(logits[None, len(prompt) - 1 + i], [generated[:i]])[0] for i in range(len(generated))]
    if not options.keys() & {"beam_size", "temperature"}:
        assert [row.argmax() for row in rows] == generated
    total = sum(float(log_softmax(row)[token]) for row, token in zip(rows, generated, strict=True))
    assert result.avg_logprob * (len(result.tokens) + 1) == pytest.approx(total, abs=1e-3)
    start = softmax(logits[prompt.index(t.sot)])
    assert result.no_speech_prob == pytest.approx(float(start[t.no_speech]), abs=1e-6)


@pytest.mark.filterwarnings("always")
def test_a_prefix_with_timestamps_warns_once(tiny_en, jfk, recwarn):
    assert tiny_en.decode(jfk[0], prefix="And so my").text == ""
    tiny_en.transcribe(clip_samples(), prefix="And so my", temperature=0, sample_len=1)
    tiny_en.decode(jfk[0], prefix="And so my", without_timestamps=True, sample_len=1)
    messages = [str(warning.message) for warning in recwarn]
    assert [message.partition(":")[0] for message in messages] == ["prefix", "prefix"]


# ------------------------------------------------------------------------------------------ before and after the search


def fake_search(monkeypatch, candidates) -> dict:
    """Replace the search by one with these candidates; return a dict that receives its arguments."""
    received = {}

    def search(prompt, max_context, **more):
        received.update(more, prompt=prompt)
        yield DecoderRequest([0], [list(prompt)], [Candidate((), 0.0)], more["logit_filters"], Sampler(greedy))
        return SearchResult(candidates, 0.25)

    monkeypatch.setattr(chapter, "search", search)
    return received


@pytest.mark.parametrize(("penalty", "best"), [(None, 7), (0.0, 1), (1.0, 7)])
def test_the_length_penalty_chooses_among_the_candidates(tiny_en, jfk, monkeypatch, penalty, best):
    fake_search(monkeypatch, [Candidate((1,), -1.0), Candidate((1,) * 7, -1.5)])
    assert len(decode_window(tiny_en, jfk, length_penalty=penalty).tokens) == best


@pytest.mark.parametrize(("sample_len", "max_tokens"), [(None, 224), (300, 300)])
def test_sample_len_is_half_of_the_positions_by_default(tiny_en, jfk, monkeypatch, sample_len, max_tokens):
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    decode_window(tiny_en, jfk, sample_len=sample_len, prompt="And", prefix="so")
    assert received["max_tokens"] == max_tokens
    assert received["prompt"] == prompt_tokens(tiny_en, prompt="And", prefix="so", sample_len=sample_len)


def test_the_compression_ratio_is_that_of_the_bytes_and_above_the_threshold_only_if_text_is_repeated():
    for text in ("", "♪ Ça va ? ♪"):
        assert compression_ratio(text) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert compression_ratio(ALICE) < 2.4 < compression_ratio(ALICE * 4)


# ------------------------------------------------------------------------------------------ languages


@pytest.fixture(scope="module")
def brief(base) -> np.ndarray:
    """Return base's features of the first three seconds of the JFK clip."""
    return base.encode(window_mel(clip_samples(), 80)[:, :, :300])


def test_the_language_is_detected_if_not_given(base, brief, monkeypatch):
    likely = dict.fromkeys(base.tokenizer.languages, 0.0) | {"en": 0.3, "cy": 0.7}
    monkeypatch.setattr(chapter, "language_probabilities", lambda *_arguments: [likely])
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    for given, code, probabilities in (
        (None, "cy", likely),
        *((name, "de", None) for name in ("de", "German", " GERMAN ")),
    ):
        result = decode_window(base, brief, language=given)
        assert (result.language, result.language_probs) == (code, probabilities)
        assert received["prompt"] == prompt_tokens(base, code)

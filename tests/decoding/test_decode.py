"""Decoding a window: the prompt, the filters, the sampler, the result, and language detection."""

import zlib
from dataclasses import FrozenInstanceError, fields

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
    language_probabilities,
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
    """tiny.en's features of the JFK clip: (1, T, D)."""
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


@pytest.mark.parametrize("options", [{}, {"prompt": ""}, {"prompt": []}, {"prefix": ""}, {"prefix": ()}], ids=str)
def test_the_prompt_is_the_start_sequence_by_default(model, options):
    t = model.tokenizer
    assert prompt_tokens(model, **options) == t.sot_sequence("en", "transcribe", timestamps=True)
    assert prompt_tokens(model, without_timestamps=True, **options)[-1] == t.no_timestamps


def test_the_prompt_has_language_and_task(base):
    t = base.tokenizer
    assert prompt_tokens(base, "French", task="translate") == (t.sot, t.language_token("fr"), t.translate)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (222, 222), (223, 223), (224, 223), (300, 223)])
def test_only_the_last_223_tokens_of_a_prompt_are_used(tiny_en, count, kept):
    t = tiny_en.tokenizer
    ids = list(range(1000, 1000 + count))
    assert prompt_tokens(tiny_en, prompt=ids) == (t.sot_prev, *ids[-kept:], t.sot)


@pytest.mark.parametrize("text", ["And so", "  And so\n"])
def test_text_is_encoded_with_one_space_before_it(tiny_en, text):
    t = tiny_en.tokenizer
    words = t.encode(" And so")
    tokens = prompt_tokens(tiny_en, prompt=text, prefix=text, without_timestamps=True)
    assert tokens == (t.sot_prev, *words, t.sot, t.no_timestamps, *words)


@pytest.mark.parametrize(
    ("sample_len", "kept"), [(None, 100), (1, 100), (124, 100), (125, 99), (174, 50), (223, 1), (224, 100), (448, 100)]
)
def test_a_prefix_leaves_room_for_sample_len_in_half_of_the_positions(tiny_en, sample_len, kept):
    # If sample_len takes all of that half, the prefix is not cut.
    ids = list(range(1000, 1100))
    assert prompt_tokens(tiny_en, prefix=ids, sample_len=sample_len) == (tiny_en.tokenizer.sot, *ids[-kept:])


@pytest.mark.parametrize("wrong", [-1, 51864, np.int64(60000)])
@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_ids_outside_the_vocabulary_are_rejected(tiny_en, name, wrong):
    with pytest.raises(OptionError, match=f"{name}: expected token ids from 0 to 51863, got {wrong}$"):
        prompt_tokens(tiny_en, **{name: [1, wrong]})
    assert 51863 in prompt_tokens(tiny_en, **{name: [0, 51863]})


@pytest.mark.parametrize(("prompt", "most"), [([], 447), ([1] * 300, 223)], ids=["alone", "behind a prompt"])
def test_a_prefix_that_does_not_fit_is_rejected(tiny_en, prompt, most):
    assert len(prompt_tokens(tiny_en, prompt=prompt, prefix=[1] * most)) == 448
    message = f"prefix: expected at most {most} tokens, which is what fits behind the prompt, got {most + 1}"
    with pytest.raises(OptionError, match=message):
        prompt_tokens(tiny_en, prompt=prompt, prefix=[1] * (most + 1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": [60000]}, OptionError, "prompt: expected token ids"),
        ({"prefix": [1] * 500}, OptionError, "prefix: expected at most"),
        ({"suppress_tokens": [60000]}, OptionError, "suppress_tokens: expected ids from -1"),
        ({"language": "klingon"}, LanguageError, "unknown language 'klingon'"),
        ({"language": ""}, LanguageError, "unknown language ''"),
    ],
    ids=["prompt", "prefix", "suppress_tokens", "language", "empty language"],
)
def test_unsupported_options_are_rejected_before_any_work(model, options, error, message):
    with pytest.raises(error, match=message):
        model.decode("not a mel, which would fail later", **options)


def test_an_english_only_model_rejects_other_languages(tiny_en):
    with pytest.raises(LanguageError, match="this model is English only"):
        decode_window(tiny_en, None, language="fr")


# ------------------------------------------------------------------------------------------ filters and samplers


def allowed(t, generated=(), **options) -> set[int]:
    """Return the tokens that are allowed next."""
    (filters,) = logit_filters_for(DecodingOptions(**options), t)
    logits = filters(np.zeros((1, t.vocab_size), np.float32), [list(generated)])
    return set(np.flatnonzero(logits[0] > -np.inf).tolist())


@pytest.mark.parametrize(
    ("max_initial", "steps"), [(0.0, 0), (0.02, 1), (1.0, 50), (0.99, 50), (30, 1500), (None, 1500)]
)
def test_the_first_timestamp_is_at_most_max_initial_timestamp(tiny_en, max_initial, steps):
    first = tiny_en.tokenizer.timestamp_begin
    assert allowed(tiny_en.tokenizer, max_initial_timestamp=max_initial) == set(range(first, first + steps + 1))


def test_suppress_blank_suppresses_a_blank_beginning(tiny_en):
    t = tiny_en.tokenizer
    anything = allowed(t, suppress_blank=False, without_timestamps=True)
    assert anything - allowed(t, without_timestamps=True) == {t.eot, *t.encode(" ")}


def test_suppress_tokens_works_with_timestamps_and_without(tiny_en):
    t = tiny_en.tokenizer
    without = allowed(t, suppress_tokens=[7], without_timestamps=True, suppress_blank=False)
    assert set(range(t.vocab_size)) - without == {7, *t.prompt_only_tokens}
    assert allowed(t, [t.timestamp_begin], suppress_tokens=[7]) == without - set(range(t.no_timestamps, t.vocab_size))


ANY_GENERATOR = np.random.default_rng(7)
SAMPLERS = {  # options; the sampler, its settings; candidates at first, in the result, finished at the end
    "greedy": ({"length_penalty": 0.5, "sample_len": 3}, greedy, {}, (1, 1, 1)),
    "a beam": ({"beam_size": 5}, beam_step, {"beam_size": 5}, (1, 5, 5)),
    "more patience": ({"beam_size": 5, "patience": 2.0}, beam_step, {"beam_size": 5}, (1, 5, 10)),
    "less patience": ({"beam_size": 3, "patience": 0.5}, beam_step, {"beam_size": 3}, (1, 3, 2)),
    "rounded down": ({"beam_size": 3, "patience": 1.4}, beam_step, {"beam_size": 3}, (1, 3, 4)),
    "a NumPy integer": ({"beam_size": np.int64(4), "patience": 1.0}, beam_step, {"beam_size": 4}, (1, 4, 4)),
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
    # The same in two parts, for a GPU: a beam may contain the end beside its own tokens.
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
    kinds = {field.name: type(getattr(result, field.name)) for field in fields(result)}
    assert kinds["tokens"] is list
    assert {type(token) for token in result.tokens} == {int}
    assert {kinds[name] for name in ("avg_logprob", "no_speech_prob", "temperature", "compression_ratio")} == {float}
    with pytest.raises(FrozenInstanceError):
        result.text = ""
    assert "audio_features" not in repr(result)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"without_timestamps": True, "prompt": "The president spoke.", "sample_len": 10},
        {"beam_size": 3, "sample_len": 10},
        {"temperature": 0.8, "best_of": 2, "sample_len": 10},
    ],
    ids=["greedy", "greedy after a prompt", "beam", "sampling"],
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


def test_no_speech_is_probable_in_silence_only(tiny_en, jfk):
    silence = tiny_en.encode(window_mel(np.zeros(160_000, np.float32), 80))
    assert 0 <= decode_window(tiny_en, jfk, sample_len=1).no_speech_prob < 0.1
    assert 0.6 < decode_window(tiny_en, silence, sample_len=1).no_speech_prob <= 1


def test_the_result_does_not_contain_the_prefix(tiny_en, jfk):
    t = tiny_en.tokenizer
    whole = decode_window(tiny_en, jfk, without_timestamps=True)
    rest = decode_window(tiny_en, jfk, without_timestamps=True, prefix=whole.tokens[:6])
    assert rest.tokens == whole.tokens[6:]
    assert rest.text == t.decode(whole.tokens[6:]).strip()
    assert rest.no_speech_prob == pytest.approx(whole.no_speech_prob, rel=1e-4)


@pytest.mark.filterwarnings("always")
def test_a_prefix_with_timestamps_warns_once(tiny_en, recwarn):
    mel = window_mel(clip_samples(), 80)[0]
    assert tiny_en.decode(mel, prefix="And so my").text == ""
    tiny_en.transcribe(clip_samples(), prefix="And so my", temperature=0, sample_len=1)
    tiny_en.decode(mel, prefix="And so my", without_timestamps=True, sample_len=1)
    messages = [str(warning.message) for warning in recwarn]
    assert [message.partition(":")[0] for message in messages] == ["prefix", "prefix"]


def test_a_generator_makes_sampling_reproducible(tiny_en, jfk):
    def sampled(generator=None) -> DecodingResult:
        return decode_window(tiny_en, jfk, generator, temperature=1.0, best_of=2, sample_len=6)

    one = np.random.default_rng(5)
    first, second = sampled(one), sampled(one)
    assert first.tokens != second.tokens  # the generator continues
    assert sampled(np.random.default_rng(5)) == first
    assert sampled() == sampled(np.random.default_rng(0)) != first
    assert first.temperature == 1.0


# ------------------------------------------------------------------------------------------ around the search


def fake_search(monkeypatch, candidates) -> dict:
    """Replace the search by one with these candidates; return a dict that receives its arguments."""
    received = {}

    def search(prompt, max_context, **more):
        received.update(more, prompt=prompt)
        yield DecoderRequest([0], [list(prompt)], [Candidate((), 0.0)], more["logit_filters"], Sampler(greedy))
        return SearchResult(candidates, 0.25)

    monkeypatch.setattr(chapter, "search", search)
    return received


@pytest.mark.parametrize(("tokens", "average"), [((1, 2, 3), -0.5), ((), -2.0)])
def test_avg_logprob_counts_the_end_even_if_it_was_not_reached(tiny_en, jfk, monkeypatch, tokens, average):
    # As in openai-whisper, whose thresholds are set for this average.
    fake_search(monkeypatch, [Candidate(tokens, -2.0)])
    result = decode_window(tiny_en, jfk)
    assert (result.avg_logprob, result.no_speech_prob) == (average, 0.25)
    if not tokens:
        assert (result.text, result.compression_ratio) == ("", 0.0)


@pytest.mark.parametrize(("penalty", "best"), [(None, 7), (0.0, 1), (0.4, 1), (1.0, 7)])
def test_the_length_penalty_chooses_among_the_candidates(tiny_en, jfk, monkeypatch, penalty, best):
    fake_search(monkeypatch, [Candidate((1,), -1.0), Candidate((1,) * 7, -1.5)])
    assert len(decode_window(tiny_en, jfk, length_penalty=penalty).tokens) == best


@pytest.mark.parametrize(("sample_len", "max_tokens"), [(None, 224), (1, 1), (300, 300)])
def test_sample_len_is_half_of_the_positions_by_default(tiny_en, jfk, monkeypatch, sample_len, max_tokens):
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    decode_window(tiny_en, jfk, sample_len=sample_len, prompt="And", prefix="so")
    assert received["max_tokens"] == max_tokens
    assert received["prompt"] == prompt_tokens(tiny_en, prompt="And", prefix="so", sample_len=sample_len)


def test_filters_and_sampler_follow_the_options(base, monkeypatch):
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    features = np.zeros((1, 10, base.config.d_model), np.float32)
    options = {"beam_size": 3, "without_timestamps": True, "suppress_blank": False}
    decode_window(base, features, language="en", **options)
    assert received["sampler"].choose.keywords == {"beam_size": 3, "eot": base.tokenizer.eot}
    assert received["logit_filters"] == logit_filters_for(DecodingOptions(**options), base.tokenizer)


@pytest.mark.parametrize("text", ["", "a", ALICE * 5, "♪ Ça va ? ♪"])
def test_the_compression_ratio_is_that_of_the_bytes(text):
    data = text.encode("utf-8")
    assert compression_ratio(text) == len(data) / len(zlib.compress(data))


def test_only_repetitive_text_exceeds_the_threshold():
    assert compression_ratio(ALICE) < 2.4 < compression_ratio(ALICE * 4)


# ------------------------------------------------------------------------------------------ languages


@pytest.fixture(scope="module")
def brief(base) -> np.ndarray:
    """Return base's features of the first three seconds of the JFK clip."""
    return base.encode(window_mel(clip_samples(), 80)[:, :, :300])


def test_language_probabilities_are_a_softmax_over_the_language_tokens(base, brief):
    t = base.tokenizer
    (probabilities,) = language_probabilities(brief, base.engine, t)
    logits = base.logits([[t.sot]], brief)[0, 0].astype(np.float64)
    weights = {code: np.exp(logits[t.language_token(code)]) for code in t.languages}
    expected = {code: weight / sum(weights.values()) for code, weight in weights.items()}
    assert tuple(probabilities) == t.languages
    assert probabilities == pytest.approx(expected, rel=1e-4)


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

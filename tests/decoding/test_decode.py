"""Decoding a window: the prompt, the filters, the sampler, the result, and language detection."""

import re
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
from minwhisper.decoding.search import (
    Candidate,
    DecoderRequest,
    KernelSampler,
    Sampler,
    SearchResult,
    beam_step,
    best_candidate,
    greedy,
    one_choice_each,
    sample,
    select_beam,
)
from minwhisper.errors import LanguageError, OptionError
from minwhisper.parity.comparison import clip_samples, window_mel

ALICE = "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do. "


@pytest.fixture(scope="module")
def jfk(tiny_en) -> np.ndarray:
    """tiny.en's features of the JFK clip: (1, T, D)."""
    features = tiny_en.encode(window_mel(clip_samples(), tiny_en.config.num_mel_bins))
    features.flags.writeable = False  # tests must not modify them
    return features


def decode_window(model, features, generator=None, **options) -> DecodingResult:
    received = DecodingOptions(**options)
    (result,) = decode_windows([WindowRequest(features, received, generator)], model.engine, model.tokenizer)
    return result


def prompt_tokens(model, language="en", **options) -> tuple[int, ...]:
    return initial_tokens(DecodingOptions(**options), language, model.tokenizer, model.config)


# ------------------------------------------------------------------------------------------ the prompt


@pytest.mark.parametrize("options", [{}, {"prompt": ""}, {"prompt": []}, {"prefix": ""}, {"prefix": ()}], ids=str)
def test_the_prompt_is_the_start_sequence_by_default(model, options):
    t = model.tokenizer
    assert prompt_tokens(model, **options) == t.sot_sequence("en", "transcribe", timestamps=True)
    assert prompt_tokens(model, without_timestamps=True, **options)[-1] == t.no_timestamps


def test_the_prompt_has_language_and_task(base):
    t = base.tokenizer
    assert prompt_tokens(base, "French", task="translate") == (t.sot, t.language_token("fr"), t.translate)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (5, 5), (222, 222), (223, 223), (224, 223), (300, 223)])
def test_only_the_last_223_tokens_of_a_prompt_are_used(tiny_en, count, kept):
    t = tiny_en.tokenizer
    ids = list(range(1000, 1000 + count))
    assert prompt_tokens(tiny_en, prompt=ids) == (t.sot_prev, *ids[-kept:], t.sot)


def test_text_is_encoded_with_one_space_before_it(tiny_en):
    t = tiny_en.tokenizer
    words = t.encode(" And so")
    for text in ("And so", "  And so\n"):
        assert prompt_tokens(tiny_en, prompt=text) == (t.sot_prev, *words, t.sot)
        assert prompt_tokens(tiny_en, prefix=text) == (t.sot, *words)
        assert prompt_tokens(tiny_en, prompt=words, prefix=words, without_timestamps=True) == (
            t.sot_prev,
            *words,
            t.sot,
            t.no_timestamps,
            *words,
        )


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


def test_a_prefix_that_does_not_fit_is_rejected(tiny_en):
    assert len(prompt_tokens(tiny_en, prefix=[1] * 447)) == 448
    with pytest.raises(OptionError, match=r"prefix: expected at most 447 tokens, .* got 448"):
        prompt_tokens(tiny_en, prefix=[1] * 448)
    assert len(prompt_tokens(tiny_en, prompt=[1] * 300, prefix=[1] * 223)) == 448
    with pytest.raises(OptionError, match="at most 223 tokens, which is what fits behind the prompt, got 224"):
        prompt_tokens(tiny_en, prompt=[1] * 300, prefix=[1] * 224)


# ------------------------------------------------------------------------------------------ logit filters


def allowed_first(t, **options) -> np.ndarray:
    """Return the tokens that are allowed first."""
    logits = np.zeros((1, t.vocab_size), np.float32)
    for logit_filter in logit_filters_for(DecodingOptions(**options), t):
        logits = logit_filter(logits, [[]])
    return np.flatnonzero(logits[0] > -np.inf)


@pytest.mark.parametrize(
    ("max_initial", "steps"), [(0.0, 0), (0.02, 1), (1.0, 50), (0.99, 50), (30, 1500), (None, 1500)]
)
def test_the_first_timestamp_is_at_most_max_initial_timestamp(tiny_en, max_initial, steps):
    t = tiny_en.tokenizer
    expected = np.arange(t.timestamp_begin, t.timestamp_begin + steps + 1)
    np.testing.assert_array_equal(allowed_first(t, max_initial_timestamp=max_initial), expected)


@pytest.mark.parametrize("blank", [True, False])
def test_suppress_blank_suppresses_a_blank_beginning(tiny_en, blank):
    t = tiny_en.tokenizer
    allowed = allowed_first(t, suppress_blank=blank, without_timestamps=True)
    for token in (t.eot, *t.encode(" ")):
        assert (token not in allowed) == blank


def test_suppress_tokens_works_with_timestamps_and_without(tiny_en):
    t = tiny_en.tokenizer
    allowed = allowed_first(t, suppress_tokens=[7], without_timestamps=True, suppress_blank=False)
    assert set(range(t.vocab_size)) - set(allowed.tolist()) == {7, *t.prompt_only_tokens}
    logits = np.zeros((1, t.vocab_size), np.float32)
    for logit_filter in logit_filters_for(DecodingOptions(suppress_tokens=[7]), t):
        logits = logit_filter(logits, [[t.timestamp_begin]])
    assert logits[0, 7] == -np.inf
    assert logits[0, 8] == 0


# ------------------------------------------------------------------------------------------ the sampler


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def test_by_default_the_search_is_greedy(generator):
    for options in (DecodingOptions(), DecodingOptions(length_penalty=0.5, sample_len=3)):
        assert sampler_for(options, 9, generator) == (greedy, 1, 1, 1, KernelSampler(one_choice_each))


@pytest.mark.parametrize(
    ("size", "patience", "max_finished"),
    [(5, None, 5), (5, 1, 5), (5, 2.0, 10), (5, 0.5, 2), (3, 0.5, 2), (3, 1.4, 4), (1, 0.6, 1), (np.int64(4), 1.0, 4)],
)
def test_a_beam_search_keeps_its_size_and_ends_with_patience(generator, size, patience, max_finished):
    sampler = sampler_for(DecodingOptions(beam_size=size, patience=patience), 9, generator)
    assert sampler[1:4] == (1, size, max_finished)
    assert sampler.choose.func is beam_step
    assert sampler.choose.keywords == sampler.kernel_sampler.choose_from.keywords == {"beam_size": size, "eot": 9}
    assert sampler.kernel_sampler.choose_from.func is select_beam
    assert sampler.kernel_sampler[1:] == (size + 1, 0.0, None)
    assert {type(number) for number in sampler[1:4]} == {int}


@pytest.mark.parametrize(("best_of", "count"), [(None, 1), (1, 1), (4, 4), (np.int32(4), 4)])
def test_sampling_has_best_of_candidates(generator, best_of, count):
    sampler = sampler_for(DecodingOptions(temperature=np.float32(0.5), best_of=best_of), 9, generator)
    assert sampler[1:4] == (count, count, count)
    assert sampler.kernel_sampler == KernelSampler(one_choice_each, 1, 0.5, generator)
    assert sampler.choose.func is sample
    assert sampler.choose.keywords == {"temperature": 0.5, "generator": generator}
    assert type(sampler.choose.keywords["temperature"]) is float


# ------------------------------------------------------------------------------------------ the result


def test_a_result_has_every_field(tiny_en, jfk):
    result = decode_window(tiny_en, jfk)
    t = tiny_en.tokenizer
    assert result.text.startswith("And so my fellow Americans")
    assert result.text == t.decode(result.tokens).strip() != t.decode(result.tokens)
    assert result.tokens[0] == t.timestamp_begin
    assert t.eot not in result.tokens
    assert (result.language, result.language_probs, result.temperature) == ("en", None, 0.0)
    assert -0.5 < result.avg_logprob < 0
    assert 0 < result.no_speech_prob < 0.1
    assert result.compression_ratio == compression_ratio(result.text)
    np.testing.assert_array_equal(result.audio_features, jfk[0])
    kinds = {field.name: type(getattr(result, field.name)) for field in fields(result)}
    assert kinds["tokens"] is list
    assert {type(token) for token in result.tokens} == {int}
    assert {kinds[name] for name in ("avg_logprob", "no_speech_prob", "temperature", "compression_ratio")} == {float}
    with pytest.raises(FrozenInstanceError):
        result.text = ""
    assert "audio_features" not in repr(result)


def fake_search(monkeypatch, candidates) -> dict:
    """Replace the search by one with these candidates; return a dict that receives its arguments."""
    received = {}

    def search(prompt, max_context, **more):
        received.update(more, prompt=prompt)
        yield DecoderRequest([0], [list(prompt)], [Candidate((), 0.0)], more["logit_filters"], Sampler(greedy))
        return SearchResult(candidates, 0.25)

    monkeypatch.setattr(chapter, "search", search)
    return received


def test_avg_logprob_counts_the_end_even_if_it_was_not_reached(tiny_en, jfk, monkeypatch):
    # As in openai-whisper, whose thresholds are set for this average.
    for tokens, average in (((1, 2, 3), -0.5), ((), -2.0)):
        fake_search(monkeypatch, [Candidate(tokens, -2.0)])
        assert decode_window(tiny_en, jfk).avg_logprob == average
    assert decode_window(tiny_en, jfk).no_speech_prob == 0.25
    assert decode_window(tiny_en, jfk).text == ""
    assert decode_window(tiny_en, jfk).compression_ratio == 0.0


@pytest.mark.parametrize(("penalty", "best"), [(None, (1,) * 7), (0.0, (1,)), (0.4, (1,)), (1.0, (1,) * 7)])
def test_the_length_penalty_chooses_among_the_candidates(tiny_en, jfk, monkeypatch, penalty, best):
    candidates = [Candidate((1,), -1.0), Candidate((1,) * 7, -1.5)]
    fake_search(monkeypatch, candidates)
    assert tuple(decode_window(tiny_en, jfk, length_penalty=penalty).tokens) == best
    assert best_candidate(candidates, penalty).tokens == best


@pytest.mark.parametrize(("sample_len", "max_tokens"), [(None, 224), (1, 1), (300, 300)])
def test_sample_len_is_half_of_the_positions_by_default(tiny_en, jfk, monkeypatch, sample_len, max_tokens):
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    decode_window(tiny_en, jfk, sample_len=sample_len, prompt="And", prefix="so")
    assert received["max_tokens"] == max_tokens
    assert received["prompt"] == prompt_tokens(tiny_en, prompt="And", prefix="so", sample_len=sample_len)


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
    tiny_en.transcribe(clip_samples(), prefix="And so my", temperature=0)
    tiny_en.decode(mel, prefix="And so my", without_timestamps=True, sample_len=1)
    messages = [str(warning.message) for warning in recwarn]
    assert [message.partition(":")[0] for message in messages] == ["prefix", "prefix"]


def test_a_prompt_sets_the_style_and_not_the_words(tiny_en, jfk):
    # Without a prompt the text has no punctuation; after a punctuated prompt it has.
    plain = decode_window(tiny_en, jfk).text
    styled = decode_window(tiny_en, jfk, prompt="The president spoke, and I listened to what he said.").text
    assert not plain.endswith(".")
    assert styled.endswith(".")
    assert re.findall(r"\w+", styled) == re.findall(r"\w+", plain)


def test_a_generator_makes_sampling_reproducible(tiny_en, jfk):
    def sampled(generator=None) -> DecodingResult:
        return decode_window(tiny_en, jfk, generator, temperature=1.0, best_of=2, sample_len=12)

    assert sampled(np.random.default_rng(5)) == sampled(np.random.default_rng(5))
    assert sampled() == sampled() == sampled(np.random.default_rng(0))
    assert sampled(np.random.default_rng(5)).tokens != sampled(np.random.default_rng(6)).tokens
    one = np.random.default_rng(5)
    assert sampled(one).tokens != sampled(one).tokens  # the generator continues
    assert sampled().temperature == 1.0


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


@pytest.mark.parametrize("text", ["", "a", "And so my fellow Americans", ALICE * 5, "♪ Ça va ? ♪"])
def test_the_compression_ratio_is_that_of_the_bytes(text):
    data = text.encode("utf-8")
    assert compression_ratio(text) == len(data) / len(zlib.compress(data))


def test_only_repetitive_text_exceeds_the_threshold():
    assert compression_ratio(ALICE) < 2.4 < compression_ratio(ALICE * 4)


# ------------------------------------------------------------------------------------------ languages


def probabilities_of(model, features) -> list[dict[str, float]]:
    return language_probabilities(features, model.engine, model.tokenizer)


def test_language_probabilities_are_a_softmax_over_the_language_tokens(base):
    features = base.encode(window_mel(clip_samples(), 80)[:, :, :300])
    (probabilities,) = probabilities_of(base, features)
    logits = base.logits([[base.tokenizer.sot]], features)[0, 0].astype(np.float64)
    weights = {code: np.exp(logits[base.tokenizer.language_token(code)]) for code in base.tokenizer.languages}
    assert tuple(probabilities) == base.tokenizer.languages
    assert probabilities == pytest.approx(
        {code: weight / sum(weights.values()) for code, weight in weights.items()}, rel=1e-4
    )


def test_the_language_is_detected_if_not_given(base, monkeypatch):
    features = base.encode(window_mel(clip_samples(), 80)[:, :, :300])
    likely = dict.fromkeys(base.tokenizer.languages, 0.0) | {"en": 0.3, "cy": 0.7}
    monkeypatch.setattr(chapter, "language_probabilities", lambda *_arguments: [likely])
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    result = decode_window(base, features)
    assert (result.language, result.language_probs) == ("cy", likely)
    assert received["prompt"] == prompt_tokens(base, "cy")
    for name in ("de", "German", " GERMAN "):
        result = decode_window(base, features, language=name)
        assert (result.language, result.language_probs) == ("de", None)
        assert received["prompt"] == prompt_tokens(base, "de")


def test_filters_and_sampler_follow_the_options(base, monkeypatch):
    received = fake_search(monkeypatch, [Candidate((), 0.0)])
    features = np.zeros((1, 10, base.config.d_model), np.float32)
    decode_window(base, features, language="en", beam_size=3, without_timestamps=True, suppress_blank=False)
    assert received["sampler"].group_size == 3
    assert received["sampler"].choose.keywords["eot"] == base.tokenizer.eot
    (filters,) = received["logit_filters"]
    assert filters.eot == base.tokenizer.eot  # for rows without another token
    assert filters.suppressed == base.tokenizer.suppressed_tokens
    assert filters.blank == ()
    assert filters.timestamps is None

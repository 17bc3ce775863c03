"""Choosing tokens: options, greedy search held to the plain decoder, languages."""

import copy
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from minwhisper import DecodingOptions, Whisper
from minwhisper.errors import LanguageError, OptionError
from minwhisper.layers import log_softmax, softmax
from minwhisper.parity import clip_samples, load_reference, window_mel
from minwhisper.search import DecodingResult, greedy, rules_for

RATE = 16000


def say(
    model: Whisper, features: np.ndarray, prompt: tuple[int, ...], options: DecodingOptions, **more: object
) -> DecodingResult:
    rules = rules_for(options, model.tokenizer)
    return greedy(
        features, prompt, model.weights["decoder"], model.config, rules=rules, tokenizer=model.tokenizer, **more
    )


def endless(model: Whisper) -> DecodingOptions:
    """Options under which the end is never said."""
    return DecodingOptions(suppress_tokens=[-1, model.tokenizer.eot], without_timestamps=True)


@pytest.fixture(scope="module")
def jfk(tiny_en) -> np.ndarray:
    """tiny.en's features of the JFK clip: (1, T, D)."""
    features = tiny_en.encode(window_mel(clip_samples(), tiny_en.config.num_mel_bins))
    features.flags.writeable = False  # nothing below may write to them
    return features


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "5", True])
def test_sample_len_is_a_positive_whole_number(wrong):
    with pytest.raises(OptionError, match="sample_len: expected a whole number of tokens, at least 1, got"):
        DecodingOptions(sample_len=wrong)


@pytest.mark.parametrize("wrong", [-0.02, 30.02, float("nan"), float("inf"), "1.0"])
def test_max_initial_timestamp_lies_within_a_window(wrong):
    with pytest.raises(OptionError, match="max_initial_timestamp: expected 0 to 30 seconds, got"):
        DecodingOptions(max_initial_timestamp=wrong)


@pytest.mark.parametrize("right", [0, 0.0, 1, 30.0, None])
def test_every_max_initial_timestamp_of_a_window_is_taken(right):
    assert DecodingOptions(max_initial_timestamp=right).max_initial_timestamp == right


def test_an_unknown_option_is_an_error_that_names_it_and_the_others():
    with pytest.raises(OptionError, match="unknown option 'beam_width': expected one of task, language, sample_len,"):
        DecodingOptions.named(beam_width=5)


def test_a_misspelt_option_is_an_error_that_names_the_right_one():
    with pytest.raises(OptionError, match="unknown option 'lnguage': did you mean 'language'"):
        DecodingOptions.named(task="translate", lnguage="fr")


def test_options_can_be_given_by_place_replaced_copied_and_stored():
    options = DecodingOptions("translate", "fr")
    assert (options.task, options.language) == ("translate", "fr")
    assert replace(options, language="de") == DecodingOptions(task="translate", language="de")
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options


def test_minus_one_suppresses_what_is_not_spoken_and_what_only_a_prompt_may_have(model):
    tokenizer = model.tokenizer
    expected = tokenizer.suppressed_tokens
    assert set(tokenizer.non_speech_tokens) < set(expected)
    for given in ("-1", [-1], (-1,), [np.int64(-1)], np.array([-1]), " -1 "):
        assert DecodingOptions(suppress_tokens=given).suppressed_ids(tokenizer) == expected


def test_without_suppressed_tokens_those_of_the_prompt_alone_stay_forbidden(model):
    t = model.tokenizer
    prompt_only = tuple(sorted([t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech]))
    for given in ("", None, [], ()):
        assert DecodingOptions(suppress_tokens=given).suppressed_ids(t) == prompt_only


def test_suppressed_ids_can_be_listed(model):
    t = model.tokenizer
    prompt_only = {t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech}
    for given in ("1,2", "2, 1", "1,2,", [1, 2], (2, 1, 1), np.array([1, 2])):
        assert DecodingOptions(suppress_tokens=given).suppressed_ids(t) == tuple(sorted({1, 2} | prompt_only))
    ours_too = next(i for i in range(t.eot) if i not in t.non_speech_tokens)
    both = DecodingOptions(suppress_tokens=f"-1,{ours_too}").suppressed_ids(t)
    assert set(both) == {ours_too, *t.suppressed_tokens}


def test_an_id_that_is_listed_stays_suppressed_without_minus_one(tiny_en):
    some = tiny_en.tokenizer.non_speech_tokens[:2]
    assert set(some) <= set(DecodingOptions(suppress_tokens=some).suppressed_ids(tiny_en.tokenizer))


@pytest.mark.parametrize("wrong", ["one", "1;2", "1.5", [1.5], ["x"], [None], 7])
def test_suppressed_tokens_that_are_no_ids_are_refused(tiny_en, wrong):
    with pytest.raises(OptionError, match="suppress_tokens: expected ids such as '-1' or '1,2,3', got"):
        DecodingOptions(suppress_tokens=wrong).suppressed_ids(tiny_en.tokenizer)


@pytest.mark.parametrize("wrong", [-2, 51864])
def test_suppressed_ids_outside_of_the_vocabulary_are_refused(tiny_en, wrong):
    with pytest.raises(OptionError, match=f"suppress_tokens: {wrong} is no id of a vocabulary of 51864"):
        DecodingOptions(suppress_tokens=[1, wrong]).suppressed_ids(tiny_en.tokenizer)


@pytest.mark.parametrize(("latest", "steps"), [(0.0, 0), (0.02, 1), (1.0, 50), (0.99, 50), (None, 1500)])
def test_the_first_time_is_at_most_max_initial_timestamp(tiny_en, latest, steps):
    t = tiny_en.tokenizer
    scores = np.zeros((1, t.vocab_size), np.float32)
    for rule in rules_for(DecodingOptions(max_initial_timestamp=latest), t):
        scores = rule(scores, [[]])
    expected = np.arange(t.timestamp_begin, t.timestamp_begin + steps + 1)
    np.testing.assert_array_equal(np.flatnonzero(scores[0] > -np.inf), expected)


@pytest.mark.parametrize("blank", [True, False])
def test_a_blank_beginning_is_forbidden_only_if_asked(tiny_en, blank):
    t = tiny_en.tokenizer
    scores = np.zeros((1, t.vocab_size), np.float32)
    for rule in rules_for(DecodingOptions(suppress_blank=blank, without_timestamps=True), t):
        scores = rule(scores, [[]])
    assert (scores[0, t.eot] == -np.inf) == blank
    assert (scores[0, t.encode(" ")[0]] == -np.inf) == blank


# ------------------------------------------------------------------------------------------ greedy search


def test_greedy_says_the_tokens_of_the_reference(model):
    reference = load_reference(model.name)
    assert reference is not None
    features = model.encode(window_mel(clip_samples(), model.config.num_mel_bins))
    result = say(model, features, model.tokenizer.prompt("en", "transcribe", timestamps=True), DecodingOptions())
    assert list(result.tokens) == reference.tokens


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_every_token_is_the_plain_decoders_best_and_the_sum_is_of_their_log_probabilities(
    tiny_en, jfk, timestamps, context
):
    t = tiny_en.tokenizer
    options = DecodingOptions(without_timestamps=not timestamps)
    prompt = t.prompt(None, "transcribe", timestamps=timestamps)
    if context:
        prompt = (t.sot_prev, *t.encode(" The president spoke."), *prompt)
    result = say(tiny_en, jfk, prompt, options)

    logits = tiny_en.logits([[*prompt, *result.tokens]], jfk)[0]  # all positions at once: (S, V)
    total = 0.0
    for step, token in enumerate((*result.tokens, t.eot)):
        scores = logits[None, len(prompt) - 1 + step]
        for rule in rules_for(options, t):
            scores = rule(scores, [result.tokens[:step]])
        assert scores[0].argmax() == token
        total += float(log_softmax(scores)[0, token])
    assert result.sum_logprob == pytest.approx(total, abs=1e-4)
    assert result.avg_logprob == pytest.approx(total / (len(result.tokens) + 1), abs=1e-5)
    start = softmax(logits[prompt.index(t.sot)])
    assert result.no_speech_prob == pytest.approx(float(start[t.no_speech]), abs=1e-6)


def test_the_average_counts_the_end_even_if_it_was_not_reached():
    # As openai-whisper has it: its thresholds are set for this average.
    assert DecodingResult((1, 2, 3), -2.0, 0.0).avg_logprob == -0.5
    assert DecodingResult((), -2.0, 0.0).avg_logprob == -2.0


@pytest.mark.parametrize("timestamps", [False, True])
def test_the_transcript_is_text_and_times_only(tiny_en, jfk, timestamps):
    t = tiny_en.tokenizer
    options = DecodingOptions(without_timestamps=not timestamps)
    result = say(tiny_en, jfk, t.prompt(None, "transcribe", timestamps=timestamps), options)
    assert all(token < t.eot or token >= t.timestamp_begin for token in result.tokens)
    assert any(token >= t.timestamp_begin for token in result.tokens) == timestamps
    assert "ask not what your country can do for you" in t.decode(result.tokens)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_no_more_tokens_are_said_than_asked_and_those_are_the_first(tiny_en, jfk, most):
    prompt = tiny_en.tokenizer.prompt(None, "transcribe", timestamps=True)
    whole = say(tiny_en, jfk, prompt, DecodingOptions())
    assert len(whole.tokens) > 7
    part = say(tiny_en, jfk, prompt, DecodingOptions(), most=most)
    assert part.tokens == whole.tokens[:most]
    assert part.no_speech_prob == whole.no_speech_prob
    assert whole.sum_logprob < part.sum_logprob < 0


def test_more_tokens_than_needed_change_nothing(tiny_en, jfk):
    prompt = tiny_en.tokenizer.prompt(None, "transcribe", timestamps=True)
    whole = say(tiny_en, jfk, prompt, DecodingOptions())
    assert say(tiny_en, jfk, prompt, DecodingOptions(), most=10_000) == whole


def test_greedy_says_the_same_every_time(tiny_en, jfk):
    prompt = tiny_en.tokenizer.prompt(None, "transcribe", timestamps=True)
    assert say(tiny_en, jfk, prompt, DecodingOptions()) == say(tiny_en, jfk, prompt, DecodingOptions())


@pytest.mark.parametrize(("prompt_length", "said"), [(440, 9), (447, 2), (448, 1)])
def test_it_stops_when_the_positions_are_used_up(tiny_en, jfk, prompt_length, said):
    # The last token needs no position of its own, because it is never fed back.
    t = tiny_en.tokenizer
    prompt = t.prompt(None, "transcribe", timestamps=False)
    words = t.encode(" word") * prompt_length
    prompt = (t.sot_prev, *words[: prompt_length - 1 - len(prompt)], *prompt)
    assert len(prompt) == prompt_length
    assert len(say(tiny_en, jfk, prompt, endless(tiny_en), most=1000).tokens) == said


def test_without_a_limit_half_of_the_positions_are_said_at_most(tiny_en, jfk):
    prompt = tiny_en.tokenizer.prompt(None, "transcribe", timestamps=False)
    assert len(say(tiny_en, jfk, prompt, endless(tiny_en)).tokens) == 224


def test_an_earlier_text_sets_the_style_and_not_the_words(tiny_en, jfk):
    # Alone, the clip comes out without a full stop; after a text that is punctuated it has its punctuation.
    t = tiny_en.tokenizer
    prompt = t.prompt(None, "transcribe", timestamps=True)
    context = (t.sot_prev, *t.encode(" The president spoke, and I listened to what he said."))
    plain = t.decode(say(tiny_en, jfk, prompt, DecodingOptions()).tokens)
    styled = t.decode(say(tiny_en, jfk, (*context, *prompt), DecodingOptions()).tokens)
    assert not plain.endswith(".")
    assert styled.endswith(".")
    assert re.findall(r"\w+", styled) == re.findall(r"\w+", plain)


def test_no_speech_is_probable_in_silence_and_not_in_speech(model):
    prompt = model.tokenizer.prompt("en", "transcribe", timestamps=True)
    found = {}
    for name, samples in {"silence": np.zeros(10 * RATE, np.float32), "speech": clip_samples()}.items():
        features = model.encode(window_mel(samples, model.config.num_mel_bins))
        found[name] = say(model, features, prompt, DecodingOptions(), most=1).no_speech_prob
    assert 0 <= found["speech"] < 0.2
    assert 0.6 < found["silence"] <= 1


# ------------------------------------------------------------------------------------------ languages


def test_language_probabilities_sum_to_one_in_every_row(base, speech):
    mels = [window_mel(speech[name], base.config.num_mel_bins)[0] for name in ("jfk.flac", "LJ001-0002.wav")]
    tokens, found = base.detect_language(np.stack(mels))
    assert tokens == [base.tokenizer.language_token("en")] * 2
    for row in found:
        assert tuple(row) == base.tokenizer.languages
        assert all(0 <= probability <= 1 for probability in row.values())
        assert sum(row.values()) == pytest.approx(1, abs=1e-5)
        assert max(row, key=row.__getitem__) == "en"
    alone, probabilities = base.detect_language(mels[1])
    assert alone == tokens[1]
    assert list(probabilities.values()) == pytest.approx(list(found[1].values()), abs=1e-5)


def test_an_english_only_model_cannot_tell_languages(tiny_en):
    with pytest.raises(LanguageError, match="English only"):
        tiny_en.detect_language(np.zeros((80, 3000), np.float32))

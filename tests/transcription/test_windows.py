"""Prompts, fallback temperatures and silence, with scripted output."""

import pytest

from minwhisper.errors import OptionError
from scripted import (
    ENGLISH,
    FINE,
    IMPROBABLE,
    ONE,
    ONE_PROMPT,
    REPETITIVE,
    THREE,
    THREE_PROMPT,
    Scripted,
    made_up_tokenizer,
    output,
    places,
    prompt_of,
    run,
)

# ------------------------------------------------------------------------------------------ fallback and silence

NAN = float("nan")
ATTEMPTS = {  # options, scores of each attempt, temperatures, whether the last text is kept
    "at the thresholds": ({}, [{"ratio": 2.4, "average": -1.0}], [0.0], True),
    "improbable and nearly silent": ({}, [IMPROBABLE | {"no_speech": 0.6}, FINE], [0.0, 0.2], True),
    "repetitive, improbable and silent": ({}, [IMPROBABLE | REPETITIVE | {"no_speech": 0.61}], [0.0], False),
    "repetitive and silent": ({}, [REPETITIVE | {"no_speech": 0.61}, FINE], [0.0, 0.2], True),
    "probable and silent": ({}, [{"average": -0.99, "no_speech": 0.9}], [0.0], True),
    "at the threshold of probability and silent": ({}, [{"average": -1.0, "no_speech": 0.61}], [0.0], False),
    "no number": ({}, [{"average": NAN, "ratio": NAN, "no_speech": NAN}], [0.0], True),
    "no number and silent": ({}, [{"average": NAN, "no_speech": 0.61}], [0.0], False),
    "never accepted": ({}, [REPETITIVE] * 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], True),
    "no threshold of repetition": ({"compression_ratio_threshold": None}, [{"ratio": 9.0}], [0.0], True),
    "no threshold of probability": ({"logprob_threshold": None}, [{"average": -9.0}], [0.0], True),
    "no threshold of silence": (
        {"no_speech_threshold": None}, [IMPROBABLE | {"no_speech": 0.99}, FINE], [0.0, 0.2], True
    ),
    "repetitive and silent without a threshold of probability": (
        {"logprob_threshold": None}, [REPETITIVE | {"no_speech": 0.9}, {"no_speech": 0.61}], [0.0, 0.2], False
    ),
    "other thresholds": (
        {"compression_ratio_threshold": 1.5, "logprob_threshold": -0.25, "no_speech_threshold": 0.2},
        [{"ratio": 1.6}, {"average": -0.3, "no_speech": 0.2}, {"ratio": 1.5, "average": -0.26, "no_speech": 0.21}],
        [0.0, 0.2, 0.4], False,
    ),
    "temperatures in any order": (
        {"temperature": (0.8, 0.0, 0.0)}, [REPETITIVE, IMPROBABLE, REPETITIVE], [0.8, 0, 0], True
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "outcomes", "temperatures", "kept"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_fallback_until_a_result_is_accepted_or_silent(options, outcomes, temperatures, kept):
    texts = [f" try{number}" for number in range(len(outcomes))]
    model = Scripted([output(0.0, text, 2.0, **scores) for text, scores in zip(texts, outcomes, strict=True)])
    result = run(model, 300, **options)
    assert [options.temperature for options in model.calls] == temperatures
    assert model.windows == [(0, 300)]  # encoded once only
    assert [(s["text"], s["temperature"]) for s in result["segments"]] == [(texts[-1], temperatures[-1])] * kept


def test_a_silent_window_is_skipped_to_its_end():
    silent = output(0.0, " you", 1.0, 1.0, " are", average=-1.5, no_speech=0.9)
    assert places(run(Scripted([silent, output(" here")]), 4000)) == [(3000, 30, 40, " here")]


def test_every_window_starts_with_beam_search_at_temperature_0_and_falls_back_to_sampling():
    bad, fine = output(" one", **REPETITIVE), output(" one")
    model = Scripted([bad, fine, bad, bad, fine])
    result = run(model, 6000, beam_size=4, patience=1.5, best_of=3, length_penalty=0.5)
    beam, sampling = (0.0, 4, 1.5, None), [(temperature, None, None, 3) for temperature in (0.2, 0.4)]
    asked = [(a.temperature, a.beam_size, a.patience, a.best_of) for a in model.calls]
    assert asked == [beam, sampling[0], beam, *sampling]
    assert [s["temperature"] for s in result["segments"]] == [0.2, 0.4]
    assert {(a.length_penalty, a.language, a.task) for a in model.calls} == {(0.5, "en", "transcribe")}


# ------------------------------------------------------------------------------------------ prompts

LATER = ["", ONE_PROMPT, ONE_PROMPT + THREE_PROMPT]
PROMPTS = {  # options, and the prompts of windows with ONE, THREE and THREE
    "nothing": ({"condition_on_previous_text": False}, ["", "", ""]),
    "an initial prompt, then the text": ({"initial_prompt": " Say. "}, [" Say." + text for text in LATER]),
    "an initial prompt carried and nothing else": (
        {"initial_prompt": "Say.", "carry_initial_prompt": True, "condition_on_previous_text": False}, [" Say."] * 3
    ),
    "a carried one and text": ({"initial_prompt": "", "carry_initial_prompt": True}, [" " + text for text in LATER]),
}  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), PROMPTS.values(), ids=PROMPTS)
def test_prompts_of_windows(options, expected):
    model = Scripted([ONE, THREE, THREE])
    run(model, 9000, **options)
    assert model.prompts == expected


def test_a_carried_prompt_that_is_too_long_is_rejected_before_any_work():
    model = Scripted([])
    expected = "carry_initial_prompt: expected an initial_prompt of at most 223 tokens, got 224"
    with pytest.raises(OptionError, match=expected):
        model.stream("/no/such/file", initial_prompt=prompt_of(224), carry_initial_prompt=True)


@pytest.mark.parametrize("count", [223, 300])
def test_only_the_end_of_a_long_initial_prompt_is_used_with_a_warning(count, recwarn):
    t = made_up_tokenizer(ENGLISH)
    model = Scripted([THREE, THREE])
    text = prompt_of(count)
    run(model, 6000, initial_prompt=text)
    found = [str(warning.message) for warning in recwarn]
    assert found == ["initial_prompt: only the last 223 of its 300 tokens are used"] * (count == 300)
    history = t.encode(" " + text)[-223:] + THREE.tokens(t)
    assert [list(options.prompt) for options in model.calls] == [history[:223], history[-223:]]


@pytest.mark.parametrize(
    ("condition", "initial", "limit"), [(True, None, 223), (False, None, 447), (False, "a a", 442)]
)
def test_a_prefix_must_fit_behind_the_longest_prompt(condition, initial, limit):
    model = Scripted([output()])
    options = {"condition_on_previous_text": condition, "initial_prompt": initial}
    run(model, 10, prefix=[5] * limit, **options)
    with pytest.raises(OptionError, match=f"prefix: expected at most {limit} tokens"):
        model.stream("/no/such/file", prefix=[5] * (limit + 1), **options)

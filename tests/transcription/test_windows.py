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
    SILENT,
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
ATTEMPTS = {  # options, scores of each attempt, temperatures
    "repetitive": ({}, [REPETITIVE, FINE], [0.0, 0.2]),
    "improbable": ({}, [IMPROBABLE, IMPROBABLE, FINE], [0.0, 0.2, 0.4]),
    "at the thresholds": ({}, [{"ratio": 2.4, "average": -1.0}], [0.0]),
    "improbable and nearly silent": ({}, [IMPROBABLE | {"no_speech": 0.6}, FINE], [0.0, 0.2]),
    "repetitive, improbable and silent": ({}, [IMPROBABLE | REPETITIVE | {"no_speech": 0.61}], [0.0]),
    "repetitive and silent": ({}, [REPETITIVE | {"no_speech": 0.61}, FINE], [0.0, 0.2]),
    "no number": ({}, [{"average": NAN, "ratio": NAN, "no_speech": NAN}], [0.0]),
    "no number but repetitive": ({}, [{"average": NAN} | REPETITIVE, FINE], [0.0, 0.2]),
    "never accepted": ({}, [REPETITIVE] * 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    "no threshold of repetition": ({"compression_ratio_threshold": None}, [{"ratio": 9.0}], [0.0]),
    "no threshold of probability": ({"logprob_threshold": None}, [{"average": -9.0}], [0.0]),
    "no threshold of silence": ({"no_speech_threshold": None}, [IMPROBABLE | {"no_speech": 0.99}, FINE], [0.0, 0.2]),
    "silence without a threshold of probability": (
        {"logprob_threshold": None},
        [REPETITIVE | {"average": -9.0, "no_speech": 0.9}, FINE],
        [0.0, 0.2],
    ),
    "other thresholds": (
        {"compression_ratio_threshold": 1.5, "logprob_threshold": -0.25},
        [{"ratio": 1.6}, {"average": -0.3}, {"ratio": 1.5, "average": -0.25}],
        [0.0, 0.2, 0.4],
    ),
    "temperatures in any order": ({"temperature": (0.8, 0.0, 0.0)}, [REPETITIVE, IMPROBABLE, REPETITIVE], [0.8, 0, 0]),
}


@pytest.mark.parametrize(("options", "outcomes", "temperatures"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_fallback_until_a_result_is_accepted(options, outcomes, temperatures):
    texts = [f" try{number}" for number in range(len(outcomes))]
    model = Scripted([output(0.0, text, 2.0, **scores) for text, scores in zip(texts, outcomes, strict=True)])
    result = run(model, 300, **options)
    assert [options.temperature for options in model.calls] == temperatures
    assert model.windows == [(0, 300)]  # encoded once only
    last = output(**outcomes[-1])
    silent = last.no_speech > 0.6 and not last.average > options.get("logprob_threshold", -1.0)
    assert [(s["text"], s["temperature"]) for s in result["segments"]] == (
        [] if silent else [(texts[-1], temperatures[-1])]
    )


def test_every_window_starts_with_beam_search_at_temperature_0_and_falls_back_to_sampling():
    bad, fine = output(" one", **REPETITIVE), output(" one")
    model = Scripted([bad, fine, bad, bad, fine])
    result = run(model, 6000, beam_size=4, patience=1.5, best_of=3, length_penalty=0.5)
    beam, sampling = (0.0, 4, 1.5, None), [(temperature, None, None, 3) for temperature in (0.2, 0.4)]
    found = [(a.temperature, a.beam_size, a.patience, a.best_of) for a in model.calls]
    assert found == [beam, sampling[0], beam, *sampling]
    assert [s["temperature"] for s in result["segments"]] == [0.2, 0.4]
    assert {(a.length_penalty, a.language, a.task) for a in model.calls} == {(0.5, "en", "transcribe")}


SILENCE = [  # no_speech_prob, avg_logprob, no_speech_threshold, logprob_threshold, silent?
    (0.61, -1.0, 0.6, -1.0, True),
    (0.61, -0.99, 0.6, -1.0, False),
    (0.6, -2.0, 0.6, -1.0, False),
    (0.61, -0.1, 0.6, None, True),
    (1.0, -9.0, None, -1.0, False),
    (0.61, NAN, 0.6, -1.0, True),
    (NAN, -9.0, 0.6, -1.0, False),
    (0.3, -0.6, 0.2, -0.5, True),
]


@pytest.mark.parametrize(("no_speech", "average", "threshold", "logprob", "silent"), SILENCE)
def test_silence_is_no_speech_with_an_improbable_text(no_speech, average, threshold, logprob, silent):
    model = Scripted([output(0.0, " you", 1.0, 1.0, " are", average=average, no_speech=no_speech), output(" here")])
    options = {"no_speech_threshold": threshold, "logprob_threshold": logprob, "temperature": 0.0}
    if silent:  # the whole window is skipped
        assert places(run(model, 4000, **options)) == [(3000, 30, 40, " here")]
        assert model.seeks == [0, 3000]
    else:
        assert run(model, 150, **options)["segments"][0]["text"] == " you"


@pytest.mark.parametrize(
    ("clips", "windows"),
    [([], [(0, 3000), (3000, 3000), (6000, 1007)]), ([1, 2, 5, 60], [(100, 100), (500, 3000), (3500, 2500)])],
)
def test_silent_audio_has_no_segments(clips, windows):
    model = Scripted(lambda *_: output(0.0, " you", 1.0, average=-1.5, no_speech=0.9))
    assert run(model, 7007, clip_timestamps=clips)["segments"] == []
    assert model.windows == windows
    assert len(model.calls) == len(windows)


# ------------------------------------------------------------------------------------------ prompts

LATER = ["", ONE_PROMPT, ONE_PROMPT + THREE_PROMPT]
PROMPTS = {  # options, and the prompts of windows with ONE, THREE and THREE
    "the previous text": ({}, LATER),
    "nothing": ({"condition_on_previous_text": False}, ["", "", ""]),
    "an initial prompt, then the text": ({"initial_prompt": " Say. "}, [" Say." + text for text in LATER]),
    "an initial prompt and nothing else": (
        {"initial_prompt": "Say.", "condition_on_previous_text": False}, [" Say.", "", ""]
    ),
    "an initial prompt carried": (
        {"initial_prompt": "Say.", "carry_initial_prompt": True}, [" Say." + text for text in LATER]
    ),
    "an initial prompt carried and nothing else": (
        {"initial_prompt": "Say.", "carry_initial_prompt": True, "condition_on_previous_text": False}, [" Say."] * 3
    ),
    "an empty initial prompt is a space": ({"initial_prompt": ""}, [" " + text for text in LATER]),
}  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), PROMPTS.values(), ids=PROMPTS)
def test_windows_are_prompted_with_the_previous_text_and_the_initial_prompt(options, expected):
    model = Scripted([ONE, THREE, THREE])
    run(model, 9000, **options)
    assert model.prompts == expected


def test_the_prompt_is_kept_through_silence():
    model = Scripted([SILENT, ONE, SILENT, *[output(average=-1.5)] * 3, SILENT, THREE])
    run(model, 15000, initial_prompt="Say.")
    assert model.prompts == [" Say.", " Say.", *[" Say." + ONE_PROMPT] * 6]
    assert model.calls[6].temperature == 0.6
    model = Scripted([SILENT, SILENT, THREE])
    run(model, 9000, initial_prompt="Say.", condition_on_previous_text=False)
    assert model.prompts == [" Say."] * 3  # until there is speech


def test_only_the_text_that_is_kept_becomes_a_prompt():
    first = output(0.0, " one", 1.0, 1.0, " ", 2.0, 2.0, 2.0, " two", 9.0)
    model = Scripted([first, output(0.0, " cut", 4.0, 4.0, " c"), THREE, SILENT])
    run(model, 9000)
    kept = "<|0.00|> one<|1.00|><|2.00|> two<|9.00|>"
    assert model.prompts[:3] == ["", kept, kept + "<|0.00|> cut<|4.00|>"]


@pytest.mark.parametrize(("temperature", "kept"), [(0.5, True), (0.6, False)])
@pytest.mark.parametrize("carried", [False, True])
def test_text_sampled_above_the_reset_temperature_clears_the_prompt(temperature, kept, carried):
    model = Scripted([ONE, output(0.0, " three", 29.0, **REPETITIVE), THREE, THREE, SILENT])
    run(model, 12000, temperature=(0.0, temperature), initial_prompt="Say.", carry_initial_prompt=carried)
    before = " Say." + ONE_PROMPT + THREE_PROMPT if kept else " Say." if carried else ""
    assert model.prompts == [" Say.", *[" Say." + ONE_PROMPT] * 2, before, before + THREE_PROMPT]


@pytest.mark.parametrize("count", [1, 222, 223])
def test_a_carried_prompt_leaves_the_rest_to_the_last_text(count):
    t = made_up_tokenizer(ENGLISH)
    speech = output(0.0, " b" * 400, 29.0)
    model = Scripted([speech, speech])
    run(model, 6000, initial_prompt=prompt_of(count), carry_initial_prompt=True)
    history, carried = speech.tokens(t), t.encode(" " + prompt_of(count))
    rest = history[len(history) - (223 - count) :]
    assert [list(options.prompt) for options in model.calls] == [carried, carried + rest]


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
def test_a_prefix_must_fit_after_the_longest_prompt(condition, initial, limit):
    model = Scripted([output()])
    options = {"condition_on_previous_text": condition, "initial_prompt": initial}
    run(model, 10, prefix=[5] * limit, **options)
    with pytest.raises(OptionError, match=f"prefix: expected at most {limit} tokens"):
        model.stream("/no/such/file", prefix=[5] * (limit + 1), **options)

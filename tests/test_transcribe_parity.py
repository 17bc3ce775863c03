"""Transcription against openai-whisper's: the same weights and the same samples to both, token for token."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minwhisper
from minwhisper import DecodingOptions
from minwhisper.parity import pytorch_model
from minwhisper.search import rules_for

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
decoding = pytest.importorskip("whisper.decoding")

DATA = Path(__file__).parent / "data"
RATE = 16000
CLIPS = ["jfk.flac", *(f"LJ001-{number:04}.wav" for number in range(1, 13))]
GREEDY = {"temperature": 0.0, "condition_on_previous_text": False, "fp16": False}


@pytest.fixture(scope="session")
def pytorch():
    """openai-whisper's model with the weights of ours, built once for each."""
    built = {}

    def get(model):
        if model.name not in built:
            built[model.name] = pytorch_model(model)
        return built[model.name]

    return get


@pytest.fixture(scope="session")
def book(speech) -> np.ndarray:
    """82 s: twelve sentences of a book, a quarter of a second of silence after each."""
    gap = np.zeros(RATE // 4, np.float32)
    return np.concatenate([part for name in CLIPS[1:] for part in (speech[name], gap)])


@pytest.fixture(scope="session")
def french() -> np.ndarray:
    return minwhisper.load_audio(DATA / "french.aiff")


def check_same(model, theirs, samples: np.ndarray, **options) -> dict:
    """Both transcripts agree in everything. Returns ours."""
    options.setdefault("language", "en")
    ours = model.transcribe(samples, **options)
    expected = whisper.transcribe(theirs, samples, **GREEDY, **options)
    assert [s["tokens"] for s in ours["segments"]] == [s["tokens"] for s in expected["segments"]]
    assert ours["text"] == expected["text"]
    assert ours["language"] == expected["language"]
    for mine, other in zip(ours["segments"], expected["segments"], strict=True):
        other.pop("words", None)  # openai-whisper adds an empty list to a segment that it clears
        assert set(mine) == set(other)
        for key in ("id", "seek", "text", "temperature", "compression_ratio"):
            assert mine[key] == other[key], key
        for key in ("start", "end"):
            assert mine[key] == pytest.approx(other[key], abs=1e-6), key
        for key in ("avg_logprob", "no_speech_prob"):
            assert mine[key] == pytest.approx(other[key], abs=1e-3), key
    return ours


# ------------------------------------------------------------------------------------------ rules


def task_of(pytorch, model, **options):
    return decoding.DecodingTask(pytorch(model), whisper.DecodingOptions(language="en", fp16=False, **options))


@pytest.mark.parametrize("suppressed", ["-1", "1,2", "-1,7", [-1], [-1, 7], [2, 1]], ids=str)
def test_the_same_tokens_are_suppressed(model, pytorch, suppressed):
    ours = DecodingOptions(suppress_tokens=suppressed).suppressed_ids(model.tokenizer)
    theirs = task_of(pytorch, model, suppress_tokens=suppressed)._get_suppress_tokens()
    assert ours == theirs


@pytest.mark.parametrize("nothing", ["", None, []], ids=str)
def test_with_nothing_suppressed_the_prompts_tokens_are_forbidden_here_only(model, pytorch, nothing):
    # openai-whisper leaves the whole filter out, and the model might say <|startoftranscript|>. Its own method that
    # lists the tokens means to keep the special ones in even then; here they are.
    task = task_of(pytorch, model, suppress_tokens=nothing)
    assert not any(isinstance(rule, decoding.SuppressTokens) for rule in task.logit_filters)
    prompt_only = task_of(pytorch, model, suppress_tokens=[1])._get_suppress_tokens()[1:]
    assert DecodingOptions(suppress_tokens=nothing).suppressed_ids(model.tokenizer) == prompt_only


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    lift=st.sampled_from([-4.0, 0.0, 4.0]),
    latest=st.sampled_from([None, 0.5, 1.0, 30.0]),
    without=st.booleans(),
)
def test_the_rules_forbid_the_same_tokens_step_by_step(tiny_en, pytorch, seed, lift, latest, without):
    options = {"without_timestamps": without, "max_initial_timestamp": latest}
    task = task_of(pytorch, tiny_en, **options)
    rules = rules_for(DecodingOptions(**options), tiny_en.tokenizer)
    random = np.random.default_rng(seed)
    said: list[int] = []
    for _ in range(8):
        scores = (2 * random.standard_normal((1, tiny_en.config.vocab_size))).astype(np.float32)
        scores[:, tiny_en.tokenizer.timestamp_begin :] += lift
        ours = scores
        for rule in rules:
            ours = rule(ours, [said])
        theirs = torch.tensor(scores)
        for rule in task.logit_filters:
            rule.apply(theirs, torch.tensor([[*task.initial_tokens, *said]]))
        np.testing.assert_array_equal(ours, theirs.numpy())
        said.append(int(ours.argmax()))


# ------------------------------------------------------------------------------------------ clips


@pytest.mark.parametrize("clip", CLIPS)
def test_a_clip_is_transcribed_alike(model, pytorch, speech, clip):
    assert check_same(model, pytorch(model), speech[clip])["text"]


@pytest.mark.parametrize("clip", ["jfk.flac", "LJ001-0001.wav", "LJ001-0005.wav"])
def test_a_clip_is_transcribed_alike_without_timestamps(tiny_en, pytorch, speech, clip):
    check_same(tiny_en, pytorch(tiny_en), speech[clip], without_timestamps=True)


def test_a_clip_is_transcribed_alike_without_timestamps_by_a_multilingual_model(base, pytorch, speech):
    check_same(base, pytorch(base), speech["LJ001-0001.wav"], without_timestamps=True)


@pytest.mark.parametrize(
    "options",
    [
        {"sample_len": 6},
        {"max_initial_timestamp": None},
        {"suppress_blank": False},
        {"suppress_tokens": [6, 13]},
    ],
    ids=str,
)
def test_options_mean_the_same(tiny_en, pytorch, speech, options):
    check_same(tiny_en, pytorch(tiny_en), speech["LJ001-0002.wav"], **options)


# ------------------------------------------------------------------------------------------ languages


@pytest.mark.parametrize("clip", ["jfk.flac", "french.aiff"])
def test_languages_are_as_likely(base, pytorch, clip):
    samples = minwhisper.load_audio(DATA / clip)
    mel = minwhisper.log_mel_spectrogram(samples, padding=30 * RATE)[:, :3000]
    token, probabilities = base.detect_language(mel)
    their_token, theirs = whisper.decoding.detect_language(pytorch(base), torch.tensor(mel))
    assert token == int(their_token)
    assert probabilities == pytest.approx(theirs, abs=1e-4)


def test_a_language_is_heard_alike_and_written_alike(base, pytorch, french):
    assert check_same(base, pytorch(base), french, language=None)["language"] == "fr"


def test_a_translation_is_the_same(base, pytorch, french):
    check_same(base, pytorch(base), french, language="fr", task="translate")


# ------------------------------------------------------------------------------------------ sounds of other lengths


@pytest.mark.parametrize("samples", [0, 100, 3200, 480000, 480320], ids=["none", "100", "0.2s", "30.00s", "30.02s"])
def test_sound_of_any_length_is_transcribed_alike(tiny_en, pytorch, book, samples):
    check_same(tiny_en, pytorch(tiny_en), book[:samples])


def test_long_sound_is_transcribed_alike(tiny_en, pytorch, book):
    result = check_same(tiny_en, pytorch(tiny_en), book)
    assert len({segment["seek"] for segment in result["segments"]}) >= 3


def test_long_sound_is_transcribed_alike_by_a_multilingual_model(base, pytorch, book):
    check_same(base, pytorch(base), book[: 40 * RATE])


def test_long_silence_between_speech_is_treated_alike(tiny_en, pytorch, speech):
    silence = np.zeros(20 * RATE, np.float32)
    sound = np.concatenate([speech["LJ001-0001.wav"], silence, speech["LJ001-0002.wav"]])
    check_same(tiny_en, pytorch(tiny_en), sound)


@pytest.mark.parametrize("seconds", [10, 30])
def test_digital_silence_is_treated_alike(tiny_en, pytorch, seconds):
    # Of 10 s both say nothing; of 30 s both say " you", likely enough not to be taken for silence.
    check_same(tiny_en, pytorch(tiny_en), np.zeros(seconds * RATE, np.float32))


def test_noise_is_treated_alike(model, pytorch):
    # To tiny.en it is silence; base invents sentences for it. Both do so in either implementation.
    noise = np.random.default_rng(0).standard_normal(61 * RATE)
    check_same(model, pytorch(model), (0.1 * noise).astype(np.float32))

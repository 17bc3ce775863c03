"""Transcription against openai-whisper's own: the same weights and samples to both, the same words at the same times.

Sounds and modes make a grid. A part of it runs always; all of it, which takes hours, with ``pytest --grid``.
"""

import csv
from itertools import product

import numpy as np
import pytest

import minwhisper
from conftest import DATA, SPEECH

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
from same_draws import same_draws  # noqa: E402 (needs both)

RATE = 16000
CLIPS = [path.name for path in SPEECH]
ONE_WINDOW = [*CLIPS, "audio-stereo-24-bit-44100Hz.wav", "french.aiff"]
LONG = ["book", "interrupted book"]
LENGTHS = ["0.2 s", "30.00 s", "30.02 s"]
SOUNDS = [*ONE_WINDOW, *LONG, "noise", *LENGTHS]

MODES = {
    "conditioned": {},
    "unconditioned": {"condition_on_previous_text": False},
    "beam 5": {"beam_size": 5},
    "patience 2": {"beam_size": 3, "patience": 2.0, "length_penalty": 0.6},
    "words": {"word_timestamps": True},
    "words, silence skipped": {"word_timestamps": True, "hallucination_silence_threshold": 2.0},
    "beam and words": {"beam_size": 5, "word_timestamps": True},
    "clips": {"clip_timestamps": "0.04,0.1,0.12"},  # lengthened for longer audio
    "sampled": {"temperature": 0.6, "best_of": 3},
    "no thresholds": {"compression_ratio_threshold": None, "logprob_threshold": None, "no_speech_threshold": None},
    "strict": {"logprob_threshold": -0.1, "best_of": 2},  # most windows fall back to sampling
    "without timestamps": {"without_timestamps": True},
    "prompt 0": {"initial_prompt": ""},
    **{f"prompt {length}": {"initial_prompt": length} for length in (5, 222, 223, 300)},
    "prompt carried": {"initial_prompt": 20, "carry_initial_prompt": True},
    "prefix": {"prefix": "Well,"},
    "detected": {"language": None},
    "translated": {"task": "translate"},
}

# What always runs: audio of one window, long audio, and two windows for the modes that need more than one.
ALWAYS = [
    *(("tiny.en", clip, "words") for clip in ONE_WINDOW if clip not in CLIPS or clip in CLIPS[::6]),
    ("base", "jfk.flac", "beam and words"),
    *(("base", "french.aiff", mode) for mode in ("detected", "translated")),
    *(("tiny.en", length, "conditioned") for length in LENGTHS),
    ("tiny.en", "book", "conditioned"),
    *(("tiny.en", "LJ001-0004.wav", mode) for mode in MODES if mode.startswith("prompt ") and mode != "prompt carried"),
    *(("tiny.en", "30.02 s", mode) for mode in ("prompt carried", "clips")),
    ("tiny.en", "LJ001-0008.wav", "prefix"),
    ("tiny.en", "LJ001-0002.wav", "strict"),
    ("tiny.en", "jfk.flac", "without timestamps"),
]
WHOLE_GRID = [
    (name, sound, mode)
    for name, sound, mode in product(("tiny.en", "base"), SOUNDS, MODES)
    if name == "base" or mode not in ("detected", "translated")
]


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        cases = WHOLE_GRID if metafunc.config.getoption("grid") else ALWAYS
        metafunc.parametrize(("name", "sound", "mode"), cases, ids=[" | ".join(case) for case in cases])


@pytest.fixture(scope="session")
def sounds(speech) -> dict[str, np.ndarray]:
    """Every sound of the grid by name: float32 samples at 16 kHz."""
    gap = np.zeros(RATE // 4, np.float32)
    parts = [part for clip in CLIPS[1:] for part in (speech[clip], gap)]
    book = np.concatenate(parts)  # 82 s
    noise = (0.1 * np.random.default_rng(0).standard_normal(61 * RATE)).astype(np.float32)
    silence = np.zeros(20 * RATE, np.float32)
    return {
        **{name: minwhisper.load_audio(DATA / name) for name in ONE_WINDOW},
        "book": book,
        "interrupted book": np.concatenate([*parts[:12], silence, noise[: 20 * RATE], *parts[12:]]),
        "noise": noise,
        **{name: book[: round(float(name[:-2]) * RATE)] for name in LENGTHS},
    }


def prompt_of(length: int, tokenizer) -> str:
    """Return a text of this many tokens with a space before it: the end of what is read before the clips."""
    with open(DATA / "lj_texts.csv", newline="") as file:
        words = " ".join(row[-1] for row in csv.reader(file)).split() * 3
    while len(tokenizer.encode(" " + " ".join(words[1:]))) >= length:
        words.pop(0)
    short = length - len(tokenizer.encode(" " + " ".join(words[1:])))
    text = " ".join([*["so"] * short, *words[1:]])
    assert len(tokenizer.encode(" " + text)) == length
    return text


def options_of(mode: str, sound: str, samples: np.ndarray, tokenizer) -> dict:
    options = {"language": "fr" if sound == "french.aiff" and tokenizer.is_multilingual else "en", **MODES[mode]}
    if isinstance(options.get("initial_prompt"), int):
        options["initial_prompt"] = prompt_of(options["initial_prompt"], tokenizer)
    if mode == "clips" and samples.size > 30 * RATE:
        options["clip_timestamps"] = [time for time in (3.0, 20.5, 40.0, 58.2, 59.5) if time < samples.size / RATE]
    return options


def check_same(ours: dict, theirs: dict) -> None:
    """Both transcripts agree in everything, word times within 0.02 s."""
    for mine, other in zip(ours["segments"], theirs["segments"], strict=False):
        assert (mine["seek"], mine["temperature"], mine["tokens"]) == (
            other["seek"],
            other["temperature"],
            other["tokens"],
        )
    assert len(ours["segments"]) == len(theirs["segments"])
    assert ours["text"] == theirs["text"]
    assert ours["language"] == theirs["language"]
    for mine, other in zip(ours["segments"], theirs["segments"], strict=True):
        if "words" not in mine:
            assert not other.pop("words", [])  # openai-whisper adds an empty list to a segment that it clears
        assert set(mine) == set(other)
        for key in ("id", "text", "compression_ratio"):
            assert mine[key] == other[key], key
        for key in ("avg_logprob", "no_speech_prob"):
            assert mine[key] == pytest.approx(other[key], abs=1e-3), key
        near = 0.0201 if "words" in mine else 1e-6
        for key in ("start", "end"):
            assert mine[key] == pytest.approx(other[key], abs=near), key
        assert [word["word"] for word in mine.get("words", ())] == [word["word"] for word in other.get("words", ())]
        for word, their_word in zip(mine.get("words", ()), other.get("words", ()), strict=True):
            for key in ("start", "end"):
                assert word[key] == pytest.approx(their_word[key], abs=near), (key, word)
            assert word["probability"] == pytest.approx(their_word["probability"], abs=1e-3), word


@pytest.mark.filterwarnings("ignore:initial_prompt:UserWarning", "ignore:.*translat:UserWarning")
def test_the_same_words_at_the_same_times(name, sound, mode, request, pytorch, sounds):
    model = request.getfixturevalue(name.replace(".", "_"))
    samples = sounds[sound]
    options = options_of(mode, sound, samples, model.tokenizer)
    ours = model.transcribe(samples, **options)
    with same_draws():
        expected = whisper.transcribe(pytorch(model), samples, fp16=False, **options)
    check_same(ours, expected)


@pytest.mark.parametrize("samples", [0, 100], ids=["none", "100"])
def test_very_short_audio_is_transcribed_the_same(samples, tiny_en, pytorch, sounds):
    sound = sounds["book"][:samples]
    check_same(tiny_en.transcribe(sound), whisper.transcribe(pytorch(tiny_en), sound, fp16=False))


@pytest.mark.parametrize("seconds", [10, 30])
def test_digital_silence_is_transcribed_the_same(seconds, tiny_en, pytorch):
    # For 10 s both generate nothing; for 30 s both generate " you", probable enough not to count as silence.
    sound = np.zeros(seconds * RATE, np.float32)
    check_same(tiny_en.transcribe(sound), whisper.transcribe(pytorch(tiny_en), sound, fp16=False))


def test_the_clips_exercise_the_modes(tiny_en, sounds):
    """The grid would prove nothing of fallback and sampling if no window came to them."""
    samples = sounds["LJ001-0002.wav"]
    result = tiny_en.transcribe(samples, **options_of("strict", "LJ001-0002.wav", samples, tiny_en.tokenizer))
    assert max(segment["temperature"] for segment in result["segments"]) > 0
    assert len(tiny_en.tokenizer.encode(" " + prompt_of(300, tiny_en.tokenizer))) == 300

"""Transcription compared with openai-whisper's: the same weights and samples give the same words at the same times.

Recordings and modes make a grid. A part of it always runs; ``pytest --grid`` runs all of it, which takes hours.
"""

from itertools import product

import numpy as np
import pytest

import minwhisper
from book import TEXTS
from inputs import DATA, SPEECH

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
from same_draws import same_draws  # noqa: E402 (needs both)
from transcripts import check_same  # noqa: E402

RATE = 16000
CLIPS = [path.name for path in SPEECH]
ONE_WINDOW = [*CLIPS, "audio-stereo-24-bit-44100Hz.wav", "french.aiff"]
LONG = ["book", "interrupted book"]
LENGTHS = ["0.2 s", "30.00 s", "30.02 s"]
RECORDINGS = [*ONE_WINDOW, *LONG, "noise", *LENGTHS]

MODES = {
    "conditioned": {},
    "unconditioned": {"condition_on_previous_text": False},
    "beam 5": {"beam_size": 5},
    "patience 2": {"beam_size": 3, "patience": 2.0, "length_penalty": 0.6},
    "words": {"word_timestamps": True},
    "words, silence skipped": {"word_timestamps": True, "hallucination_silence_threshold": 2.0},
    "beam and words": {"beam_size": 5, "word_timestamps": True},
    "clips": {"clip_timestamps": "0.04,0.1,0.12"},  # replaced for longer audio
    "sampled": {"temperature": 0.6, "best_of": 3},
    "no thresholds": {"compression_ratio_threshold": None, "logprob_threshold": None, "no_speech_threshold": None},
    # Most windows fall back to sampling.
    "strict": {"logprob_threshold": -0.1, "best_of": 2, "sample_len": 20, "temperature": (0.0, 0.6)},
    "without timestamps": {"without_timestamps": True},
    "prompt 0": {"initial_prompt": ""},
    **{f"prompt {length}": {"initial_prompt": length} for length in (5, 222, 223, 300)},
    "prompt carried": {"initial_prompt": 20, "carry_initial_prompt": True, "temperature": 0.0},
    "prefix": {"prefix": "Well,", "sample_len": 20, "temperature": 0.0},
    "detected": {"language": None},
    "translated": {"task": "translate", "language": None},
}

# Always run: each mode that changes what the model computes, once. test_transcribe_tables_parity.py tests the loop.
ALWAYS = [
    ("tiny.en", "jfk.flac", "words"),
    ("tiny.en", "LJ001-0008.wav", "beam and words"),
    ("base", "french.aiff", "translated"),
    ("tiny.en", "0.2 s", "conditioned"),
    ("tiny.en", "30.02 s", "prompt carried"),  # before the text of the first window
    ("tiny.en", "jfk.flac", "clips"),
    ("tiny.en", "LJ001-0008.wav", "prompt 300"),
    ("tiny.en", "LJ001-0008.wav", "prefix"),
    ("tiny.en", "LJ001-0002.wav", "strict"),
    ("tiny.en", "LJ001-0002.wav", "without timestamps"),
]
WHOLE_GRID = [
    (name, recording, mode)
    for name, recording, mode in product(("tiny.en", "base"), RECORDINGS, MODES)
    if name == "base" or mode not in ("detected", "translated")
]


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        cases = WHOLE_GRID if metafunc.config.getoption("grid") else ALWAYS
        metafunc.parametrize(("name", "recording", "mode"), cases, ids=[" | ".join(case) for case in cases])


@pytest.fixture(scope="session")
def recordings(speech) -> dict[str, np.ndarray]:
    """Return every recording of the grid by name: float32 samples at 16 kHz."""
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
    """Return a text of this many tokens that starts with a space: the end of the book's text."""
    text = tokenizer.decode(tokenizer.encode(" ".join(TEXTS * 2))[-length:]).strip()
    assert len(tokenizer.encode(" " + text)) == length
    return text


def options_of(mode: str, recording: str, samples: np.ndarray, tokenizer) -> dict:
    options = {"language": "fr" if recording == "french.aiff" and tokenizer.is_multilingual else "en", **MODES[mode]}
    if isinstance(options.get("initial_prompt"), int):
        options["initial_prompt"] = prompt_of(options["initial_prompt"], tokenizer)
    if mode == "clips" and samples.size > 10 * RATE:
        options["clip_timestamps"] = [time for time in (3.0, 6.2, 8.0, 58.2, 59.5) if time < samples.size / RATE]
    return options


@pytest.mark.filterwarnings("ignore:initial_prompt:UserWarning", "ignore:.*translat:UserWarning")
def test_the_same_words_at_the_same_times(name, recording, mode, request, pytorch, recordings):
    model = request.getfixturevalue(name.replace(".", "_"))
    samples = recordings[recording]
    options = options_of(mode, recording, samples, model.tokenizer)
    ours = model.transcribe(samples, **options)
    with same_draws():
        expected = whisper.transcribe(pytorch(model), samples, fp16=False, **options)
    if (recording, mode) == ("LJ001-0002.wav", "strict"):  # otherwise fallback and sampling would not be tested
        assert max(segment["temperature"] for segment in ours["segments"]) > 0
    check_same(ours, expected, times=0.0201 if options.get("word_timestamps") else 1e-6, scores=1e-3)


# Both generate nothing for 10 s of digital silence, but " you" for 30 s, probable enough not to count as silence.
@pytest.mark.parametrize("samples", [0, 100, 10 * RATE, 30 * RATE])
def test_silence_is_transcribed_the_same(samples, tiny_en, pytorch):
    silence = np.zeros(samples, np.float32)
    theirs = whisper.transcribe(pytorch(tiny_en), silence, fp16=False)
    check_same(tiny_en.transcribe(silence), theirs, times=1e-6, scores=1e-3)

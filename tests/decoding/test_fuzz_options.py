"""Options of every type and size raise nothing but the project's own errors, and never cause a long wait."""

import argparse
import contextlib
import functools
import io
import itertools
import math
import random
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import minwhisper
from checkpoint_fuzzing import cases
from hf_checkpoint import SMALL
from minwhisper import DecodingOptions, MinWhisperError, TranscriptionOptions
from minwhisper.cli.arguments import add_arguments
from minwhisper.cli.request import check_arguments, find_unwritable
from minwhisper.model.weights import random_weights
from minwhisper.printable import short_repr
from minwhisper.writers.render import ALL_FORMATS
from minwhisper.writers.subtitles import SubtitleOptions
from scripted import ENGLISH, MULTILINGUAL, made_up_tokenizer

SEED = 7
HANG = 5.0  # seconds of processor
WINDOW = [field.name for field in fields(DecodingOptions)]
WHOLE = [field.name for field in fields(TranscriptionOptions) if field.name != "decoding_options"]
SUBTITLES = [field.name for field in fields(SubtitleOptions)]
RUNNING = ("progress", "generator", "batch_size")


class Mute:
    """An object whose repr raises an error."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


NUMBERS = (
    *(0, 1, -1, 2, 3, 5, 30, 448, 10**6, 10**9, 2**31, 2**63, 10**400, -(10**400), 10**5000, True, False),
    *(0.0, -0.0, 0.01, 0.5, 1.0, 2.4, 30.0, 1e-320, 1e308, math.inf, -math.inf, math.nan),
    *(Fraction(1, 3), Fraction(10**400), Decimal("0.5"), 1j, np.int8(3), np.int64(2**62), np.uint64(2**64 - 1)),
    *(np.float16("inf"), np.float32(0.3), np.float64("nan"), np.longdouble("1e4000"), np.bool_(True), np.complex64(1)),
)
TEXTS = (
    *("", " ", "a", "0", "-1", "1,2,3", "0,30", "0:30", "nan", "1e400", "None", "en", "German", "xx", "Hello, world."),
    *("transcribe", "translate", "lang_id", "é\0\n\x1b[31m", "\ud800"),
    *("9" * 5000, "1," * 400, "文" * 500, "a" * 120_000),
)
COLLECTIONS: tuple[Callable[[], Any], ...] = (
    *(list, dict, set, lambda: [1], lambda: [0.0, 1.0], lambda: (0.0, 0.2, 1.0), lambda: [10**400], lambda: [10**5000]),
    *(lambda: [math.nan], lambda: [None], lambda: ["1", "2"], lambda: [[1]], lambda: {1: 2}, lambda: {"a"}),
    *(lambda: range(10), lambda: range(10**12), itertools.count, lambda: iter([0, 1])),
    lambda: functools.reduce(lambda inner, _: [inner], range(5000), []),  # deeply nested
    *(lambda: np.array(0.5), lambda: np.zeros(0), lambda: np.zeros(3), lambda: np.zeros((2, 2)), lambda: [Mute()]),
    *(lambda: np.arange(70_000), lambda: np.array(["a"]), lambda: np.array([None]), lambda: np.array([1 + 1j])),
    *(lambda: b"1,2", lambda: bytearray(b"1"), lambda: memoryview(b"12"), object, Mute),
)


def any_value(chance: random.Random) -> Any:
    numbers = [chance.choice(NUMBERS) for _ in range(chance.randrange(5))]
    text = "".join(chr(chance.randrange(0x3000)) for _ in range(chance.randrange(40)))
    return chance.choice([chance.choice(NUMBERS), chance.choice(TEXTS), chance.choice(COLLECTIONS)(), numbers, text])


LIKELY: dict[str, tuple[Any, ...]] = {  # mostly valid values, so that many calls succeed
    "task": ("transcribe", "translate"),
    "language": (None, "en", "English", "de", "yue"),
    "temperature": (0, 0.0, 0.7, 1e9, 5e-324, (0.0, 0.5), [0.3, 1.0], np.float32(0.5)),
    "sample_len": (None, 1, 2, 5, 40, 10**400),
    **dict.fromkeys(("best_of", "beam_size"), (None, 1, 2, 3)),
    "patience": (None, 0.1, 1.0, 2, 1e5, 1e308),
    "length_penalty": (None, 0, 0.5, 1.0),
    **dict.fromkeys(("prompt", "prefix"), (None, "Hello.", [1, 2, 3], [50257], [51863], "a" * 3000)),
    "initial_prompt": (None, "", "Hello.", "a b" * 300, "\ud800"),
    "suppress_tokens": (None, "", "-1", [-1, 5], "1,2", [60_000], range(50_256), range(51_864)),
    "max_initial_timestamp": (None, 0, 0.5, 1, 30),
    "clip_timestamps": ("0", "0,1", [0.0, 0.5], [0.2], "0.1,0.2,0.3", [1e9], [10**400], "1e-9"),
    "vad_filter": (True, False, "silero"),
    **dict.fromkeys(("prepend_punctuations", "append_punctuations"), ("", "\"'", "¿", "。")),
    "hallucination_silence_threshold": (None, 0, 0.5, 2, 1e9),
    "language_detection_windows": (1, 2, 10**400),
    "batch_size": (1, 2, 3, 10**30),
    "progress": (None, lambda done, total: None),
    "generator": (None, np.random.default_rng(1)),
    **dict.fromkeys(("max_line_width", "max_line_count", "max_words_per_line"), (None, 1, 42)),
}


def likely_value(name: str, chance: random.Random) -> Any:
    thresholds = (0, 0.0, 0.2, 1.0, 1, 2, 0.5, None)
    return chance.choice(LIKELY.get(name, thresholds if "threshold" in name else (True, False)))


def options_of(names: list[str], chance: random.Random, wild: float) -> dict[str, Any]:
    chosen = chance.sample(names, chance.randrange(1, min(6, len(names))))
    options = {name: any_value(chance) if chance.random() < wild else likely_value(name, chance) for name in chosen}
    if chance.random() < 0.01:
        options[chance.choice(["fp16", "verbose", "beam_sise", "", "x" * 10_000, "\ud800"])] = any_value(chance)
    return options


def attempt(what: Callable[[], Any], *given: Any) -> bool:
    """Return True if the call succeeds, and False if it raises an error of this package, on one line."""
    began, message = time.process_time(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what()
    except MinWhisperError as error:
        message = str(error)
        assert message, given
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error!s:.300} for {short_repr(given)}")
    assert time.process_time() - began < HANG, short_repr(given)
    assert "\n" not in message, short_repr(given)
    assert len(message) < 5000, short_repr(given)
    return not message


def check_both_outcomes(attempts: Iterable[tuple[Any, ...]], share: float) -> None:
    """Check that at least this share of the calls succeeds and at least this share is refused."""
    assert share < np.mean(list(itertools.starmap(attempt, attempts))) < 1 - share


def test_options_are_accepted_or_rejected(pytestconfig):
    def attempts():
        for chance in cases(pytestconfig, 300, SEED):
            options = options_of(WINDOW, chance, wild=0.3)
            yield lambda o=options: DecodingOptions.named(**o), options
            options = options_of(WINDOW + WHOLE, chance, wild=0.3)
            yield lambda o=options: TranscriptionOptions.named(**o).clips(30.0), options
            options = options_of(SUBTITLES, chance, wild=0.3)
            known = {name: value for name, value in options.items() if name in SUBTITLES}
            yield lambda o=known: SubtitleOptions(**o), options

    check_both_outcomes(attempts(), 0.1)


FOLDERS = ("o", "o/p", "a" * 300, "\0", "file", "file/o", "o\n", "\udcff", "")
WORDS = ("0", "-1", "2", "0.5", "1e400", "nan", "inf", "None", "yes", "", "9" * 5000, "é\x1b", "\udc80", "-1,5", "１")
FILES = ("a.wav", "-", "b.mp3", "x/a.wav", "n" * 251 + ".wav", "\0", "\ud800.wav", "a\nb.wav", "~nosuch/x", "*.wav")


def arguments_of(chance: random.Random, flags: list[str]) -> list[str]:
    arguments = [chance.choice(FILES) for _ in range(chance.randrange(1, 4))]
    for flag in chance.sample(flags, chance.randrange(6)):
        likely = likely_value(flag.lstrip("-"), chance)
        likely = ",".join(map(str, likely)) if isinstance(likely, list | tuple) else str(likely)
        kinds = {"-o": FOLDERS, "--output_dir": FOLDERS, "--model_dir": FOLDERS}
        kinds |= dict.fromkeys(("-f", "--output_format"), (*ALL_FORMATS, "all", "doc", "srt,ctm", "srt,"))
        text = chance.choice([likely, chance.choice(kinds.get(flag, WORDS)), chance.choice(kinds.get(flag, WORDS))])
        arguments += [f"{flag}={text}"] if chance.random() < 0.7 and flag.startswith("--") else [flag, text]
    return arguments


def test_command_lines_are_accepted_or_rejected(pytestconfig, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "o" / "a.txt").mkdir(parents=True)
    parser = argparse.ArgumentParser(prog="minwhisper transcribe")
    add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings if flag not in ("-h", "--help")]

    def take(arguments):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                options = parser.parse_args(arguments)
        except SystemExit:
            raise MinWhisperError("refused by the parser") from None
        request = check_arguments(options)
        find_unwritable(request.inputs, request.outputs)

    made = [arguments_of(chance, flags) for chance in cases(pytestconfig, 400, SEED)]
    check_both_outcomes(((functools.partial(take, arguments), arguments) for arguments in made), 0.03)


@pytest.fixture(scope="module", params=[ENGLISH, MULTILINGUAL], ids=["English", "multilingual"])
def small_model(request) -> minwhisper.Whisper:
    """Return an untrained model that is small enough to generate text quickly."""
    size = request.param
    config = replace(SMALL, vocab_size=size, num_mel_bins=80, max_source_positions=1500, max_target_positions=32)
    weights = random_weights(config, 0, "float32", "cpu")
    tokenizer = made_up_tokenizer(size)
    return minwhisper.Whisper(config, weights, tokenizer, name="made up", alignment_heads=((0, 0),), plain=True)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(round(16000 * seconds)).astype(np.float32) / 10


def test_windows_and_audio_are_transcribed_or_rejected(pytestconfig, small_model):
    mel = minwhisper.log_mel_spectrogram(minwhisper.pad_or_trim(noise(1.0)))

    def attempts():
        for chance in cases(pytestconfig, 12, SEED):
            options = {"sample_len": 4, **options_of([*WINDOW, "generator", "options"], chance, wild=0.15)}
            yield lambda o=options: small_model.decode(mel, **o), options
            options = {"sample_len": 4, **options_of([*WINDOW, *WHOLE, *RUNNING], chance, wild=0.1)}
            audio = noise(chance.choice([0.0125, 0.3, 1.0, 1.0, 31.0]))
            yield lambda a=audio, o=options: small_model.transcribe(a, **o), options, audio.shape
            if chance.random() < 0.2:
                many = {name: value for name, value in options.items() if name not in RUNNING}
                seed = any_value(chance)
                what = lambda a=audio, o=many, s=seed: list(small_model.stream_many([a, a], seed=s, **o))  # noqa: E731
                yield what, many, seed, audio.shape

    check_both_outcomes(attempts(), 0)

"""Options of every type and size: nothing but the project's own errors, and never a long wait."""

import argparse
import io
import itertools
import math
import random
import sys
import time
import warnings
from collections.abc import Callable
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
RUNNING = ("progress", "generator", "batch_size")


class Mute:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


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
    *(lambda: range(10), lambda: range(10**12), itertools.count, lambda: iter([0, 1]), lambda: nested(5000)),
    *(lambda: np.array(0.5), lambda: np.zeros(0), lambda: np.zeros(3), lambda: np.zeros((2, 2)), lambda: [Mute()]),
    *(lambda: np.arange(70_000), lambda: np.array(["a"]), lambda: np.array([None]), lambda: np.array([1 + 1j])),
    *(lambda: b"1,2", lambda: bytearray(b"1"), lambda: memoryview(b"12"), object, Mute, lambda: len, lambda: int),
)


def any_value(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.05:
        return None
    if kind < 0.4:
        return chance.choice(NUMBERS)
    if kind < 0.65:
        return chance.choice(TEXTS)
    if kind < 0.9:
        return chance.choice(COLLECTIONS)()
    if kind < 0.95:
        return "".join(chr(chance.randrange(0x3000)) for _ in range(chance.randrange(40)))
    return [chance.choice(NUMBERS) for _ in range(chance.randrange(5))]


LIKELY: dict[str, tuple[Any, ...]] = {  # often what the option is for, so that something comes of it
    "task": ("transcribe", "translate"),
    "language": (None, "en", "English", "de", "yue"),
    "temperature": (0, 0.0, 0.7, 1e9, 5e-324, (0.0, 0.5), [0.3, 1.0], np.float32(0.5)),
    "sample_len": (None, 1, 2, 5, 40, 10**400),
    "best_of": (None, 1, 2, 3),
    "beam_size": (None, 1, 2, 3),
    "patience": (None, 0.1, 1.0, 2, 1e5, 1e308),
    "length_penalty": (None, 0, 0.5, 1.0),
    "prompt": (None, "Hello.", [1, 2, 3], [50257], "a" * 3000),
    "prefix": (None, "Hello.", [1, 2, 3], [51863], "b" * 300),
    "initial_prompt": (None, "", "Hello.", "a b" * 300, "\ud800"),
    "suppress_tokens": (None, "", "-1", [-1, 5], "1,2", [60_000], range(50_256), range(51_864)),
    "max_initial_timestamp": (None, 0, 0.5, 1, 30),
    "clip_timestamps": ("0", "0,1", [0.0, 0.5], [0.2], "0.1,0.2,0.3", [1e9], [10**400], "1e-9"),
    "vad_filter": (True, False, "silero"),
    "prepend_punctuations": ("", "\"'", "¿"),
    "append_punctuations": ("", ".,", "。"),
    "hallucination_silence_threshold": (None, 0, 0.5, 2, 1e9),
    "language_detection_windows": (1, 2, 10**400),
    "batch_size": (1, 2, 3, 10**30),
    "progress": (None, lambda done, total: None),
    "generator": (None, np.random.default_rng(1)),
    "max_line_width": (None, 1, 42),
    "max_line_count": (None, 1, 2),
    "max_words_per_line": (None, 1, 3),
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


def attempt(what: Callable[[], Any], described: Callable[[], str]) -> bool:
    """Return True if the call succeeds, and False if it raises an error of this package, on one line."""
    began, message = time.process_time(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what()
    except MinWhisperError as error:
        message = str(error)
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error!s:.300} for {described()}")
    assert time.process_time() - began < HANG, described()
    if message is None:
        return True
    assert "\n" not in message, described()
    assert len(message) < 5000, described()
    return False


def show(*things: Any) -> str:
    return " ".join(short_repr(thing) for thing in things)


def test_options_are_accepted_or_rejected(pytestconfig):
    outcomes = {True: 0, False: 0}
    for chance in cases(pytestconfig, 1500, SEED):
        kind = chance.choice([DecodingOptions, TranscriptionOptions, SubtitleOptions])
        own = {DecodingOptions: WINDOW, TranscriptionOptions: WINDOW + WHOLE}.get(kind)
        options = options_of(own or [field.name for field in fields(SubtitleOptions)], chance, wild=0.3)

        def take(kind=kind, options=options):
            if kind is SubtitleOptions:
                options = {name: value for name, value in options.items() if hasattr(SubtitleOptions, name)}
                return SubtitleOptions(**options)
            taken = kind.named(**options)
            return taken.clips(30.0) if kind is TranscriptionOptions else taken

        outcomes[attempt(take, lambda options=options: show(options))] += 1
    assert min(outcomes.values()) > 0.1 * sum(outcomes.values())  # both come about


WORDS = ("0", "1", "-1", "2", "5", "0.5", "1e400", "nan", "inf", "1e308", "None", "True", "False", "yes", "", " ", "a")
FILES = ("a.wav", "-", "b.mp3", "x/a.wav", "n" * 251 + ".wav", "\0", "\ud800.wav", "a\nb.wav", "~nosuch/x", "*.wav")
FOLDERS = ("o", "o/p", "a" * 300, "\0", "file", "file/o", "o\n", "\udcff", "")


def arguments_of(chance: random.Random, flags: list[str]) -> list[str]:
    arguments = [chance.choice(FILES) for _ in range(chance.randrange(1, 4))]
    for flag in chance.sample(flags, chance.randrange(6)):
        name = flag.lstrip("-")
        kind = chance.random()
        if flag in ("-h", "--help"):
            continue
        if flag in ("-o", "--output_dir", "--model_dir"):
            value: Any = chance.choice(FOLDERS)
        elif flag in ("-f", "--output_format"):
            value = chance.choice([*ALL_FORMATS, "all", "doc", "", "srt,ctm", "srt,"])
        elif kind < 0.5:
            value = likely_value(name, chance)
        elif kind < 0.8:
            value = chance.choice(WORDS)
        else:
            value = chance.choice(
                ["9" * 5000, "é\x1b", "\udc80", "1,2", "-1,5", "0,30", "0x10", "１", "1_0", "+3", "1e-400"]
            )
        try:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        except ValueError:  # an integer with too many digits
            text = "9" * 5000
        arguments += [f"{flag}={text}"] if chance.random() < 0.7 and flag.startswith("--") else [flag, text]
    return arguments


def test_command_lines_are_accepted_or_rejected(pytestconfig, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "o" / "a.txt").mkdir(parents=True)
    parser = argparse.ArgumentParser(prog="minwhisper transcribe")
    add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    outcomes = {True: 0, False: 0}
    for chance in cases(pytestconfig, 1000, SEED):
        arguments = arguments_of(chance, flags)
        monkeypatch.setattr(sys, "stderr", io.StringIO())

        def take(arguments=arguments):
            try:
                options = parser.parse_args(arguments)
            except SystemExit:
                raise MinWhisperError("refused by the parser") from None
            request = check_arguments(options)
            find_unwritable(request.inputs, request.outputs)

        outcomes[attempt(take, lambda arguments=arguments: show(arguments))] += 1
    assert min(outcomes.values()) > 0.03 * sum(outcomes.values())


@pytest.fixture(scope="module", params=[ENGLISH, MULTILINGUAL], ids=["English", "multilingual"])
def small_model(request) -> minwhisper.Whisper:
    """Return a random model, small enough to generate text at once."""
    size = request.param
    config = replace(SMALL, vocab_size=size, num_mel_bins=80, max_source_positions=1500, max_target_positions=32)
    weights = random_weights(config, 0, "float32", "cpu")
    tokenizer = made_up_tokenizer(size)
    return minwhisper.Whisper(config, weights, tokenizer, name="made up", alignment_heads=((0, 0),), plain=True)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(round(16000 * seconds)).astype(np.float32) / 10


def test_windows_are_decoded_or_rejected(pytestconfig, small_model):
    mel = minwhisper.log_mel_spectrogram(minwhisper.pad_or_trim(noise(1.0)))
    outcomes = {True: 0, False: 0}
    for chance in cases(pytestconfig, 25, SEED):
        options = {"sample_len": 4, **options_of(WINDOW, chance, wild=0.15)}
        if chance.random() < 0.05:
            options["options"] = any_value(chance)
        if chance.random() < 0.1:
            options["generator"] = any_value(chance)
        outcomes[attempt(lambda o=options: small_model.decode(mel, **o), lambda o=options: show(o))] += 1
    assert min(outcomes.values()) > 0


def test_audio_is_transcribed_or_rejected(pytestconfig, small_model):
    outcomes = {True: 0, False: 0}
    for chance in cases(pytestconfig, 25, SEED):
        options = {"sample_len": 4, **options_of([*WINDOW, *WHOLE, *RUNNING], chance, wild=0.1)}
        audio = noise(chance.choice([0.0125, 0.3, 1.0, 1.0, 31.0]))
        if chance.random() < 0.1:
            many = {name: value for name, value in options.items() if name not in RUNNING}
            seed = any_value(chance)
            what = lambda a=audio, o=many, s=seed: list(small_model.stream_many([a, a], seed=s, **o))  # noqa: E731
        else:
            what = lambda a=audio, o=options: small_model.transcribe(a, **o)  # noqa: E731
        outcomes[attempt(what, lambda o=options, a=audio: show(o, a.shape))] += 1
    assert min(outcomes.values()) > 0

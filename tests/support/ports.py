"""Ports of Whisper with known mistakes, made from the package's own stages, for tests of the doctor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audio_files import write_wav
from minwhisper.audio.load import load_audio
from minwhisper.parity import mistakes
from minwhisper.parity.graph import network, run
from minwhisper.parity.mistaken_functions import NAMES
from minwhisper.parity.precision import to_float32
from minwhisper.parity.recording import Recording
from minwhisper.parity.tracing import place
from minwhisper.whisper import Whisper

CLIP = Path(__file__).parents[1] / "data" / "jfk.flac"
TEXTS = " And so my fellow Americans ask not", " And so my fellow citizens ask what"


def two_sequences(model: Whisper) -> Any:
    """Return the prompt and one of two texts of equal length in each row: (2, S)."""
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    return np.array([[*prompt, *model.tokenizer.encode(text)] for text in TEXTS])


def port(
    model: Whisper, tokens: Any, names: Sequence[str] = (), samples: Any = None, recording: Recording | None = None
) -> dict[str, Any]:
    """Return all stages of a port with these mistakes, in float32, computed from samples or from a recording.

    They end where shapes no longer fit together, or where the port computes NaN.
    """
    edits = [edit for name in names for edit in mistakes.MISTAKES[name].edits]
    found = {"tokens": tokens} | ({} if samples is None else {"samples": to_float32(samples)})
    given = {**found, "recording": recording}
    graph = network(model.config)
    wanted = [name for name, stage in graph.items() if not stage.large and name not in given]
    scope = {**NAMES, "theirs": None}
    done = run(graph, wanted, given, place(model), edits=edits, convert=to_float32, names=scope)
    try:
        with np.errstate(all="ignore"):
            for name, value in done:
                if value.dtype.kind == "f" and np.isnan(value).any():
                    break
                found[name] = value
    except ValueError:
        pass
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two ports computed the same."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def uses_window(name: str) -> bool:
    """Return whether a mistake is in loading audio."""
    return any(edit.function is mistakes.graph.window for edit in mistakes.MISTAKES[name].edits)


def stereo_clip(folder: Path) -> Path:
    """Write the beginning of the clip as stereo at 44.1 kHz, its right channel softer, and return the file."""
    samples = load_audio(CLIP)[:48000]
    times = np.arange(int(len(samples) * 44100 / 16000)) * 16000 / 44100
    left = np.interp(times, np.arange(len(samples)), samples)
    path = folder / "stereo.wav"
    write_wav(path, np.stack([left, 0.3 * left], axis=1), rate=44100)
    return path

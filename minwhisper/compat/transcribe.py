"""openai-whisper's ``whisper.transcribe``: transcribe audio of any length."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from ..audio.load import FRAMES_PER_SECOND
from ..tokenizer.languages import LANGUAGES
from ..transcription.options import FALLBACK_TEMPERATURES
from ..transcription.segments import Transcript
from .conversion import as_array, wrapped_model
from .utils import format_timestamp


def transcribe(model: Any, audio: Any, *, verbose: bool | None = None, fp16: bool = True, **options: Any) -> Transcript:
    """Transcribe a file, or samples (N,) at 16 kHz.

    Args:
        model: the model.
        audio: a path, or an array or tensor of samples.
        verbose: True prints each segment with its times, False shows a progress bar, None does neither.
        fp16: has no effect: precision is chosen when a model is loaded.
        options: those of ``Whisper.transcribe``, which are openai-whisper's.

    Returns ``{"text": …, "segments": […], "language": code}``.
    """
    whisper = wrapped_model(model)
    detects = whisper.is_multilingual and options.get("language") is None
    with tqdm(unit="frames", disable=verbose is not False) as bar:

        def progress(seconds: float, total: float) -> None:
            bar.total = round(total * FRAMES_PER_SECOND)
            bar.update(round(seconds * FRAMES_PER_SECOND) - bar.n)

        if verbose and detects:
            print("Detecting language using up to the first 30 seconds. Use `--language` to specify the language")
        with whisper.stream(
            as_array(audio), progress=progress, **effective(options, whisper.is_multilingual)
        ) as running:
            if verbose is not None and detects:
                print(f"Detected language: {LANGUAGES[running.language].title()}")
            for segment in running:
                if verbose:
                    start, end = format_timestamp(segment["start"]), format_timestamp(segment["end"])
                    print(f"[{start} --> {end}] {segment['text']}")
            return running.transcript


def effective(options: Mapping[str, Any], multilingual: bool) -> dict[str, Any]:
    """Leave out the options that openai-whisper silently ignores and ``Whisper`` rejects.

    >>> effective({"temperature": 0, "best_of": 5, "beam_size": 5}, multilingual=True)
    {'temperature': 0, 'beam_size': 5}
    """
    temperatures = np.atleast_1d(options.get("temperature", FALLBACK_TEMPERATURES)).tolist()
    ignored = {"prompt"}  # each window has its own
    if not multilingual:
        ignored |= {"language", "task"}
    if not any(temperatures):
        ignored |= {"best_of"}
    if all(temperatures):
        ignored |= {"beam_size", "patience"}
    if not options.get("word_timestamps"):
        ignored |= {"hallucination_silence_threshold"}
    if options.get("initial_prompt") is None:
        ignored |= {"carry_initial_prompt"}
    return {name: value for name, value in options.items() if name not in ignored}

"""The Whisper model: configuration, weights and tokenizer in one object, with all its methods.

Walkthrough: section 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, Unpack, cast, overload

import numpy as np

from .audio.load import AudioSource
from .checkpoints.configuration import read_config, short_window_limits, warn_about
from .checkpoints.load import load_checkpoint
from .checkpoints.shared import load_shared
from .checkpoints.sources import find_checkpoint, wrap_os_errors
from .checkpoints.tensor_matching import LoadReport
from .common.backend import Array, Array2D, Array3D, on_device, to_device, to_numpy
from .common.finite import error_context
from .common.option_checks import check_count, check_generator, check_names, check_seed
from .common.untrusted import expand_path
from .decoding.decode import (
    DecodingResult,
    WindowRequest,
    check_supported,
    decode_windows,
    language_probabilities,
    warn_of_prefix,
)
from .decoding.keywords import DecodingKeywords, TranscriptionKeywords
from .decoding.options import DecodingOptions
from .errors import (
    LanguageError,
    MinWhisperError,
    ModelNotFoundError,
    OptionError,
    ShapeError,
    SomeFailedError,
    TokenizerError,
)
from .fast.cpu.engine import CpuEngine, uses_cpu_engine
from .fast.cpu.panels import unpacked
from .fast.cpu.threads import check_threads
from .fast.cpu.weights import layout_for
from .fast.devices import resolve_device
from .fast.gpu.engine import gpu_engine
from .fast.gpu.out_of_memory import GuardedEngine, MemoryGuard
from .model.config import ALIASES, PUBLISHED, WhisperConfig
from .model.decoder import decode
from .model.engine import Engine, PlainEngine
from .model.layers import Weights
from .model.weight_names import expected_shapes
from .model.weights import check_dtype, random_weights
from .printable import short_repr
from .tokenizer.tokenizer import Tokenizer
from .transcription.aligning import Alignment, alignment_options
from .transcription.options import TranscriptionOptions
from .transcription.segments import Transcript
from .transcription.transcribe import Progress, Transcription, transcribe_batched
from .transcription.windows import check_options

EMPTY_REPORT = LoadReport((), ())


class NoTokenizer:
    """The tokenizer of an untrained model: every use of it raises ``TokenizerError``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python looks for optional methods, to copy or pickle it
            raise AttributeError(name)
        raise TokenizerError("an untrained model has no tokenizer: load one with minwhisper.load_model")


NO_TOKENIZER = cast(Tokenizer, NoTokenizer())


def load_model(
    name: str | PathLike[str],
    device: str = "cpu",
    dtype: str = "float32",
    *,
    revision: str | None = None,
    strict: bool = True,
    threads: int | None = None,
    plain: bool = False,
    shared: str | PathLike[str] | None = None,
) -> "Whisper":
    """Load a model with its weights.

    Args:
        name: a published short name (``"tiny.en"``, ``"turbo"``; see ``available_models``), a Hugging Face hub
            id (``"openai/whisper-tiny"``), or a folder with a checkpoint in safetensors or CTranslate2 format.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …, or ``"auto"``.
        dtype: the storage type of the weights. ``"float16"`` takes half the memory and is exact for OpenAI's own
            weights, which were published in float16; it is slower on a CPU. Arithmetic is float32 for both.
            ``"float64"`` computes in float64, as a reference.
        revision: branch, tag or commit of a hub repository.
        strict: raise an error for missing or unexpected tensors. If False, warn and list them in the model's
            ``report``.
        threads: number of CPU threads; 0 or None for all cores that the process may use.
        plain: compute with the readable layers. On a CPU this is slower; the results are the same up to rounding.
        shared: a folder on this machine, for several processes that load the same model on the CPU. The first one
            writes the weights to a file there (151 MB for tiny.en in float32), and all of them map it: the weights are
            in memory once, read-only, and later processes load faster. Results are the same. The file stays there; see
            ``minwhisper.checkpoints.shared``. On a GPU it has no effect.

    An installed weight package is used first, then the hub's cache, then a download. Raises a
    ``MinWhisperError`` that says what is wrong and what to do.
    """
    device = resolve_device(device)
    check_dtype(dtype)  # before anything is fetched
    check_threads(threads)
    folder = None if shared is None or device != "cpu" else _shared_folder(shared)
    with wrap_os_errors(name):
        files = find_checkpoint(name, revision)
        with MemoryGuard(device, files.label, dtype, plain, partial(read_config, files)).loading():
            layout = layout_for(device, dtype, plain)
            if folder is None:
                checkpoint = load_checkpoint(files, device, dtype, strict, layout)
            else:
                checkpoint = load_shared(files, folder, dtype, strict, layout)
        tokenizer = Tokenizer.from_folder(files.folder, checkpoint.config.vocab_size)
    warn_about(files.label, short_window_limits(checkpoint.config), stacklevel=2)
    return Whisper(
        checkpoint.config,
        checkpoint.weights if layout is None else unpacked(checkpoint.weights, keep=True),
        tokenizer,
        name=files.label,
        device=device,
        dtype=dtype,
        alignment_heads=checkpoint.alignment_heads,
        report=checkpoint.report,
        threads=threads,
        plain=plain,
    )


def _shared_folder(shared: Any) -> Path:
    if not isinstance(shared, str | PathLike) or not isinstance(fspath(shared), str) or not fspath(shared):
        raise OptionError(f"shared: expected a folder or None, got {short_repr(shared)}")
    return expand_path(fspath(shared))


@dataclass(frozen=True, repr=False, eq=False)  # compared by identity: comparing all weights would be pointless
class Whisper:
    """A Whisper model. Make one with ``load_model``, or an untrained one with ``random``.

    Treat ``weights`` as read-only. A float32 model on a CPU keeps the decoder's matrices in another layout and copies
    each of them when it is first read here. To change weights, load the model with ``plain=True``.
    """

    config: WhisperConfig
    weights: Weights  # {"encoder": …, "decoder": …}: see minwhisper.model.weight_names
    tokenizer: Tokenizer = NO_TOKENIZER  # an untrained model has none
    name: str = "whisper"
    device: str = "cpu"
    dtype: str = "float32"  # of the stored weights
    alignment_heads: tuple[tuple[int, int], ...] = ()  # (decoder block, head) pairs
    report: LoadReport = EMPTY_REPORT
    threads: int | None = None  # CPU threads; None for one per core that the process may use
    plain: bool = False  # compute with the readable layers

    @classmethod
    def random(
        cls, config: WhisperConfig | str = "tiny", seed: int = 0, device: str = "cpu", dtype: str = "float32"
    ) -> Self:
        """Create an untrained model of a configuration or a published size, without a download.

        >>> model = Whisper.random("tiny")
        >>> model.encode(np.zeros((1, 80, 200), np.float32)).shape
        (1, 100, 384)
        """
        if isinstance(config, str):
            name = ALIASES.get(config, config)
            if name not in PUBLISHED:
                raise ModelNotFoundError(f"unknown model {config!r}: expected one of {', '.join(PUBLISHED)}")
            config = PUBLISHED[name]
        device, hyperparameters = resolve_device(device), config
        with MemoryGuard(device, "an untrained model", dtype, False, lambda: hyperparameters).loading():
            layout = layout_for(device, dtype, plain=False)
            weights = random_weights(config, seed, dtype, device, layout)
        if layout is not None:
            weights = unpacked(weights, keep=True)
        return cls(config, weights, name="untrained", device=device, dtype=dtype)

    @property
    def is_multilingual(self) -> bool:
        """True if the model supports languages other than English."""
        return self.config.is_multilingual

    @property
    def compute_dtype(self) -> str:
        """The dtype of the arithmetic: float32, or float64 for float64 weights."""
        return "float64" if self.dtype == "float64" else "float32"

    @cached_property
    def engine(self) -> Engine:
        """The encoder and decoder: the readable layers, or the same computations scheduled for a CPU or a GPU."""
        if uses_cpu_engine(self.device, self.dtype, self.plain):
            return CpuEngine(self.weights, self.config, self.threads)
        if self.device == "cpu":
            return PlainEngine(self.weights, self.config)
        make = PlainEngine if self.plain or self.dtype == "float64" else gpu_engine
        with self._guard.at("preparing"):
            return GuardedEngine(make(self.weights, self.config, self.device), self._guard)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to copy or pickle: the fields, without the engine and its threads."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _guard(self) -> MemoryGuard:
        """The guard that reports a lack of GPU memory as an error about this model."""
        config = self.config  # not self: the engine keeps the guard, and the guard would keep the weights
        return MemoryGuard(self.device, self.name, self.dtype, self.plain, lambda: config)

    def __repr__(self) -> str:
        millions = sum(map(prod, expected_shapes(self.config).values())) / 1e6
        return f"<Whisper {self.name}: {millions:.1f} million parameters in {self.dtype} on {self.device}>"

    def encode(self, mel: Array) -> Array3D:
        """Encode windows: mel (B, M, 3000) -> features (B, 1500, D). Fewer frames are allowed.

        Raises ``ShapeError`` for another shape.
        """
        with self.engine.session(), self._guard.at("encoding a window"):
            return self.engine.encode(self._to_device(mel))

    def _to_device(self, array: Array) -> Array:
        """Return the array on the model's device, in the dtype of its arithmetic."""
        return to_device(array, self.device).astype(self.compute_dtype, copy=False)

    def logits(self, tokens: Any, features: Array) -> Array3D:
        """Compute the logits of the next token at each position: tokens (B, S), features (B, T, D) -> (B, S, V).

        ``tokens`` may be nested lists. This runs the readable decoder, without a cache. Raises ``ShapeError`` for
        another shape or an id outside the vocabulary.
        """
        width = self.config.d_model
        if features.ndim != 3 or features.shape[2] != width:
            raise ShapeError(f"features: expected (batch, positions, {width}), got {tuple(features.shape)}")
        wanted = f"tokens: expected whole numbers of shape ({features.shape[0]}, 1 or more positions), got"
        try:
            ids = np.asarray(tokens if isinstance(tokens, list | tuple) else to_numpy(tokens))
        except ValueError:
            raise ShapeError(f"{wanted} rows of different lengths") from None
        if ids.ndim != 2 or ids.shape[0] != features.shape[0] or not ids.size or ids.dtype.kind not in "iu":
            raise ShapeError(f"{wanted} {ids.dtype} {tuple(ids.shape)}")
        vocabulary = self.config.vocab_size
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise ShapeError(f"tokens: expected ids from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}")
        # Outside of a session: the readable layers use all threads of the BLAS library.
        with on_device(self.device), self._guard.at("computing logits"):
            features = self._to_device(features)
            return decode(to_device(ids, self.device), features, self.engine.decoder_weights, self.config)

    @overload
    def detect_language(self, mel: Array2D) -> tuple[int, dict[str, float]]: ...

    @overload
    def detect_language(self, mel: Array3D) -> tuple[list[int], list[dict[str, float]]]: ...

    def detect_language(self, mel: Array) -> tuple[int | list[int], dict[str, float] | list[dict[str, float]]]:
        """Detect the spoken language of a window, or of each window of a batch.

        mel (M, frames) -> the language token, and the probability of every language by its code;
        (B, M, frames) -> a list of tokens and a list of probabilities. Features (T, D) or (B, T, D) work as well.
        Raises ``LanguageError`` for an English-only model.
        """
        if not self.is_multilingual:
            raise LanguageError(f"{self.name} is English only and cannot detect languages: use one such as 'base'")
        with self.engine.session(), error_context(self.name):
            found = language_probabilities(self._features(mel), self.engine, self.tokenizer)
        tokens = [self.tokenizer.language_token(max(row, key=row.__getitem__)) for row in found]
        return (tokens, found) if mel.ndim == 3 else (tokens[0], found[0])

    def _features(self, mel: Array) -> Array:
        """Return features (B, T, D) for mel (M, frames) or (B, M, frames), or for features (T, D) or (B, T, D)."""
        if mel.ndim not in (2, 3):
            raise ShapeError(
                f"mel: expected ({self.config.num_mel_bins}, frames), or a batch of them, got {tuple(mel.shape)}"
            )
        windows = mel if mel.ndim == 3 else mel[None]
        if windows.shape[1:] == (self.config.max_source_positions, self.config.d_model):
            return self._to_device(windows)
        return self.encode(windows)

    @overload
    def decode(
        self,
        mel: Array2D,
        options: DecodingOptions | None = None,
        *,
        generator: np.random.Generator | None = None,
        **changes: Unpack[DecodingKeywords],
    ) -> DecodingResult: ...

    @overload
    def decode(
        self,
        mel: Array3D,
        options: DecodingOptions | None = None,
        *,
        generator: np.random.Generator | None = None,
        **changes: Unpack[DecodingKeywords],
    ) -> list[DecodingResult]: ...

    def decode(
        self,
        mel: Array,
        options: DecodingOptions | None = None,
        *,
        generator: np.random.Generator | None = None,
        **changes: Unpack[DecodingKeywords],
    ) -> DecodingResult | list[DecodingResult]:
        """Decode a window into text, or each window of a batch.

        Args:
            mel: a window of 30 s, (M, 3000), or its features, (T, D); or a batch of either.
            options: by default greedy decoding in the detected language.
            generator: samples the tokens at temperatures above 0; by default a new one with seed 0.
            changes: fields of ``DecodingOptions`` that differ from ``options``.

        Returns a ``DecodingResult``; for a batch, a list of them. Raises ``ShapeError`` for another shape,
        ``OptionError`` for invalid options, and the errors of ``check_supported``.
        """
        check_names(changes, [field.name for field in fields(DecodingOptions)])
        if not isinstance(options, DecodingOptions | None):
            raise OptionError(f"options: expected DecodingOptions or None, got {short_repr(options)}")
        check_generator(generator)
        chosen = replace(DecodingOptions() if options is None else options, **changes)
        check_supported(chosen, self.tokenizer, self.config)
        warn_of_prefix(chosen, stacklevel=2)
        generator = generator or np.random.default_rng(0)
        with self.engine.session():
            requests = [
                WindowRequest(window[None], chosen, generator, f"{self.name}: window {number}")
                for number, window in enumerate(self._features(mel), start=1)
            ]
            # When sampling, one window's random numbers must not depend on how many another window takes.
            batches = [requests] if chosen.temperature == 0 else [[request] for request in requests]
            found = [result for batch in batches for result in decode_windows(batch, self.engine, self.tokenizer)]
        return found if mel.ndim == 3 else found[0]

    def decode_window(self, request: WindowRequest) -> DecodingResult:
        """Decode one window of a transcription; its options must have been checked."""
        return decode_windows([request], self.engine, self.tokenizer)[0]

    def transcribe(
        self,
        audio: AudioSource,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        **options: Unpack[TranscriptionKeywords],
    ) -> Transcript:
        """Transcribe or translate a recording of any length.

        Args:
            audio: a path, bytes, an open file, ``"-"`` for standard input, or float32 samples (N,) at 16 kHz.
            progress: called with (seconds done, total seconds) after every window; an exception in it ends the
                transcription.
            generator: samples the tokens at temperatures above 0; by default a new one with seed 0, so that the same
                audio always gives the same text.
            batch_size: windows that are decoded together. With 1, each window starts where the last sentence of the
                previous one ended and is prompted with its text. With more, the audio is cut at silence into
                independent windows: several times faster, with a few different words.
            options: fields of ``TranscriptionOptions`` and ``DecodingOptions``: ``language``, ``task``,
                ``temperature`` (a number or several), ``beam_size``, ``word_timestamps``, ``initial_prompt``,
                ``vad_filter`` (True skips parts without speech) …

        Returns ``{"text": …, "segments": […], "language": code}``; a segment has the keys of ``Segment``.
        Raises ``AudioError``, ``LanguageError``, ``OptionError`` and other errors of ``minwhisper.errors``.
        """
        with self.stream(audio, progress=progress, generator=generator, batch_size=batch_size, **options) as running:
            for _ in running:
                pass
            return running.transcript

    def align(
        self,
        audio: AudioSource,
        text: str,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        **options: Unpack[TranscriptionKeywords],
    ) -> Transcript:
        """Find when each word of a known text is spoken, in a recording of any length.

        Args:
            audio: as for ``transcribe``.
            text: everything that is spoken, in the language of the recording. Text that is not spoken, and speech that
                is not in the text, are tolerated.
            progress: called with (seconds done, total seconds) after every window.
            generator: as for ``transcribe``.
            batch_size: windows that are decoded together; see ``transcribe``.
            options: those of the transcription that the text is matched with: ``language``, ``beam_size`` …

        Returns a transcript whose segments are the lines and sentences of the text. A segment's ``words`` joined are
        its text. The ``probability`` of a word is at most that of its least probable token, given this audio and the
        text before it; 0 if it was not found in the recording. Low values show where text and recording disagree.
        Raises ``AudioError`` for empty audio, ``OptionError`` for an empty text and for a model without alignment
        heads, and the errors of ``transcribe``.
        """
        chosen = alignment_options(**options)
        _check_run(progress, generator, batch_size)
        with Alignment(
            self, audio, text, chosen, progress=progress, generator=generator, batch_size=batch_size
        ) as running:
            for _ in running:
                pass
            return running.transcript

    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        *,
        batch_size: int = 8,
        seed: int = 0,
        **options: Unpack[TranscriptionKeywords],
    ) -> list[Transcript]:
        """Transcribe several recordings, up to ``batch_size`` at a time, with their windows decoded together.

        Returns the transcripts in the order of ``audios``; each is what ``transcribe`` returns with a generator
        of this seed. If some fail, the others are still transcribed, and then ``SomeFailedError`` is raised, which
        holds their transcripts.
        """
        found = list(self.stream_many(audios, batch_size=batch_size, seed=seed, **options))
        errors = {number: one for number, one in enumerate(found) if isinstance(one, MinWhisperError)}
        if errors:
            transcripts = [None if isinstance(one, MinWhisperError) else one.transcript for one in found]
            try:
                raise SomeFailedError(errors, transcripts)
            finally:
                del found, errors  # their tracebacks refer to this frame: a reference cycle would keep GPU memory
        return [one.transcript for one in found if isinstance(one, Transcription)]

    def stream(
        self,
        audio: AudioSource,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        **options: Unpack[TranscriptionKeywords],
    ) -> Transcription:
        """Transcribe a recording segment by segment: yield each ``Segment`` as soon as it is final.

        Arguments and errors are those of ``transcribe``. Invalid input raises here, not at the first segment.

        >>> for segment in model.stream("talk.mp3"):  # doctest: +SKIP
        ...     print(segment["start"], segment["text"])
        """
        chosen = TranscriptionOptions.named(**options)
        _check_run(progress, generator, batch_size)
        return Transcription(self, audio, chosen, progress=progress, generator=generator, batch_size=batch_size)

    def stream_many(
        self,
        audios: Iterable[AudioSource],
        *,
        batch_size: int = 8,
        seed: int = 0,
        **options: Unpack[TranscriptionKeywords],
    ) -> Iterator[Transcription | MinWhisperError]:
        """Transcribe several recordings: yield each finished transcription, or the error, in the order of ``audios``.

        Arguments are those of ``transcribe_many``. Invalid options raise here, before any recording is opened.
        """
        chosen = TranscriptionOptions.named(**options)
        check_count("batch_size", batch_size, optional=False)
        check_seed(seed)
        if isinstance(audios, str | bytes | PathLike | np.ndarray):
            raise OptionError(f"audios: expected several recordings, such as a list, got one {type(audios).__name__}")
        check_options(chosen, self, stacklevel=3)
        return transcribe_batched(self, audios, chosen, batch_size, seed)


def _check_run(progress: Any, generator: Any, batch_size: Any) -> None:
    """Raise ``OptionError`` for invalid arguments of a transcription, other than its options."""
    check_count("batch_size", batch_size, optional=False)
    check_generator(generator)
    if progress is not None and not callable(progress):
        raise OptionError(f"progress: expected a function of (seconds done, total seconds), got {short_repr(progress)}")

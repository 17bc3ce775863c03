"""A model in use: configuration, weights and tokenizer together, and the methods people call.

Walkthrough: section 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from math import prod
from os import PathLike
from typing import Any, Self, cast

import numpy as np

from .audio.load import AudioSource
from .checkpoints.configuration import read_config, short_window_limits, warn_about
from .checkpoints.load import load_checkpoint
from .checkpoints.sources import find_checkpoint, wrap_os_errors
from .checkpoints.tensor_matching import LoadReport
from .common.backend import Array, on_device, to_device, to_numpy
from .common.finite import error_context
from .common.option_checks import check_count, check_generator, check_names, check_seed
from .decoding.decode import DecodingResult, WindowRequest, check_supported, decode_windows, language_probabilities
from .decoding.options import DecodingOptions, TranscriptionOptions
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
from .transcription.segments import Transcript
from .transcription.transcribe import Progress, Transcription, transcribe_batched
from .transcription.windows import check_options

EMPTY_REPORT = LoadReport((), ())


class NoTokenizer:
    """The tokenizer of an untrained model: every use of it raises :class:`TokenizerError`."""

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
) -> "Whisper":
    """Load a Whisper with its weights.

    Args:
        name: a published short name (``"tiny.en"``, ``"turbo"``; see :func:`available_models`), a Hugging Face hub
            id (``"openai/whisper-tiny"``), or a folder with a checkpoint in safetensors or CTranslate2's format.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` … or ``"auto"``.
        dtype: what the weights are stored as. ``"float16"`` takes half of the memory; for OpenAI's own weights it is
            as exact as ``"float32"``, because that is how they were published, but slower on a CPU: both compute in
            float32.
            ``"float64"`` computes in float64, for checking.
        revision: branch, tag or commit of a hub repository.
        strict: whether a missing or unexpected tensor is an error; if not, it is a warning and listed in the
            model's ``report``.
        threads: how many threads a CPU computes with; 0 or None for as many as the process may use cores.
        plain: compute with the readable layers as they are written: slower on a CPU, and the same but for rounding.

    An installed weight package comes first, then the hub's cache, then a download. Raises a
    :class:`~minwhisper.errors.MinWhisperError` that names what is wrong and the way out.
    """
    place = resolve_device(device)
    check_dtype(dtype)  # before anything is fetched
    check_threads(threads)
    with wrap_os_errors(name):
        files = find_checkpoint(name, revision)
        with MemoryGuard(place, files.label, dtype, plain, partial(read_config, files)).loading():
            layout = layout_for(place, dtype, plain)
            checkpoint = load_checkpoint(files, place, dtype, strict, layout)
        tokenizer = Tokenizer.from_folder(files.folder, checkpoint.config.vocab_size)
    warn_about(files.label, short_window_limits(checkpoint.config), stacklevel=2)
    return Whisper(
        checkpoint.config,
        checkpoint.weights if layout is None else unpacked(checkpoint.weights, keep=True),
        tokenizer,
        name=files.label,
        device=place,
        dtype=dtype,
        alignment_heads=checkpoint.alignment_heads,
        report=checkpoint.report,
        threads=threads,
        plain=plain,
    )


@dataclass(frozen=True, repr=False, eq=False)  # a model is equal to itself only: comparing all weights is no use
class Whisper:
    """A Whisper model. Make one with :func:`load_model`, or an untrained one with :meth:`random`.

    ``weights`` is for reading. A float32 model on a CPU keeps the decoder's matrices in another layout and copies
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
    threads: int | None = None  # of a CPU; None for as many as the process may use cores
    plain: bool = False  # whether the readable layers compute

    @classmethod
    def random(
        cls, config: WhisperConfig | str = "tiny", seed: int = 0, device: str = "cpu", dtype: str = "float32"
    ) -> Self:
        """An untrained model of a configuration or a published name: the architecture without a download.

        >>> model = Whisper.random("tiny")
        >>> model.encode(np.zeros((1, 80, 200), np.float32)).shape
        (1, 100, 384)
        """
        if isinstance(config, str):
            name = ALIASES.get(config, config)
            if name not in PUBLISHED:
                raise ModelNotFoundError(f"unknown model {config!r}: expected one of {', '.join(PUBLISHED)}")
            config = PUBLISHED[name]
        place, numbers = resolve_device(device), config
        with MemoryGuard(place, "an untrained model", dtype, False, lambda: numbers).loading():
            layout = layout_for(place, dtype, plain=False)
            weights = random_weights(config, seed, dtype, place, layout)
        if layout is not None:
            weights = unpacked(weights, keep=True)
        return cls(config, weights, name="untrained", device=place, dtype=dtype)

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows languages other than English."""
        return self.config.is_multilingual

    @property
    def compute_dtype(self) -> str:
        """What it calculates in: float32, or float64 if its weights are."""
        return "float64" if self.dtype == "float64" else "float32"

    @cached_property
    def engine(self) -> Engine:
        """What computes: the layers as they are written, or the same scheduled for speed on a CPU or a GPU."""
        if uses_cpu_engine(self.device, self.dtype, self.plain):
            return CpuEngine(self.weights, self.config, self.threads)
        if self.device == "cpu":
            return PlainEngine(self.weights, self.config)
        make = PlainEngine if self.plain or self.dtype == "float64" else gpu_engine
        with self._guard.at("preparing"):
            return GuardedEngine(make(self.weights, self.config, self.device), self._guard)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds: the fields, not the engine and its threads."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _guard(self) -> MemoryGuard:
        """What is said of this model where a GPU's memory runs out."""
        config = self.config  # and not self, which the engine would then keep alive, and its weights
        return MemoryGuard(self.device, self.name, self.dtype, self.plain, lambda: config)

    def __repr__(self) -> str:
        millions = sum(map(prod, expected_shapes(self.config).values())) / 1e6
        return f"<Whisper {self.name}: {millions:.1f} million parameters in {self.dtype} on {self.device}>"

    def encode(self, mel: Array) -> Array:
        """Features of windows of sound: mel (B, M, 3000) -> (B, 1500, D). Fewer frames are allowed.

        Raises :class:`ShapeError` for another shape.
        """
        with self.engine.session(), self._guard.at("encoding a window"):
            return self.engine.encode(self._placed(mel))

    def _placed(self, array: Array) -> Array:
        """The array on this model's device, in the dtype it calculates in."""
        return to_device(array, self.device).astype(self.compute_dtype, copy=False)

    def logits(self, tokens: Any, features: Array) -> Array:
        """Scores of every possible next token after each: tokens (B, S) and features (B, T, D) -> (B, S, V).

        ``tokens`` may be nested lists. This is the plain decoder, without a cache. Raises :class:`ShapeError` for
        another shape or an id that the vocabulary does not have.
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
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise ShapeError(f"tokens: expected ids from 0 to {self.config.vocab_size - 1}, got one outside of them")
        # With all threads of the library: these are the layers as they are written.
        with on_device(self.device), self._guard.at("computing logits"):
            return decode(to_device(ids, self.device), self._placed(features), self.engine.decoder_weights, self.config)

    def detect_language(self, mel: Array) -> tuple[Any, Any]:
        """The language's token, and the probability of every language by its code, from a window's mel.

        mel (M, frames) -> a token and a mapping; (B, M, frames) -> B of each, as lists. Features will do as well:
        (T, D) or (B, T, D). Raises :class:`LanguageError` for an English-only model, which cannot tell.
        """
        if not self.is_multilingual:
            raise LanguageError(f"{self.name} is English only and cannot tell languages: use one such as 'base'")
        with self.engine.session(), error_context(self.name):
            found = language_probabilities(self._features(mel), self.engine, self.tokenizer)
        tokens = [self.tokenizer.language_token(max(row, key=row.__getitem__)) for row in found]
        return (tokens, found) if mel.ndim == 3 else (tokens[0], found[0])

    def _features(self, mel: Array) -> Array:
        """Features (B, T, D) of windows or of one: of a mel (B, M, frames) or (M, frames), or features already."""
        if mel.ndim not in (2, 3):
            raise ShapeError(
                f"mel: expected ({self.config.num_mel_bins}, frames), or a batch of them, got {tuple(mel.shape)}"
            )
        windows = mel if mel.ndim == 3 else mel[None]
        if windows.shape[1:] == (self.config.max_source_positions, self.config.d_model):
            return self._placed(windows)
        return self.encode(windows)

    def decode(
        self,
        mel: Array,
        options: DecodingOptions | None = None,
        *,
        generator: np.random.Generator | None = None,
        **changes: Any,
    ) -> Any:
        """What is said in a window, or in each of several.

        Args:
            mel: of a window of 30 s, (M, 3000), or features, (T, D); or a batch of them.
            options: how to decode; by default greedily with the language detected.
            generator: draws the tokens at temperatures above 0; by default a new one with seed 0.
            changes: fields of :class:`DecodingOptions` that differ from ``options``.

        Returns a :class:`DecodingResult`, for a batch a list of them. Raises :class:`ShapeError`
        for a mel of another shape, and what :func:`check_supported` does.
        """
        check_names(changes, [field.name for field in fields(DecodingOptions)])
        if not isinstance(options, DecodingOptions | None):
            raise OptionError(f"options: expected DecodingOptions or None, got {short_repr(options)}")
        check_generator(generator)
        asked = replace(DecodingOptions() if options is None else options, **changes)
        check_supported(asked, self.tokenizer, self.config)
        generator = generator or np.random.default_rng(0)
        with self.engine.session():
            requests = [
                WindowRequest(window[None], asked, generator, f"{self.name}: window {number}")
                for number, window in enumerate(self._features(mel), start=1)
            ]
            # Where tokens are drawn, one window's numbers must not depend on how many another takes.
            found = self._decode(requests) if asked.temperature == 0 else [self._decode([r])[0] for r in requests]
        return found if mel.ndim == 3 else found[0]

    def _decode(self, requests: Sequence[WindowRequest]) -> list[DecodingResult]:
        return decode_windows(requests, self.engine, self.tokenizer)

    def transcribe(
        self,
        audio: AudioSource,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        **options: Any,
    ) -> Transcript:
        """Turn speech into text.

        Args:
            audio: a path, bytes, an open file, ``"-"`` for standard input, or float32 samples (N,) at 16 kHz.
            progress: called with (seconds done, seconds in all) after every window; what it raises ends the work.
            generator: draws the tokens at temperatures above 0; by default a new one with seed 0, so that the same
                sound gives the same text every time.
            batch_size: how many windows are decoded together. Of 1, each window begins where the last sentence of the
                one before ended, and is told its text. Of more, the sound is cut in pauses, and the parts know nothing
                of each other: several times faster, with a word here and there that comes out differently.
            options: fields of :class:`TranscriptionOptions` and :class:`DecodingOptions`: ``language``, ``task``,
                ``temperature`` (a number or several), ``beam_size``, ``word_timestamps``, ``initial_prompt`` …

        Returns ``{"text": …, "segments": […], "language": code}``; a segment has the keys of :class:`Segment`.
        Raises :class:`AudioError`, :class:`LanguageError`, :class:`OptionError` and others of
        :mod:`minwhisper.errors`.
        """
        with self.stream(audio, progress=progress, generator=generator, batch_size=batch_size, **options) as running:
            for _ in running:
                pass
            return running.transcript

    def transcribe_many(
        self, audios: Iterable[AudioSource], *, batch_size: int = 8, seed: int = 0, **options: Any
    ) -> list[Transcript]:
        """Turn several sounds into text, up to ``batch_size`` of them at a time, whose windows are decoded together.

        Each becomes what :meth:`transcribe` alone would make of it, with a generator of this seed, in the order of
        ``audios``. Where one cannot be read, the others are transcribed all the same: then it raises
        :class:`SomeFailedError`, which has their transcripts.
        """
        found = list(self.stream_many(audios, batch_size=batch_size, seed=seed, **options))
        errors = {number: one for number, one in enumerate(found) if isinstance(one, MinWhisperError)}
        if errors:
            transcripts = [None if isinstance(one, MinWhisperError) else one.transcript for one in found]
            try:
                raise SomeFailedError(errors, transcripts)
            finally:
                del found, errors  # their tracebacks lead back to here: a circle, which would keep a GPU's memory
        return [one.transcript for one in found if isinstance(one, Transcription)]

    def stream(
        self,
        audio: AudioSource,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        **options: Any,
    ) -> Transcription:
        """Turn speech into text, segment by segment: yields each :class:`Segment` as soon as it is final.

        Everything is as in :meth:`transcribe`. Bad input is refused here, before the first segment is asked for.

        >>> for segment in model.stream("talk.mp3"):  # doctest: +SKIP
        ...     print(segment["start"], segment["text"])
        """
        asked = TranscriptionOptions.named(**options)
        check_count("batch_size", batch_size, optional=False)
        check_generator(generator)
        if progress is not None and not callable(progress):
            raise OptionError(
                f"progress: expected a function of (seconds done, seconds in all), got {short_repr(progress)}"
            )
        return Transcription(self, audio, asked, progress=progress, generator=generator, batch_size=batch_size)

    def stream_many(
        self, audios: Iterable[AudioSource], *, batch_size: int = 8, seed: int = 0, **options: Any
    ) -> Iterator[Transcription | MinWhisperError]:
        """Turn several sounds into text: yields each one's finished transcription, or why it failed, in their order.

        Everything is as in :meth:`transcribe_many`. Bad options are refused here, before the first sound is opened.
        """
        asked = TranscriptionOptions.named(**options)
        check_count("batch_size", batch_size, optional=False)
        check_seed(seed)
        if isinstance(audios, str | bytes | PathLike | np.ndarray):
            raise OptionError(f"audios: expected several sounds, such as a list, got one {type(audios).__name__}")
        check_options(asked, self, stacklevel=3)
        return transcribe_batched(self, audios, asked, batch_size, seed)

"""Chapter 8. Decoding: the features of a window and options become the window's tokens and text.

The options decide the prompt, the logit filters and the sampler. The same decoder detects the language: the token
after ``<|startoftranscript|>`` names it.

Walkthrough: section 11.
"""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from ..common.backend import Array, to_numpy
from ..common.finite import check_finite, error_context
from ..errors import OptionError
from ..model.config import WhisperConfig
from ..model.engine import DecoderInput, Engine
from ..model.layers import softmax
from ..tokenizer.special_tokens import SECONDS_PER_TIMESTAMP
from ..tokenizer.tokenizer import Tokenizer
from .logit_filters import LogitFilters, TimestampSettings
from .options import DecodingOptions
from .search import (
    Alternative,
    Candidate,
    KernelSampler,
    Sampler,
    Search,
    SearchBatch,
    SearchResult,
    beam_step,
    best_candidate,
    greedy,
    one_choice_each,
    sample,
    search,
    select_beam,
)


@dataclass(frozen=True)
class DecodingRecord:
    """The record of a search: the steps to its result, and all candidates."""

    steps: list["DecodingStep"]  # one for each token of the result, and one for the end if it was reached
    candidates: list[Candidate]  # the result among them, in the order of the search


class DecodingStep(NamedTuple):
    """A token of the result, and those that could have come instead."""

    token: int
    logprob: float
    alternatives: Sequence[Alternative]  # the most likely tokens, the best first


@dataclass(frozen=True)
class DecodingResult:
    """The decoded text of one window. Names are openai-whisper's."""

    audio_features: Array = field(repr=False, compare=False)  # (T, D), the output of the encoder
    language: str  # a code
    language_probs: dict[str, float] | None = field(repr=False, default=None)  # if the language was detected
    tokens: list[int] = field(default_factory=list)  # text and timestamps, without prompt and end
    text: str = ""  # without timestamps and the space in front
    avg_logprob: float = np.nan  # log-probability per token, the end counted as one
    no_speech_prob: float = np.nan
    temperature: float = np.nan
    compression_ratio: float = np.nan  # of the text: high if it repeats itself
    record: DecodingRecord | None = field(repr=False, compare=False, default=None)  # if alternatives were requested


class WindowRequest(NamedTuple):
    """A window to decode, with its options."""

    features: Array  # (1, T, D)
    options: DecodingOptions
    generator: np.random.Generator | None = None  # for temperatures above 0; None: a new one with seed 0
    where: str = "a window"  # the model and the window, for error messages
    alternatives: int = 0  # number of the most likely tokens to record at each step


class DecodingBatch:
    """Windows that are decoded together. They enter and leave at any time."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine, self._tokenizer = engine, tokenizer
        self._searches = SearchBatch(engine)
        self._requests: dict[int, tuple[WindowRequest, str, dict[str, float] | None]] = {}

    def add(self, request: WindowRequest) -> int:
        """Start decoding a window; return its number. Raises the errors of ``check_supported``."""
        with error_context(request.where):
            language, probabilities = _language(request, self._engine, self._tokenizer)
        search = begin_search(request, language, self._engine.config, self._tokenizer)
        number = self._searches.add(search, request.features)
        self._requests[number] = request, language, probabilities
        return number

    def step(self) -> list[tuple[int, DecodingResult]]:
        """Advance every window by one token; return the numbers and results of those that finish."""
        return [(number, self._result(*self._requests.pop(number), found)) for number, found in self._searches.step()]

    def _result(
        self, request: WindowRequest, language: str, probabilities: dict[str, float] | None, found: SearchResult
    ) -> DecodingResult:
        best = best_candidate(found.candidates, request.options.length_penalty)
        text = self._tokenizer.decode(best.tokens).strip()
        return DecodingResult(
            audio_features=request.features[0],
            language=language,
            language_probs=probabilities,
            tokens=list(best.tokens),
            text=text,
            avg_logprob=best.sum_logprob / (len(best.tokens) + 1),
            no_speech_prob=found.no_speech_prob,
            temperature=float(request.options.temperature),  # may be the integer 0
            compression_ratio=compression_ratio(text),
            record=make_record(best, found, self._tokenizer.eot) if request.alternatives else None,
        )


def make_record(best: Candidate, found: SearchResult, eot: int) -> DecodingRecord:
    """Return the steps that led to a candidate of a search that recorded alternatives."""
    steps = []
    for length, token in enumerate((*best.tokens, eot)):
        fork = found.forks.get(best.tokens[:length])
        if fork is None:  # the search ended for lack of positions
            break
        following = found.forks.get(best.tokens[: length + 1]) if length < len(best.tokens) else None
        total = best.sum_logprob if following is None else following.sum_logprob
        steps.append(DecodingStep(token, total - fork.sum_logprob, fork.alternatives))
    return DecodingRecord(steps, found.candidates)


def decode_windows(requests: Sequence[WindowRequest], engine: Engine, tokenizer: Tokenizer) -> list[DecodingResult]:
    """Decode several windows together. Raises the errors of ``check_supported``."""
    batch = DecodingBatch(engine, tokenizer)
    numbers = [batch.add(request) for request in requests]
    results: dict[int, DecodingResult] = {}
    while len(results) < len(numbers):
        results.update(batch.step())
    return [results[number] for number in numbers]


def _language(request: WindowRequest, engine: Engine, tokenizer: Tokenizer) -> tuple[str, dict[str, float] | None]:
    """Return the requested language and None, or the detected one and the probabilities of all languages."""
    requested = request.options.language
    if requested is not None or not tokenizer.is_multilingual:
        return tokenizer.language_code("en" if requested is None else requested), None
    probabilities = language_probabilities(request.features, engine, tokenizer)[0]
    return max(probabilities, key=probabilities.__getitem__), probabilities


def begin_search(request: WindowRequest, language: str, config: WhisperConfig, tokenizer: Tokenizer) -> Search:
    """Begin the search that the options describe."""
    options = request.options
    return search(
        initial_tokens(options, language, tokenizer, config),
        config.max_target_positions,
        sampler=sampler_for(options, tokenizer.eot, request.generator or np.random.default_rng(0)),
        logit_filters=logit_filters_for(options, tokenizer),
        tokenizer=tokenizer,
        max_tokens=options.sample_len or config.max_target_positions // 2,
        where=request.where,
        alternatives=request.alternatives,
    )


def check_supported(options: DecodingOptions, tokenizer: Tokenizer, config: WhisperConfig) -> None:
    """Reject options that a model does not support, before any work.

    Raises ``LanguageError`` for a language that the model does not have, ``TokenizerError`` for a
    translation by an English-only model, and ``OptionError`` for token ids outside the vocabulary or a prefix that
    does not fit.
    """
    initial_tokens(options, "en" if options.language is None else options.language, tokenizer, config)
    logit_filters_for(options, tokenizer)


def warn_of_prefix(options: DecodingOptions, stacklevel: int) -> None:
    """Warn about a prefix combined with timestamps; the warning names the line ``stacklevel`` calls above."""
    if options.prefix and not options.without_timestamps:
        warnings.warn(
            "prefix: with timestamps, the text after the prefix must begin with one, so often nothing follows; "
            "use without_timestamps=True",
            stacklevel=stacklevel + 1,
        )


def initial_tokens(
    options: DecodingOptions, language: str, tokenizer: Tokenizer, config: WhisperConfig
) -> tuple[int, ...]:
    """Return the tokens that the decoder starts from.

    They are ``<|startofprev|>`` and the last tokens of the prompt, up to half of the text positions; then language,
    task and timestamps; then the prefix. Raises ``OptionError`` for a prompt or prefix with ids outside the
    vocabulary, and for a prefix that does not fit.
    """
    half = config.max_target_positions // 2
    start = tokenizer.sot_sequence(language, options.task, timestamps=not options.without_timestamps)
    before = _token_ids("prompt", options.prompt, tokenizer)
    if before:
        before = (tokenizer.sot_prev, *before[-(half - 1) :])
    prefix = _token_ids("prefix", options.prefix, tokenizer)
    max_prefix = half - (options.sample_len or half)
    if max_prefix > 0:  # the prefix and the generated tokens share a half
        prefix = prefix[-max_prefix:]
    tokens = (*before, *start, *prefix)
    if len(tokens) > config.max_target_positions:
        raise OptionError(
            f"prefix: expected at most {config.max_target_positions - len(before) - len(start)} tokens, which is "
            f"what fits after the prompt, got {len(prefix)}"
        )
    return tokens


def _token_ids(name: str, given: str | Sequence[int] | None, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens of a prompt or prefix, which may be text."""
    if given is None or isinstance(given, str):
        return tuple(tokenizer.encode(" " + given.strip())) if given else ()
    for token in given:
        if not 0 <= token < tokenizer.vocab_size:
            raise OptionError(f"{name}: expected token ids from 0 to {tokenizer.vocab_size - 1}, got {token}")
    return tuple(given)


def logit_filters_for(options: DecodingOptions, tokenizer: Tokenizer) -> tuple[LogitFilters]:
    """Return the logit filters of these options, all in one value that a GPU kernel can apply."""
    max_initial = options.max_initial_timestamp
    timestamps = TimestampSettings(
        no_timestamps=tokenizer.no_timestamps,
        timestamp_begin=tokenizer.timestamp_begin,
        max_initial_index=None if max_initial is None else round(max_initial / SECONDS_PER_TIMESTAMP),
    )
    filters = LogitFilters(
        eot=tokenizer.eot,
        suppressed=tuple(options.suppressed_ids(tokenizer)),
        blank=(*tokenizer.encode(" "), tokenizer.eot) if options.suppress_blank else (),
        timestamps=None if options.without_timestamps else timestamps,
    )
    return (filters,)


def sampler_for(options: DecodingOptions, eot: int, generator: np.random.Generator) -> Sampler:
    """Return the sampler of these options."""
    if options.beam_size is not None:
        size = options.beam_size
        max_finished = round(size * (1 if options.patience is None else options.patience))
        return Sampler(
            partial(beam_step, beam_size=size, eot=eot),
            group_size=size,
            max_finished=max_finished,
            kernel_sampler=KernelSampler(partial(select_beam, beam_size=size, eot=eot), top=size + 1),
        )
    if options.temperature > 0:
        count, temperature = options.best_of or 1, options.temperature
        return Sampler(
            partial(sample, temperature=temperature, generator=generator),
            initial_size=count,
            group_size=count,
            max_finished=count,
            kernel_sampler=KernelSampler(one_choice_each, temperature=temperature, generator=generator),
        )
    return Sampler(greedy, kernel_sampler=KernelSampler(one_choice_each))


def compression_ratio(text: str) -> float:
    """Return the factor by which zlib shortens a text: above about 2.4, the text repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def language_probabilities(features: Array, engine: Engine, tokenizer: Tokenizer) -> list[dict[str, float]]:
    """Detect the language of each window: features (B, T, D) -> B mappings of language code to probability.

    The token after ``<|startoftranscript|>`` names the language. Its logits, restricted to the language tokens, give
    the probabilities.
    """
    first = tokenizer.language_token(tokenizer.languages[0])  # the languages have consecutive tokens
    detected = []
    for logits, _ in engine.decode_batch(
        [DecoderInput([[tokenizer.sot]], engine.new_cache(x[None])) for x in features]
    ):
        of_languages = logits[0, 0, first : first + len(tokenizer.languages)]
        probabilities = to_numpy(softmax(of_languages)).astype(np.float64)  # (languages,)
        check_finite(probabilities.tolist(), "the probability of a language")
        detected.append(dict(zip(tokenizer.languages, probabilities.tolist(), strict=True)))
    return detected

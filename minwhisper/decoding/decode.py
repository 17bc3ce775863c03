"""Chapter 8, all of it: a window of sound and options become what was said.

The options decide what the decoder is told first, what it may not say, and how its tokens are chosen. Which language
is spoken is read off the same decoder: after ``<|startoftranscript|>`` comes the language.

Walkthrough: section 11.
"""

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
from .logit_filters import LogitFilters, Timestamps
from .options import DecodingOptions
from .search import (
    Found,
    Sampler,
    Search,
    Searches,
    Strategy,
    beam_step,
    best_candidate,
    best_ways,
    draw,
    greedy,
    only_way,
    search,
)


@dataclass(frozen=True)
class DecodingResult:
    """What was said in one window. Names are openai-whisper's."""

    audio_features: Array = field(repr=False, compare=False)  # (T, D), as the encoder heard it
    language: str  # a code
    language_probs: dict[str, float] | None = field(repr=False, default=None)  # where the language was detected
    tokens: list[int] = field(default_factory=list)  # text and timestamps, without prompt and end
    text: str = ""  # without timestamps and the space in front
    avg_logprob: float = np.nan  # log-probability a token, the end counted as one
    no_speech_prob: float = np.nan  # how likely nobody speaks
    temperature: float = np.nan
    compression_ratio: float = np.nan  # of the text: high for one that repeats itself


class Request(NamedTuple):
    """A window to be decoded, and how."""

    features: Array  # (1, T, D)
    options: DecodingOptions
    generator: np.random.Generator | None = None  # for temperatures above 0; without one, a new one with seed 0
    where: str = "a window"  # the model and the window, for messages


class Decoding:
    """Windows that are being decoded together: they come and go."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine, self._tokenizer = engine, tokenizer
        self._searches = Searches(engine)
        self._requests: dict[int, tuple[Request, str, dict[str, float] | None]] = {}

    def add(self, request: Request) -> int:
        """Begin with a window; returns its number. Raises what :func:`check_possible` does."""
        with error_context(request.where):
            language, probabilities = _language(request, self._engine, self._tokenizer)
        search = begin_search(request, language, self._engine.config, self._tokenizer)
        number = self._searches.add(search, request.features)
        self._requests[number] = request, language, probabilities
        return number

    def step(self) -> list[tuple[int, DecodingResult]]:
        """Go one token on in all windows; returns those that have ended by it, by their numbers."""
        return [(number, self._result(*self._requests.pop(number), found)) for number, found in self._searches.step()]

    def _result(
        self, request: Request, language: str, probabilities: dict[str, float] | None, found: Found
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
            no_speech_prob=found.no_speech,
            temperature=float(request.options.temperature),
            compression_ratio=compression_ratio(text),
        )


def decode_windows(requests: Sequence[Request], engine: Engine, tokenizer: Tokenizer) -> list[DecodingResult]:
    """What is said in each of some windows, which are decoded together. Raises what :func:`check_possible` does."""
    decoding = Decoding(engine, tokenizer)
    numbers = [decoding.add(request) for request in requests]
    results: dict[int, DecodingResult] = {}
    while len(results) < len(numbers):
        results.update(decoding.step())
    return [results[number] for number in numbers]


def _language(request: Request, engine: Engine, tokenizer: Tokenizer) -> tuple[str, dict[str, float] | None]:
    """The language asked for, or the one that is heard, with what each language got."""
    asked = request.options.language
    if asked is not None or not tokenizer.is_multilingual:
        return tokenizer.language_code("en" if asked is None else asked), None
    probabilities = language_probabilities(request.features, engine, tokenizer)[0]
    return max(probabilities, key=probabilities.__getitem__), probabilities


def begin_search(request: Request, language: str, config: WhisperConfig, tokenizer: Tokenizer) -> Search:
    """Begin the search that the options ask for."""
    options = request.options
    return search(
        initial_tokens(options, language, tokenizer, config),
        config.max_target_positions,
        strategy=strategy_for(options, tokenizer.eot, request.generator or np.random.default_rng(0)),
        rules=logit_filters_for(options, tokenizer),
        tokenizer=tokenizer,
        most=options.sample_len or config.max_target_positions // 2,
        where=request.where,
    )


def check_possible(options: DecodingOptions, tokenizer: Tokenizer, config: WhisperConfig) -> None:
    """Refuse what a model cannot do, before it has to do anything else.

    Raises :class:`LanguageError` for a language that it does not have, :class:`TokenizerError` for a translation by
    an English-only model, and :class:`OptionError` for ids that the vocabulary does not have or have no room.
    """
    initial_tokens(options, "en" if options.language is None else options.language, tokenizer, config)
    logit_filters_for(options, tokenizer)


def initial_tokens(
    options: DecodingOptions, language: str, tokenizer: Tokenizer, config: WhisperConfig
) -> tuple[int, ...]:
    """What the decoder is told before it says anything: what came before, how to begin, and the beginning.

    ``<|startofprev|>`` and the last of the prompt, up to half of the text positions; language, task and form; the
    prefix. Raises :class:`OptionError` for a prompt or prefix of no tokens of this vocabulary or with no room.
    """
    half = config.max_target_positions // 2
    start = tokenizer.sot_sequence(language, options.task, timestamps=not options.without_timestamps)
    before = _context("prompt", options.prompt, tokenizer)
    if before:
        before = (tokenizer.sot_prev, *before[-(half - 1) :])
    prefix = _context("prefix", options.prefix, tokenizer)
    room = half - (options.sample_len or half)
    if room > 0:  # what is to be said and the prefix share a half
        prefix = prefix[-room:]
    tokens = (*before, *start, *prefix)
    if len(tokens) > config.max_target_positions:
        raise OptionError(
            f"prefix: expected at most {config.max_target_positions - len(before) - len(start)} tokens, which is "
            f"what fits behind the prompt, got {len(prefix)}"
        )
    return tokens


def _context(name: str, given: str | Sequence[int] | None, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens of a prompt or prefix, which may be text."""
    if given is None or isinstance(given, str):
        return tuple(tokenizer.encode(" " + given.strip())) if given else ()
    for token in given:
        if not 0 <= token < tokenizer.vocab_size:
            raise OptionError(f"{name}: expected token ids from 0 to {tokenizer.vocab_size - 1}, got {token}")
    return tuple(given)


def logit_filters_for(options: DecodingOptions, tokenizer: Tokenizer) -> tuple[LogitFilters]:
    """The rules that the options ask for: all of them in one, which a GPU can apply in its own kernel."""
    latest = options.max_initial_timestamp
    timestamps = Timestamps(
        no_timestamps=tokenizer.no_timestamps,
        first=tokenizer.timestamp_begin,
        latest_start=None if latest is None else round(latest / SECONDS_PER_TIMESTAMP),
    )
    filters = LogitFilters(
        eot=tokenizer.eot,
        suppressed=tuple(options.suppressed_ids(tokenizer)),
        blank=(*tokenizer.encode(" "), tokenizer.eot) if options.suppress_blank else (),
        timestamps=None if options.without_timestamps else timestamps,
    )
    return (filters,)


def strategy_for(options: DecodingOptions, eot: int, generator: np.random.Generator) -> Strategy:
    """The way to choose that the options ask for."""
    if options.beam_size is not None:
        size = int(options.beam_size)
        enough = round(size * float(1 if options.patience is None else options.patience))
        sampler = Sampler(partial(best_ways, size=size, eot=eot), top=size + 1)
        return Strategy(partial(beam_step, size=size, eot=eot), keep=size, enough=enough, sampler=sampler)
    if options.temperature > 0:
        count, temperature = int(options.best_of or 1), float(options.temperature)
        choose = partial(draw, temperature=temperature, generator=generator)
        sampler = Sampler(only_way, temperature=temperature, generator=generator)
        return Strategy(choose, start=count, keep=count, enough=count, sampler=sampler)
    return Strategy(greedy, sampler=Sampler(only_way))


def compression_ratio(text: str) -> float:
    """How many times shorter zlib makes a text: above 2.4 or so it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def language_probabilities(features: Array, engine: Engine, tokenizer: Tokenizer) -> list[dict[str, float]]:
    """How likely each language is, for each window: features (B, T, D) -> B mappings of code to probability.

    After ``<|startoftranscript|>`` a multilingual model says which language it hears; what it would say is read off
    the logits, with everything that is no language left out.
    """
    first = tokenizer.language_token(tokenizer.languages[0])  # their tokens follow each other
    heard = []
    for logits, _ in engine.decode_batch(
        [DecoderInput([[tokenizer.sot]], engine.new_cache(x[None])) for x in features]
    ):
        scores = logits[0, 0, first : first + len(tokenizer.languages)]
        probabilities = to_numpy(softmax(scores)).astype(np.float64)  # (languages,)
        check_finite(probabilities.tolist(), "the probability of a language")
        heard.append(dict(zip(tokenizer.languages, probabilities.tolist(), strict=True)))
    return heard

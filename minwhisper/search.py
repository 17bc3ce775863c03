"""Chapter 8. Choosing tokens: from the sound's features to the tokens of one window.

The decoder gives scores; something has to choose. Greedy search takes the likeliest token each time, feeds it back
and stops at ``<|endoftext|>``. The same first step answers two more questions at no cost: which language is spoken,
and whether anyone speaks at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from operator import index
from typing import Any, Self

import numpy as np

from .backend import Array, array_module, to_numpy
from .config import WhisperConfig
from .decoder import decode_cached, new_cache
from .errors import OptionError
from .layers import Weights, log_softmax, softmax
from .rules import Rule, suppress_blank, suppress_tokens, timestamp_rules
from .special_tokens import SECONDS_A_STEP
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class DecodingOptions:
    """How a window of sound is to be decoded. Names and defaults are openai-whisper's."""

    task: str = "transcribe"  # or "translate", which is to English
    language: str | None = None  # a code or an English name; None: detect it
    sample_len: int | None = None  # most tokens to say in a window; None: half of the text positions
    suppress_blank: bool = True  # do not begin with a space alone or the end
    suppress_tokens: Sequence[int] | str | None = "-1"  # ids never to say, also as "1,2,3"; -1: what is not spoken
    without_timestamps: bool = False  # text only, no times
    max_initial_timestamp: float | None = 1.0  # the first segment opens this early, in seconds

    @classmethod
    def named(cls, **options: Any) -> Self:
        """The options of these names. Raises :class:`OptionError` for a name that there is not."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = " or ".join(map(repr, get_close_matches(name, known)))
                hint = f"did you mean {near}? " if near else ""
                raise OptionError(f"unknown option {name!r}: {hint}expected one of {', '.join(known)}")
        return cls(**options)

    def __post_init__(self) -> None:
        most, latest = self.sample_len, self.max_initial_timestamp
        if self.task not in ("transcribe", "translate"):
            raise OptionError(f"task: expected 'transcribe' or 'translate', got {self.task!r}")
        if not isinstance(self.language, str | None):
            raise OptionError(f"language: expected a code or an English name, got {self.language!r}")
        if most is not None and (type(most) is not int or most < 1):
            raise OptionError(f"sample_len: expected a whole number of tokens, at least 1, got {most!r}")
        if latest is not None and not (isinstance(latest, int | float) and 0 <= latest <= 30):
            raise OptionError(f"max_initial_timestamp: expected 0 to 30 seconds, got {latest!r}")

    def suppressed_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The ids that ``suppress_tokens`` means, with the special tokens that only a prompt may have."""
        given = () if self.suppress_tokens is None else self.suppress_tokens
        try:
            # index() takes whole numbers of any kind, and nothing that would have to be rounded.
            listed = [int(i) for i in given.split(",") if i] if isinstance(given, str) else [*map(index, given)]
        except (TypeError, ValueError):
            raise OptionError(f"suppress_tokens: expected ids such as '-1' or '1,2,3', got {given!r}") from None
        wrong = [i for i in listed if not -1 <= i < tokenizer.vocab_size]
        if wrong:
            raise OptionError(f"suppress_tokens: {wrong[0]} is no id of a vocabulary of {tokenizer.vocab_size}")
        ids = {*tokenizer.prompt_tokens, *listed}
        if -1 in ids:
            ids = (ids - {-1}) | {*tokenizer.non_speech_tokens}
        return tuple(sorted(ids))


@dataclass(frozen=True)
class DecodingResult:
    """What was said in one window."""

    tokens: tuple[int, ...]  # text and timestamps, without prompt and end
    sum_logprob: float  # log-probability of them all, and of the end if it was reached
    no_speech_prob: float  # how likely nobody speaks

    @property
    def avg_logprob(self) -> float:
        """Log-probability a token, the end counted as one."""
        return self.sum_logprob / (len(self.tokens) + 1)


def rules_for(options: DecodingOptions, tokenizer: Tokenizer) -> tuple[Rule, ...]:
    """The rules that the options ask for, in the order in which they apply."""
    rules: list[Rule] = []
    if options.suppress_blank:
        rules.append(partial(suppress_blank, ids=(*tokenizer.encode(" "), tokenizer.eot)))
    rules.append(partial(suppress_tokens, ids=options.suppressed_ids(tokenizer)))
    if not options.without_timestamps:
        latest = options.max_initial_timestamp
        rules.append(
            partial(
                timestamp_rules,
                eot=tokenizer.eot,
                no_timestamps=tokenizer.no_timestamps,
                first=tokenizer.timestamp_begin,
                latest_start=None if latest is None else round(latest / SECONDS_A_STEP),
            )
        )
    return tuple(rules)


def greedy(
    features: Array,
    prompt: Sequence[int],
    weights: Weights,
    config: WhisperConfig,
    *,
    rules: Sequence[Rule],
    tokenizer: Tokenizer,
    most: int | None = None,
) -> DecodingResult:
    """Say the likeliest allowed token until the end: features (1, T, D) of a window, at most ``most`` tokens.

    ``weights`` is the "decoder" branch. The prompt begins with ``<|startoftranscript|>``, or has it after a text
    that came before.
    """
    xp = array_module(features)
    most = config.max_target_positions // 2 if most is None else most
    most = min(most, config.max_target_positions - len(prompt) + 1)  # the last one said is never fed back
    said: list[int] = []
    sum_logprob = 0.0
    cache = new_cache(features, weights, config)
    logits, cache = decode_cached(xp.asarray([prompt]), cache, weights, config)  # (1, S, V)
    # Before any rule: no speech is a special token that the rules forbid.
    no_speech = softmax(logits[:, list(prompt).index(tokenizer.sot)])[0, tokenizer.no_speech]
    while True:
        scores = logits[:, -1]  # (1, S, V) -> (1, V)
        for rule in rules:
            scores = rule(scores, [said])
        token = int(scores[0].argmax())
        sum_logprob += float(log_softmax(scores)[0, token])
        if token == tokenizer.eot:
            break
        said.append(token)
        if len(said) == most:
            break
        logits, cache = decode_cached(xp.asarray([[token]]), cache, weights, config)
    return DecodingResult(tuple(said), sum_logprob, float(no_speech))


def language_probabilities(
    features: Array, weights: Weights, config: WhisperConfig, tokenizer: Tokenizer
) -> list[dict[str, float]]:
    """How likely each language is, for each window: features (B, T, D) -> B mappings of code to probability.

    After ``<|startoftranscript|>`` a multilingual model says which language it hears; what it would say is read off
    the logits, with everything that is no language left out.
    """
    xp = array_module(features)
    start = xp.full((features.shape[0], 1), tokenizer.sot)
    logits, _ = decode_cached(start, new_cache(features, weights, config), weights, config)  # (B, 1, V)
    ids = [tokenizer.language_token(code) for code in tokenizer.languages]
    probabilities = to_numpy(softmax(logits[:, 0, ids])).astype(np.float64)  # (B, languages)
    return [dict(zip(tokenizer.languages, row.tolist(), strict=True)) for row in probabilities]

"""openai-whisper's ``whisper.tokenizer``: text to tokens and back, for one language and task."""

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

from ..checkpoints.files import CheckpointFiles
from ..checkpoints.sources import find_checkpoint, packaged_model
from ..errors import DownloadError, LanguageError, OptionError
from ..model.config import PUBLISHED, WhisperConfig
from ..tokenizer import languages
from ..tokenizer import tokenizer as native
from ..tokenizer.bpe import bytes_to_unicode
from ..tokenizer.languages import LANGUAGES
from ..transcription import words
from ..transcription.words import WordTokens

__all__ = ["LANGUAGES", "TO_LANGUAGE_CODE", "Tokenizer", "get_tokenizer"]

TO_LANGUAGE_CODE = {name: code for name, code in languages.TO_LANGUAGE_CODE.items() if name not in LANGUAGES}
"""English names and aliases of languages, in lower case, to their codes."""

VOCAB_SIZES = {(False, 99): 51864, (True, 99): 51865, (True, 100): 51866}  # by (multilingual, number of languages)

Split = tuple[list[str], list[list[int]]]
"""The text of each word, and the tokens of each word."""


class Tokenizer:
    """A tokenizer with a language and a task. Other attributes, such as ``eot``, are the wrapped tokenizer's."""

    def __init__(self, wrapped: native.Tokenizer, language: str | None = None, task: str | None = None) -> None:
        self.wrapped, self.language, self.task = wrapped, language, task
        self.num_languages = len(wrapped.languages)
        self.sot_sequence: tuple[int, ...] = (wrapped.sot,)
        if language is not None:
            self.sot_sequence += (self.to_language_token(language),)
        if task is not None:
            self.sot_sequence += (wrapped.transcribe if task == "transcribe" else wrapped.translate,)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # not set yet while a copy is made
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def encode(self, text: str, *, allowed_special: str | Collection[str] = (), **_others: Any) -> list[int]:
        """Return the tokens of a text.

        Names of special tokens in it are encoded as text, except those in ``allowed_special``.

        ``allowed_special`` may be "all".
        """
        special = self.wrapped.special_tokens
        names = list(special) if allowed_special == "all" else list(allowed_special)
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
        return [token for part in parts for token in ([special[part]] if part in names else self.wrapped.encode(part))]

    def decode(self, token_ids: Iterable[int], **_others: Any) -> str:
        """Return the text of tokens, without timestamps."""
        return self.wrapped.decode(map(int, token_ids))

    def decode_with_timestamps(self, token_ids: Iterable[int], **_others: Any) -> str:
        """Return the text of tokens, with timestamps such as ``<|1.08|>``."""
        return self.wrapped.decode_with_timestamps(map(int, token_ids))

    @property
    def language_token(self) -> int:
        """The token of the language. Raises ``ValueError`` for a tokenizer without a language."""
        if self.language is None:
            raise LanguageError("this tokenizer has no language: give get_tokenizer a language and multilingual=True")
        return self.to_language_token(self.language)

    def to_language_token(self, language: str) -> int:
        """Return the token of a language, given its code. Raises ``KeyError`` for any other name."""
        return self.wrapped.special_tokens[f"<|{language}|>"]

    @property
    def all_language_codes(self) -> tuple[str, ...]:
        """The codes of all languages, in the order of their tokens."""
        return self.wrapped.languages

    @cached_property
    def all_language_tokens(self) -> tuple[int, ...]:
        """The tokens of all languages."""
        return tuple(map(self.to_language_token, self.all_language_codes))

    @property
    def sot_sequence_including_notimestamps(self) -> tuple[int, ...]:
        """The start of a transcript without timestamps."""
        return (*self.sot_sequence, self.wrapped.no_timestamps)

    def split_to_word_tokens(self, tokens: Sequence[int]) -> Split:
        """Split tokens into words: at spaces, or at characters if the language has no spaces."""
        return _columns(words.split_to_word_tokens(self.wrapped, tokens, self.language))

    def split_tokens_on_unicode(self, tokens: Sequence[int]) -> Split:
        """Split tokens wherever those so far are whole characters."""
        return _columns(words.split_tokens_on_unicode(self.wrapped, tokens))

    def split_tokens_on_spaces(self, tokens: Sequence[int]) -> Split:
        """Split tokens before spaces, punctuation and special tokens."""
        return _columns(words.split_tokens_on_spaces(self.wrapped, tokens))


def _columns(rows: Sequence[WordTokens]) -> Split:
    return [row.word for row in rows], [list(row.tokens) for row in rows]


@cache
def get_tokenizer(
    multilingual: bool, *, num_languages: int = 99, language: str | None = None, task: str | None = None
) -> Tokenizer:
    """Return the tokenizer of multilingual or of English-only models.

    Args:
        multilingual: whether it is for multilingual models.
        num_languages: 99, or 100 for large-v3 and turbo.
        language: a code or an English name; English by default, and none for English-only models.
        task: "transcribe", the default, or "translate"; none for English-only models.

    The vocabulary is read from any model at hand: one that was loaded, is installed, or is in the hub's cache. If there
    is none, a tiny one is downloaded. Raises ``ValueError`` for an unknown language or another number of languages.
    """
    if (bool(multilingual), num_languages) not in VOCAB_SIZES:
        raise OptionError(f"num_languages: expected 99, or 100 for a multilingual tokenizer, got {num_languages}")
    wrapped = _native_tokenizer(VOCAB_SIZES[bool(multilingual), num_languages])
    code = wrapped.language_code("en" if language is None else language)
    return Tokenizer(wrapped, code, task or "transcribe") if multilingual else Tokenizer(wrapped)


_loaded: dict[int, native.Tokenizer] = {}  # tokenizers of models that were loaded, by the size of the vocabulary


def remember(tokenizer: native.Tokenizer) -> None:
    """Keep the tokenizer of a loaded model, for ``get_tokenizer``."""
    _loaded.setdefault(tokenizer.vocab_size, tokenizer)


def _native_tokenizer(vocab_size: int) -> native.Tokenizer:
    if vocab_size not in _loaded:
        files, config = _find_vocabulary(multilingual=vocab_size > 51864)
        found = native.Tokenizer.from_folder(files.folder, config.vocab_size)
        if config.vocab_size != vocab_size:  # the text pieces are the same, only the special tokens differ
            pieces = {bytes_to_unicode(found.token_bytes(token)): token for token in range(found.eot)}
            found = native.Tokenizer(pieces, vocab_size)
        remember(found)
    return _loaded[vocab_size]


def _find_vocabulary(multilingual: bool) -> tuple[CheckpointFiles, WhisperConfig]:
    """Return the files and the configuration of a published model, if possible of one that needs no download."""
    candidates = {name: config for name, config in PUBLISHED.items() if config.is_multilingual is multilingual}
    for name, config in candidates.items():
        if files := packaged_model(name):
            return files, config
    for name, config in candidates.items():
        with suppress(DownloadError):
            return find_checkpoint(name, local_only=True), config
    name, config = next(iter(candidates.items()))
    return find_checkpoint(name), config

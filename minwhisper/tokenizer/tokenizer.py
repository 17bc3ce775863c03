"""Chapter 6, all of it: a tokenizer, which is the steps, a vocabulary and its special tokens together.

:mod:`minwhisper.tokenizer.bpe` says how text becomes pieces, :mod:`minwhisper.tokenizer.special_tokens` what is above
them, and
:mod:`minwhisper.tokenizer.vocabulary` where the pieces come from. Here they meet: text to tokens and back, the tokens
that a transcript starts with, and those that are never said.

Walkthrough: section 8.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Self

from ..errors import LanguageError, TokenizerError
from .bpe import bytes_to_unicode, merge, merge_long, split_words, unicode_to_bytes
from .languages import LANGUAGES, TO_LANGUAGE_CODE
from .special_tokens import (
    FORMER_NAMES,
    LANGUAGE_COUNT,
    NEVER_GENERATED,
    SECONDS_PER_TIMESTAMP,
    check_special_tokens,
    special_token_ids,
)
from .vocabulary import VocabularyFiles, check_merges, check_pieces, read_tokenizer_json, read_vocab_and_merges

# Marks that tell of something written and not spoken: the brackets around "[APPLAUSE]", the colon after a
# speaker's name, notes for music. Left out are those of ordinary sentences.
_MARKS = (
    '( ) [ ] { } < > 「 」 『 』 " (( )) ((( ))) [[ ]] {{ }} << >> <<< >>> '
    "-( -[ (' (\" -- --- # * + / : ; = @ \\ ^ _ ` | ~ ♪♪ ♪♪♪"
)
_MUSIC = "♩♪♫♬♭♮♯"

LONG_WORD = 100  # bytes; the plain way of joining a longer one would take seconds for a page without spaces


class Tokenizer:
    """Text to tokens and back, and the special tokens by name.

    The text pieces alone define it. Special tokens and merges that the files list are held against the layout
    and the order of the pieces, so that a file of another model is an error and not nonsense.

    Args:
        vocab: spelled piece to id, as in the files; special tokens among them are checked only.
        vocab_size: that of the model, special tokens included: 51864, 51865 or 51866.
        merges: the pieces that merges result in, in their order.
        added: more special tokens that the files list, name to id.
        source: what errors call the files.

    Raises :class:`TokenizerError` where these do not make a Whisper vocabulary.
    """

    vocab_size: int
    is_multilingual: bool
    languages: tuple[str, ...]  # codes, in token order; English-only vocabularies have tokens for them too
    special_tokens: dict[str, int]  # name to id
    eot: int  # end of text, the last token of all; its id is also the number of text pieces
    sot: int  # start of transcript, where every prompt begins
    translate: int
    transcribe: int
    sot_lm: int
    sot_prev: int  # start of what was said before, the context that may precede the prompt
    no_speech: int  # never said; its probability after sot is the probability of no speech
    no_timestamps: int
    timestamp_begin: int  # 0.00 s; from here on all ids are times

    def __init__(
        self,
        vocab: Mapping[str, int],
        vocab_size: int,
        *,
        merges: Sequence[str] = (),
        added: Mapping[str, int] | None = None,
        source: str = "vocabulary",
    ) -> None:
        special = special_token_ids(vocab_size)
        self.vocab_size = vocab_size
        self.is_multilingual = vocab_size > 51864
        self.languages = tuple(LANGUAGES)[: LANGUAGE_COUNT[vocab_size]]
        self.special_tokens = special
        self.eot, self.sot = special["<|endoftext|>"], special["<|startoftranscript|>"]
        self.translate, self.transcribe = special["<|translate|>"], special["<|transcribe|>"]
        self.sot_lm, self.sot_prev = special["<|startoflm|>"], special["<|startofprev|>"]
        self.no_speech, self.no_timestamps = special["<|nospeech|>"], special["<|notimestamps|>"]
        self.timestamp_begin = special["<|0.00|>"]
        self._names = {token: name for name, token in special.items()}

        self._ids = dict(vocab)  # the text pieces, once the special tokens are out
        listed = {name: self._ids.pop(name) for name in (*special, *FORMER_NAMES) if name in vocab}
        check_special_tokens({**listed, **(added or {})}, special, vocab_size, source)
        check_pieces(self._ids, self.eot, vocab_size, source)
        check_merges(merges, self._ids, source)
        self._pieces = sorted(self._ids, key=self._ids.__getitem__)  # spelled; unspelled when asked for
        self._words: dict[str, list[int]] = {}  # words that were encoded before

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> Self:
        """Read ``tokenizer.json``, or ``vocab.json`` and ``merges.txt`` where there is none.

        Raises :class:`TokenizerError` naming the folder or file that is missing, damaged or another model's.
        """
        if (folder / "tokenizer.json").is_file():
            return cls.from_tokenizer_json(folder / "tokenizer.json", vocab_size)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return cls.from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt", vocab_size)
        found = "the folder has neither" if folder.is_dir() else "there is no such folder"
        raise TokenizerError(f"{folder}: expected tokenizer.json, or vocab.json and merges.txt; {found}")

    @classmethod
    def from_tokenizer_json(cls, path: Path, vocab_size: int) -> Self:
        """Read the file of the ``tokenizers`` library, which holds pieces, merges and special tokens.

        Raises :class:`TokenizerError` naming the file if it is damaged or another model's.
        """
        return cls._from_files(read_tokenizer_json(path), vocab_size)

    @classmethod
    def from_vocab_and_merges(cls, vocab: Path, merges: Path, vocab_size: int) -> Self:
        """Read GPT-2's two files: piece to id in JSON, and the merges one a line.

        Special tokens in an ``added_tokens.json`` beside them are checked.
        Raises :class:`TokenizerError` naming the file that is damaged or another model's.
        """
        return cls._from_files(read_vocab_and_merges(vocab, merges), vocab_size)

    @classmethod
    def _from_files(cls, files: VocabularyFiles, vocab_size: int) -> Self:
        return cls(files.vocab, vocab_size, merges=files.merges, added=files.added, source=files.source)

    # -------------------------------------------------------------------------------------- text

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. Special ones are never among them: "<|endoftext|>" is seven tokens of text.

        Raises :class:`TokenizerError` for a lone surrogate, which is no character and has no UTF-8.
        """
        return [token for word in split_words(text) for token in self._encode_word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, without the timestamps; other special tokens show by name.

        Bytes that are not UTF-8, such as half a character at the end, become U+FFFD.
        Raises :class:`TokenizerError` for an id outside of the vocabulary.
        """
        return "".join(self.decode_stream(tokens))

    def decode_with_timestamps(self, tokens: Iterable[int]) -> str:
        """The text of tokens with the timestamps by name, such as ``<|1.08|>``.

        Everything else, errors included, is as in :meth:`decode`.
        """
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", errors="replace")

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they come, each character when its last byte is there.

        What was yielded is never taken back, and all of it together is what :meth:`decode` returns.
        Raises :class:`TokenizerError` for an id outside of the vocabulary.
        """
        reader = codecs.getincrementaldecoder("utf-8")(errors="replace")  # holds back unfinished characters
        for token in tokens:
            data = self.token_bytes(token)
            if token < self.timestamp_begin and (text := reader.decode(data)):
                yield text
        if text := reader.decode(b"", final=True):
            yield text

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; for a special token those of its name.

        Raises :class:`TokenizerError` for an id outside of the vocabulary.
        """
        if 0 <= token < self.eot:
            return unicode_to_bytes(self._pieces[token])
        if token not in self._names:
            raise TokenizerError(f"token {token}: expected an id from 0 to {self.vocab_size - 1}")
        return self._names[token].encode()

    def name(self, token: int) -> str:
        r"""A token for a reader's eyes: ``<|0.00|>``, `` the``, and ``\xe2\x99`` for a piece of a character.

        Raises :class:`TokenizerError` for an id outside of the vocabulary.
        """
        return self.token_bytes(token).decode("utf-8", errors="backslashreplace")

    def _encode_word(self, word: str) -> list[int]:
        tokens = self._words.get(word)
        if tokens is None:
            try:
                spelled = bytes_to_unicode(word.encode())
            except UnicodeEncodeError as error:
                raise TokenizerError(
                    f"cannot encode {word[error.start]!r}: a lone surrogate, half of a UTF-16 pair, is no character"
                ) from None
            join = merge if len(spelled) <= LONG_WORD else merge_long
            tokens = [self._ids[piece] for piece in join(spelled, self._ids)]
            if len(self._words) >= 10_000:  # forget now and then, lest every word ever seen is kept
                self._words.clear()
            self._words[word] = tokens
        return tokens

    # -------------------------------------------------------------------------------------- special tokens

    def language_code(self, language: str) -> str:
        """The code of a language, given its code, its English name or an alias, in any case.

        "de", "German" and "Mandarin" are understood.
        Raises :class:`LanguageError` for a language that is unknown, or that this vocabulary has no token for.
        """
        called = language.strip().lower()
        code = TO_LANGUAGE_CODE.get(called)
        if code is None:
            main = re.split("[-_]", called)[0]  # of "fr-FR" and "zh_tw"
            near = [main] if main in TO_LANGUAGE_CODE else get_close_matches(called, TO_LANGUAGE_CODE)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "Tokenizer.languages has all the codes"
            raise LanguageError(
                f"unknown language {language!r}: expected a code or an English name, such as 'de' or 'german'; {hint}"
            )
        if code not in self.languages:
            raise LanguageError(
                f"language {language!r}: this model's vocabulary has no token for {LANGUAGES[code].title()} "
                f"({code}), which came with large-v3; use large-v3 or turbo"
            )
        return code

    def language_token(self, language: str) -> int:
        """The token of a language; names and errors are those of :meth:`language_code`."""
        return self.special_tokens[f"<|{self.language_code(language)}|>"]

    def sot_sequence(self, language: str | None, task: str, timestamps: bool) -> tuple[int, ...]:
        """The tokens a transcript starts with. They tell the decoder the language, the task and the form.

        For German with times, ``<|startoftranscript|> <|de|> <|transcribe|>``; without times one more,
        ``<|notimestamps|>``. An English-only model knows one language and one task, and is told neither.

        Args:
            language: as :meth:`language_code` takes it; None for English-only models only.
            task: "transcribe", or "translate", which is to English.
            timestamps: whether the model is to say when.

        Raises :class:`TokenizerError` for the task, :class:`LanguageError` for the language that cannot be had.
        """
        if task not in ("transcribe", "translate"):
            raise TokenizerError(f"unknown task {task!r}: expected 'transcribe' or 'translate'")
        form = () if timestamps else (self.no_timestamps,)
        if self.is_multilingual:
            if language is None:
                raise LanguageError("a multilingual model needs a language to start: name it, or detect it first")
            return (self.sot, self.language_token(language), self.special_tokens[f"<|{task}|>"], *form)
        if task == "translate":
            raise TokenizerError("an English-only model cannot translate: use a multilingual one such as 'base'")
        if language is not None and self.language_code(language) != "en":
            raise LanguageError(
                f"language {language!r}: this model is English only; use a multilingual one such as 'base'"
            )
        return (self.sot, *form)

    def timestamp_seconds(self, token: int) -> float:
        """The time that a timestamp token stands for, in seconds from the start of the window.

        Raises :class:`TokenizerError` for a token that is no timestamp.
        """
        first, last = self.timestamp_begin, self.vocab_size - 1
        if not first <= token <= last:
            raise TokenizerError(f"token {token} is no timestamp: expected an id from {first} to {last}")
        return (token - first) * SECONDS_PER_TIMESTAMP

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of marks that are written and not spoken, in order: what "-1" stands for among suppressed tokens.

        Suppressed is a mark that is one token, with a space before it or without. A mark of several tokens shares
        them with other text and is let be. Two things go by their first token all the same: a note of music, since
        no speech begins with its first two bytes, and a hyphen or an apostrophe at the start of a word, where it
        stands for a dash or opens a quotation.
        """
        marks = [self.encode(space + mark) for mark in _MARKS.split() for space in ("", " ")]
        notes = [self.encode(space + note) for note in _MUSIC for space in ("", " ")]
        openings = [self.encode(" -"), self.encode(" '")]
        single = {tokens[0] for tokens in marks if len(tokens) == 1}
        return tuple(sorted(single | {tokens[0] for tokens in notes + openings}))

    @cached_property
    def prompt_only_tokens(self) -> tuple[int, ...]:
        """Special tokens that only a prompt may have, in order: the model never says them."""
        return tuple(sorted(self.special_tokens[f"<|{name}|>"] for name in NEVER_GENERATED))

    @cached_property
    def suppressed_tokens(self) -> tuple[int, ...]:
        """All tokens that are never said, in order: those of a prompt, and marks that nobody speaks."""
        return tuple(sorted({*self.prompt_only_tokens, *self.non_speech_tokens}))

"""Chapter 6: the tokenizer, which encodes and decodes text and has the ids of the special tokens.

It combines ``tokenizer.bpe``, ``tokenizer.special_tokens`` and ``tokenizer.vocabulary``, and adds the
start-of-transcript sequence and the tokens to suppress.

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

# Symbols that are written but not spoken: the brackets of "[APPLAUSE]", the colon after a speaker's name, music notes.
# Ordinary punctuation is not among them.
SYMBOLS = (
    '( ) [ ] { } < > 「 」 『 』 " (( )) ((( ))) [[ ]] {{ }} << >> <<< >>> '
    "-( -[ (' (\" -- --- # * + / : ; = @ \\ ^ _ ` | ~ ♪♪ ♪♪♪"
)
MUSIC = "♩♪♫♬♭♮♯"

LONG_WORD = 100  # bytes; longer words use merge_long: merge takes seconds for a page without spaces


class Tokenizer:
    """Whisper's tokenizer: encodes text, decodes tokens, and has the ids of the special tokens.

    The text pieces alone define a tokenizer. The special tokens and merges in its files are checked, so that a file of
    another model raises an error instead of producing nonsense.

    Args:
        vocab: from piece to id, as in the files; special tokens among them are only checked.
        vocab_size: the model's vocabulary size, including special tokens: 51864, 51865 or 51866.
        merges: the piece that each merge results in, in order.
        added: more special tokens in the files, from name to id.
        source: names the files in errors.

    Raises ``TokenizerError`` if these do not form a Whisper vocabulary.
    """

    vocab_size: int
    is_multilingual: bool
    languages: tuple[str, ...]  # codes, in token order; English-only vocabularies have these tokens too
    special_tokens: dict[str, int]  # from name to id
    eot: int  # end of text; its id equals the number of text pieces
    sot: int  # start of transcript
    translate: int
    transcribe: int
    sot_lm: int
    sot_prev: int  # start of the previous text, the context that can precede sot
    no_speech: int  # never generated; its probability after sot is the probability of no speech
    no_timestamps: int
    timestamp_begin: int  # 0.00 s; all ids from here on are timestamps

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

        self._ids = dict(vocab)  # the text pieces, after the next line has removed the special tokens
        listed = {name: self._ids.pop(name) for name in (*special, *FORMER_NAMES) if name in vocab}
        check_special_tokens({**listed, **(added or {})}, special, vocab_size, source)
        check_pieces(self._ids, self.eot, vocab_size, source)
        check_merges(merges, self._ids, source)
        self._pieces = sorted(self._ids, key=self._ids.__getitem__)
        self._word_cache: dict[str, list[int]] = {}

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> Self:
        """Read ``tokenizer.json``, or else ``vocab.json`` and ``merges.txt``.

        Raises ``TokenizerError``, which names the folder or file, if it is missing, damaged or of another model.
        """
        if (folder / "tokenizer.json").is_file():
            return cls.from_tokenizer_json(folder / "tokenizer.json", vocab_size)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return cls.from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt", vocab_size)
        found = "the folder has neither" if folder.is_dir() else "there is no such folder"
        raise TokenizerError(
            f"{folder}: expected tokenizer.json, or vocab.json and merges.txt; {found}; copy them from "
            "the model's source"
        )

    @classmethod
    def from_tokenizer_json(cls, path: Path, vocab_size: int) -> Self:
        """Read a ``tokenizer.json`` of the ``tokenizers`` library.

        Raises ``TokenizerError``, which names the file, if it is damaged or of another model.
        """
        return cls._from_files(read_tokenizer_json(path), vocab_size)

    @classmethod
    def from_vocab_and_merges(cls, vocab: Path, merges: Path, vocab_size: int) -> Self:
        """Read GPT-2's two files: the ids of the pieces as JSON, and one merge per line.

        Special tokens in an ``added_tokens.json`` in the same folder are checked. Raises ``TokenizerError``, which
        names the file, if it is damaged or of another model.
        """
        return cls._from_files(read_vocab_and_merges(vocab, merges), vocab_size)

    @classmethod
    def _from_files(cls, files: VocabularyFiles, vocab_size: int) -> Self:
        return cls(files.vocab, vocab_size, merges=files.merges, added=files.added, source=files.source)

    # -------------------------------------------------------------------------------------- text

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. They are never special: "<|endoftext|>" is seven tokens of text.

        Raises ``TokenizerError`` for a lone surrogate, which is not a character and has no UTF-8 encoding.
        """
        return [token for word in split_words(text) for token in self._encode_word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens without timestamps; other special tokens appear by name.

        Invalid UTF-8, such as an incomplete character at the end, becomes U+FFFD. Raises ``TokenizerError`` for an
        id outside the vocabulary.
        """
        return "".join(self.decode_stream(tokens))

    def decode_with_timestamps(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens with timestamps by name, such as ``<|1.08|>``; otherwise as ``decode``."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", errors="replace")

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they arrive, each character when its last byte has arrived.

        Together the parts are what ``decode`` returns. Raises ``TokenizerError`` for an id outside the
        vocabulary.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # holds back incomplete characters
        for token in tokens:
            data = self.token_bytes(token)
            if token < self.timestamp_begin and (text := decoder.decode(data)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; for a special token, those of its name.

        Raises ``TokenizerError`` for an id outside the vocabulary.
        """
        if 0 <= token < self.eot:
            return unicode_to_bytes(self._pieces[token])
        if token not in self._names:
            raise TokenizerError(f"token {token}: expected an id from 0 to {self.vocab_size - 1}")
        return self._names[token].encode()

    def name(self, token: int) -> str:
        r"""Return a token in printable form: ``<|0.00|>``, `` the``, or ``\xe2\x99`` for an incomplete character.

        Raises ``TokenizerError`` for an id outside the vocabulary.
        """
        return self.token_bytes(token).decode("utf-8", errors="backslashreplace")

    @property
    def ids(self) -> Mapping[str, int]:
        """The id of each piece of text, in the characters of ``bpe.byte_alphabet``; not to be changed."""
        return self._ids

    def _encode_word(self, word: str) -> list[int]:
        tokens = self._word_cache.get(word)
        if tokens is None:
            try:
                characters = bytes_to_unicode(word.encode())
            except UnicodeEncodeError as error:
                raise TokenizerError(
                    f"cannot encode {word[error.start]!r}: a lone surrogate, half of a UTF-16 pair, is not a "
                    "character; remove it"
                ) from None
            merge_word = merge if len(characters) <= LONG_WORD else merge_long
            tokens = [self._ids[piece] for piece in merge_word(characters, self._ids)]
            if len(self._word_cache) >= 10_000:  # bounds the memory
                self._word_cache.clear()
            self._word_cache[word] = tokens
        return tokens

    # -------------------------------------------------------------------------------------- special tokens

    def language_code(self, language: str) -> str:
        """Return the code of a language given its code, English name or alias, such as "de", "German" or "Mandarin".

        Case is ignored. Raises ``LanguageError`` for a language that is unknown, or for which this
        vocabulary has no token.
        """
        name = language.strip().lower()
        code = TO_LANGUAGE_CODE.get(name)
        if code is None:
            main = re.split("[-_]", name)[0]  # "fr" of "fr-FR", "zh" of "zh_tw"
            near = [main] if main in TO_LANGUAGE_CODE else get_close_matches(name, TO_LANGUAGE_CODE)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "Tokenizer.languages lists the codes"
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
        """Return the token of a language; names and errors are those of ``language_code``."""
        return self.special_tokens[f"<|{self.language_code(language)}|>"]

    def sot_sequence(self, language: str | None, task: str, timestamps: bool) -> tuple[int, ...]:
        """Return the start-of-transcript sequence, which sets the language, the task and the use of timestamps.

        For German with timestamps: ``<|startoftranscript|> <|de|> <|transcribe|>``. Without timestamps,
        ``<|notimestamps|>`` follows. English-only models omit language and task.

        Args:
            language: as in ``language_code``; None for English-only models.
            task: "transcribe", or "translate" (to English).
            timestamps: False to generate text without timestamps.

        Raises ``TokenizerError`` for an invalid task, ``LanguageError`` for an invalid language.
        """
        if task not in ("transcribe", "translate"):
            raise TokenizerError(f"unknown task {task!r}: expected 'transcribe' or 'translate'")
        form = () if timestamps else (self.no_timestamps,)
        if self.is_multilingual:
            if language is None:
                raise LanguageError("language None: a multilingual model needs a language: name it, or detect it first")
            return (self.sot, self.language_token(language), self.special_tokens[f"<|{task}|>"], *form)
        if task == "translate":
            raise TokenizerError(
                "task 'translate': an English-only model cannot translate; use a multilingual one such as 'base'"
            )
        if language is not None and self.language_code(language) != "en":
            raise LanguageError(
                f"language {language!r}: this model is English only; use a multilingual one such as 'base'"
            )
        return (self.sot, *form)

    def timestamp_seconds(self, token: int) -> float:
        """Return the time of a timestamp token in seconds from the start of the window.

        Raises ``TokenizerError`` for a token that is not a timestamp.
        """
        first, last = self.timestamp_begin, self.vocab_size - 1
        if not first <= token <= last:
            raise TokenizerError(f"token {token} is not a timestamp: expected an id from {first} to {last}")
        return (token - first) * SECONDS_PER_TIMESTAMP

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """The tokens of symbols that are written but not spoken, sorted; -1 in ``suppress_tokens`` means these.

        A symbol is suppressed if it is a single token, with or without a leading space; the tokens of a longer symbol
        also occur in other text. Two kinds are suppressed by their first token anyway: a music note, because no speech
        begins with its first two bytes, and a hyphen or apostrophe at the start of a word, where it is a dash or opens
        a quotation.
        """
        symbols = [self.encode(space + symbol) for symbol in SYMBOLS.split() for space in ("", " ")]
        notes = [self.encode(space + note) for note in MUSIC for space in ("", " ")]
        openings = [self.encode(" -"), self.encode(" '")]
        single = {tokens[0] for tokens in symbols if len(tokens) == 1}
        return tuple(sorted(single | {tokens[0] for tokens in notes + openings}))

    @cached_property
    def prompt_only_tokens(self) -> tuple[int, ...]:
        """The special tokens that occur only in a prompt and are never generated, sorted."""
        return tuple(sorted(self.special_tokens[f"<|{name}|>"] for name in NEVER_GENERATED))

    @cached_property
    def suppressed_tokens(self) -> tuple[int, ...]:
        """All tokens that are suppressed by default, sorted: prompt-only and non-speech tokens."""
        return tuple(sorted({*self.prompt_only_tokens, *self.non_speech_tokens}))

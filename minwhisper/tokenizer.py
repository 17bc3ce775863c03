"""Chapter 6: from text to tokens and back, by byte-level byte-pair encoding.

Whisper speaks in tokens: whole numbers, each for a few bytes of UTF-8 text. Three steps lead from text to
tokens. With the vocabulary of the English-only models, "It's ♪ 42" takes them like this:

    0. the text                         It's ♪ 42
    1. cut into words (split_words)     It     's     ␣♪          ␣42
    2. spelled in bytes (spell)         It     's     ĠâĻª        Ġ42      one visible character a byte
    3. joined into pieces (merge)       It     's     ĠâĻ  ª      Ġ42      what the vocabulary has
       and looked up                    1026   338    20724 103   5433

Back is easier: look up the pieces, undo the spelling, join the bytes and read them as UTF-8. A token may hold
half a character, as two of these do, so the bytes have to be joined before they are read.

Above the text pieces are the special tokens, which no text can produce: the language, the task, the times.

Sources: Sennrich et al., 2016, "Neural Machine Translation of Rare Words with Subword Units", for byte-pair
encoding; Radford et al., 2019, "Language Models are Unsupervised Multitask Learners", section 2.2, for bytes
instead of characters; Radford et al., 2022, section 2.3 and figure 1, for Whisper's special tokens.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, Self

from .errors import LanguageError, TokenizerError
from .languages import CODES, LANGUAGES

# ------------------------------------------------------------------------------------------ 1. words

# GPT-2's words: the ending of a contraction; letters, digits or other visible characters, each kind with the one
# space before it; and white space. Of several spaces `\s+(?!\S)` leaves the last to the word that follows. The
# original has \p{L} and \p{N}, letters and numbers of all scripts, which Python's `re` lacks: see _stand_in.
# re.ASCII: \s is tab, newline, \v, \f, return and space, but not the separators \x1c to \x1f, which are no
# white space in Unicode although str.isspace() says so.
_WORD = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,
)


def split_words(text: str) -> list[str]:
    r"""Cut text into the words that are encoded one by one; joined, they are the text again.

    >>> split_words("It's 8 o'clock,  Zoë…")
    ['It', "'s", ' 8', ' o', "'", 'clock', ',', ' ', ' Zoë', '…']
    >>> split_words("a\u3000b ٤٢\n")
    ['a', '\u3000', 'b', ' ٤٢', '\n']
    """
    # The pattern reads a silhouette of the text, in which an ASCII character of the same kind stands for every
    # other character. The two have the same length, so that a place in one is a place in the other.
    silhouette = "".join(map(_stand_in, text))
    return [text[match.start() : match.end()] for match in _WORD.finditer(silhouette)]


def _stand_in(char: str) -> str:
    """An ASCII character of the same kind: letter, number, white space, other. ASCII stands for itself."""
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category[0] == "L":
        return "A"  # any letter would do that is in no contraction
    if category[0] == "N":
        return "0"
    return "\t" if category[0] == "Z" or char == "\x85" else "!"


# ------------------------------------------------------------------------------------------ 2. bytes


def byte_alphabet() -> dict[int, str]:
    """The character that each byte is spelled with in vocabulary files, as GPT-2 chose them.

    A byte that is visible in Latin-1 is itself. The 68 others, spaces and controls, get the characters from
    U+0100 on, so that no piece in a file has white space in it: a space is 'Ġ', a newline 'Ċ'.

    >>> alphabet = byte_alphabet()
    >>> alphabet[ord("A")], alphabet[ord(" ")], alphabet[10], len(set(alphabet.values()))
    ('A', 'Ġ', 'Ċ', 256)
    """
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    visible = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}


# Latin-1 reads every byte as the character of that number, so str.translate does the rest, both ways.
_SPELLING = byte_alphabet()
_READING = {ord(char): byte for byte, char in _SPELLING.items()}
_SPELLED = re.compile("[" + re.escape("".join(_SPELLING.values())) + "]*")


def spell(data: bytes) -> str:
    """Bytes in the alphabet of vocabulary files.

    >>> spell(" né".encode())
    'ĠnÃ©'
    """
    return data.decode("latin-1").translate(_SPELLING)


def unspell(piece: str) -> bytes:
    """The bytes that are spelled so.

    >>> unspell("ĠnÃ©").decode()
    ' né'
    """
    return piece.translate(_READING).encode("latin-1")


# ------------------------------------------------------------------------------------------ 3. pieces


def merge(word: str, ids: Mapping[str, int]) -> list[str]:
    """Join the characters of a spelled word into pieces of the vocabulary, the piece of the lowest id first.

    A vocabulary is learned by joining the most frequent pair of neighbours in a large text, over and over, and
    giving every new piece the next id. To encode is to repeat those joins in the order of their ids.

    >>> merge("Ġlower", {"er": 256, "Ġl": 257, "ow": 258, "Ġlow": 259})  # Ġlow·er, by way of Ġl·ow·er
    ['Ġlow', 'er']
    >>> merge("aaaaa", {"aa": 256, "aaaa": 257})
    ['aaaa', 'a']
    """
    pieces = list(word)
    while len(pieces) > 1:
        joined = [left + right for left, right in pairwise(pieces)]
        first = min(joined, key=lambda piece: ids.get(piece, inf))
        if first not in ids:
            break
        # One pass joins all such pairs, from left to right; a joined pair is two places long.
        merged, place = [], 0
        while place < len(pieces):
            joins = place < len(joined) and joined[place] == first
            merged.append(first if joins else pieces[place])
            place += 2 if joins else 1
        pieces = merged
    return pieces


# ------------------------------------------------------------------------------------------ special tokens

_LANGUAGE_COUNT = {51864: 99, 51865: 99, 51866: 100}  # English only; multilingual; large-v3 and turbo
_TIMESTAMPS = 1501  # 0.00 s to 30.00 s in steps of 0.02 s, which is one position of the encoder's output
_FORMER_NAMES = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # in the files of older models
_NEVER_SAID = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")


def special_layout(vocab_size: int) -> dict[str, int]:
    """Every special token's id in one of Whisper's three vocabularies, which differ in size.

    Special tokens are the last of the vocabulary and come in this order always, but how many languages there
    are moves all that follow. The same name has another id in another model, so ids are looked up by name:

    >>> [special_layout(size)["<|notimestamps|>"] for size in (51864, 51865, 51866)]
    [50362, 50363, 50364]

    Raises :class:`TokenizerError` for any other size.
    """
    if vocab_size not in _LANGUAGE_COUNT:
        raise TokenizerError(
            f"a vocabulary of {vocab_size} tokens is not Whisper's: expected 51864 (English only), "
            "51865 (multilingual) or 51866 (multilingual with Cantonese: large-v3, turbo)"
        )
    names = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in list(LANGUAGES)[: _LANGUAGE_COUNT[vocab_size]]),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *(f"<|{step * 2 / 100:.2f}|>" for step in range(_TIMESTAMPS)),
    ]
    return {name: token for token, name in enumerate(names, start=vocab_size - len(names))}


# Marks that tell of something written and not spoken: the brackets around "[APPLAUSE]", the colon after a
# speaker's name, notes for music. Left out are those of ordinary sentences.
_MARKS = (
    '( ) [ ] { } < > 「 」 『 』 " (( )) ((( ))) [[ ]] {{ }} << >> <<< >>> '
    "-( -[ (' (\" -- --- # * + / : ; = @ \\ ^ _ ` | ~ ♪♪ ♪♪♪"
)
_MUSIC = "♩♪♫♬♭♮♯"


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
        special = special_layout(vocab_size)
        self.vocab_size = vocab_size
        self.is_multilingual = vocab_size > 51864
        self.languages = tuple(LANGUAGES)[: _LANGUAGE_COUNT[vocab_size]]
        self.special_tokens = special
        self.eot, self.sot = special["<|endoftext|>"], special["<|startoftranscript|>"]
        self.translate, self.transcribe = special["<|translate|>"], special["<|transcribe|>"]
        self.sot_lm, self.sot_prev = special["<|startoflm|>"], special["<|startofprev|>"]
        self.no_speech, self.no_timestamps = special["<|nospeech|>"], special["<|notimestamps|>"]
        self.timestamp_begin = special["<|0.00|>"]
        self._names = {token: name for name, token in special.items()}

        self._ids = dict(vocab)  # the text pieces, once the special tokens are out
        listed = {name: self._ids.pop(name) for name in (*special, *_FORMER_NAMES) if name in vocab}
        _check_special({**listed, **(added or {})}, special, vocab_size, source)
        _check_pieces(self._ids, self.eot, vocab_size, source)
        _check_merges(merges, self._ids, source)
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
        values = _read_json(path)
        try:
            model: dict[str, Any] = values["model"]
            vocab: dict[str, int] = {**model["vocab"]}
            merges = _joined(model["merges"])
            added: dict[str, int] = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
        except (KeyError, TypeError) as error:
            raise TokenizerError(
                f"{path}: expected model.vocab, model.merges and added_tokens, as the tokenizers library writes "
                f"them ({type(error).__name__}: {error})"
            ) from None
        return cls(vocab, vocab_size, merges=merges, added=added, source=str(path))

    @classmethod
    def from_vocab_and_merges(cls, vocab: Path, merges: Path, vocab_size: int) -> Self:
        """Read GPT-2's two files: piece to id in JSON, and the merges one a line.

        Special tokens in an ``added_tokens.json`` beside them are checked.
        Raises :class:`TokenizerError` naming the file that is damaged or another model's.
        """
        lines = [line for line in _read_text(merges).splitlines() if line and not line.startswith("#version")]
        beside = vocab.with_name("added_tokens.json")
        added = _read_json(beside) if beside.is_file() else {}
        source = f"{vocab} and {merges.name}"
        return cls(_read_json(vocab), vocab_size, merges=_joined(lines), added=added, source=source)

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
        return "".join(self.stream(tokens))

    def decode_with_timestamps(self, tokens: Iterable[int]) -> str:
        """The text of tokens with the timestamps by name, such as ``<|1.08|>``.

        Everything else, errors included, is as in :meth:`decode`.
        """
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", errors="replace")

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
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
            return unspell(self._pieces[token])
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
                spelled = spell(word.encode())
            except UnicodeEncodeError as error:
                raise TokenizerError(
                    f"cannot encode {word[error.start]!r}: a lone surrogate, half of a UTF-16 pair, is no character"
                ) from None
            tokens = [self._ids[piece] for piece in merge(spelled, self._ids)]
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
        code = CODES.get(called)
        if code is None:
            near = " or ".join(map(repr, get_close_matches(called, CODES)))
            hint = f"did you mean {near}?" if near else f"the codes are {' '.join(self.languages)}"
            raise LanguageError(f"unknown language {language!r}: expected a code or an English name; {hint}")
        if code not in self.languages:
            raise LanguageError(
                f"language {language!r}: this model's vocabulary has no token for {LANGUAGES[code].title()} "
                f"({code}), which came with large-v3; use large-v3 or turbo"
            )
        return code

    def language_token(self, language: str) -> int:
        """The token of a language; names and errors are those of :meth:`language_code`."""
        return self.special_tokens[f"<|{self.language_code(language)}|>"]

    def prompt(self, language: str | None, task: str, timestamps: bool) -> tuple[int, ...]:
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
        return (token - first) * 0.02

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of marks that are written and not spoken, in order; openai-whisper suppresses them as "-1"."""
        # Hyphens and apostrophes are fine within words, not at the start of one.
        tokens = {self.encode(" -")[0], self.encode(" '")[0]}
        for mark in (*_MARKS.split(), *_MUSIC):
            for encoded in (self.encode(mark), self.encode(" " + mark)):
                # To forbid one of a mark's several tokens would hit other texts that share it. Music is the
                # exception: its first token is two bytes of three, and only symbols such as ♥ begin like that.
                if len(encoded) == 1 or mark in _MUSIC:
                    tokens.add(encoded[0])
        return tuple(sorted(tokens))

    @cached_property
    def suppressed_tokens(self) -> tuple[int, ...]:
        """Tokens that are never said, in order: non-speech, and special ones that only a prompt may have."""
        special = (self.special_tokens[f"<|{name}|>"] for name in _NEVER_SAID)
        return tuple(sorted({*self.non_speech_tokens, *special}))


# ------------------------------------------------------------------------------------------ files


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: cannot be read as text ({error})") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path}: is not JSON ({error}); is the download complete?") from None
    if not isinstance(values, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found a {type(values).__name__}")
    return values


def _joined(merges: Sequence[Any]) -> list[str]:
    """The piece that each merge makes: "ab" of "a b", or of ["a", "b"] in files of later versions."""
    if merges and isinstance(merges[0], str):
        return "\n".join(merges).replace(" ", "").split("\n")  # twice as fast as one by one
    return ["".join(pair) for pair in merges]


def _check_special(listed: Mapping[str, int], special: Mapping[str, int], size: int, source: str) -> None:
    """Hold the special tokens that files list to the layout."""
    for name, token in listed.items():
        expected = special.get(_FORMER_NAMES.get(name, name))
        if token != expected:
            place = "has no such token" if expected is None else f"has it at {expected}"
            raise TokenizerError(
                f"{source}: {name} is token {token}, but a Whisper vocabulary of {size} tokens {place}; "
                "is this another model's tokenizer?"
            )


def _check_pieces(ids: Mapping[str, int], count: int, size: int, source: str) -> None:
    """Hold the text pieces to what encoding and decoding rely on: every id, every byte, nothing but bytes.

    The last piece of the multilingual vocabularies is empty. No text leads to it, and it adds nothing to one.
    """
    whole = set(map(type, ids.values())) == {int}
    if not whole or len(ids) != count or set(ids.values()) != set(range(count)):
        raise TokenizerError(
            f"{source}: a vocabulary of {size} tokens has {count} text pieces, numbered from 0; the file has "
            f"{len(ids)}, or their numbers have gaps; is this another model's tokenizer?"
        )
    lacking = [char for char in _SPELLING.values() if char not in ids]
    if lacking or not _SPELLED.fullmatch("".join(ids)):
        problem = f"there is no piece {lacking[0]!r}" if lacking else "a piece has other characters"
        raise TokenizerError(f"{source}: expected pieces of the 256 characters that spell bytes; {problem}")


def _check_merges(merges: Sequence[str], ids: Mapping[str, int], source: str) -> None:
    """Hold the merges to the order of the ids, by which :func:`merge` goes.

    Only checked, not used, because the list can be wrong where the ids are right: in multilingual files the
    first merge, "Ġ t", is lost, as if taken for the title line that merges.txt begins with. Who follows such a
    list makes " the" into "Ġ", "the", which the model has hardly ever seen. The piece itself, "Ġt", is still
    there with its id, 256, and a list with a gap is still in order.
    """
    try:
        order = [ids[piece] for piece in merges]
    except KeyError as error:
        raise TokenizerError(f"{source}: merges to {error.args[0]!r}, which is no piece of it") from None
    for earlier, later in pairwise(order) if order != sorted(order) else ():
        if earlier > later:
            raise TokenizerError(
                f"{source}: token {later} is merged after token {earlier}; expected merges in order of their ids"
            )

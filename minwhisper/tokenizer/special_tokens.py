"""Chapter 6: the special tokens for languages, tasks and timestamps, and their ids in each vocabulary.

Special tokens follow the text pieces, and no text is encoded to them. Their order is the same in all vocabularies, so
their ids follow from the vocabulary's size; the ids in files are only checked.

Source: Radford et al., 2022, section 2.3 and figure 1.

Walkthrough: section 8.
"""

from collections.abc import Mapping

from ..errors import TokenizerError
from ..printable import printable, short_repr
from .languages import LANGUAGES

LANGUAGE_COUNT = {51864: 99, 51865: 99, 51866: 100}  # English only; multilingual; large-v3 and turbo
FORMER_NAMES = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # names in the files of older models
NEVER_GENERATED = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
SECONDS_PER_TIMESTAMP = 0.02  # one position of the encoder's output
_TIMESTAMPS = 1501  # 0.00 s to 30.00 s


def special_token_ids(vocab_size: int) -> dict[str, int]:
    """Return the id of every special token, by name, for one of Whisper's three vocabulary sizes.

    Special tokens are the last ids of the vocabulary, always in the same order, but the number of languages shifts all
    that follow. A name can have different ids in different models, so look them up by name:

    >>> [special_token_ids(size)["<|notimestamps|>"] for size in (51864, 51865, 51866)]
    [50362, 50363, 50364]

    Raises ``TokenizerError`` for any other size.
    """
    if vocab_size not in LANGUAGE_COUNT:
        raise TokenizerError(
            f"vocab_size: expected 51864 (English only), 51865 (multilingual) or 51866 (large-v3 and turbo), "
            f"got {vocab_size}"
        )
    names = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in list(LANGUAGES)[: LANGUAGE_COUNT[vocab_size]]),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *(f"<|{step * SECONDS_PER_TIMESTAMP:.2f}|>" for step in range(_TIMESTAMPS)),
    ]
    return {name: token for token, name in enumerate(names, start=vocab_size - len(names))}


def check_special_tokens(listed: Mapping[str, int], special: Mapping[str, int], size: int, source: str) -> None:
    """Check the special tokens that files list against the expected ids.

    Raises ``TokenizerError``, which names ``source`` and the first token with another id.
    """
    for name, token in listed.items():
        expected = special.get(FORMER_NAMES.get(name, name))
        if token != expected:
            place = "has no such token" if expected is None else f"has it at {expected}"
            raise TokenizerError(
                f"{source}: {printable(name, 40)} is token {short_repr(token)}, but a Whisper vocabulary of {size} "
                f"tokens {place}; is this another model's tokenizer?"
            )

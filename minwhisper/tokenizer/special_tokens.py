"""Chapter 6, the special tokens: the language, the task, the times, and where each vocabulary has them.

Above the text pieces are the special tokens, which no text can produce. Their order is the same in all vocabularies,
so that the size of one tells the id of each; what files say of them is only checked.

Source: Radford et al., 2022, section 2.3 and figure 1.

Walkthrough: section 8.
"""

from collections.abc import Mapping

from ..errors import TokenizerError
from ..printable import printable, short_repr
from .languages import LANGUAGES

LANGUAGE_COUNT = {51864: 99, 51865: 99, 51866: 100}  # English only; multilingual; large-v3 and turbo
FORMER_NAMES = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # in the files of older models
NEVER_GENERATED = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
SECONDS_PER_TIMESTAMP = 0.02  # from one timestamp to the next: one position of the encoder's output
_TIMESTAMPS = 1501  # 0.00 s to 30.00 s


def special_token_ids(vocab_size: int) -> dict[str, int]:
    """Every special token's id in one of Whisper's three vocabularies, which differ in size.

    Special tokens are the last of the vocabulary and come in this order always, but how many languages there
    are moves all that follow. The same name has another id in another model, so ids are looked up by name:

    >>> [special_token_ids(size)["<|notimestamps|>"] for size in (51864, 51865, 51866)]
    [50362, 50363, 50364]

    Raises :class:`TokenizerError` for any other size.
    """
    if vocab_size not in LANGUAGE_COUNT:
        raise TokenizerError(
            f"a vocabulary of {vocab_size} tokens is not Whisper's: expected 51864 (English only), "
            "51865 (multilingual) or 51866 (multilingual with Cantonese: large-v3, turbo)"
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
    """Hold the special tokens that files list to the layout.

    Raises :class:`TokenizerError` naming ``source`` and the first token that is elsewhere, or nowhere, in it.
    """
    for name, token in listed.items():
        expected = special.get(FORMER_NAMES.get(name, name))
        if token != expected:
            place = "has no such token" if expected is None else f"has it at {expected}"
            raise TokenizerError(
                f"{source}: {printable(name, 40)} is token {short_repr(token)}, but a Whisper vocabulary of {size} "
                f"tokens {place}; is this another model's tokenizer?"
            )

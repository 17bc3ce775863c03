"""Known mistakes in the tokens given to the decoder: the prompt of another model, or an incomplete one."""

from typing import NamedTuple

from ..common.backend import Array
from .graph import Place


class TokenMistake(NamedTuple):
    """A mistake in the prompt."""

    name: str
    hint: str


def token_mistake(tokens: Array, at: Place) -> TokenMistake | None:
    """Return the mistake at the beginning of the tokens (S,), or None if they start with a correct prompt."""
    tokenizer = at.tokenizer
    ids = [int(token) for token in tokens]
    if ids[0] == tokenizer.sot_prev and tokenizer.sot in ids:  # text before the window
        ids = ids[ids.index(tokenizer.sot) :]
    if ids[0] != tokenizer.sot:
        other = "multilingual" if not tokenizer.is_multilingual else "English-only"
        if ids[0] == tokenizer.sot + (1 if other == "multilingual" else -1):
            return TokenMistake(
                f"ids of the {other} vocabulary",
                f"The tokens start with {ids[0]}, <|startoftranscript|> of the {other} vocabulary. Here it is "
                f"{tokenizer.sot}: take special tokens from the model's own tokenizer.",
            )
        return TokenMistake(
            "no start of transcript",
            f"The tokens start with {tokenizer.name(ids[0])!r}. They should start with <|startoftranscript|>, "
            f"{tokenizer.sot}.",
        )
    rest = ids[1:]
    if tokenizer.is_multilingual:
        language = rest[0] if rest else None
        if language is None or not tokenizer.sot < language < tokenizer.translate:
            return TokenMistake(
                "no language",
                "No language follows <|startoftranscript|>. In a multilingual model, the tokens of the language and "
                "the task do.",
            )
        if len(rest) < 2 or rest[1] not in (tokenizer.transcribe, tokenizer.translate):
            if len(rest) > 1 and rest[1] in (
                tokenizer.transcribe + 1,
                tokenizer.translate - 1,
                tokenizer.transcribe - 2,
            ):
                hint = "The task has the id of another vocabulary: large-v3 and turbo have one more language."
                return TokenMistake("ids of another vocabulary", hint)
            return TokenMistake("no task", "Neither <|transcribe|> nor <|translate|> follows the language.")
        rest = rest[2:]
    if rest and rest[0] < tokenizer.eot:
        return TokenMistake(
            "<|notimestamps|> missing",
            "Text follows the prompt directly. Without <|notimestamps|>, a timestamp has to come first: <|0.00|>.",
        )
    return None

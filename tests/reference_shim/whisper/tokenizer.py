"""As in openai-whisper: a tokenizer that knows its language and task."""

from functools import cache

import minwhisper
from minwhisper.transcription.words import split_tokens_on_unicode


class Tokenizer:
    """Ours, under their names."""

    def __init__(self, name: str) -> None:
        self._tokenizer = minwhisper.load_model(name).tokenizer
        self.sot_sequence = self._tokenizer.sot_sequence("en", "transcribe", timestamps=True)
        self.all_language_codes = self._tokenizer.languages
        self.all_language_tokens = [self._tokenizer.language_token(code) for code in self.all_language_codes]

    def __getattr__(self, name: str):
        return getattr(self._tokenizer, name)

    def split_tokens_on_unicode(self, tokens: list[int]) -> tuple[list[str], list[list[int]]]:
        """Words and their tokens, side by side."""
        words = split_tokens_on_unicode(self._tokenizer, tokens)
        return [word.word for word in words], [list(word.tokens) for word in words]


@cache
def get_tokenizer(multilingual: bool, num_languages: int = 99) -> Tokenizer:
    """The tokenizer of one of the two vocabularies at hand, which both list 99 languages."""
    assert num_languages == 99
    return Tokenizer("base" if multilingual else "tiny.en")

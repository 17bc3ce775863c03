"""openai-whisper's names for what this package has, so that openai-whisper's own tests can be run on it."""

import minwhisper


def available_models() -> list[str]:
    """The models whose weights come from the package index; the others are left out."""
    return ["tiny.en", "base"]


class Model:
    """A model with the two attributes that openai-whisper's tests ask for and ours does not have."""

    def __init__(self, name: str) -> None:
        self._model = minwhisper.load_model(name)
        self.num_languages = len(self._model.tokenizer.languages)

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def to(self, device: str) -> "Model":
        """PyTorch's way to move a model; ours is put in its place when it is loaded."""
        return self


load_model = Model

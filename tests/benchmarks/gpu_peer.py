"""The peer whose speed gpu.py compares: openai-whisper's model on the same GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_work import LENGTH, STEPS, Contender, filler
from minwhisper.parity.comparison import pytorch_model


class Peer:
    """openai-whisper's model with the same weights, in float32, in eager mode and without TF32."""

    def __init__(self, model: Any, device: str) -> None:
        import torch
        import whisper

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.set_grad_enabled(False)
        self.torch, self.whisper, self.device = torch, whisper, device
        self.model, self.like = pytorch_model(model).to(device), model

    def encoder(self, mel: np.ndarray) -> Contender:
        """Encode one window, (1, M, 3000)."""
        there = self.torch.tensor(mel, device=self.device)
        return Contender(lambda _: self.model.encoder(there))

    def steps(self, mel: np.ndarray, rows: int = 1) -> Contender:
        """Decode steps of several sequences, starting after ``LENGTH`` tokens."""
        tensor = self.torch.tensor
        features = self.features(mel).repeat(rows, 1, 1)
        prompt = tensor(filler(self.like, LENGTH, rows), device=self.device)
        token = prompt[:, -1:]

        def ready() -> Callable[[], None]:
            cache, hooks = self.model.install_kv_cache_hooks()
            self.model.decoder(prompt, features, kv_cache=cache)

            def run() -> None:
                try:
                    for _ in range(STEPS):
                        self.model.decoder(token, features, kv_cache=cache)
                finally:
                    for hook in hooks:
                        hook.remove()

            return run

        return Contender(lambda run: run(), ready, STEPS)

    def features(self, mel: np.ndarray) -> Any:
        """Encode a window, (1, M, 3000) -> (T, D)."""
        return self.model.encoder(self.torch.tensor(mel, device=self.device))[0]

    def decode(self, window: Any, **how: Any) -> list[int]:
        """Decode a window, a mel (M, 3000) or features (T, D), and return its tokens."""
        options = self.whisper.DecodingOptions(fp16=False, language="en", **how)
        there = self.torch.as_tensor(window, device=self.device)
        return list(self.whisper.decode(self.model, there, options).tokens)

    def transcribe(self, samples: np.ndarray) -> list[int]:
        """Transcribe a clip greedily, and return its tokens."""
        found = self.whisper.transcribe(self.model, samples, temperature=0.0, fp16=False, language="en")
        return [token for segment in found["segments"] for token in segment["tokens"]]

    def words(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Transcribe a clip greedily with word timestamps, and return its words."""
        how = {"temperature": 0.0, "language": "en", "word_timestamps": True}
        found = self.whisper.transcribe(self.model, samples, fp16=False, **how)
        return [word for segment in found["segments"] for word in segment["words"]]

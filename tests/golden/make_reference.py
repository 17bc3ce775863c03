"""Make the references of `minwhisper parity` and the golden tests. Needs the extras `offline` and `parity`.

Run: python tests/golden/make_reference.py [MODEL …]

For every stage on the clip, a reference holds some values of openai-whisper's model in float64 and the relative
difference of its float32 values from them. It also holds the tokens that openai-whisper generates in float32.
"""

import json
import sys
from pathlib import Path

import numpy as np

import minwhisper
from minwhisper.parity import comparison as parity

ROWS = 24


def make(name: str, folder: Path) -> None:
    """Write the reference of a model to ``folder``."""
    model = minwhisper.load_model(name)
    samples = parity.clip_samples()
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    mel = parity.pytorch_stages(model, samples, [list(prompt)])["mel"]
    tokens = parity.pytorch_tokens(model, mel)
    sequences = [[*prompt, *tokens]]
    exact = parity.pytorch_stages(model, samples, sequences, double=True)
    single = parity.pytorch_stages(model, samples, sequences)
    rng = np.random.default_rng(0)
    arrays, pytorch = {}, {}
    for stage, values in exact.items():
        rows = np.sort(rng.choice(values.shape[1], min(ROWS, values.shape[1]), replace=False))
        arrays[f"rows:{stage}"] = rows
        arrays[f"exact:{stage}"] = part = parity.subsample(stage, values, rows)
        pytorch[stage] = parity.relative_difference(parity.subsample(stage, single[stage], rows), part)
    facts = {
        "pytorch": pytorch,
        "tokens": tokens,
        "made with": {"torch": __import__("torch").__version__, "openai-whisper": "20250625"},
    }
    np.savez_compressed(folder / f"{name}.npz", facts=np.array(json.dumps(facts)), **arrays)


if __name__ == "__main__":
    folder = Path(parity.__file__).parent / "reference"
    for name in sys.argv[1:] or ("tiny.en", "base"):
        make(name, folder)
        print(f"{folder / name}.npz: {(folder / f'{name}.npz').stat().st_size} bytes")

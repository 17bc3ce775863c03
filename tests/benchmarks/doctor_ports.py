"""Let the doctor examine PyTorch models in every precision that they offer. None of them has a mistake.

``python tests/benchmarks/doctor_ports.py [--model tiny.en] [--device cuda] [--seconds 1] [--only WORD …] [--keep DIR]``

openai-whisper and Transformers process the first ``--seconds`` of the JFK clip and a few tokens, and hooks dump the
output of every module. With ``--device cuda``, TF32 and autocast are tried too. minwhisper's readable layers
and its fast engine follow, on the same device. Prints the number of stages per verdict; exits with 1 if a mistake
was named or a value called wrong.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import carried
import minwhisper
from minwhisper.common.backend import on_device, to_numpy
from minwhisper.model.engine import DecoderInput
from minwhisper.model.weight_names import flatten, from_hugging_face
from minwhisper.parity.comparison import pytorch_model
from minwhisper.parity.doctor import diagnose
from minwhisper.parity.theirs import Theirs
from minwhisper.whisper import Whisper

TEXT = " And so my fellow Americans ask not"
RIGHT = ("float64", "float32", "TF32", "float16", "float16 with sums in float16", "bfloat16", "convention")


@dataclass(frozen=True)
class Case:
    """The input of every port, and its device."""

    model: Whisper
    mel: Any  # (1, M, frames), float32
    tokens: Any  # (1, S)
    device: str


def record(module: Any, found: dict[str, Any]) -> None:
    """Register hooks that store the output of every submodule of a PyTorch module under its name."""

    def keep(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) else output
        if hasattr(value, "detach"):
            found[name] = value.detach().float().cpu().numpy()

    for name, part in module.named_modules():
        if name:
            part.register_forward_hook(partial(keep, name))


def openai(case: Case, dtype: Any, autocast: Any = None) -> dict[str, Any]:
    """Return openai-whisper's stages. It keeps weights in float32 and converts them where they are used."""
    import torch

    its = pytorch_model(case.model).to(case.device)
    its.encoder.positional_embedding = its.encoder.positional_embedding[: case.mel.shape[2] // 2]
    found = {"mel": case.mel, "tokens": case.tokens}
    record(its, found)
    with torch.no_grad(), torch.autocast(case.device, autocast) if autocast else nullcontext():
        features = its.encoder(torch.tensor(case.mel, device=case.device, dtype=dtype))
        its.decoder(torch.tensor(case.tokens, device=case.device), features)
    return found


def transformers(case: Case, dtype: Any, attention: str = "eager") -> dict[str, Any]:
    """Return the stages of Transformers, with one of its implementations of attention."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    ours = asdict(case.model.config)
    sizes = {name: ours[name] for name in WhisperConfig().to_dict() if name in ours}
    config = WhisperConfig(**{**sizes, "max_source_positions": case.mel.shape[2] // 2}, attn_implementation=attention)
    its = WhisperForConditionalGeneration(config).eval()
    weights, state = dict(flatten(case.model.weights)), its.state_dict()
    for name, tensor in state.items():
        value = np.asarray(to_numpy(weights[from_hugging_face(name)[0]]), np.float32)
        tensor.copy_(torch.tensor(value[: tensor.shape[0]]))
    its = its.to(case.device, dtype)
    found = {"input_features": case.mel, "tokens": case.tokens}
    record(its, found)
    with torch.no_grad():
        its(
            input_features=torch.tensor(case.mel, device=case.device, dtype=dtype),
            decoder_input_ids=torch.tensor(case.tokens, device=case.device),
        )
    return found


def ours(case: Case, dtype: str, plain: bool) -> dict[str, Any]:
    """Return the features and logits of minwhisper's engine."""
    its = carried.load_model(case.model.name, case.device, dtype, plain=plain)
    with on_device(its.device):
        features = its.encode(case.mel)
        ((logits, _),) = its.engine.decode_batch([DecoderInput(case.tokens.tolist(), its.engine.new_cache(features))])
    return {
        "mel": case.mel,
        "tokens": case.tokens,
        "features": to_numpy(features),
        "logits": to_numpy(logits),
    }


def ports(case: Case) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield a label and a function per port. TF32 is on or off for the whole process until the next port."""
    import torch

    def with_tf32(products: bool, convolutions: bool, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions
        return make()

    for label, make in (("openai-whisper", openai), ("Transformers", transformers)):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            yield f"{label} {str(dtype)[6:]}", partial(with_tf32, False, False, partial(make, case, dtype))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        make = partial(transformers, case, dtype, "sdpa")
        yield f"Transformers {str(dtype)[6:]}, fused attention", partial(with_tf32, False, False, make)
    if case.device != "cpu":
        for label, make in (("openai-whisper", openai), ("Transformers", transformers)):
            yield f"{label} TF32", partial(with_tf32, True, True, partial(make, case, torch.float32))
            yield f"{label} TF32 by default", partial(with_tf32, False, True, partial(make, case, torch.float32))
        for dtype in (torch.float16, torch.bfloat16):
            make = partial(openai, case, torch.float32, dtype)
            yield f"openai-whisper autocast {str(dtype)[6:]}", partial(with_tf32, False, False, make)
    for dtype in ("float32", "float16"):
        for plain in (True, False):
            yield f"minwhisper {'readable' if plain else 'fast'} {dtype}", partial(ours, case, dtype, plain)


def main() -> int:
    """Examine the ports and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", help="words of a label, all of which it must have")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="save the dumps as .npz")
    options = parser.parse_args()
    model = carried.load_model(options.model, plain=True)
    samples = carried.reference_clip()[: int(options.seconds * 16000)]
    mel = minwhisper.log_mel_spectrogram(samples, model.config.num_mel_bins)[None].astype(np.float32)
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    case = Case(model, mel, np.array([[*prompt, *model.tokenizer.encode(TEXT)]]), options.device)
    wrong = 0
    for label, make in ports(case):
        if options.only and not all(word in label for word in options.only):
            continue
        try:
            arrays = make()
        except Exception as error:  # this machine cannot compute the port: say so and continue
            print(f"--  {label:45} cannot be computed: {type(error).__name__}: {str(error)[:200]}", flush=True)
            wrong += 1
            continue
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(options.keep / f"{label.replace(' ', '_').replace(',', '')}.npz", **arrays)
        start = time.perf_counter()
        report = diagnose(model, Theirs.of(arrays))
        seconds = time.perf_counter() - start
        bad = [stage for stage in report.stages if stage.verdict not in RIGHT]
        wrong += bool(bad)
        counts = ", ".join(f"{verdict} {count}" for verdict, count in Counter(s.verdict for s in report.stages).items())
        print(f"{'NOT' if bad else 'ok '} {label:45} {seconds:5.1f} s  {counts}", flush=True)
        last = report.stages[-1]
        print(f"    {last.stage} off by {last.relative:.1e}", flush=True)
        for stage in bad:
            print(f"    {stage.stage}: {stage.verdict} {stage.own:.1e} {', '.join(stage.mistakes)} {stage.remark}")
    print(f"{wrong} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

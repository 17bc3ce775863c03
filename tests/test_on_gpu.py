"""On a real GPU, the package gives the CPU's values up to rounding. Skipped if no GPU works.

If a GPU works, a test that lacks weights, clips or PyAV fails and says what is missing. They can be in the folder that
MINWHISPER_MODELS names: see carried.py.
"""

from importlib.util import find_spec

import numpy as np
import pytest

import carried
import minwhisper
from minwhisper.common.backend import to_numpy
from minwhisper.errors import DeviceError
from minwhisper.fast.devices import resolve_device
from minwhisper.parity import comparison as parity
from minwhisper.walkthrough.run import run
from minwhisper.walkthrough.text import find_walkthrough, parse

try:
    DEVICE, WHY_NOT = resolve_device("cuda"), ""
except DeviceError as error:
    DEVICE, WHY_NOT = "", str(error)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICE, reason=WHY_NOT)]

OPTIONS = pytest.mark.parametrize(
    "options",
    [{}, {"beam_size": 5, "word_timestamps": True}, {"temperature": 0.4, "best_of": 3}],
    ids=["greedy", "beam and words", "sampled"],
)


@pytest.fixture(scope="module", autouse=True)
def _carried_clip():
    """Replace the package's clip by its samples if PyAV is not installed to decode it."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("av") is None:
            patch.setattr(parity, "clip_samples", carried.reference_clip)
        yield


@pytest.fixture(scope="module")
def on_cpu():
    return carried.load_model("tiny.en")


@pytest.fixture(scope="module")
def on_gpu():
    return carried.load_model("tiny.en", DEVICE)


@pytest.fixture(scope="module")
def samples():
    return carried.reference_clip()


@pytest.fixture(scope="module")
def mel(samples):
    return parity.window_mel(samples, 80)


def segment_tokens(transcript):
    return [segment["tokens"] for segment in transcript["segments"]]


def test_features_and_logits_equal_the_cpus(on_cpu, on_gpu, mel):
    features = on_cpu.encode(mel)
    assert parity.relative_difference(to_numpy(on_gpu.encode(mel)), features) < 1e-5
    prompt = [on_cpu.tokenizer.sot_sequence("en", "transcribe", timestamps=True)]
    expected = on_cpu.logits(prompt, features)
    assert parity.relative_difference(to_numpy(on_gpu.logits(prompt, features)), expected) < 1e-5


@OPTIONS
def test_tokens_equal_the_cpus(on_cpu, on_gpu, samples, options):
    here, there = on_cpu.transcribe(samples, **options), on_gpu.transcribe(samples, **options)
    assert segment_tokens(there) == segment_tokens(here)
    for mine, other in zip(there["segments"], here["segments"], strict=True):
        for word, its in zip(mine.get("words", ()), other.get("words", ()), strict=True):
            assert (word["word"], word["start"]) == (its["word"], pytest.approx(its["start"], abs=0.0201))


def test_batched_windows_give_the_same_tokens(on_gpu, samples):
    clips = [samples, samples[: samples.size // 2], np.zeros(16_000, np.float32)]
    together = on_gpu.transcribe_many(clips, batch_size=3, temperature=0.0)
    assert [segment_tokens(one) for one in together] == [
        segment_tokens(on_gpu.transcribe(clip, temperature=0.0)) for clip in clips
    ]


def test_float16_gives_the_same_tokens(on_cpu, samples):
    narrow = carried.load_model("tiny.en", DEVICE, "float16")
    here = on_cpu.transcribe(samples, temperature=0.0)
    assert segment_tokens(narrow.transcribe(samples, temperature=0.0)) == segment_tokens(here)


def test_plain_gives_the_same_tokens(on_gpu, samples):
    plain = carried.load_model("tiny.en", DEVICE, plain=True)
    there = on_gpu.transcribe(samples, temperature=0.0)
    assert segment_tokens(plain.transcribe(samples, temperature=0.0)) == segment_tokens(there)


def test_every_stage_is_exact(on_gpu):
    lines, verdicts = parity.compare(on_gpu, "tiny.en")
    errors = [line.relative_error for line in lines]
    assert all(error is not None and error <= parity.TOLERANCE for error in errors)
    assert all(equal for _, equal in verdicts)


def test_the_walkthrough_gives_the_same_outputs():
    for name in ("tiny.en", "base"):
        assert carried.find_weights(name) == name, carried.why_no_weights(name)  # the walkthrough loads them by name
    file = find_walkthrough()
    results = [o for _, _, o in run(parse(file.read_text("utf-8")), file, {"DEVICE": DEVICE}) if o]
    assert [(o.place, o.difference) for o in results if o.difference] == []


def test_a_missing_gpu_is_named():
    with pytest.raises(DeviceError, match="cuda:97"):
        minwhisper.load_model("tiny.en", "cuda:97")

"""The same lines on a GPU: every number that comes out is, to rounding, the CPU's. Skipped where no GPU works."""

import pytest

import minwhisper
from minwhisper import parity
from minwhisper.backend import to_numpy
from minwhisper.devices import resolve_device
from minwhisper.errors import DeviceError
from minwhisper.walkthrough.run import run
from minwhisper.walkthrough.text import find_walkthrough, parse

try:
    DEVICE, WHY_NOT = resolve_device("cuda"), ""
except DeviceError as error:
    DEVICE, WHY_NOT = "", str(error)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICE, reason=WHY_NOT)]


@pytest.fixture(scope="module")
def on_gpu(tiny_en):
    return minwhisper.load_model("tiny.en", device=DEVICE)


@pytest.fixture(scope="module")
def mel():
    return parity.window_mel(parity.clip_samples(), 80)


def test_features_and_logits_are_those_of_the_cpu(tiny_en, on_gpu, mel):
    features = tiny_en.encode(mel)
    assert parity.relative_difference(to_numpy(on_gpu.encode(mel)), features) < 1e-5
    prompt = [tiny_en.tokenizer.prompt("en", "transcribe", timestamps=True)]
    expected = tiny_en.logits(prompt, features)
    assert parity.relative_difference(to_numpy(on_gpu.logits(prompt, features)), expected) < 1e-5


@pytest.mark.parametrize(
    "options",
    [{}, {"beam_size": 5, "word_timestamps": True}, {"temperature": 0.4, "best_of": 3}],
    ids=["greedy", "beam and words", "sampled"],
)
def test_the_text_is_that_of_the_cpu(tiny_en, on_gpu, options):
    samples = parity.clip_samples()
    here, there = tiny_en.transcribe(samples, **options), on_gpu.transcribe(samples, **options)
    assert [segment["tokens"] for segment in there["segments"]] == [segment["tokens"] for segment in here["segments"]]
    for mine, other in zip(there["segments"], here["segments"], strict=True):
        for word, its in zip(mine.get("words", ()), other.get("words", ()), strict=True):
            assert (word["word"], word["start"]) == (its["word"], pytest.approx(its["start"], abs=0.0201))


def test_every_stage_is_exact(on_gpu):
    lines, verdicts = parity.compare(on_gpu, "tiny.en")
    assert all(line.relative <= parity.TOLERANCE for line in lines)
    assert all(equal for _, equal in verdicts)


def test_the_walkthrough_shows_the_same(base):  # which it needs
    file = find_walkthrough()
    outcomes = [o for _, _, o in run(parse(file.read_text("utf-8")), file, {"DEVICE": DEVICE}) if o]
    assert [(o.place, o.difference) for o in outcomes if o.difference] == []

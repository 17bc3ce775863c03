"""Logit filters and language detection against openai-whisper's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minwhisper
from inputs import DATA
from minwhisper import DecodingOptions
from minwhisper.decoding.decode import logit_filters_for
from minwhisper.parity.comparison import window_mel

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
decoding = pytest.importorskip("whisper.decoding")


def task_of(pytorch, model, **options):
    return decoding.DecodingTask(pytorch(model), whisper.DecodingOptions(language="en", fp16=False, **options))


@pytest.mark.parametrize("suppressed", ["-1", "1,2", [-1, 7]], ids=str)
def test_the_same_tokens_are_suppressed(model, pytorch, suppressed):
    theirs = task_of(pytorch, model, suppress_tokens=suppressed)._get_suppress_tokens()
    assert DecodingOptions(suppress_tokens=suppressed).suppressed_ids(model.tokenizer) == theirs


@pytest.mark.parametrize("nothing", ["", []], ids=str)
def test_tokens_that_belong_in_a_prompt_are_always_suppressed_here(model, pytorch, nothing):
    # openai-whisper then omits the whole filter, so the model might generate <|startoftranscript|>. Its method that
    # lists the tokens is meant to keep the special ones even then, as this package does.
    task = task_of(pytorch, model, suppress_tokens=nothing)
    assert not any(isinstance(rule, decoding.SuppressTokens) for rule in task.logit_filters)
    prompt_only = task_of(pytorch, model, suppress_tokens=[1])._get_suppress_tokens()[1:]
    assert DecodingOptions(suppress_tokens=nothing).suppressed_ids(model.tokenizer) == prompt_only


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    lift=st.sampled_from([-4.0, 0.0, 4.0]),
    latest=st.sampled_from([None, 0.5, 1.0, 30.0]),
    without=st.booleans(),
)
def test_the_filters_suppress_the_same_tokens_step_by_step(tiny_en, pytorch, seed, lift, latest, without):
    options = {"without_timestamps": without, "max_initial_timestamp": latest}
    task = task_of(pytorch, tiny_en, **options)
    (filters,) = logit_filters_for(DecodingOptions(**options), tiny_en.tokenizer)
    random = np.random.default_rng(seed)
    generated: list[int] = []
    for _ in range(8):
        logits = (2 * random.standard_normal((1, tiny_en.config.vocab_size))).astype(np.float32)
        logits[:, tiny_en.tokenizer.timestamp_begin :] += lift
        ours, theirs = filters(logits, [generated]), torch.tensor(logits)
        for logit_filter in task.logit_filters:
            logit_filter.apply(theirs, torch.tensor([[*task.initial_tokens, *generated]]))
        np.testing.assert_array_equal(ours, theirs.numpy())
        generated.append(int(ours.argmax()))


@pytest.mark.parametrize("clip", ["jfk.flac", "french.aiff"])
def test_language_probabilities_are_the_same(base, pytorch, clip):
    mel = window_mel(minwhisper.load_audio(DATA / clip), 80)[0]
    token, probabilities = base.detect_language(mel)
    their_token, theirs = whisper.decoding.detect_language(pytorch(base), torch.tensor(mel))
    assert token == int(their_token)
    assert probabilities == pytest.approx(theirs, abs=1e-4)

"""Sequential transcription: its requests, and what becomes of the results."""

import numpy as np
import pytest

from minwhisper.decoding.decode import DecodingResult, WindowRequest
from minwhisper.transcription.options import TranscriptionOptions
from minwhisper.transcription.sequential import SequentialTranscription
from scripted import HOP, REPETITIVE, NumberedSpectrogram, Scripted, output, quiet


def result_of(model, request, what):
    """Return the decoder's result for a request."""
    tokens = what.tokens(model.tokenizer)
    return DecodingResult(
        request.features[0],
        "en",
        tokens=tokens,
        avg_logprob=what.average,
        no_speech_prob=what.no_speech,
        temperature=float(request.options.temperature),
        compression_ratio=what.ratio,
    )


def begin(frames, **options):
    """Return a transcription of this many frames, its model, the list of its reports and its generator."""
    model, reports = Scripted([]), []
    mel = NumberedSpectrogram(quiet(frames * HOP), 80)
    generator = np.random.default_rng(5)
    transcription = SequentialTranscription(
        model, mel, TranscriptionOptions.named(**options), "en", generator, reports.append
    )
    return transcription, model, reports, generator


def follow(steps, model, script):
    """Run to the end with these answers: the requests, and the texts of the segments between them."""
    script, requests, seen = iter(script), [], []
    item = next(steps, None)
    while item is not None:
        try:
            if isinstance(item, WindowRequest):
                requests.append(item)
                seen.append(None)
                item = steps.send(result_of(model, item, next(script)))
            else:
                seen.append(item["text"])
                item = next(steps)
        except StopIteration:
            break
    assert next(script, None) is None
    return requests, seen


def test_a_request_is_yielded_and_its_result_becomes_segments():
    transcription, model, reports, generator = begin(700)
    steps = transcription.run(0, 700)
    request = next(steps)
    assert isinstance(request, WindowRequest)
    assert request.features.shape == (1, 1500, 384)
    assert request.generator is generator
    assert (request.options.language, tuple(request.options.prompt), request.options.temperature) == ("en", (), 0.0)
    first = steps.send(result_of(model, request, output(0.0, " one", 2.0, 2.0, " two", 6.0, average=-0.5)))
    assert (first["start"], first["end"], first["text"], first["avg_logprob"]) == (0.0, 2.0, " one", -0.5)
    assert reports == []  # a window is done when its segments are taken
    assert next(steps)["text"] == " two"
    assert next(steps, None) is None
    assert model.windows == [(0, 700)]
    assert reports == [700]


def test_the_next_window_starts_at_the_last_segments_end_and_is_prompted_with_it():
    transcription, model, reports, _ = begin(9000)
    script = [output(0.0, " one", 20.0, 20.0), output(0.0, " two", 25.0)]
    requests, seen = follow(transcription.run(1000, 6000), model, script)
    assert model.windows == [(1000, 3000), (3000, 3000)]
    assert seen == [None, " one", None, " two"]
    prompts = [model.tokenizer.decode_with_timestamps(request.options.prompt) for request in requests]
    assert prompts == ["", "<|0.00|> one<|20.00|>"]
    assert reports == [2000, 3000]


def test_the_text_of_one_run_prompts_the_next():
    transcription, model, _, _ = begin(4000)
    follow(transcription.run(0, 500), model, [output(0.0, " one", 5.0)])
    requests, _ = follow(transcription.run(2000, 2500), model, [output(0.0, " two", 5.0)])
    assert model.tokenizer.decode_with_timestamps(requests[0].options.prompt) == "<|0.00|> one<|5.00|>"
    assert model.windows == [(0, 500), (2000, 500)]


def test_two_transcriptions_are_independent():
    first, model, _, _ = begin(4000)
    second = begin(4000)[0]
    follow(first.run(0, 500), model, [output(0.0, " one", 5.0)])
    requests, _ = follow(second.run(500, 1000), model, [output(0.0, " two", 5.0)])
    assert tuple(requests[0].options.prompt) == ()


def test_a_window_is_requested_again_until_its_result_is_accepted():
    transcription, model, reports, _ = begin(500, temperature=(0.0, 0.5, 1.0))
    script = [output(0.0, " a a a", 5.0, **REPETITIVE), output(0.0, " b", 5.0)]
    requests, seen = follow(transcription.run(0, 500), model, script)
    assert [request.options.temperature for request in requests] == [0.0, 0.5]
    assert seen == [None, None, " b"]
    assert requests[0].features is requests[1].features  # encoded once
    assert reports == [500]


@pytest.mark.parametrize(("start", "end"), [(0, 0), (300, 300), (300, 200)])
def test_an_empty_range_yields_nothing(start, end):
    transcription, model, reports, _ = begin(500)
    assert list(transcription.run(start, end)) == []
    assert model.windows == reports == []


def test_a_run_can_be_closed_while_it_waits():
    transcription, model, reports, _ = begin(500)
    steps = transcription.run(0, 500)
    next(steps)
    steps.close()
    assert next(steps, None) is None
    assert (model.windows, reports) == ([(0, 500)], [])

"""Several transcriptions at once: the order of their requests, with made-up jobs and a made-up decoder."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwhisper.decoding.decode import WindowRequest
from minwhisper.transcription import batching as together
from minwhisper.transcription.batching import in_order, run_batched

# A job is a list: a number is a request that takes that many steps, a text is a segment, and an error is raised.


class Windows:
    """A fake DecodingBatch: the features of a request are its number of steps, and its result is its options."""

    def __init__(self, engine, tokenizer):
        self.left, self.answers, self.count = {}, {}, 0
        self.engine = engine
        engine.append(self)
        self.most = self.steps = 0

    def add(self, request):
        if request.features == 13:
            raise ValueError("13")
        self.left[self.count] = request.features
        self.answers[self.count] = request.options
        self.count += 1
        self.most = max(self.most, len(self.left))
        return self.count - 1

    def step(self):
        assert self.left
        self.steps += 1
        self.left = {number: left - 1 for number, left in self.left.items()}
        ended = [number for number, left in self.left.items() if not left]
        for number in ended:
            del self.left[number]
        return [(number, self.answers[number]) for number in ended]


def job(name, script, log=None):
    log = [] if log is None else log
    log.append(f"{name} begins")
    try:
        for place, item in enumerate(script):
            if isinstance(item, Exception):
                raise item
            if isinstance(item, int):
                answer = yield WindowRequest(item, f"answer {name} {place}")
                assert answer == f"answer {name} {place}"
            else:
                yield {"text": item}
    finally:
        log.append(f"{name} ends")


@pytest.fixture(autouse=True, scope="module")
def fake_decoder():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "DecodingBatch", Windows)
        yield


def run(jobs, batch_size):
    """Return an iterator over what jobs yield when they run together, and a list that receives the decoder."""
    made = []
    return run_batched(jobs, made, None, batch_size), made


def texts(found):
    return [(number, None if segment is None else segment["text"]) for number, segment in found]


def segments_of(script):
    return [item for item in script if isinstance(item, str)]


SCRIPTS = st.lists(st.lists(st.integers(1, 5) | st.sampled_from("abc"), max_size=6), max_size=8)


@given(scripts=SCRIPTS, batch_size=st.integers(1, 5))
def test_all_segments_come_once_and_batches_are_not_exceeded(scripts, batch_size):
    taken = []
    jobs = (taken.append(number) or job(number, script) for number, script in enumerate(scripts))
    found, made = run(jobs, batch_size)
    seen = texts(found)
    asking = sum(any(isinstance(item, int) for item in script) for script in scripts)
    assert made[0].most <= min(batch_size, asking)
    assert bool(made[0].most) == bool(asking)
    assert made[0].count == sum(isinstance(item, int) for script in scripts for item in script)
    assert taken == list(range(len(scripts)))
    for number, script in enumerate(scripts):
        assert [text for whose, text in seen if whose == number] == [*segments_of(script), None]
    assert {number for number, _ in seen} <= set(taken)
    found, _ = run((job(number, script) for number, script in enumerate(scripts)), batch_size)
    in_their_order = [segment["text"] for segment in in_order(found, {})]
    assert in_their_order == [text for script in scripts for text in segments_of(script)]


def test_a_job_is_taken_and_starts_when_another_ends():
    log = []
    jobs = (log.append(f"{n} taken") or job(n, [steps], log) for n, steps in enumerate([5, 2, 2, 1, 3]))
    found, made = run(jobs, 2)
    assert texts(found) == [(1, None), (2, None), (0, None), (3, None), (4, None)]
    assert log == [
        *("0 taken", "0 begins", "1 taken", "1 begins", "1 ends", "2 taken", "2 begins", "2 ends"),
        *("3 taken", "3 begins", "0 ends", "3 ends", "4 taken", "4 begins", "4 ends"),
    ]
    assert made[0].most == 2


def test_segments_between_requests_are_yielded_at_once():
    found, made = run([job(0, ["a", 2, "b", "c", 1])], 1)
    assert (next(found), made[0].steps) == ((0, {"text": "a"}), 0)
    assert (next(found), made[0].steps) == ((0, {"text": "b"}), 2)
    assert (next(found), made[0].steps) == ((0, {"text": "c"}), 2)
    assert (next(found), made[0].steps) == ((0, None), 3)
    assert next(found, "end") == "end"


def test_in_order_yields_segments_of_the_current_job_at_once():
    given = iter([(1, {"text": "b"}), (0, {"text": "a"}), (1, None), (0, {"text": "A"}), (0, None), (2, None)])
    ordered = in_order(given, {})
    assert next(ordered)["text"] == "a"
    assert next(given) == (1, None)  # no further job has been taken
    rest = in_order([(0, {"text": "A"}), (0, None)], {})
    assert [segment["text"] for segment in rest] == ["A"]


# ------------------------------------------------------------------------------------------ errors and ends


def is_suspended(job):
    return inspect.getgeneratorstate(job) == inspect.GEN_SUSPENDED


ERROR = ValueError("13")  # the decoder raises the same for a request of 13 steps


@pytest.mark.parametrize("script", [[ERROR], ["a", ERROR], [1, "a", 1, ERROR], [13], [1, 13]], ids=str)
def test_an_error_of_a_job_or_of_the_decoder_closes_all_jobs(script):
    jobs = [job(0, [9, 9, 9]), job(1, script), job(2, [9, 9, 9])]
    found, _ = run(jobs, 3)
    with pytest.raises(ValueError, match="13"):
        list(found)
    assert not any(map(is_suspended, jobs))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("taken", range(6))
def test_closing_closes_all_running_jobs_and_takes_no_more(taken, ordered):
    jobs, began = [job(0, ["a", 2, "b", 3]), job(1, [2, "c", 1, "d"]), job(2, [2, "e", "f"])], []
    found, _ = run((began.append(one) or one for one in jobs), 3)
    found = in_order(found, {}) if ordered else found
    for _ in range(taken):
        next(found)
    found.close()
    assert not any(map(is_suspended, jobs))
    assert bool(began) == bool(taken)

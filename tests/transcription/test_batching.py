"""Several transcriptions under way: whose turn it is, with made-up jobs and a made-up decoder."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwhisper.decoding.decode import WindowRequest
from minwhisper.transcription import batching as together
from minwhisper.transcription.batching import in_order, run_batched, run_sequential

# A job is a list: a number is a request that takes this many steps, a text is a segment, an error is raised.


class Windows:
    """A fake DecodingBatch: the features of a request are the number of steps it takes, its result is its options."""

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


@pytest.fixture
def begin(monkeypatch):
    """Have jobs run in step: what comes out, and the decoder."""
    monkeypatch.setattr(together, "DecodingBatch", Windows)
    return run


def run(jobs, batch_size):
    made = []
    found = run_batched(jobs, made, None, batch_size)
    return found, made


def texts(found):
    return [(number, None if segment is None else segment["text"]) for number, segment in found]


def segments_of(script):
    return [item for item in script if isinstance(item, str)]


SCRIPTS = st.lists(st.lists(st.integers(1, 5) | st.sampled_from("abc"), max_size=6), max_size=8)


@given(scripts=SCRIPTS, batch_size=st.integers(1, 5))
def test_all_segments_come_once_and_batches_are_not_exceeded(scripts, batch_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "DecodingBatch", Windows)
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
    assert len(seen) == sum(len(segments_of(script)) + 1 for script in scripts)


@given(scripts=SCRIPTS, batch_size=st.integers(1, 5))
def test_in_order_keeps_the_order_of_the_jobs(scripts, batch_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "DecodingBatch", Windows)
        found, _ = run((job(number, script) for number, script in enumerate(scripts)), batch_size)
        seen = [segment["text"] for segment in in_order(found, {})]
    assert seen == [text for script in scripts for text in segments_of(script)]


def test_a_job_starts_when_another_ends(begin):
    log = []
    found, made = begin((job(number, [steps], log) for number, steps in enumerate([5, 2, 2, 1, 3])), 2)
    assert texts(found) == [(1, None), (2, None), (0, None), (3, None), (4, None)]
    assert log == [
        *("0 begins", "1 begins", "1 ends", "2 begins", "2 ends", "3 begins", "0 ends"),
        *("3 ends", "4 begins", "4 ends"),
    ]
    assert made[0].most == 2


def test_a_job_is_taken_only_when_a_place_is_free(begin):
    taken = []
    jobs = (taken.append(number) or job(number, [2, "a"]) for number in range(5))
    found, _ = begin(jobs, 2)
    assert next(found) == (0, {"text": "a"})
    assert taken == [0, 1]
    list(found)
    assert taken == [0, 1, 2, 3, 4]


def test_jobs_without_requests_take_no_place(begin):
    found, made = begin([job(0, [3, "x"]), job(1, ["a", "b"]), job(2, []), job(3, [1, "c"])], 2)
    assert texts(found) == [(1, "a"), (1, "b"), (1, None), (2, None), (3, "c"), (3, None), (0, "x"), (0, None)]
    assert made[0].most == 2


def test_segments_between_requests_are_yielded_at_once(begin):
    found, made = begin([job(0, ["a", 2, "b", "c", 1])], 1)
    assert (next(found), made[0].steps) == ((0, {"text": "a"}), 0)
    assert (next(found), made[0].steps) == ((0, {"text": "b"}), 2)
    assert (next(found), made[0].steps) == ((0, {"text": "c"}), 2)
    assert (next(found), made[0].steps) == ((0, None), 3)
    assert next(found, "end") == "end"


def test_in_order_yields_segments_of_the_current_job_at_once():
    given = iter([(1, {"text": "b"}), (0, {"text": "a"}), (1, None), (0, {"text": "A"}), (0, None), (2, None)])
    ordered = in_order(given, {})
    assert next(ordered)["text"] == "a"
    assert next(given) == (1, None)  # no more has been taken
    rest = in_order([(0, {"text": "A"}), (0, None)], {})
    assert [segment["text"] for segment in rest] == ["A"]


# ------------------------------------------------------------------------------------------ errors and ends


def states(jobs):
    return [inspect.getgeneratorstate(one) for one in jobs]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([ValueError("bad")], "bad"),
        (["a", ValueError("bad")], "bad"),
        ([1, ValueError("bad")], "bad"),
        ([1, "a", 1, ValueError("bad")], "bad"),
        ([13], "13"),  # the decoder refuses it
        ([1, 13], "13"),
    ],
    ids=["at once", "after a segment", "after an answer", "late", "refused", "refused late"],
)
def test_an_error_of_a_job_closes_all_others(begin, script, error):
    log = []
    jobs = [job(0, [9, 9, 9], log), job(1, script, log), job(2, [9, 9, 9], log)]
    found, _ = begin(jobs, 3)
    with pytest.raises(ValueError, match=error):
        list(found)
    begun = {line.split()[0] for line in log if line.endswith("begins")}
    assert {line.split()[0] for line in log if line.endswith("ends")} == begun
    assert inspect.GEN_SUSPENDED not in states(jobs)


def test_an_error_in_taking_jobs_closes_the_running_ones(begin):
    def jobs():
        yield first
        raise OSError("no more")

    first = job(0, [9])
    found, _ = begin(jobs(), 2)
    with pytest.raises(OSError, match="no more"):
        list(found)
    assert states([first]) == [inspect.GEN_CLOSED]


@pytest.mark.parametrize("taken", range(1, 9))
def test_closing_closes_all_running_jobs(begin, taken):
    jobs = [job(0, ["a", 2, "b", 3]), job(1, [2, "c", 1, "d"]), job(2, [2, "e", "f"])]
    found, _ = begin(jobs, 3)
    for _ in range(taken):
        next(found)
    found.close()
    assert inspect.GEN_SUSPENDED not in states(jobs)


def test_closing_before_the_start_takes_no_job(begin):
    found, _ = begin((pytest.fail("taken") for _ in range(3)), 2)
    found.close()


def test_closing_the_ordered_segments_closes_the_jobs(begin):
    jobs = [job(0, [3, "a", 2, "b"]), job(1, [2, "c", 9])]
    ordered = in_order(begin(jobs, 2)[0], {})
    assert next(ordered)["text"] == "a"
    ordered.close()
    assert inspect.GEN_SUSPENDED not in states(jobs)


# ------------------------------------------------------------------------------------------ one alone


class Decoder:
    def __init__(self):
        self.asked = []

    def decode_window(self, request):
        (features,) = request.features
        self.asked.append((features, request.options, request.generator))
        return f"answer {len(self.asked)}"


def test_run_sequential_calls_the_model_for_each_window():
    def steps():
        yield {"text": "a"}
        assert (yield WindowRequest(["first"], "one", "random")) == "answer 1"
        yield {"text": "b"}
        yield {"text": "c"}
        assert (yield WindowRequest(["second"], "two")) == "answer 2"
        assert (yield WindowRequest(["third"], "three")) == "answer 3"

    model = Decoder()
    assert [segment["text"] for segment in run_sequential(steps(), model)] == ["a", "b", "c"]
    assert model.asked == [("first", "one", "random"), ("second", "two", None), ("third", "three", None)]


def test_run_sequential_closes_its_job_when_closed():
    steps = job(0, ["a", "b"])
    running = run_sequential(steps, Decoder())
    next(running)
    running.close()
    assert states([steps]) == [inspect.GEN_CLOSED]


def test_run_sequential_closes_its_job_when_the_model_fails():
    steps = job(0, [1])
    with pytest.raises(AttributeError):
        list(run_sequential(steps, None))
    assert states([steps]) == [inspect.GEN_CLOSED]

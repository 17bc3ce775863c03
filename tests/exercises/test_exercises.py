"""The exercises: correct answers pass, each known mistake gets its hint, and the solutions agree with the package."""

import numpy as np
import pytest

import minwhisper
from minwhisper.audio.mel import mel_filters
from minwhisper.common.edits import EditError
from minwhisper.decoding.logit_filters import timestamp_rules
from minwhisper.decoding.search import Candidate, beam_step, best_candidate
from minwhisper.exercises import (
    EXERCISES,
    attention,
    beam,
    byte_pairs,
    cached,
    check,
    convolution,
    find_exercise,
    norms,
    softmax,
    warping,
)
from minwhisper.exercises import spectrogram as mel
from minwhisper.exercises import timestamps as times
from minwhisper.exercises.loading import load_functions
from minwhisper.model import layers
from minwhisper.model.layers import attend, causal_mask, keys_and_values
from minwhisper.model.layers import attention as attention_layer
from minwhisper.tokenizer import bpe
from minwhisper.transcription.alignment_tools import dynamic_time_warping
from wrong_answers import FOLDER

(SOFTMAX, MEL, CONV, NORMS, ATTENTION, STEP, MERGE, GREEDY, TIMES, BEAM, WARPING, FALLBACK) = EXERCISES
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.functions[0])
MISTAKES = [(exercise, name) for exercise in EXERCISES for name in exercise.mistakes]


# ------------------------------------------------------------------------------------------ the exercises


@each
def test_the_solution_passes(exercise):
    assert check(exercise, *exercise.solutions, real=False).solved


@each
def test_another_answer_passes(exercise):
    functions = load_functions(FOLDER / f"{exercise.functions[0]}.py", exercise)
    assert check(exercise, *functions, real=False).hint is None


@each
def test_another_answer_passes_with_real_weights(exercise, tiny_en):
    functions = load_functions(FOLDER / f"{exercise.functions[0]}.py", exercise)
    events = []
    assert check(exercise, *functions, report=lambda *event: events.append(event)).solved
    real = [("passed", case.title) for case in exercise.cases if case.real]
    assert [event for event in events if event in real] == real


@pytest.mark.parametrize(("exercise", "name"), MISTAKES, ids=[f"{e.functions[0]}-{name}" for e, name in MISTAKES])
def test_every_mistake_fits_the_solution_changes_its_result_and_gets_its_own_hint(exercise, name):
    verdict = check(exercise, *exercise.variant([name]), real=False)
    assert not verdict.solved
    assert verdict.hint.endswith("\n" + exercise.mistakes[name].hint)


@each
def test_hints_are_distinct(exercise):
    texts = [*(mistake.hint for mistake in exercise.mistakes.values()), *(case.advice for case in exercise.cases)]
    assert len(set(texts)) == len(texts)


def test_mistakes_that_do_not_fit_together_are_no_candidates():
    with pytest.raises(EditError):
        MEL.variant(["zeros outside", "ends held"])
    with pytest.raises(SyntaxError):
        CONV.variant(["not transposed", "mean"])
    hint = check(CONV, lambda *arguments: CONV.solutions[0](*arguments) + 1, real=False).hint  # all pairs are tried
    assert hint.endswith(CONV.cases[0].advice)


@pytest.mark.parametrize(
    ("exercise", "names"),
    [
        (MEL, ("symmetric window", "no clamp")),
        (MEL, ("magnitude", "natural logarithm")),
        (MEL, ("zeros outside", "not scaled")),
        (ATTENTION, ("not scaled", "softmax over queries")),
        (ATTENTION, ("mask forgotten", "divided by K")),
        (STEP, ("no value bias", "no out bias")),
        (BEAM, ("end in the tokens", "mean returned")),
        (TIMES, ("text only", "likeliest time")),
        (CONV, ("kernel flipped", "bias three times")),
        (NORMS, ("no weight", "quick GELU")),
        (GREEDY, ("end in the tokens", "sum of logits")),
        (FALLBACK, ("multiplied", "characters")),
    ],
)
def test_of_two_mistakes_the_second_is_named_once_the_first_is_fixed(exercise, names):
    hint = check(exercise, *exercise.variant(names), real=False).hint
    named = [name for name in names if exercise.mistakes[name].hint in hint]
    assert named
    left = [name for name in names if name not in named]
    assert not left or exercise.mistakes[left[0]].hint in check(exercise, *exercise.variant(left), real=False).hint


def test_two_mistakes_in_one_case_are_both_named():
    hint = check(MEL, *MEL.variant(["symmetric window", "magnitude"])).hint
    assert "Two mistakes at once" in hint
    assert all(MEL.mistakes[name].hint in hint for name in ("symmetric window", "magnitude"))


@each
def test_exercises_are_described(exercise):
    assert exercise.number == EXERCISES.index(exercise) + 1
    assert 5 <= len(exercise.task.splitlines()) <= 12
    assert max(map(len, exercise.task.splitlines())) <= 120
    assert all(call in exercise.task for call in exercise.calls)
    assert find_exercise(exercise.number) is exercise
    assert len({case.title for case in exercise.cases}) == len(exercise.cases)


@each
def test_the_skeleton_runs_and_says_that_it_is_not_written_yet(exercise, tmp_path):
    path = tmp_path / "answer.py"
    path.write_text(exercise.skeleton, encoding="utf-8")
    assert max(map(len, exercise.skeleton.splitlines())) <= 120
    hint = check(exercise, *load_functions(path, exercise)).hint
    assert f"{exercise.functions[0]} is not written yet" in hint


# ------------------------------------------------------------------------------------------ agreement with the package


@pytest.mark.parametrize("length", [8000, 5037, 400, 300])
def test_the_spectrogram_agrees_with_the_package(length):
    samples = mel.synthetic_audio(length)
    ours = mel.log_mel_spectrogram(samples, mel_filters(80))
    np.testing.assert_allclose(ours, minwhisper.log_mel_spectrogram(samples), atol=1e-5)


def test_attention_agrees_with_the_package(rng):
    queries, keys, values = rng.standard_normal((3, 2, 5, 4))
    mask = rng.standard_normal((5, 5))
    ours = attention.attention(queries, keys, values, mask)
    np.testing.assert_allclose(ours, attend(queries[None], keys[None].transpose(0, 1, 3, 2), values[None], mask)[0][0])


@pytest.mark.parametrize("cuts", [(6,), (1, 1, 1, 1, 1, 1), (3, 2, 1)])
def test_the_cached_step_agrees_with_the_package(cuts, rng):
    x = rng.standard_normal((6, 8))
    weights = {
        name: {"weight": rng.standard_normal((8, 8)), "bias": rng.standard_normal(8)} for name in ("query", "out")
    }
    weights["key"] = {"weight": rng.standard_normal((8, 8))}
    weights["value"] = {"weight": rng.standard_normal((8, 8)), "bias": rng.standard_normal(8)}
    outs, cache, at = [], None, 0
    for cut in cuts:
        out, cache = cached.step(x[at : at + cut], weights, cache, 2)
        outs.append(out)
        at += cut
    kv, mask = keys_and_values(x[None], weights, 2), causal_mask(len(x), 0, x)
    np.testing.assert_allclose(np.concatenate(outs), attention_layer(x[None], kv, weights, 2, mask)[0][0])


def packages_beam(table, end: int, size: int, longest: int) -> tuple[list[int], float]:
    """Run the loop of ``search`` with the package's ``beam_step``."""
    going, ended = [Candidate((), 0.0)], []
    for _ in range(longest):
        choices = beam_step(np.stack([table(c.tokens) for c in going]), going, beam_size=size, eot=end)
        ended += [Candidate(going[c.row].tokens, c.sum_logprob) for c in choices if c.token == end]
        going = [Candidate((*going[c.row].tokens, c.token), c.sum_logprob) for c in choices if c.token != end]
        if len(ended) >= size or not going:
            break
    ended = ended[:size]
    best = best_candidate(ended + going[: size - len(ended)])
    return list(best.tokens), best.sum_logprob


@pytest.mark.parametrize("seed", range(40))
def test_beam_search_agrees_with_the_package(seed):
    table = beam._random(1000 + seed, 6, 2.0, seed % 4 - 1.0, 0.3 * (seed % 2))
    size, longest = 1 + seed % 4, 1 + seed % 7
    tokens, total = beam.beam_search(lambda said: table(tuple(said[2:])), [7, 8], 0, size, longest)
    expected = packages_beam(table, 0, size, longest)
    assert tokens == expected[0]
    assert total == pytest.approx(expected[1])


def test_greedy_search_goes_astray_where_it_is_said_to():
    ask = lambda said: beam._TRAP(tuple(said))  # noqa: E731
    greedy, beamed = (beam.beam_search(ask, [], 0, size, 5) for size in (1, 2))
    assert greedy[0][0] == 1
    assert beamed == ([2], pytest.approx(np.log(0.45 * 0.9)))


@pytest.mark.parametrize("seed", range(200))
def test_the_timestamp_rules_agree_with_the_package(seed):
    said, logits = times._grammar(500 + seed)
    # The package also forbids <|notimestamps|>, which these rules have not: here it is an id of its own at the end.
    longer = np.concatenate([logits, [-np.inf]])[None]
    expected = timestamp_rules(longer, [said], eot=6, no_timestamps=-1, timestamp_begin=9, max_initial_index=None)[
        0, :-1
    ]
    np.testing.assert_array_equal(times.timestamp_rules(logits, said, 6, 9), expected)


def test_the_random_texts_for_the_rules_are_of_every_kind():
    texts = [times._grammar(seed)[0] for seed in range(40)]
    assert [] in texts
    kinds = {(said[-1] >= 9, len(said) > 1 and said[-2] >= 9) for said in texts if said}
    assert len(kinds) == 4


def test_softmax_and_log_softmax_agree_with_the_package(rng):
    x = rng.standard_normal((3, 4, 5)) * 100
    np.testing.assert_allclose(softmax.softmax(x), layers.softmax(x))
    np.testing.assert_allclose(softmax.log_softmax(x), layers.log_softmax(x))


@pytest.mark.parametrize(("frames", "stride"), [(6, 1), (6, 2), (7, 2), (1, 1)])
def test_the_convolution_agrees_with_the_package(frames, stride, rng):
    x, weight, bias = rng.standard_normal((frames, 3)), rng.standard_normal((4, 3, 3)), rng.standard_normal(4)
    expected = layers.conv1d(x[None], weight, bias, stride)[0]
    np.testing.assert_allclose(convolution.conv1d(x, weight, bias, stride), expected)


def test_layer_norm_and_gelu_agree_with_the_package(rng):
    x, weight, bias = rng.standard_normal((3, 4, 5)) * 3, rng.standard_normal(5), rng.standard_normal(5)
    np.testing.assert_allclose(norms.layer_norm(x, weight, bias), layers.layer_norm(x, weight, bias))
    np.testing.assert_allclose(norms.gelu(x), layers.gelu(x), atol=1e-6)


@pytest.mark.parametrize("seed", range(50))
def test_merging_agrees_with_the_package(seed):
    rng = np.random.default_rng(seed)
    ids = {letter: n for n, letter in enumerate("abc")}
    for n in range(3, 20):  # a trained vocabulary: each piece joins two earlier ones
        ids.setdefault("".join(rng.choice(list(ids), 2)), n)
    word = "".join(rng.choice(list("abcd"), 12))
    assert byte_pairs.merge(word, ids) == bpe.merge(word, ids)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (1, 3), (3, 1)])
def test_dynamic_time_warping_agrees_with_the_package(shape, rng):
    cost = rng.standard_normal(shape)
    assert np.array(warping.dynamic_time_warping(cost)).tolist() == dynamic_time_warping(cost).tolist()

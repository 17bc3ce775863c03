"""The exercises: correct answers pass, and each mistake gets a hint that explains it.

The folder has an answer to each exercise, written independently of the solutions in the package. Wrong answers are
made from them by changing a line.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import minwhisper
from minwhisper.audio.mel import mel_filters
from minwhisper.common.console import Console
from minwhisper.common.edits import EditError
from minwhisper.decoding.logit_filters import timestamp_rules
from minwhisper.decoding.search import Candidate, beam_step, best_candidate
from minwhisper.errors import ExerciseError, OptionError
from minwhisper.exercises import EXERCISES, attention, beam, cached, check, command, find_exercise, load_function
from minwhisper.exercises import spectrogram as mel
from minwhisper.exercises import timestamps as times
from minwhisper.exercises.checking import results_difference
from minwhisper.model.layers import attend, causal_mask, keys_and_values
from minwhisper.model.layers import attention as attention_layer

ANSWERS = Path(__file__).parent
MEL, ATTENTION, STEP, BEAM, TIMES = EXERCISES
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.function)
MISTAKES = [(exercise, name) for exercise in EXERCISES for name in exercise.mistakes]


def written(exercise) -> str:
    return (ANSWERS / f"{exercise.function}.py").read_text(encoding="utf-8")


def hint_for(exercise, source: str, folder: Path) -> str | None:
    path = folder / "answer.py"
    path.write_text(source, encoding="utf-8")
    return check(exercise, load_function(path, exercise)).hint


def changed(exercise, *changes: tuple[str, str]) -> str:
    source = written(exercise)
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


# ------------------------------------------------------------------------------------------ the exercises


@each
def test_the_solution_passes(exercise):
    assert check(exercise, exercise.solution).solved


@pytest.mark.parametrize(("exercise", "name"), MISTAKES, ids=[f"{e.function}-{name}" for e, name in MISTAKES])
def test_every_mistake_fits_the_solution_changes_its_result_and_gets_its_own_hint(exercise, name):
    verdict = check(exercise, exercise.variant([name]))
    assert not verdict.solved
    assert verdict.hint.endswith("\n" + exercise.mistakes[name].hint)


@each
def test_hints_are_distinct(exercise):
    texts = [*(mistake.hint for mistake in exercise.mistakes.values()), *(case.advice for case in exercise.cases)]
    assert len(set(texts)) == len(texts)


def test_mistakes_that_do_not_fit_together_are_no_candidates():
    with pytest.raises(EditError):
        MEL.variant(["zeros outside", "ends held"])


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
    ],
)
def test_of_two_mistakes_the_second_is_named_once_the_first_is_fixed(exercise, names):
    hint = check(exercise, exercise.variant(names)).hint
    named = [name for name in names if exercise.mistakes[name].hint in hint]
    assert named
    left = [name for name in names if name not in named]
    assert not left or exercise.mistakes[left[0]].hint in check(exercise, exercise.variant(left)).hint


def test_two_mistakes_in_one_case_are_both_named():
    hint = check(MEL, MEL.variant(["symmetric window", "magnitude"])).hint
    assert "Two mistakes at once" in hint
    assert all(MEL.mistakes[name].hint in hint for name in ("symmetric window", "magnitude"))


@each
def test_exercises_are_described(exercise):
    assert exercise.number == EXERCISES.index(exercise) + 1
    assert 5 <= len(exercise.task.splitlines()) <= 12
    assert max(map(len, exercise.task.splitlines())) <= 120
    assert f"{exercise.function}({', '.join(exercise.parameters)})" in exercise.task
    assert find_exercise(exercise.number) is exercise
    assert len({case.title for case in exercise.cases}) == len(exercise.cases)


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


# ------------------------------------------------------------------------------------------ common mistakes

WRONG = {
    # A change to the answer in this folder, and part of the hint that it has to give.
    "mel: hanning(400)": (MEL, [("np.hanning(LENGTH + 1)[:-1]", "np.hanning(LENGTH)")], "symmetric Hann window"),
    "mel: constant": (MEL, [('mode="reflect"', 'mode="constant"')], "np.pad(samples, 200, mode='reflect')"),
    "mel: abs": (MEL, [("np.abs(spectrum) ** 2", "np.abs(spectrum)")], "not squared"),
    "mel: complex": (MEL, [("np.abs(spectrum) ** 2", "spectrum"), ("power.astype(np.float32)", "power")],
                     "take the square of the absolute value"),
    "mel: ln": (MEL, [("np.log10", "np.log")], "natural logarithm"),
    "mel: eps": (MEL, [("np.maximum(mel, 1e-10)", "mel + 1e-10")], "It is a floor"),
    "mel: no eps": (MEL, [("np.maximum(mel, 1e-10)", "mel")], "logarithm of zero"),
    "mel: another eps": (MEL, [("1e-10", "1e-8")], "every energy is 0 and becomes 1e-10"),
    "mel: 80 dB": (MEL, [("- 8.0", "- 80.0")], "has no effect"),
    "mel: axis": (MEL, [("log.max()", "log.max(axis=0)")], "maximum of the whole result"),
    "mel: scale": (MEL, [("(log + 4.0) / 4.0", "log")], "add 4, then divide by 4"),
    "mel: extra frame": (MEL, [("len(samples) // HOP)", "len(samples) // HOP + 1)")], "One frame too many"),
    "mel: ceil": (MEL, [("len(samples) // HOP", "-(-len(samples) // HOP)")], "not a multiple of 160"),
    "mel: own filters": (MEL, [("filters @", "FILTERS @"), ("HOP, L", "from minwhisper.audio.mel import mel_filters\n"
                                "FILTERS = mel_filters(80)\nHOP, L")], "filters that are given"),
    "mel: in place": (MEL, [("    window =", "    samples *= 2\n    window =")], "modifies its argument samples"),
    "mel: T x 80": (MEL, [("axis=1)", "axis=0)")], "transpose"),
    "attention: no scale": (ATTENTION, [(" / np.sqrt(queries.shape[-1])", "")], "not divided by the square root of K"),
    "attention: K": (ATTENTION, [("np.sqrt(queries.shape[-1])", "queries.shape[-1]")], "divided by K"),
    "attention: axis": (ATTENTION, [("e.sum(axis=-1, keepdims=True)", "e.sum()")], "one sum per head"),
    "attention: overflow": (ATTENTION, [(" - x.max(axis=-1, keepdims=True)", "")], "exp overflows"),
    "attention: one max": (ATTENTION, [("x.max(axis=-1, keepdims=True)", "x.max()")], "from all scores of a head"),
    "attention: mask": (ATTENTION, [("scores + mask", "scores * mask")], "multiplied by the mask"),
    "attention: where": (ATTENTION, [("scores + mask", "np.where(mask < 0, -np.inf, scores)")], "Add the mask to"),
    "attention: in place": (ATTENTION, [("scores = scores + mask", "mask += scores\n            scores = mask")],
                            "modifies its argument mask: the next layer"),
    "attention: squeeze": (ATTENTION, [("return out", "return out.squeeze()")], "axis of length 1"),
    "cache: no mask": (STEP, [("keys[:seen]", "keys"), ("values[:seen]", "values")], "attends to later ones"),
    "cache: no past": (STEP, [("past + i + 1", "i + 1")], "np.triu(…, k=past + 1)"),
    "cache: order": (STEP, [('[old["keys"], new["key"]]', '[new["key"], old["keys"]]'),
                            ('[old["values"], new["value"]]', '[new["value"], old["values"]]')], "the old ones first"),
    "cache: bias": (STEP, [(' + weights["out"]["bias"]', "")], "bias of the out projection"),
    "cache: key bias": (STEP, [('layer.get("bias", 0)', 'layer["bias"]')], "KeyError: 'bias'"),
    "cache: D": (STEP, [("query.shape[-1] ** 0.5", "x.shape[-1] ** 0.5")], "divided by the square root of D"),
    "cache: heads": (STEP, [("len(x), heads, -1", "len(x), 2, -1")], "The number of heads is an argument"),
    "cache: weights": (STEP, [('"sd,od->so"', '"sd,do->so"')], "x @ weight.T"),
    "cache: last only": (STEP, [('"keys": keys, "values": values}', '"keys": new["key"], "values": new["value"]}')],
                         "only the newest positions"),
    "beam: sum": (BEAM, [(" / max(1, len(way[1]))", "")], "favours short texts"),
    "beam: zero": (BEAM, [("max(1, len(way[1]))", "len(way[1])")], "division by 0"),
    "beam: first end": (BEAM, [("len(ended) >= size", "ended")], "as soon as one hypothesis has finished"),
    "beam: last": (BEAM, [("total + logprobs[token]", "logprobs[token]")], "the last token only"),
    "beam: -inf": (BEAM, [("np.flatnonzero(logprobs > -np.inf)", "range(len(logprobs))")], "-inf"),
    "beam: end stays": (BEAM, [("said[:-1]))", "said))")], "Omit it"),
    "beam: ends only": (BEAM, [("pool = ended +", "pool = ended or")], "fill up to"),
    "beam: no start": (BEAM, [("list(start) + ", "")], "does not begin with start"),
    "beam: start changed": (BEAM, [("    return list", "    start.append(0)\n    return list")], "argument start"),
    "beam: on after the end": (BEAM, [("            else:\n    ", "            if True:\n    ")],
                               "which is finished"),
    "beam: for ever": (BEAM, [("for _ in range(longest):", "while True:")], "Does the loop end?"),
    "beam: array": (BEAM, [("return list(said), total", "return list(said)")], "expected a tuple of two"),
    "beam: three": (BEAM, [("return list(said), total", "return list(said), total, beam")],
                    "is a tuple of 3, expected a tuple of two: (tokens, sum_logprob)"),
    "beam: swapped": (BEAM, [("list(said), total", "total, list(said)")], "expected a list of tokens and a number"),
    "times: in place": (TIMES, [("    ids = np", "    logits[0] = 0\n    ids = np")], "modifies its argument logits"),
    "times: off by one": (TIMES, [("ids <= last", "ids < last")], "must close later"),
    "times: gap": (TIMES, [("time & (ids < last)", "time & (ids <= last)")], "without a gap"),
    "times: first alone": (TIMES, [("len(said) == 1 or ", "len(said) > 1 and ")], "counts as closing a segment"),
    "times: max": (TIMES, [("np.logaddexp.reduce(left[time])", "left[time].max()")], "likely timestamp is compared"),
    "times: raw": (TIMES, [("reduce(left[time])", "reduce(logits[time])")], "Suppressed timestamps are counted"),
    "times: exp": (TIMES, [("np.logaddexp.reduce(left[time])", "np.log(np.exp(left[time]).sum())")], "exp overflows"),
    "times: text": (TIMES, [("left[~time].max()", "left[text].max()")], "are left out of the comparison"),
    "times: first": (TIMES, [("token >= first)", "token > first)")], "not with >"),
    "times: never": (TIMES, [("if said and np", "if False and np")], "The last rule is missing"),
    "times: end": (TIMES, [("ok &= ~text", "ok &= time")], "the end is suppressed"),
    "times: list": (TIMES, [("return left", "return left.tolist()")], "is a list of 20, expected a NumPy array"),
    "times: mask": (TIMES, [("return left", "return ok")], "an array of bool"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_gets_a_hint_for_its_mistake(name, tmp_path):
    exercise, changes, words = WRONG[name]
    hint = hint_for(exercise, changed(exercise, *changes), tmp_path)
    assert hint is not None
    assert words in hint


CACHE_IMPORTS = "import numpy as np\nfrom minwhisper.exercises.cached import step as solution\n"
CACHES = {
    "stores what it computes from": (
        """def step(x, weights, cache, heads):
    seen = x if cache is None else np.concatenate([cache, x])
    out, _ = solution(seen, weights, None, heads)
    return out[-len(x):], seen
""",
        "for 1 new position, keys or values of 2 are computed",
    ),
    "appends to a list": (
        """def step(x, weights, cache, heads):
    cache = cache if cache is not None else []
    old = tuple(map(np.concatenate, zip(*cache))) if cache else None
    out, (keys, values) = solution(x, weights, old, heads)
    cache.append((keys[-len(x):], values[-len(x):]))
    return out, cache
""",
        "modifies its argument cache: a beam search",
    ),
    "writes into a buffer": (
        """def step(x, weights, cache, heads):
    keys, values, past = cache or (np.zeros((99, 8)), np.zeros((99, 8)), 0)
    out, new = solution(x, weights, (keys[:past], values[:past]), heads)
    keys[past:past + len(x)], values[past:past + len(x)] = (array[past:] for array in new)
    return out, (keys, values, past + len(x))
""",
        "modifies its argument cache",
    ),
    "remembers by itself": (
        """memory = None
def step(x, weights, cache, heads):
    global memory
    out, memory = solution(x, weights, None if cache is None else memory, heads)
    return out, 'see memory'
""",
        "keep nothing in a global variable",
    ),
    "hides it in an object": (
        """class Cache:
    held = None
def step(x, weights, cache, heads):
    cache = cache or Cache()
    out, cache.held = solution(x, weights, cache.held, heads)
    return out, cache
""",
        "do not overwrite its arrays",
    ),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_cannot_be_used_twice_is_rejected(name, tmp_path):
    source, words = CACHES[name]
    assert words in hint_for(STEP, CACHE_IMPORTS + source, tmp_path)


@pytest.mark.parametrize(
    "product",
    [
        "x @ w.T", "(w @ x.T).T", "np.matmul(x, np.transpose(w))", "np.dot(x, w.T)", "np.inner(x, w)",
        "np.tensordot(x, w, (1, 1))", "np.einsum('sd,od->so', x, w)", "np.stack([w @ row for row in x])",
        "np.concatenate([x @ part.T for part in (w[:4], w[4:])], axis=1)", "(np.concatenate([w, w, w]) @ x.T)[:8].T",
        "np.hstack(list(x @ w.reshape(2, 4, 8).transpose(0, 2, 1)))", "(x[:, None] * w).sum(axis=-1)",
        "x.astype(np.float32) @ np.asarray(w, np.float32).T",
    ],
)  # fmt: skip
def test_products_may_be_written_in_any_way(product, tmp_path):
    source = changed(
        STEP, ('np.einsum("sd,od->so", x, layer["weight"])', "times(x, layer['weight'])"),
        ("def step", f"def times(x, w):\n    return {product}\n\n\ndef step"),
    )  # fmt: skip
    assert hint_for(STEP, source, tmp_path) is None


@pytest.mark.parametrize(
    "product",
    ["x @ w.T", "(w @ x.T).T", "np.dot(x, np.transpose(w))", "np.inner(x, w)", "np.einsum('sd,od->so', x, w)"],
)
def test_recomputed_positions_are_detected(product, tmp_path):
    source = f"""{CACHE_IMPORTS}
def step(x, weights, cache, heads):
    seen = x if cache is None else np.concatenate([cache, x])
    def times(x, w):
        return {product}
    times(seen, weights["key"]["weight"])
    plain = {{name: {{key: np.asarray(a) for key, a in layer.items()}} for name, layer in weights.items()}}
    return solution(seen, plain, None, heads)[0][-len(x):], seen
"""
    assert "keys or values of 2 are computed" in hint_for(STEP, source, tmp_path)


# ------------------------------------------------------------------------------------------ invalid answers


@each
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "returns None: expected a line 'return …' at the end"),
        ("return 'text'", "expected"),
        ("return [1, 2]", "expected"),
        ("1 / 0", "line 2, '1 / 0': ZeroDivisionError: division by zero\nThe arguments were "),
        ("exit(3)", "SystemExit: 3"),
        ("return unknown", "NameError: name 'unknown' is not defined"),
    ],
)
def test_a_function_without_a_usable_result_gets_a_hint(exercise, body, words, tmp_path):
    source = f"def {exercise.function}({', '.join(exercise.parameters)}):\n    {body}\n"
    hint = hint_for(exercise, source, tmp_path)
    assert words in hint
    assert hint.startswith(exercise.cases[0].title + ": ")


@each
def test_other_parameters_get_a_hint(exercise):
    hint = check(exercise, lambda one: one).hint
    assert f"cannot be called as {exercise.function}({', '.join(exercise.parameters)})" in hint


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (np.full((80, 50), np.nan), "at [0, 0] is nan, expected"),
        (np.zeros((80, 51)), "has the shape (80, 51), expected (80, 50)"),
        (np.zeros((80, 50), complex), "complex, expected real numbers"),
        (np.zeros((80, 50), object), "an array of object"),
        (np.zeros((80, 50)), "3,999 of 4,000 values are wrong"),
        (np.float64(1.0), "is of type float64, expected a NumPy array"),
    ],
    ids=["NaN", "shape", "complex", "object", "zeros", "number"],
)
def test_a_result_of_the_wrong_kind_is_described(result, words):
    assert words in check(MEL, lambda samples, filters: result).hint


def test_an_unknown_mistake_is_located_and_gets_advice():
    hint = check(
        ATTENTION, lambda queries, keys, values, mask: attention.attention(queries, keys, values, mask) + 1
    ).hint
    first, advice = hint.split("\n")
    assert "the result at [0, 0, 0] is " in first
    assert advice == ATTENTION.cases[0].advice


def test_an_error_in_numpy_names_the_readers_line(tmp_path):
    source = "import numpy as np\ndef attention(queries, keys, values, mask):\n    return np.matmul(queries, keys)\n"
    hint = hint_for(ATTENTION, source, tmp_path)
    assert f"{tmp_path / 'answer.py'}, line 3, 'return np.matmul(queries, keys)': ValueError: matmul" in hint
    assert "The arguments were queries (2, 3, 4), keys (2, 5, 4), values (2, 5, 4), mask None." in hint


def test_an_error_in_a_helper_names_its_current_line(tmp_path):
    helper = (
        "def helper(x):\n    return x{}\n\n\ndef attention(queries, keys, values, mask):\n    return helper(queries)\n"
    )
    assert "line 2, 'return x.oops': AttributeError" in hint_for(ATTENTION, helper.format(".oops"), tmp_path)
    assert "line 2, 'return x / None': TypeError" in hint_for(ATTENTION, helper.format(" / None"), tmp_path)


def test_an_answer_that_makes_numpy_raise_gets_the_same_hint(tmp_path):
    source = changed(ATTENTION, (" - x.max(axis=-1, keepdims=True)", ""))
    with np.errstate():
        assert "exp overflows" in hint_for(ATTENTION, "import numpy\nnumpy.seterr(all='raise')\n" + source, tmp_path)


def test_an_answer_may_modify_the_scores_it_gets(tmp_path):
    source = changed(
        BEAM,
        ("        beam = []\n        for total", "        logprobs[:] = 0.0\n        beam = []\n        for total"),
    )
    assert hint_for(BEAM, source, tmp_path) is None
    assert check(BEAM, BEAM.solution).solved


def test_a_difference_within_the_tolerance_is_none():
    assert results_difference([("x", np.ones(2))], [("x", np.ones(2) + 9e-5)], 1e-4) is None
    assert results_difference([("x", np.ones(2))], [("x", np.ones(2) + 2e-4)], 1e-4)
    assert results_difference([("x", np.array([-np.inf]))], [("x", np.array([-np.inf]))], 1e-4) is None
    assert results_difference([("x", 1.0)], [("x", float("nan"))], 1e-4) == "x is nan, expected 1"
    assert results_difference([("x", [1])], [("x", [1, 2])], 1e-4) == "x is [1, 2], expected [1]"
    assert results_difference([("x", np.array([np.nan]))], [("x", np.array([np.nan]))], 1e-4, equal_nan=True) is None


# ------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"def attention(q, k, v, m)\n    pass\n", ", line 1: expected ':', in 'def attention(q, k, v, m)'"),
        (b"import numpy\n1 / 0\n", ", line 2, '1 / 0': ZeroDivisionError: division by zero"),
        (b"import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        (b"import sys\nsys.exit('bye')\n", ", line 2, \"sys.exit('bye')\": SystemExit: bye"),
        (b"def attend(q): pass\n", "defines attend, expected 'attention', which begins with "
                                   "'def attention(queries, keys, values, mask):'; 'minwhisper exercise 2' prints"),
        (b"attention = 3\n", "defines no function, expected 'attention'"),
        (b"", "defines no function, expected 'attention'"),
        (b"x = '\xff'\n", "utf-8"),
        (b"x = 1\0", "null byte"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_an_error_in_one_line(source, words, tmp_path):
    path = tmp_path / "answer.py"
    path.write_bytes(source)
    with pytest.raises(ExerciseError) as error:
        load_function(path, ATTENTION)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_or_a_folder_is_an_error(tmp_path):
    for path in (tmp_path / "missing.py", tmp_path):
        with pytest.raises(ExerciseError, match="cannot be read"):
            load_function(path, ATTENTION)


def test_a_file_can_import_its_neighbours_and_the_path_is_restored(tmp_path):
    (tmp_path / "neighbour_of_answer.py").write_text("def attention(queries, keys, values, mask): return 1\n")
    path = tmp_path / "answer.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from neighbour_of_answer import attention\n@dataclass\nclass Pair:\n    a: int\n"
        "if __name__ == '__main__':\n    raise SystemExit\n"
    )
    before = list(sys.path)
    assert load_function(path, ATTENTION)(0, 0, 0, 0) == 1
    assert sys.path == before
    del sys.modules["neighbour_of_answer"]


# ------------------------------------------------------------------------------------------ the command


def test_the_command_lists_them(capsys):
    assert command(None, None, Console()) == 0
    shown = capsys.readouterr().out
    for exercise in EXERCISES:
        assert f"{exercise.number}  {exercise.title} (section {exercise.section}): {exercise.function}\n" in shown


@each
def test_the_command_shows_one(exercise, capsys):
    assert command(exercise.number, None, Console()) == 0
    shown = capsys.readouterr().out
    assert exercise.task in shown
    assert exercise.skeleton in shown


@each
def test_the_command_checks_an_answer(exercise, capsys, tmp_path):
    assert command(exercise.number, ANSWERS / f"{exercise.function}.py", Console()) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [*(f"passed: {case.title}" for case in exercise.cases), f"Exercise {exercise.number} is solved."]
    path = tmp_path / "answer.py"
    path.write_text(exercise.skeleton)
    assert command(exercise.number, path, Console()) == 1
    hint = capsys.readouterr().out
    assert hint.startswith(f"not yet: {exercise.cases[0].title}: ")
    assert "returns None" in hint or "ellipsis" in hint.lower()


def test_the_command_rejects_unknown_numbers():
    with pytest.raises(OptionError, match="exercise 0: expected a number from 1 to 5"):
        command(0, None, Console())

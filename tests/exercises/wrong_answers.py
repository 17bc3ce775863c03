"""Typical wrong answers to the exercises, and a part of the hint that each of them has to get.

A wrong answer is made from the answer in this folder by changing a few lines.
"""

from pathlib import Path
from typing import NamedTuple

from minwhisper.exercises import EXERCISES, Exercise, find_exercise

FOLDER = Path(__file__).parent


class Wrong(NamedTuple):
    """A wrong answer: what was changed, and words of its hint."""

    exercise: Exercise
    name: str
    changes: tuple[tuple[str, str], ...]
    words: str


def answer(exercise: Exercise) -> str:
    """Return the source of the answer to an exercise in this folder."""
    return (FOLDER / f"{exercise.functions[0]}.py").read_text(encoding="utf-8")


def changed(exercise: Exercise, *changes: tuple[str, str]) -> str:
    """Return the source of the answer with some of it replaced."""
    source = answer(exercise)
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def named(number: int, answers: dict[str, tuple[list[tuple[str, str]], str]]) -> list[Wrong]:
    """Return the wrong answers to an exercise."""
    exercise = find_exercise(number)
    return [Wrong(exercise, name, tuple(changes), words) for name, (changes, words) in answers.items()]


_ROWS = "    rows = [soft_row(row) for row in x.reshape(-1, x.shape[-1])]\n    return np.stack(rows).reshape(x.shape)"
_LOG = "return x - (top + np.log(total))"

SOFTMAX = named(1, {
    "exp without division": ([("return weights / weights.sum()", "return weights")], "Divide by the sum."),
    "no maximum": ([("np.exp(row - max(row))", "np.exp(row)")], "exp overflows in softmax"),
    "minimum": ([("max(row))", "min(row))")], "subtracts the minimum"),
    "first axis": ([(_ROWS, "    return np.apply_along_axis(soft_row, 0, x)")], "over the first axis"),
    "axis 1": ([(_ROWS, "    return np.apply_along_axis(soft_row, 1, x)")], "use axis=-1"),
    "whole array": ([(_ROWS, "    return soft_row(x.ravel()).reshape(x.shape)")], "softmax is over the whole array"),
    "no exp": ([("np.exp(row - max(row))", "row")], "divided by their sum without exp"),
    "sign": ([("np.exp(row - max(row))", "np.exp(min(row) - row)")], "exp is taken of -x"),
    "log of softmax": ([(_LOG, "return np.log(softmax(x))")], "-inf where softmax rounds to 0"),
    "log of softmax and a constant": ([(_LOG, "return np.log(softmax(x) + 1e-10)")], "A small constant is added"),
    "no logarithm": ([(_LOG, "return softmax(x)")], "returns the probabilities themselves"),
    "log10": ([("np.log(total)", "np.log10(total)")], "to base 10. It belongs to exp"),
    "sum without log": ([("np.log(total)", "total")], "subtracts the sum of exp"),
    "maximum forgotten": ([("(top + np.log(total))", "np.log(total)")], "inside exp only"),
    "one maximum": ([("np.max(x, -1)[..., None]", "x.max()")], "log(0) is"),
    "in place": ([("    top =", "    x -= 1\n    top =")], "modifies its argument x: other code may need it"),
})  # fmt: skip

MEL = named(2, {
    "hanning(400)": ([("np.hanning(LENGTH + 1)[:-1]", "np.hanning(LENGTH)")], "symmetric Hann window"),
    "constant": ([('mode="reflect"', 'mode="constant"')], "np.pad(samples, 200, mode='reflect')"),
    "abs": ([("np.abs(spectrum) ** 2", "np.abs(spectrum)")], "not squared"),
    "complex": ([("np.abs(spectrum) ** 2", "spectrum"), ("power.astype(np.float32)", "power")],
                "take the square of the absolute value"),
    "ln": ([("np.log10", "np.log")], "natural logarithm"),
    "eps": ([("np.maximum(mel, 1e-10)", "mel + 1e-10")], "It is a floor"),
    "no eps": ([("np.maximum(mel, 1e-10)", "mel")], "logarithm of zero"),
    "another eps": ([("1e-10", "1e-8")], "every energy is 0 and becomes 1e-10"),
    "80 dB": ([("- 8.0", "- 80.0")], "has no effect"),
    "axis": ([("log.max()", "log.max(axis=0)")], "maximum of the whole result"),
    "scale": ([("(log + 4.0) / 4.0", "log")], "add 4, then divide by 4"),
    "extra frame": ([("len(samples) // HOP)", "len(samples) // HOP + 1)")], "One frame too many"),
    "ceil": ([("len(samples) // HOP", "-(-len(samples) // HOP)")], "not a multiple of 160"),
    "own filters": ([("filters @", "FILTERS.setdefault(0, filters.copy()) @"), ("HOP, L", "FILTERS = {}\nHOP, L")],
                    "filters that are given"),
    "in place": ([("    window =", "    samples *= 2\n    window =")], "modifies its argument samples"),
    "T x 80": ([("axis=1)", "axis=0)")], "transpose"),
})  # fmt: skip

_BEFORE = "np.concatenate([none, x[:-1]])"
_AFTER = "np.concatenate([x[1:], none])"
_MATRIX = "np.concatenate([weight[:, :, 0], weight[:, :, 1], weight[:, :, 2]], axis=1)"

CONV = named(3, {
    "flipped": ([("[before, x, after]", "[after, x, before]")], "The kernel is flipped"),
    "no bias": ([(" + bias", "")], "The bias of the convolution is missing"),
    "bias three times": ([(" + bias", " + bias + bias + bias")], "once for each of the three matrices"),
    "ends repeated": ([(_BEFORE, "np.concatenate([x[:1], x[:-1]])"), (_AFTER, "np.concatenate([x[1:], x[-1:]])")],
                      "first and last frames are repeated"),
    "rolled": ([(_BEFORE, "np.roll(x, 1, axis=0)"), (_AFTER, "np.roll(x, -1, axis=0)")], "np.roll wraps around"),
    "causal": ([("[before, x, after]", "[np.concatenate([none, none, x])[: len(x)], before, x]")], "at the start only"),
    "not padded": ([("return out[::stride]", "return out[1:-1][::stride]")], "is not padded"),
    "reshaped": ([(_MATRIX, "weight.reshape(len(weight), -1)")], "reshaped to (O, 3, I)"),
    "centre only": ([("[before, x, after]", "[0 * before, x, 0 * after]")], "Only the frame in the centre"),
    "mean": ([("seen @ matrix.T", "seen @ matrix.T / 3")], "are averaged"),
    "stride ignored": ([("out[::stride]", "out")], "The stride is ignored"),
    "odd frames": ([("out[::stride]", "out[stride - 1 :: stride]")], "the outputs kept are 1, 3, 5"),
    "rounded down": ([("out[::stride]", "out[::stride][: len(x) // stride]")], "the last output is missing"),
    "transposed": ([("out[::stride]", "out[::stride].T")], "The result is (O, T)"),
    "in place": ([("    before =", "    x *= 1.5\n    before =")], "modifies its argument x"),
})  # fmt: skip

_PHI = "np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[float])"
_TANH = "return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))"

NORMS = named(4, {
    "no epsilon": ([("EPS = 1e-5", "EPS = 0.0")], "There is no epsilon"),
    "another epsilon": ([("EPS = 1e-5", "EPS = 1e-6")], "epsilon is 1e-6"),
    "epsilon outside": ([("(var + EPS) ** 0.5", "(var**0.5 + EPS)")], "Add it to the variance"),
    "ddof": ([("np.var(x, axis=-1,", "np.var(x, axis=-1, ddof=1,")], "D - 1 (ddof=1)"),
    "axis 0": ([("np.mean(x, axis=-1", "np.mean(x, axis=0"), ("np.var(x, axis=-1", "np.var(x, axis=0")],
               "over the first axis"),
    "no keepdims": ([("np.mean(x, axis=-1, keepdims=True)", "np.mean(x, axis=-1)"),
                     ("np.var(x, axis=-1, keepdims=True)", "np.var(x, axis=-1)")], "keepdims=True"),
    "no root": ([("(var + EPS) ** 0.5", "(var + EPS)")], "divides by the variance"),
    "no mean": ([("(x - mean)", "x")], "Divide x minus its mean"),
    "no weight": ([("normed * weight", "normed")], "weight is not applied"),
    "no bias": ([(" + bias", "")], "bias is not added"),
    "bias first": ([("normed * weight + bias", "(normed + bias) * weight")], "Multiply first"),
    "tanh": ([("return phi(x) * x", _TANH)], "tanh approximation"),
    "sigmoid": ([("return phi(x) * x", "return x / (1 + np.exp(-1.702 * x))")], "x σ(1.702 x)"),
    "ReLU": ([("return phi(x) * x", "return np.maximum(x, 0)")], "ReLU takes the place"),
    "Φ alone": ([("return phi(x) * x", "return phi(x)")], "Multiply it by x"),
    "no root of 2": ([(" / math.sqrt(2)", "")], "different units"),
    "no half": ([("0.5 * math", "math")], "not divided by 2"),
    "for numbers": ([(_PHI, "math.erf")], "TypeError: only"),
})  # fmt: skip

ATTENTION = named(5, {
    "no scale": ([(" / np.sqrt(queries.shape[-1])", "")], "not divided by the square root of K"),
    "K": ([("np.sqrt(queries.shape[-1])", "queries.shape[-1]")], "divided by K"),
    "axis": ([("e.sum(axis=-1, keepdims=True)", "e.sum()")], "one sum per head"),
    "overflow": ([(" - x.max(axis=-1, keepdims=True)", "")], "exp overflows"),
    "one max": ([("x.max(axis=-1, keepdims=True)", "x.max()")], "from all scores of a head"),
    "mask": ([("scores + mask", "scores * mask")], "multiplied by the mask"),
    "where": ([("scores + mask", "np.where(mask < 0, -np.inf, scores)")], "Add the mask to"),
    "in place": ([("scores = scores + mask", "mask += scores\n            scores = mask")],
                 "modifies its argument mask: the next layer"),
    "squeeze": ([("return out", "return out.squeeze()")], "axis of length 1"),
    "no softmax": ([("softmax(scores) @", "scores @")], "softmax is missing"),
    "keys": ([("@ values[head]", "@ keys[head]")], "Sum the values"),
})  # fmt: skip

CACHE = named(6, {
    "no mask": ([("keys[:seen]", "keys"), ("values[:seen]", "values")], "attends to later ones"),
    "no past": ([("past + i + 1", "i + 1")], "np.triu(…, k=past + 1)"),
    "order": ([('[old["keys"], new["key"]]', '[new["key"], old["keys"]]'),
               ('[old["values"], new["value"]]', '[new["value"], old["values"]]')], "the old ones first"),
    "bias": ([(' + weights["out"]["bias"]', "")], "bias of the out projection"),
    "key bias": ([('layer.get("bias", 0)', 'layer["bias"]')], "KeyError: 'bias'"),
    "D": ([("query.shape[-1] ** 0.5", "x.shape[-1] ** 0.5")], "divided by the square root of D"),
    "heads": ([("len(x), heads, -1", "len(x), 2, -1")], "The number of heads is an argument"),
    "weights": ([('"sd,od->so"', '"sd,do->so"')], "x @ weight.T"),
    "last only": ([('"keys": keys, "values": values}', '"keys": new["key"], "values": new["value"]}')],
                  "only the newest positions"),
    "not scaled": ([(" / query.shape[-1] ** 0.5", "")], "not divided by the square root of K"),
    "not itself": ([("past + i + 1", "max(past + i, 1)")], "The causal mask hides a token from itself"),
})  # fmt: skip

_LONGEST = """    pieces = []
    while word:
        end = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in ids)
        pieces.append(word[:end])
        word = word[end:]
    return pieces
"""

MERGE = named(7, {
    "leftmost": ([("min(ranks, key=ranks.get)", "next(iter(ranks))")], "The leftmost pair"),
    "rightmost": ([("min(ranks, key=ranks.get)", "list(ranks)[-1]")], "The rightmost pair"),
    "highest": ([("min(ranks, key=ranks.get)", "max(ranks, key=ranks.get)")], "highest id is merged first"),
    "alphabetical": ([("min(ranks, key=ranks.get)", "min(ranks)")], "order of the alphabet"),
    "longest match": ([("    cuts = list", _LONGEST + "    cuts = list")], "as WordPiece does"),
    "one round": ([("cuts = kept", "cuts = kept\n        break")], "Only one pair is merged"),
    "characters only": ([("if pair in ids:", "if pair in ids and len(pair) == 2:")],
                        "Only single characters are merged"),
    "id 0": ([("if pair in ids:", "if ids.get(pair):")], "0 is false"),
    "any pair": ([("            if pair in ids:\n                ranks[pair] = ids[pair]",
                   "            ranks[pair] = ids.get(pair, 10**6)")], "not in ids is merged"),
    "first place only": ([("and word[cuts[i] : cuts[i + 2]] == best", "and word[cuts[i] : cuts[i + 2]] == best and "
                           "kept == cuts[: len(kept)]")], "Only the first place"),
    "unknown left out": ([("pairwise(cuts)]", "pairwise(cuts) if word[a:b] in ids]")], "are left out. Keep them"),
    "lower case": ([("    cuts = list", "    word = word.lower()\n    cuts = list")], "made lower-case"),
    "space left out": ([("    cuts = list", "    word = word.lstrip('Ġ')\n    cuts = list")], "The space, Ġ"),
    "a string": ([("return [", "return ' '.join("), ("pairwise(cuts)]", "pairwise(cuts))")], "is the string 'Ġlow er'"),
    "ids": ([("return [word[a:b]", "return [ids[word[a:b]]")], "is a list of ids"),
})  # fmt: skip

_TOTAL = "        total += last[chosen] - np.logaddexp.reduce(last)\n"
_BREAK = "        if chosen == end:\n            break\n"

GREEDY = named(8, {
    "first row": ([("scores[-1]", "scores[0]")], "The first row of the logits"),
    "argmin": ([("np.argmax", "np.argmin")], "argmin"),
    "end kept": ([(_BREAK + "        said.append(chosen)\n", "        said.append(chosen)\n" + _BREAK)],
                 "The end is among the tokens"),
    "prompt kept": ([("return said,", "return list(prompt) + said,")], "The prompt is among the tokens"),
    "end not in the sum": ([(_TOTAL + _BREAK, _BREAK + _TOTAL)], "log-probability of the end is not in the sum"),
    "logits": ([(" - np.logaddexp.reduce(last)", "")], "The logits are summed up"),
    "probabilities": ([("last[chosen] - np.logaddexp.reduce(last)",
                        "np.exp(last[chosen] - np.logaddexp.reduce(last))")],
                      "The probabilities are summed up"),
    "mean": ([("return said, total", "return said, total / (len(said) + 1)")], "the mean over the tokens and"),
    "last only": ([("total +=", "total =")], "of the last token only"),
    "negative": ([("return said, total", "return said, -total")], "the wrong sign"),
    "too many": ([("len(said) < longest", "len(said) <= longest")], "one token too many"),
    "prompt counted": ([("len(said) < longest", "len(said) + len(prompt) < longest")], "The tokens of the prompt"),
    "no cache": ([("decode(new, cache)", "decode(new, None)")], "cache None again"),
    "all tokens again": ([("new = [chosen]", "new = [*prompt, *said]")], "pass only the new one, [token]"),
    "on after the end": ([(_BREAK, "")], "was decoded: stop there"),
    "no sum": ([("return said, total", "return said")], "expected a tuple of two: (tokens, sum_logprob)"),
})  # fmt: skip

TIMES = named(9, {
    "in place": ([("    ids = np", "    logits[0] = 0\n    ids = np")], "modifies its argument logits"),
    "off by one": ([("ids <= last", "ids < last")], "must close later"),
    "gap": ([("time & (ids < last)", "time & (ids <= last)")], "without a gap"),
    "first alone": ([("len(said) == 1 or ", "len(said) > 1 and ")], "counts as closing a segment"),
    "max": ([("np.logaddexp.reduce(left[time])", "left[time].max()")], "likely timestamp is compared"),
    "raw": ([("reduce(left[time])", "reduce(logits[time])")], "Suppressed timestamps are counted"),
    "exp": ([("np.logaddexp.reduce(left[time])", "np.log(np.exp(left[time]).sum())")], "exp overflows"),
    "text": ([("left[~time].max()", "left[text].max()")], "are left out of the comparison"),
    "first": ([("token >= first)", "token > first)")], "not with >"),
    "never": ([("if said and np", "if False and np")], "The last rule is missing"),
    "end": ([("ok &= ~text", "ok &= time")], "the end is suppressed"),
    "list": ([("return left", "return left.tolist()")], "is a list of 20, expected a NumPy array"),
    "mask": ([("return left", "return ok")], "an array of bool"),
})  # fmt: skip

BEAM = named(10, {
    "sum": ([(" / max(1, len(way[1]))", "")], "favours short texts"),
    "zero": ([("max(1, len(way[1]))", "len(way[1])")], "division by 0"),
    "first end": ([("len(ended) >= size", "ended")], "as soon as one hypothesis has finished"),
    "last": ([("total + logprobs[token]", "logprobs[token]")], "the last token only"),
    "-inf": ([("np.flatnonzero(logprobs > -np.inf)", "range(len(logprobs))")], "-inf"),
    "end stays": ([("said[:-1]))", "said))")], "Omit it"),
    "ends only": ([("pool = ended +", "pool = ended or")], "fill up to"),
    "no start": ([("list(start) + ", "")], "does not begin with start"),
    "start changed": ([("    return list", "    start.append(0)\n    return list")], "argument start"),
    "on after the end": ([("            else:\n    ", "            if True:\n    ")], "which is finished"),
    "greedy": ([("    beam = [(0.0", "    size = 1\n    beam = [(0.0")], "The result is that of greedy search"),
    "mean": ([("return list(said), total", "return list(said), total / max(1, len(said))")],
             "The second result is the mean"),
    "one round less": ([("range(longest)", "range(longest - 1)")], "one round too few"),
    "for ever": ([("for _ in range(longest):", "while True:")], "Does the loop end?"),
    "array": ([("return list(said), total", "return list(said)")], "expected a tuple of two"),
    "three": ([("return list(said), total", "return list(said), total, beam")],
              "is a tuple of 3, expected a tuple of two: (tokens, sum_logprob)"),
    "swapped": ([("list(said), total", "total, list(said)")], "expected a list of tokens and a number"),
})  # fmt: skip

_CAME = "min(ways, key=lambda way: best.get(way, math.inf))"
_END = "cell = (height - 1, width - 1)"

WARPING = named(11, {
    "backwards": ([("cells.insert(0, cell)", "cells.append(cell)")], "goes from the last cell to the first"),
    "most expensive": ([(_CAME, "max(ways, key=lambda way: best.get(way, -math.inf))")], "has the largest sum"),
    "no diagonal": ([("[(i - 1, j - 1), (i - 1, j), (i, j - 1)]", "[(i - 1, j), (i, j - 1)]")], "goes diagonally"),
    "ends in the last row": ([(_END, "cell = min(((height - 1, j) for j in range(width)), key=best.get)")],
                             "the cheapest cell of the last row"),
    "ends in the last column": ([(_END, "cell = min(((i, width - 1) for i in range(height)), key=best.get)")],
                                "the cheapest cell of the last column"),
    "last cell missing": ([("zip(*cells,", "zip(*(cells[:-1] or [(0, 0)]),")], "The last cell, (N - 1, M - 1)"),
    "first cell missing": ([("zip(*cells,", "zip(*(cells[1:] or [(0, 0)]),")], "The first cell, (0, 0), is missing"),
    "swapped": ([("zip(*cells,", "zip(*((j, i) for i, j in cells),")], "Rows and columns are swapped"),
    "diagonal twice": ([(_CAME, "min(ways, key=lambda way: best.get(way, math.inf) + cost[i, j] * (way == ways[0]))"),
                        ("+ cost[i, j]\n", "+ cost[i, j] * (1 + (origin[i, j] == ways[0]))\n")],
                       "counts its cell twice"),
    "absolute": ([("    height, width", "    cost = abs(cost)\n    height, width")], "absolute values"),
    "free start": ([("if (i, j) == (0, 0):", "if i == 0:\n                best[i, j] = cost[i, j]"),
                    ("cell != (0, 0)", "cell[0] > 0")], "may start in any column"),
    "by cost": ([(_CAME, "min((way for way in ways if way in best), key=lambda way: cost[way])")], "the smallest"),
    "pairs": ([("return tuple(list(line) for line in zip(*cells, strict=True))", "return cells")],
              "expected a tuple of two: (rows, columns)"),
})  # fmt: skip

_FOUND = 'int(np.searchsorted(np.cumsum(weights), number, side="right"))'

FALLBACK = named(12, {
    "left side": ([('side="right"', 'side="left"')], "The sum has to exceed it"),
    "most likely": ([(_FOUND, "int(weights.argmax())")], "returns the most likely token"),
    "temperature ignored": ([("logits / temperature", "logits")], "does not use the temperature"),
    "multiplied": ([("logits / temperature", "logits * temperature")], "multiplies the logits"),
    "overflow": ([(" - scaled.max()", "")], "exp overflows in sample"),
    "not divided": ([("    weights = weights / weights.sum()\n", "")], "divide it by its sum first"),
    "token before": ([(_FOUND, f"max({_FOUND} - 1, 0)")], "the token before the right one"),
    "first result": ([("if good:", "if True:")], "returns the first result, whatever it is"),
    "all tried": ([("if good:", "if False:")], "tries all temperatures and returns the last"),
    "no ratio": ([("varied = len(text) <= 2.4 * len(zlib.compress(text))", "varied = True")],
                 "accepts a text that repeats itself"),
    "characters": ([("varied = len(text) <=", 'varied = len(last["text"]) <=')], "counts characters"),
    "end not counted": ([('len(last["tokens"]) + 1', 'len(last["tokens"])')], "since the end counts"),
    "sum": ([('last["sum_logprob"] / count', 'last["sum_logprob"]')], "The sum of the log-probabilities is compared"),
    "no silence": ([('last["no_speech_prob"] > 0.6', "False")], "Silence is not accepted"),
    "any silence": ([("        if good:", '        if good or last["no_speech_prob"] > 0.6:')],
                    "It is silence only if its mean is below -1"),
    "nothing at the end": ([("            return last\n    return last", "            return last")], "returns None"),
    "the text": ([("        if good:\n            return last\n    return last\n",
                   '        if good:\n            break\n    return last["text"]\n')],
                 "expected a dictionary that attempt returned"),
})  # fmt: skip

WRONG = [
    *SOFTMAX, *MEL, *CONV, *NORMS, *ATTENTION, *CACHE, *MERGE, *GREEDY, *TIMES, *BEAM, *WARPING, *FALLBACK,
]  # fmt: skip

assert {wrong.exercise.number for wrong in WRONG} == {exercise.number for exercise in EXERCISES}

"""Typical wrong answers to the exercises, and a part of the hint that each must get.

A wrong answer is the answer in this folder with a few lines changed.
"""

from pathlib import Path

from minwhisper.exercises import Exercise, check
from minwhisper.exercises.loading import load_functions

FOLDER = Path(__file__).parent


WRONG: dict[int, dict[str, tuple[list[tuple[str, str]], str]]] = {}
"""The replacements in the source and a part of the hint, by exercise and name of the mistake."""


def changed(exercise: Exercise, *changes: tuple[str, str]) -> str:
    """Return the source of the answer in this folder with these replacements."""
    source = (FOLDER / f"{exercise.functions[0]}.py").read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def hint_for(exercise: Exercise, source: str, folder: Path) -> str | None:
    """Check an answer, and return the hint that it gets."""
    path = folder / "answer.py"
    path.write_text(source, encoding="utf-8")
    return check(exercise, *load_functions(path, exercise), real=False).hint


_LOG = "return x - (top + np.log(total))"

WRONG[1] = {
    "no maximum": ([("np.exp(row - max(row))", "np.exp(row)")], "exp overflows in softmax"),
    "log of softmax": ([(_LOG, "return np.log(softmax(x))")], "-inf where softmax rounds to 0"),
    "in place": ([("    top =", "    x -= 1\n    top =")], "modifies its argument x: other code may need it"),
}  # fmt: skip

WRONG[2] = {
    "complex": ([("np.abs(spectrum) ** 2", "spectrum"), ("power.astype(np.float32)", "power")],
                "take the square of the absolute value"),
    "own filters": ([("filters @", "FILTERS.setdefault(0, filters.copy()) @"), ("HOP, L", "FILTERS = {}\nHOP, L")],
                    "filters that are given"),
    "in place": ([("    window =", "    samples *= 2\n    window =")], "modifies its argument samples"),
    "T x 80": ([("axis=1)", "axis=0)")], "transpose"),
}  # fmt: skip

WRONG[3] = {
    "flipped": ([("[before, x, after]", "[after, x, before]")], "The kernel is flipped"),
    "in place": ([("    before =", "    x *= 1.5\n    before =")], "modifies its argument x"),
}  # fmt: skip

_PHI = "np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[float])"
_TANH = "return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))"

WRONG[4] = {
    "no keepdims": ([("np.mean(x, axis=-1, keepdims=True)", "np.mean(x, axis=-1)"),
                     ("np.var(x, axis=-1, keepdims=True)", "np.var(x, axis=-1)")], "keepdims=True"),
    "tanh": ([("return phi(x) * x", _TANH)], "tanh approximation"),
    "for numbers": ([(_PHI, "math.erf")], "TypeError: only"),
}  # fmt: skip

WRONG[5] = {
    "no scale": ([(" / np.sqrt(queries.shape[-1])", "")], "not divided by the square root of K"),
    "in place": ([("scores = scores + mask", "mask += scores\n            scores = mask")],
                 "modifies its argument mask: the next layer"),
    "squeeze": ([("return out", "return out.squeeze()")], "axis of length 1"),
}  # fmt: skip

WRONG[6] = {
    "key bias": ([('layer.get("bias", 0)', 'layer["bias"]')], "KeyError: 'bias'"),
    "last only": ([('"keys": keys, "values": values}', '"keys": new["key"], "values": new["value"]}')],
                  "only the newest positions"),
}  # fmt: skip

WRONG[7] = {
    "id 0": ([("if pair in ids:", "if ids.get(pair):")], "0 is false"),
    "a string": ([("return [", "return ' '.join("), ("pairwise(cuts)]", "pairwise(cuts))")], "is the string 'Ġlow er'"),
    "ids": ([("return [word[a:b]", "return [ids[word[a:b]]")], "is a list of ids"),
}  # fmt: skip

_BREAK = "        if chosen == end:\n            break\n"

WRONG[8] = {
    "no cache": ([("decode(new, cache)", "decode(new, None)")], "cache None again"),
    "all tokens again": ([("new = [chosen]", "new = [*prompt, *tokens]")], "pass only the new one, [token]"),
    "on after the end": ([(_BREAK, "")], "was decoded: stop there"),
    "no sum": ([("return tokens, total", "return tokens")], "expected a tuple of two: (tokens, sum_logprob)"),
}  # fmt: skip

WRONG[9] = {
    "in place": ([("    ids = np", "    logits[0] = 0\n    ids = np")], "modifies its argument logits"),
    "exp": ([("np.logaddexp.reduce(left[time])", "np.log(np.exp(left[time]).sum())")], "exp overflows"),
    "list": ([("return left", "return left.tolist()")], "is a list of 20, expected a NumPy array"),
    "mask": ([("return left", "return ok")], "an array of bool"),
}  # fmt: skip

WRONG[10] = {
    "zero": ([("max(1, len(way[1]))", "len(way[1])")], "division by 0"),
    "-inf": ([("np.flatnonzero(logprobs > -np.inf)", "range(len(logprobs))")], "-inf"),
    "start changed": ([("    return list", "    start.append(0)\n    return list")], "argument start"),
    "on after the end": ([("            else:\n    ", "            if True:\n    ")], "which is finished"),
    "for ever": ([("for _ in range(longest):", "while True:")], "Does the loop end?"),
    "array": ([("return list(tokens), total", "return list(tokens)")], "expected a tuple of two"),
    "three": ([("return list(tokens), total", "return list(tokens), total, beam")],
              "is a tuple of 3, expected a tuple of two: (tokens, sum_logprob)"),
    "swapped": ([("list(tokens), total", "total, list(tokens)")], "expected a list of tokens and a number"),
}  # fmt: skip

_END = "cell = (height - 1, width - 1)"

WRONG[11] = {
    "backwards": ([("cells.insert(0, cell)", "cells.append(cell)")], "goes from the last cell to the first"),
    "ends in the last row": ([(_END, "cell = min(((height - 1, j) for j in range(width)), key=best.get)")],
                             "the cheapest cell of the last row"),
    "last cell missing": ([("zip(*cells,", "zip(*(cells[:-1] or [(0, 0)]),")], "The last cell, (N - 1, M - 1)"),
    "pairs": ([("return tuple(list(line) for line in zip(*cells, strict=True))", "return cells")],
              "expected a tuple of two: (rows, columns)"),
}  # fmt: skip

WRONG[12] = {
    "overflow": ([(" - scaled.max()", "")], "exp overflows in sample"),
    "nothing at the end": ([("            return last\n    return last", "            return last")], "returns None"),
    "the text": ([("        if good:\n            return last\n    return last\n",
                   '        if good:\n            break\n    return last["text"]\n')],
                 "expected a dictionary that attempt returned"),
}  # fmt: skip

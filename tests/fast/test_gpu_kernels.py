"""The GPU's kernels against the readable layers, on a CPU (see cuda_on_cpu.py); and that nvcc takes them for a T400."""

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cuda_on_cpu
from cuda_on_cpu import RawModule
from minwhisper import decoder, layers
from minwhisper.fast import gpu_kernels
from minwhisper.fast.gpu_kernels import CHUNK, MOST_BLOCKS, OUTPUTS, STAGED, TEXTS, WARPS, Kernels, load_kernels
from minwhisper.parity import relative_difference, window_mel

LAYER = 1e-6
STEP = 1e-5  # of all blocks together
ROWS = [1, 2, 5, 8, 9]
GUARD = 64  # numbers on either side of an array that no kernel may touch

on_cpu = pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=cuda_on_cpu.why_not())


def make(dtype) -> Kernels:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
        return Kernels(dtype)


@pytest.fixture(scope="module", params=["float32", "float16"])
def kernels(request) -> Kernels:
    if cuda_on_cpu.why_not():
        pytest.skip(cuda_on_cpu.why_not())
    return make(request.param)


@pytest.fixture
def placed():
    """Copies of arrays among numbers that are wrong to read, NaN, and to write, which is looked at afterwards."""
    buffers = []

    def place(array, dtype=np.float32):
        array = np.asarray(array)
        guard = -(2**31) if np.dtype(dtype).kind == "i" else np.nan
        buffer = np.full(array.size + 2 * GUARD, guard, dtype)
        buffers.append((buffer, buffer.copy()))
        mine = buffer[GUARD : GUARD + array.size].reshape(array.shape)
        mine[...] = array
        return mine

    yield place
    for buffer, before in buffers:
        for end in (slice(GUARD), slice(len(buffer) - GUARD, None)):
            assert np.array_equal(buffer[end].view(np.uint8), before[end].view(np.uint8)), "written outside of an array"


@pytest.fixture
def draw(rng, placed):
    def some(*shape, dtype=np.float32):
        return placed(rng.standard_normal(shape), dtype)

    return some


def wide(array):
    return array.astype(np.float32, copy=False)


def close(ours, expected, tolerance=LAYER):
    assert ours.shape == expected.shape
    assert relative_difference(ours, expected) < tolerance


# ------------------------------------------------------------------------------------------ what really comes


@pytest.fixture(scope="module")
def real(tiny_en, speech):
    """A window's features, a text, and what goes through the first block for it."""
    weights, config = tiny_en.weights["decoder"], tiny_en.config
    features = tiny_en.encode(window_mel(speech["jfk.flac"], 80))
    prompt = tiny_en.tokenizer.prompt("en", "transcribe", timestamps=False)
    words = " And so, my fellow Americans, ask not what your country can do for you; ask what you can do."
    tokens = np.array([[*prompt, *tiny_en.tokenizer.encode(words)]])
    block = weights["blocks"][0]
    x = decoder.embed(tokens, weights, np.float32)  # (1, S, D)
    normed = layers.layer_norm(x, **block["attention_norm"])
    return SimpleNamespace(
        weights=weights, config=config, features=features, tokens=tokens, block=block, x=x[0], normed=normed[0]
    )


def test_layer_norm(kernels, real, placed):
    weight, bias = (placed(real.block["attention_norm"][name], kernels.dtype) for name in ("weight", "bias"))
    x, out = placed(real.x), placed(np.zeros_like(real.x))
    kernels.layer_norm(x, weight, bias, out)
    close(out, layers.layer_norm(real.x, wide(weight), wide(bias)))


@pytest.mark.parametrize("width", [1, 4, 16, 33, 255, 257, 1280])
def test_layer_norm_of_any_width_and_in_place(kernels, draw, width):
    x, weight, bias = draw(3, width), draw(width, dtype=kernels.dtype), draw(width, dtype=kernels.dtype)
    x += 10
    expected = layers.layer_norm(x, wide(weight), wide(bias))
    kernels.layer_norm(x, weight, bias, x)
    close(x, expected, 5e-6)  # what is left when 10 is taken away is less exact in either


def test_bias_gelu(kernels, real, draw, placed):
    first = real.block["mlp"]["fc1"]
    x, bias = placed(layers.linear(real.normed, first["weight"])), placed(first["bias"], kernels.dtype)
    expected = layers.gelu(x + wide(bias))
    kernels.bias_gelu(x, bias)
    close(x, expected)
    odd, bias = draw(7, 37), draw(37, dtype=kernels.dtype)
    odd *= 8  # beyond where the polynomial goes on
    expected = layers.gelu(odd + wide(bias))
    kernels.bias_gelu(odd, bias)
    close(odd, expected)


def test_softmax_of_what_the_decoder_scores(kernels, real, placed):
    own = real.block["attention"]
    queries, keys = (
        layers.split_heads(layers.linear(real.normed[None], **own[name]), real.config.decoder_attention_heads)
        for name in ("query", "key")
    )
    scores = placed(layers.attention_scores(queries, keys.swapaxes(2, 3)))  # (1, H, S, S)
    expected = layers.softmax(scores + layers.causal_mask(scores.shape[-1], 0, scores))
    kernels.softmax(scores, past=0)
    close(scores, expected)
    assert (scores[0, :, 3, 4:] == 0).all()


@pytest.mark.parametrize(("length", "columns"), [(1, 1), (3, 5), (2, 31), (5, 257), (4, 1500)])
def test_softmax_of_any_shape(kernels, draw, length, columns):
    scores = draw(2, 3, length, columns)
    scores *= 5
    scores[..., 1:2] = -np.inf
    plain, expected = scores.copy(), layers.softmax(scores)
    kernels.softmax(plain)
    close(plain, expected)
    past = columns - length
    expected = layers.softmax(scores + layers.causal_mask(length, past, scores))
    kernels.softmax(scores, past)
    close(scores, expected)


@pytest.mark.parametrize("position", [0, 1, 447])
def test_embed(kernels, real, placed, position):
    table = real.weights["token_embedding"].astype(kernels.dtype, order="C")
    positions = placed(real.weights["positions"], kernels.dtype)
    tokens, x = placed([50257, 0, 51863], np.int32), placed(np.zeros((3, real.config.d_model)))
    kernels.embed(tokens, table, positions, placed([position], np.int32), x)
    assert np.array_equal(x, wide(table)[tokens] + wide(positions)[position])


@pytest.mark.parametrize("rows", ROWS)
def test_matvec(kernels, real, placed, rows):
    """A block's products, one after the other as in a step."""
    own, mlp = real.block["attention"], real.block["mlp"]
    x = placed(real.normed[:rows])
    weight, bias = placed(own["query"]["weight"], kernels.dtype), placed(own["query"]["bias"], kernels.dtype)
    y = placed(np.zeros_like(x))
    kernels.matvec(x, weight, bias, y, scale=0.125)
    close(y, layers.linear(x, wide(weight), wide(bias)) * np.float32(0.125))
    kernels.matvec(x, weight, None, y)
    close(y, layers.linear(x, wide(weight)))

    weight, bias = placed(mlp["fc1"]["weight"], kernels.dtype), placed(mlp["fc1"]["bias"], kernels.dtype)
    hidden = placed(np.zeros((rows, len(weight))))
    kernels.matvec(x, weight, bias, hidden, gelu=True)
    close(hidden, layers.gelu(layers.linear(x, wide(weight), wide(bias))))

    weight, bias = placed(mlp["fc2"]["weight"], kernels.dtype), placed(mlp["fc2"]["bias"], kernels.dtype)
    stream = placed(real.x[:rows])
    expected = stream + layers.linear(hidden, wide(weight), wide(bias))
    kernels.matvec(hidden, weight, bias, stream, residual=stream)
    close(stream, expected)


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7, 17])
@pytest.mark.parametrize(
    ("inner", "outer"), [(1, 1), (6, 3), (16, 24), (24, 16), (50, 17), (130, 33), (1284, 5), (STAGED + 132, 19)]
)
def test_matvec_of_any_shape(kernels, draw, rows, inner, outer):
    x, weight, bias = draw(rows, inner), draw(outer, inner, dtype=kernels.dtype), draw(outer, dtype=kernels.dtype)
    y, residual = draw(rows, outer), draw(rows, outer)
    kernels.matvec(x, weight, bias, y, residual=residual)
    close(y, residual + layers.linear(x, wide(weight), wide(bias)))


@pytest.mark.parametrize("inner", [8, 2 * STAGED // TEXTS])
def test_matvec_of_more_outputs_than_blocks(kernels, draw, placed, inner):
    """A block goes on with others, with x where it is or in pieces."""
    rows, outer = TEXTS, MOST_BLOCKS * WARPS * OUTPUTS + 5
    x, weight = draw(rows, inner), np.tile(draw(16, inner, dtype=kernels.dtype), (outer // 16 + 1, 1))[:outer]
    y = placed(np.zeros((rows, outer)))
    kernels.matvec(x, placed(weight, kernels.dtype), None, y)
    close(y, layers.linear(x, wide(weight)))


@pytest.mark.parametrize("offset", [1, 2, 4])
def test_matvec_of_a_weight_that_begins_anywhere(kernels, draw, offset):
    x, long, y = draw(2, 40), draw(offset + 12 * 40, dtype=kernels.dtype), draw(2, 12)
    weight = long[offset:].reshape(12, 40)
    kernels.matvec(x, weight, None, y)
    close(y, layers.linear(x, wide(weight)))


# ------------------------------------------------------------------------------------------ attention


def expected_attention(queries, keys, values):
    """The readable layer: queries (R, D), keys, values (R or 1, H, T, K) -> (R, D)."""
    heads = keys.shape[1]
    split = layers.split_heads(queries[:, None], heads)  # (R, H, 1, K)
    each = np.broadcast_to(wide(keys), (len(split), *keys.shape[1:]))
    heard = layers.attend(split, each.swapaxes(2, 3), wide(values))
    return layers.merge_heads(heard)[:, 0]


@pytest.mark.parametrize(
    ("rows", "heads", "size", "room", "past"),
    [
        (1, 6, 64, 448, 447),
        (5, 2, 64, 448, 300),
        (2, 3, 64, 64, 0),
        (9, 4, 4, 8, 7),
        (2, 2, 8, 70, 33),
        (1, 2, 12, 3, 1),
    ],
)
def test_attend_text(kernels, draw, placed, rows, heads, size, room, past):
    width = heads * size
    new = draw(rows, 3 * width).reshape(rows, 3, width).swapaxes(0, 1)  # (3, R, D), by rows
    keys, values = (draw(rows, heads, room, size, dtype=kernels.dtype) for _ in range(2))
    expected = []
    for buffer, its in zip((keys, values), new[1:], strict=True):
        buffer[:, :, past:] = np.nan  # nobody may look there
        after = buffer.copy()
        after[:, :, past] = its.reshape(rows, heads, size)
        expected.append(after)
    position, out = placed([past], np.int32), draw(rows, width)
    kernels.attend_text(new, keys, values, position, out)
    for buffer, after in zip((keys, values), expected, strict=True):
        assert np.array_equal(buffer, after, equal_nan=True)
    seen = [after[:, :, : past + 1] for after in expected]
    close(out, expected_attention(new[0], *seen))

    more = draw(3, rows + 2, width)
    more[:, 1:-1] = new
    again = draw(rows, width)
    kernels.attend_text(more[:, 1:-1], keys, values, position, again)  # some rows of (3, N, D)
    assert np.array_equal(again, out)


@pytest.mark.parametrize("past", [-1, 8, 2**30])
def test_attend_text_without_room_does_nothing(kernels, draw, placed, past):
    keys, values, out = draw(2, 4, 8, 4, dtype=kernels.dtype), draw(2, 4, 8, 4, dtype=kernels.dtype), draw(2, 16)
    before = [array.copy() for array in (keys, values, out)]
    kernels.attend_text(draw(3, 2, 16), keys, values, placed([past], np.int32), out)
    for array, its in zip((keys, values, out), before, strict=True):
        assert np.array_equal(array, its)


@pytest.mark.parametrize("rows", ROWS)
def test_attend_audio_to_a_window(kernels, real, placed, rows):
    cross, heads = real.block["cross_attention"], real.config.decoder_attention_heads
    queries = placed(layers.linear(real.normed[:rows], **cross["query"]))
    keys, values = layers.keys_and_values(real.features, cross, heads)
    keys, values = placed(keys[0].swapaxes(1, 2), kernels.dtype), placed(values[0], kernels.dtype)  # (H, T, K)
    out = placed(np.zeros_like(queries))
    partial = placed(np.full(Kernels.partial_shape(rows, *keys.shape), np.nan))
    kernels.attend_audio(queries, keys, values, partial, out)
    close(out, expected_attention(queries, keys[None], values[None]))


@pytest.mark.parametrize("rows", [1, 17])
@pytest.mark.parametrize(
    ("heads", "positions", "size"),
    [(2, 1, 4), (4, 448, 4), (2, CHUNK, 8), (3, CHUNK + 1, 12), (1, 33, 64), (2, 100, 20)],
)
def test_attend_audio_of_any_shape(kernels, draw, placed, rows, heads, positions, size):
    queries, out = draw(rows, heads * size), draw(rows, heads * size)
    keys, values = (draw(heads, positions, size, dtype=kernels.dtype) for _ in range(2))
    queries *= 20  # so that the chunks' highest scores lie far apart
    partial = placed(np.full(Kernels.partial_shape(rows, heads, positions, size), np.nan))
    kernels.attend_audio(queries, keys, values, partial, out)
    close(out, expected_attention(queries, keys[None], values[None]), 3e-6)  # large scores, whose exp is as exact


# ------------------------------------------------------------------------------------------ the end of a step


@pytest.mark.parametrize("width", [1, 2, 31, 1000, 1025, 51864])
def test_likeliest(kernels, draw, width):
    scores, out = draw(3, width), draw(3, 2)
    scores *= 4
    scores[:, 1::3] = -np.inf
    kernels.likeliest(scores, out)
    assert np.array_equal(out[:, 0], scores.argmax(axis=1))
    np.testing.assert_allclose(out[:, 1], layers.log_softmax(scores.astype(np.float64)).max(axis=1), rtol=1e-6, atol=0)


def test_likeliest_is_the_first_of_equals(kernels, placed):
    scores = placed(np.full((5, 3000), -np.inf))
    for row, places in enumerate([[7, 2900], [1031, 7], [2999], [0, 1, 2], [40, 33, 1064]]):
        scores[row, places] = 2.5
    out = placed(np.zeros((5, 2)))
    kernels.likeliest(scores, out)
    assert out[:, 0].tolist() == [7, 7, 2999, 0, 33]
    np.testing.assert_allclose(out[:, 1], -np.log([2, 2, 1, 3, 3]), rtol=1e-6)


def test_advance(kernels, placed):
    position = placed([41], np.int32)
    kernels.advance(position)
    assert position.tolist() == [42]


class Step:
    """A step of the decoder of nothing but kernels."""

    def __init__(self, kernels, weights, config, audio, rows, room):
        def narrow(tree):
            if isinstance(tree, dict):
                return {name: narrow(its) for name, its in tree.items()}
            if isinstance(tree, list | tuple):
                return [narrow(its) for its in tree]
            return np.ascontiguousarray(tree.astype(kernels.dtype))

        self.kernels, self.weights, self.heads = kernels, narrow(weights), config.decoder_attention_heads
        for block in self.weights["blocks"]:
            own = block["attention"]
            block["query_key_value"] = np.concatenate([own[name]["weight"] for name in ("query", "key", "value")])
            biases = own["query"]["bias"], np.zeros_like(own["query"]["bias"]), own["value"]["bias"]
            block["query_key_value_bias"] = np.concatenate(biases)
        self.audio = [[narrow(keys[0].swapaxes(1, 2)), narrow(values[0])] for keys, values in audio]
        width, hidden = config.d_model, config.decoder_ffn_dim
        size = width // self.heads
        shape = (rows, self.heads, room, size)
        self.text = [[np.zeros(shape, kernels.dtype) for _ in "kv"] for _ in self.weights["blocks"]]
        self.position = np.zeros(1, np.int32)
        self.x, self.normed, self.mixed = (np.zeros((rows, width), np.float32) for _ in range(3))
        self.three, self.hidden = (np.zeros((rows, its), np.float32) for its in (3 * width, hidden))
        self.partial = np.zeros(kernels.partial_shape(rows, *self.audio[0][0].shape), np.float32)
        self.logits = np.zeros((rows, config.vocab_size), np.float32)
        self.best = np.zeros((rows, 2), np.float32)

    def feed(self, tokens):
        kernels, weights, x, normed, mixed = self.kernels, self.weights, self.x, self.normed, self.mixed
        kernels.embed(tokens, weights["token_embedding"], weights["positions"], self.position, x)
        for block, text, audio in zip(weights["blocks"], self.text, self.audio, strict=True):
            kernels.layer_norm(x, **block["attention_norm"], out=normed)
            kernels.matvec(normed, block["query_key_value"], block["query_key_value_bias"], self.three)
            three = self.three.reshape(len(x), 3, -1).swapaxes(0, 1)
            kernels.attend_text(three, *text, self.position, mixed)
            kernels.matvec(mixed, **block["attention"]["out"], y=x, residual=x)
            kernels.layer_norm(x, **block["cross_attention_norm"], out=normed)
            kernels.matvec(normed, **block["cross_attention"]["query"], y=mixed)
            kernels.attend_audio(mixed, *audio, self.partial, normed)
            kernels.matvec(normed, **block["cross_attention"]["out"], y=x, residual=x)
            kernels.layer_norm(x, **block["mlp_norm"], out=normed)
            kernels.matvec(normed, **block["mlp"]["fc1"], y=self.hidden, gelu=True)
            kernels.matvec(self.hidden, **block["mlp"]["fc2"], y=x, residual=x)
        kernels.layer_norm(x, **weights["norm"], out=normed)
        kernels.matvec(normed, weights["token_embedding"], None, self.logits)
        kernels.likeliest(self.logits, self.best)
        kernels.advance(self.position)


def feed_both(kernels, real, tokens, room, tolerance):
    """Tokens (R, S) one after the other, by kernels and by the readable decoder."""
    weights, config = real.weights, real.config
    cache = decoder.new_cache(real.features, weights, config).take([0] * len(tokens))
    step = Step(kernels, weights, config, cache.audio, len(tokens), room)
    for column in tokens.T:
        step.feed(column.astype(np.int32))
        expected, cache = decoder.decode_cached(column[:, None], cache, weights, config)
        close(step.logits, expected[:, 0], tolerance)
        assert np.array_equal(step.best[:, 0], step.logits.argmax(axis=1))
    assert step.position.tolist() == [tokens.shape[1]]
    return step


@on_cpu
def test_steps_are_those_of_the_readable_decoder(real):
    ways = np.array([[0, 1], [5, 9], [4, 2]])
    tokens = np.concatenate([np.tile(real.tokens[:, :2], (3, 1)), real.tokens[0, ways]], axis=1)
    feed_both(make(np.float32), real, tokens, 8, STEP)


@on_cpu
def test_steps_that_remember_in_float16(real):
    """The weights are OpenAI's, which are float16; keys and values are not, and are rounded to it."""
    step = feed_both(make(np.float16), real, real.tokens[:, :4], 8, 2e-3)
    assert step.text[0][0].dtype == np.float16


# ------------------------------------------------------------------------------------------ threads, arguments


def test_the_order_of_threads_changes_nothing(kernels, rng, monkeypatch):
    """Where a kernel reads what a thread has yet to write, it does."""
    rows, heads, size, room, positions, width = 2, 2, 8, 300, 300, 16

    def some(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    given = {
        "x": some(rows, width),
        "new": some(3, rows, width),
        "scores": some(3, 700),
        **{name: some(rows, heads, room, size).astype(kernels.dtype) for name in ("keys", "values")},
        **{name: some(heads, positions, size).astype(kernels.dtype) for name in ("heard_keys", "heard_values")},
        "weight": some(width, width).astype(kernels.dtype),
        "bias": some(width).astype(kernels.dtype),
        "partial": np.zeros(Kernels.partial_shape(rows, heads, positions, size), np.float32),
        "best": np.zeros((3, 2), np.float32),
        **{name: np.zeros((rows, width), np.float32) for name in ("out", "product", "normed", "embedded")},
    }

    def compute(backward):
        monkeypatch.setattr(RawModule, "backward", backward)
        its = {name: array.copy() for name, array in given.items()}
        position = np.array([280], np.int32)
        kernels.attend_text(its["new"], its["keys"], its["values"], position, its["out"])
        kernels.attend_audio(its["out"], its["heard_keys"], its["heard_values"], its["partial"], its["product"])
        kernels.matvec(its["product"], its["weight"], its["bias"], its["x"], residual=its["x"], gelu=True)
        kernels.layer_norm(its["x"], its["bias"], its["bias"], its["normed"])
        kernels.bias_gelu(its["normed"], its["bias"])
        kernels.likeliest(its["scores"], its["best"])
        kernels.softmax(its["scores"], past=690)
        tokens, which = np.array([1, 3], np.int32), np.array([2], np.int32)
        kernels.embed(tokens, its["weight"], its["weight"], which, its["embedded"])
        return its

    forward, backward = compute(False), compute(True)
    for name, array in forward.items():
        assert array.tobytes() == backward[name].tobytes(), name


def test_what_does_not_fit_is_refused(kernels, draw, placed):
    x, weight, y = draw(2, 16), draw(8, 16, dtype=kernels.dtype), draw(2, 8)
    other = np.float16 if kernels.dtype == np.float32 else np.float32
    with pytest.raises(AssertionError, match="got"):
        kernels.matvec(x, weight.astype(other), None, y)
    with pytest.raises(AssertionError, match="contiguous"):
        kernels.matvec(x, np.asfortranarray(weight), None, y)
    with pytest.raises(AssertionError):
        kernels.matvec(x, weight, None, draw(2, 9))
    keys = draw(1, CHUNK + 1, 4, dtype=kernels.dtype)
    with pytest.raises(AssertionError):
        kernels.attend_audio(draw(1, 4), keys, keys, draw(*Kernels.partial_shape(1, 1, CHUNK, 4)), draw(1, 4))
    keys = draw(1, 2, 3, dtype=kernels.dtype)
    with pytest.raises(AssertionError, match="multiple of 4"):
        kernels.attend_audio(draw(1, 3), keys, keys, draw(1, 1, 1, 5), draw(1, 3))
    keys = draw(1, 2, 68, dtype=kernels.dtype)
    with pytest.raises(AssertionError, match="at most 64"):
        kernels.attend_audio(draw(1, 68), keys, keys, draw(1, 1, 1, 70), draw(1, 68))
    kernels.matvec(draw(0, 16), weight, None, draw(0, 8))  # nothing to do


def test_where_kernels_do_not_compile_there_are_none(monkeypatch):
    def refuse(**_):
        raise RuntimeError("kernels.cu(7): error: no\nand more")

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=refuse))
    with pytest.warns(UserWarning, match=r"do not compile here.*kernels.cu\(7\): error: no$"):
        assert load_kernels(np.float32) is None
    with pytest.warns(UserWarning, match="expected float32 or float16"):
        assert load_kernels(np.float64) is None


@on_cpu
def test_kernels_are_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
    assert load_kernels("float16").dtype == np.float16


# ------------------------------------------------------------------------------------------ the compiler, a stand-in


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc to compile the GPU's kernels with")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_nvcc_compiles_them_for_a_t400(tmp_path, dtype):
    file = tmp_path / "kernels.cu"
    file.write_text(gpu_kernels.source(), "utf-8")
    command = ["nvcc", "-arch=sm_75", "-cubin", "-Werror", "all-warnings", "-Xptxas", "-v", *gpu_kernels.options(dtype)]
    command += ["-o", str(file.with_suffix(".cubin")), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    registers = {
        name: (int(used), (int(stores), int(loads)))
        for name, stores, loads, used in re.findall(
            r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
            done.stderr,
            re.DOTALL,
        )
    }
    assert registers.keys() == set(gpu_kernels.NAMES)
    for name, (used, spilled) in registers.items():
        assert spilled == (0, 0), name
        assert used <= 64, name  # so that 1,024 threads fit into a processor's 65,536


TINY = """
extern __shared__ float shared[];
extern "C" __global__ void turn(float* x) {
    shared[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x] + __shfl_xor_sync(0xffffffff, (float)threadIdx.x, 1);
}
extern "C" __global__ void unsynchronised(float* x) {
    shared[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void some_wait(float* x) { if (threadIdx.x != 40) __syncthreads(); }
extern "C" __global__ void some_shuffle(float* x) { if (threadIdx.x != 7) __shfl_xor_sync(0xffffffff, 1.0f, 1); }
extern "C" __global__ void too_far(float* x) { shared[threadIdx.x + 1] = 0.0f; }
"""


@on_cpu
@pytest.mark.parametrize("switch", ["", "-DUSE_UCONTEXT"], ids=["by hand", "by ucontext"])
def test_the_stand_in_runs_threads_and_sees_what_is_wrong(switch):
    module = RawModule(code=TINY, options=(switch,) if switch else ())

    def run(name, *arguments, count=64):
        module.get_function(name)((1,), (count,), arguments, shared_mem=4 * count)

    x = np.arange(64, dtype=np.float32)
    run("turn", x)
    assert x.tolist() == [63 - i + (i ^ 1) for i in range(64)]
    run("unsynchronised", x)
    assert np.isnan(x).any()
    with pytest.raises(RuntimeError, match=r"barrier that not all threads come to: thread 0 .* thread 40 is done"):
        run("some_wait", x)
    with pytest.raises(RuntimeError, match="shuffles without some of its threads"):
        run("some_shuffle", x)
    with pytest.raises(RuntimeError, match="a warp shuffles that is not full"):
        run("turn", x, count=20)
    with pytest.raises(RuntimeError, match="behind the end of its shared memory"):
        run("too_far", x)
    with pytest.raises(TypeError, match="expected 1 arguments, got 2"):
        run("turn", x, x)
    for wrong in (x.astype(np.float64), np.float32(1), None):
        with pytest.raises(TypeError, match="argument 0: expected an array of float32"):
            run("turn", wrong)
    run("turn", SimpleNamespace(_numbers=x))
    with pytest.raises(RuntimeError, match="error"):
        RawModule(code='extern "C" __global__ void wrong() { nonsense; }').get_function("wrong")

"""The GPU's kernels against the readable layers, on a CPU (see cuda_on_cpu.py); and that nvcc takes them for a T400."""

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cuda_on_cpu
import refusing_cupy
from conftest import SMALL, real_model
from cuda_on_cpu import RawModule
from minwhisper import Whisper, decoder, layers
from minwhisper.backend import to_device, to_numpy
from minwhisper.engine import Feed
from minwhisper.fast import gpu_kernels
from minwhisper.fast.gpu_decoder import Steps
from minwhisper.fast.gpu_kernels import CHUNK, OUTPUTS, STAGED, TEXTS, WARPS, Kernels, load_kernels
from minwhisper.parity import relative_difference, window_mel

LAYER = 1e-6
STEP = 2.5e-6  # of all blocks together
ROUNDED = 1.5e-4  # with keys and values kept in float16
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
    kernels.matvec(x, weight, bias, y)
    close(y, layers.linear(x, wide(weight), wide(bias)))
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
def test_matvec_of_more_outputs_than_blocks(kernels, draw, inner, monkeypatch):
    """A block goes on with others, with x where it is or in pieces."""
    monkeypatch.setattr(gpu_kernels, "MOST_BLOCKS", 3)
    rows, outer = TEXTS, 2 * 3 * WARPS * OUTPUTS + 5
    x, weight, y = draw(rows, inner), draw(outer, inner, dtype=kernels.dtype), draw(rows, outer)
    kernels.matvec(x, weight, None, y)
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


# ------------------------------------------------------------------------------------------ steps


@on_cpu
@pytest.mark.parametrize(("dtype", "texts", "count", "most"), [("float32", 2, 3, STEP), ("float16", 1, 1, ROUNDED)])
def test_steps_are_those_of_the_readable_decoder(dtype, texts, count, most, real, gpus):
    """The engine's own, with kernels that run: launched, recorded, played again. In float16 they remember rounded."""
    engine = real_model("tiny.en", device="cuda", dtype=dtype).engine._engine  # its kernels are played by NumPy
    steps = Steps(engine._decoder, real.config, load_kernels(dtype))
    cache = engine.new_cache(to_device(real.features, "cuda:0"))
    ((_, cache),) = engine.decode_together([Feed(real.tokens[:, :2].tolist(), cache, [0])])
    other = decoder.new_cache(real.features, real.weights, real.config)
    _, other = decoder.decode_cached(real.tokens[:, :2], other, real.weights, real.config)
    cache, other = cache.take([0] * texts), other.take([0] * texts)
    assert cache.text.blocks[0].keys.dtype == dtype
    for column in range(2, 2 + count):
        tokens = np.array([real.tokens[0, column : column + texts]]).T  # another one for each text
        ((logits, cache),) = steps.decode_together([Feed(tokens.tolist(), cache, [0])])
        expected, other = decoder.decode_cached(tokens, other, real.weights, real.config)
        close(to_numpy(logits), expected, most)
    assert (cache.text.recorded is None) == (count == 1)


@on_cpu
def test_steps_of_several_windows_together(gpus, rng):
    here, there = (Whisper.random(SMALL, seed=3, device=device) for device in ("cpu", "cuda"))
    weights = here.weights["decoder"]
    steps = Steps(there.weights["decoder"], SMALL, load_kernels("float32"))
    features = [here.encode(rng.standard_normal((1, 8, 300)).astype(np.float32)) for _ in range(2)]
    mine = [there.engine.new_cache(to_device(one, there.device)) for one in features]
    exact = [decoder.new_cache(one, weights, SMALL) for one in features]
    mine, exact = ([first.take([0, 0, 0]), second.take([0, 0])] for first, second in (mine, exact))
    for tokens in ([[[1], [2], [3]], [[4], [5]]], [[[6], [7], [8]], [[9], [10]]]):
        found = steps.decode_together([Feed(new, cache, [0]) for new, cache in zip(tokens, mine, strict=True)])
        expected = [
            decoder.decode_cached(np.array(new), cache, weights, SMALL)
            for new, cache in zip(tokens, exact, strict=True)
        ]
        for (ours, _), (theirs, _) in zip(found, expected, strict=True):
            close(to_numpy(ours), theirs, STEP)
        mine, exact = [cache for _, cache in found], [cache for _, cache in expected]


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


def refusing(error):
    """A CuPy that compiles nothing."""

    def refuse(**_):
        raise error

    cupy = refusing_cupy.make()
    cupy.RawModule = refuse
    return cupy


def test_where_kernels_do_not_compile_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", refusing(RuntimeError("kernels.cu(7): error: no\nand more")))
    with pytest.warns(UserWarning, match=r"do not compile here.*kernels.cu\(7\): error: no$"):
        assert load_kernels(np.float32) is None
    with pytest.warns(UserWarning, match="expected float32 or float16"):
        assert load_kernels(np.float64) is None


@pytest.mark.parametrize(
    "error", [refusing_cupy.OutOfMemoryError("Out of memory"), RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")]
)
def test_that_memory_is_full_is_not_a_fault_of_the_kernels(error, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", refusing(error))
    with pytest.raises(type(error), match=r"(?i)out.of.memory"):
        load_kernels(np.float32)


@on_cpu
def test_kernels_are_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
    assert load_kernels("float16").dtype == np.float16


# ------------------------------------------------------------------------------------------ the compiler, a stand-in


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc to compile the GPU's kernels with")
@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.grid), "float16"])
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

"""The GPU kernels, run on a CPU (see cuda_on_cpu.py), equal the readable layers."""

import sys
from itertools import product
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

import cuda_on_cpu
import refusing_cupy
from conftest import SMALL
from cuda_on_cpu import RawModule
from engine_pair import EnginePair
from minwhisper import Whisper
from minwhisper.common.backend import address, to_numpy
from minwhisper.decoding.logit_filters import LogitFilters, TimestampSettings
from minwhisper.fast.gpu import engine as gpu
from minwhisper.fast.gpu.kernels import (
    CHUNK,
    MAX_STAGED,
    MAX_TOP,
    OUTPUTS_PER_WARP,
    ROWS_PER_PASS,
    WARPS,
    Kernels,
    Norm,
    load_kernels,
)
from minwhisper.fast.gpu.sampling import pack_filters
from minwhisper.fast.gpu.table import HEADER, Field, HeaderAt, Kind, RowTable
from minwhisper.model import layers
from minwhisper.parity.comparison import relative_difference

LAYER = 1e-6
STEP = 2.5e-6  # over all blocks
FLOAT16_KV = 1.5e-4  # with keys and values in float16
GUARD = 64  # values on either side of an array that no kernel may touch

on_cpu = pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=cuda_on_cpu.why_not())


def make(dtype) -> Kernels:
    with pytest.MonkeyPatch.context() as patch:
        cupy = refusing_cupy.make()
        cupy.RawModule = RawModule
        patch.setitem(sys.modules, "cupy", cupy)
        return Kernels(dtype)


@pytest.fixture(scope="module", params=["float32", "float16"])
def kernels(request) -> Kernels:
    if cuda_on_cpu.why_not():
        pytest.skip(cuda_on_cpu.why_not())
    return make(request.param)


@pytest.fixture
def guarded():
    """Return a function that copies an array between guards: reading them gives NaN, and writing them is detected."""
    buffers = []

    def guard_array(array, dtype=np.float32):
        array = np.asarray(array)
        guard = -(2**31) if np.dtype(dtype).kind == "i" else np.nan
        buffer = np.full(array.size + 2 * GUARD, guard, dtype)
        buffers.append((buffer, buffer.copy()))
        mine = buffer[GUARD : GUARD + array.size].reshape(array.shape)
        mine[...] = array
        return mine

    yield guard_array
    for buffer, before in buffers:
        for end in (slice(GUARD), slice(len(buffer) - GUARD, None)):
            assert np.array_equal(buffer[end].view(np.uint8), before[end].view(np.uint8)), "out of bounds"


@pytest.fixture
def draw(rng, guarded):
    def some(*shape, dtype=np.float32):
        return guarded(rng.standard_normal(shape), dtype)

    return some


def wide(array):
    return array.astype(np.float32, copy=False)


def close(ours, expected, tolerance=LAYER):
    assert ours.shape == expected.shape
    assert relative_difference(ours, expected) < tolerance


# ------------------------------------------------------------------------------------------ around large products


@pytest.mark.parametrize("width", [1, 16, 33, 257, 1280])
def test_layer_norm_of_any_width_in_place(kernels, draw, width):
    x, weight, bias = draw(3, width), draw(width, dtype=kernels.dtype), draw(width, dtype=kernels.dtype)
    x += 10
    expected = layers.layer_norm(x, wide(weight), wide(bias))
    kernels.layer_norm(x, weight, bias, x)
    close(x, expected, 5e-6)  # subtracting 10 loses precision in both


@pytest.mark.parametrize(("gelu", "biased", "added"), list(product([False, True], repeat=3)))
def test_epilogue_adds_bias_and_residual_around_the_gelu(kernels, draw, gelu, biased, added):
    x, bias, residual = draw(7, 37), draw(37, dtype=kernels.dtype), draw(7, 37, dtype=kernels.dtype)
    x *= 8  # beyond the range of the polynomial
    expected = x + wide(bias) if biased else x.copy()
    expected = layers.gelu(expected) if gelu else expected
    expected = expected + wide(residual) if added else expected
    kernels.epilogue(x, bias if biased else None, gelu=gelu, residual=residual if added else None)
    close(x, expected)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 31), (5, 257), (2, 1500)])
def test_softmax_of_any_shape(kernels, draw, rows, columns):
    scores = draw(2, rows, columns)
    scores *= 5
    expected = layers.softmax(scores)
    kernels.softmax(scores)
    close(scores, expected)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (8, 1), (7, 2), (8, 2)])
@pytest.mark.parametrize("by_time", [True, False])
def test_im2col_and_a_product_are_a_convolution(kernels, draw, length, stride, by_time):
    x = draw(length, 5) if by_time else draw(5, length).T
    weight, bias = draw(6, 5, 3), np.zeros(6, np.float32)
    columns = draw(-(-length // stride), 5, 3)
    kernels.im2col(x, columns, stride)
    close(
        columns.reshape(len(columns), -1) @ weight.reshape(6, -1).T,
        layers.conv1d(np.ascontiguousarray(x)[None], weight, bias, stride)[0],
    )


def test_conversions_to_and_from_the_dtype_of_the_weights(kernels, draw):
    weight, copy = draw(5, 70, dtype=kernels.dtype), draw(5, 70)
    kernels.widen_weight(weight, copy)
    assert np.array_equal(copy, wide(weight))
    x, bias, kept = draw(4, 70), draw(70, dtype=kernels.dtype), draw(4, 70, dtype=kernels.dtype)
    kernels.add_bias_cast(x, bias, kept)
    assert np.array_equal(kept, (x + wide(bias)).astype(kernels.dtype))
    kernels.add_bias_cast(x, None, kept)
    assert np.array_equal(kept, x.astype(kernels.dtype))


# ------------------------------------------------------------------------------------------ rows


POSITIONS = 12  # of text


def table_of(capacity, rows, addresses=None, positions=POSITIONS) -> RowTable:
    """Return a table with rows (token, position, sequence) and slot addresses (sequences, positions)."""
    table = RowTable(capacity, positions, np.zeros(1))
    table.header[HeaderAt.ROWS_AT] = len(rows)
    for number, row in enumerate(rows):
        table.fields[[Field.TOKEN, Field.POSITION, Field.SEQUENCE], number] = row
    if addresses is not None:
        table.slot_addresses[: len(addresses)] = addresses
    table.send(capacity)
    return table


def test_embed(kernels, draw, guarded):
    tokens, positions = draw(60, 12, dtype=kernels.dtype), draw(9, 12, dtype=kernels.dtype)
    x = guarded(np.full((4, 12), 7.0))
    kernels.embed(table_of(4, [(59, 8, 0), (0, 3, 0), (30, 0, 1)]), tokens, positions, x)
    assert np.array_equal(x[:3], wide(tokens)[[59, 0, 30]] + wide(positions)[[8, 3, 0]])
    assert (x[3] == 7.0).all()


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("gelu", [False, True])
def test_linear_of_the_rows_in_the_table(kernels, draw, guarded, rows, gelu):
    """Without a norm or a residual, and with a GELU."""
    x, y = guarded(np.full((16, 72), np.nan)), guarded(np.full((16, 20), 7.0))
    x[:rows] = draw(rows, 72)
    weight, bias = draw(20, 72, dtype=kernels.dtype), draw(20, dtype=kernels.dtype)
    kernels.linear(x, weight, bias, y, table=table_of(16, [(0, 0, 0)] * rows), gelu=gelu)
    expected = layers.linear(x[:rows], wide(weight), wide(bias))
    close(y[:rows], layers.gelu(expected) if gelu else expected)
    assert (y[rows:] == 7.0).all()


@pytest.mark.parametrize("multiprocessors", [1, 132])  # few blocks, or many whose warps share the sums
@pytest.mark.parametrize(
    ("rows", "inner", "outer"),
    [
        *((1, inner, 19) for inner in (1, 130, 1284, MAX_STAGED + 132)),
        *((3, 136, 33), (17, 136, 33), (2, 1284, 5), (8, 1284, 5)),
        (ROWS_PER_PASS, 2 * MAX_STAGED // ROWS_PER_PASS, 2 * 3 * WARPS * OUTPUTS_PER_WARP + 5),
    ],
)
def test_linear_of_any_shape(kernels, draw, rows, inner, outer, multiprocessors, monkeypatch):
    monkeypatch.setattr(kernels, "multiprocessors", multiprocessors)
    x, weight, bias = draw(rows, inner), draw(outer, inner, dtype=kernels.dtype), draw(outer, dtype=kernels.dtype)
    y = draw(rows, outer)
    norm = Norm(draw(inner, dtype=kernels.dtype), draw(inner, dtype=kernels.dtype))
    normed = layers.layer_norm(x, wide(norm.weight), wide(norm.bias))
    expected = y + layers.linear(normed, wide(weight), wide(bias))
    kernels.linear(x, weight, bias, y, table=table_of(32, [(0, 0, 0)] * rows), norm=norm, residual=y)
    close(y, expected, 2e-6)


@pytest.mark.parametrize("offset", [1, 2, 4])
def test_linear_with_unaligned_weights_and_without_a_table(kernels, draw, offset):
    x, long, y = draw(1, 40), draw(offset + 12 * 40, dtype=kernels.dtype), draw(1, 12)
    weight = long[offset:].reshape(12, 40)
    kernels.linear(x, weight, None, y)
    close(y, layers.linear(x, wide(weight)))


@pytest.mark.parametrize("multiprocessors", [1, 132])
def test_projections_write_keys_and_values_to_the_slots(kernels, draw, multiprocessors, monkeypatch):
    monkeypatch.setattr(kernels, "multiprocessors", multiprocessors)
    width, blocks, layer = 24, 3, 1
    slots = [np.full((blocks, 2, POSITIONS, width), 9.0, kernels.dtype) for _ in range(2)]
    addresses = np.array([[address(slots[0])] * POSITIONS, [address(slots[1])] * POSITIONS])
    addresses[1, :4] = address(slots[0])  # the second sequence continues the first
    weights = {
        name: {"weight": draw(width, width, dtype=kernels.dtype), "bias": draw(width, dtype=kernels.dtype)}
        for name in ("query", "key", "value")
    }
    norm = Norm(draw(width, dtype=kernels.dtype), draw(width, dtype=kernels.dtype))
    x, queries, table = draw(3, width), draw(3, width), table_of(4, [(0, 5, 0), (0, 5, 1), (0, 6, 1)], addresses)
    kernels.project_qkv(table, x, weights, norm, queries, layer)
    normed = layers.layer_norm(x, wide(norm.weight), wide(norm.bias))
    query, key, value = (layers.linear(normed, wide(weights[name]["weight"])) for name in ("query", "key", "value"))
    close(queries, query + wide(weights["query"]["bias"]), 2e-6)
    expected = np.full((2, *slots[0].shape), 9.0, np.float32)
    for row, (slot, position) in enumerate(((0, 5), (1, 5), (1, 6))):
        expected[slot][layer, :, position] = key[row], value[row] + wide(weights["value"]["bias"])
    tolerance = {"rtol": 2e-3 if kernels.dtype == np.float16 else 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(wide(np.array(slots)), expected, **tolerance)
    assert (np.array(slots) == 9.0).sum() == (expected == 9.0).sum()

    for slot in slots:
        slot[...] = 9.0
    kernels.write_kv(table, key, value, weights["value"]["bias"], layer)
    np.testing.assert_allclose(wide(np.array(slots)), expected, **tolerance)


# ------------------------------------------------------------------------------------------ attention


def expected_attention(queries, keys, values, heads):
    """Compute the readable layer: queries (R, D), keys, values (T, D) -> (R, D)."""
    split = [layers.split_heads(wide(x)[None], heads) for x in (queries, keys, values)]
    mixed, _ = layers.attend(split[0], split[1].swapaxes(2, 3), split[2])
    return layers.merge_heads(mixed)[0]


def attention_buffers(rows, heads, positions, size, guarded):
    partial = guarded(np.full(Kernels.partial_shape(rows, heads, positions, size), np.nan))
    return partial, guarded(np.zeros(rows * heads), np.int32)


@pytest.mark.parametrize(
    ("heads", "size", "positions", "past"),
    [(2, 64, 448, (447, 300, CHUNK - 1)), (3, 4, 8, (7, 0, 3)), (2, 12, 3 * CHUNK + 5, (CHUNK, 2 * CHUNK - 1, 1))],
)
def test_self_attention_over_several_slots(kernels, draw, guarded, heads, size, positions, past):
    width, blocks, layer = heads * size, 2, 1
    slots = [draw(blocks, 2, positions, width, dtype=kernels.dtype) for _ in range(3)]
    which = np.random.default_rng(5).integers(0, 3, (len(past), positions))
    addresses = np.array([address(slot) for slot in slots])[which]
    table = table_of(4, [(0, position, number) for number, position in enumerate(past)], addresses, positions)
    queries, out = draw(4, width), guarded(np.full((4, width), 7.0))
    partial, counters = attention_buffers(4, heads, positions, size, guarded)
    for _ in range(2):  # counters are 0 again
        kernels.self_attention(table, queries, partial, counters, out, heads, layer)
        for row, last in enumerate(past):
            seen = range(last + 1)
            keys, values = (np.stack([slots[which[row, i]][layer, kind, i] for i in seen]) for kind in (0, 1))
            close(out[row : row + 1], expected_attention(queries[row : row + 1], keys, values, heads), 2e-6)
        assert (out[3] == 7.0).all()
        assert not counters.any()


@pytest.mark.parametrize(
    ("heads", "positions", "size"),
    [(2, 1, 4), (4, 448, 4), (2, CHUNK, 8), (3, CHUNK + 1, 12), (1, 33, 64)],
)
def test_cross_attention_of_groups(kernels, draw, guarded, heads, positions, size):
    width, blocks, layer, groups = heads * size, 2, 1, [(0, 1), (1, 8), (9, 1), (10, 3)]
    windows = [draw(blocks, 2, positions, width, dtype=kernels.dtype) for _ in range(3)]
    queries, out, table = draw(16, width), guarded(np.full((16, width), 7.0)), table_of(16, [(0, 0, 0)] * 13)
    queries *= 20  # so that the chunks' highest scores differ a lot
    windows_of_groups = [0, 1, 1, 2]
    for group, ((first, count), window) in enumerate(zip(groups, windows_of_groups, strict=True)):
        table.fields[[Field.CROSS_KV, Field.FIRST_ROW, Field.ROW_COUNT], group] = address(windows[window]), first, count
    table.header[HeaderAt.GROUPS_AT] = len(groups)
    table.send(0)
    partial, counters = attention_buffers(16, heads, positions, size, guarded)
    for _ in range(2):
        kernels.cross_attention(table, queries, partial, counters, out, heads, layer, positions)
        for (first, count), window in zip(groups, windows_of_groups, strict=True):
            rows, (keys, values) = slice(first, first + count), windows[window][layer]
            close(out[rows], expected_attention(queries[rows], keys, values, heads), 3e-6)  # large scores
        assert (out[13:] == 7.0).all()
        assert not counters.any()


# ------------------------------------------------------------------------------------------ choices


VOCABULARY, END, FIRST = 700, 500, 600  # size, and the ids of <|endoftext|> and of the first timestamp
SUPPRESSED = (3, 8, 590, 591, 599)
FILTERS = {
    "text": LogitFilters(END, SUPPRESSED, (5, END)),
    "times": LogitFilters(END, SUPPRESSED, (5, END), TimestampSettings(595, FIRST, 50)),
    "late": LogitFilters(END, SUPPRESSED, (), TimestampSettings(595, FIRST, None)),
    "all but one": LogitFilters(END, tuple(token for token in range(VOCABULARY) if token != 77), ()),
    "nothing left": LogitFilters(END, tuple(range(VOCABULARY)), ()),
}
TEXTS = [(), (7,), (FIRST,), (FIRST + 3, 7), (FIRST + 3, 7, FIRST + 9), (FIRST + 3, 7, FIRST + 9, FIRST + 9), (1, 2, 3)]


def choices_table(
    kind, filters, texts, *, top=1, advance=0, temperature=1.0, shares=0.0
) -> tuple[RowTable, np.ndarray]:
    """Return a table with a choice per text, and the filters, which have to be kept alive."""
    table, packed = RowTable(8, 1, np.zeros(1)), pack_filters(filters, VOCABULARY)
    for number, text in enumerate(texts):
        times = [token for token in text if filters.timestamps and token >= FIRST]
        table.fields[[Field.LOGITS_ROW, Field.KIND, Field.FILTERS], number] = number, kind, address(packed)
        table.fields[[Field.GENERATED, Field.PROBE_TOKEN], number] = len(text), 42
        last = [*text[:-3:-1], -1, -1][:2]  # the last token and the last but one
        table.fields[[Field.LAST, Field.PREVIOUS, Field.LAST_TIMESTAMP], number] = *last, [-1, *times][-1]
    table.doubles[Field.TEMPERATURE, :] = temperature
    table.doubles[Field.DRAW, : len(texts)] = shares
    table.header[[HeaderAt.CHOICES_AT, HeaderAt.TOP_AT, HeaderAt.ADVANCE_AT]] = len(texts), top, advance
    table.send(0)
    return table, packed


def choose(kernels, table, logits, choices, guarded):
    top = int(table.header[HeaderAt.TOP_AT])
    out, counters = guarded(np.full(2 * top * choices, -9), np.int32), guarded(np.zeros(choices), np.int32)
    slices = np.full(Kernels.slices_shape(choices), -1, np.int32)
    kernels.choose_tokens(table, logits, slices, counters, out, choices)
    assert not counters.any()
    out = out.reshape(choices, top, 2)
    return out[..., 0], out[..., 1].view(np.float32)


def filtered(filters, logits):
    return layers.log_softmax(filters(logits, TEXTS))


@pytest.fixture
def scores(rng, guarded):
    """Return logits per text; in some rows timestamps or the end are likely."""
    logits = 3 * rng.standard_normal((len(TEXTS), VOCABULARY))
    logits[1::3, FIRST:] += 4
    logits[2::3, END] += 9
    logits[:, 20] = logits[:, 30]  # of equal logits, the first token wins
    return guarded(logits)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("top", [1, 6, MAX_TOP])
def test_top_tokens_equal_those_of_filters_and_log_softmax(kernels, scores, guarded, name, top):
    table, _kept = choices_table(Kind.TOP_K, FILTERS[name], TEXTS, top=top)
    tokens, logprobs = choose(kernels, table, scores, len(TEXTS), guarded)
    exact = filtered(FILTERS[name], scores)
    for row, (its, values) in enumerate(zip(tokens, logprobs, strict=True)):
        expected = np.argsort(-exact[row], kind="stable")[:top]
        possible = np.isfinite(exact[row][expected])
        assert its[possible].tolist() == expected[possible].tolist(), (row, top)
        np.testing.assert_allclose(values, exact[row][expected], atol=2e-6)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("temperature", [0.01, 0.7, 30.0])
def test_a_sample_is_the_token_at_its_part_of_the_sum(kernels, scores, guarded, rng, name, temperature):
    exact = filtered(FILTERS[name], scores)
    for shares in (rng.random(len(TEXTS)), np.zeros(len(TEXTS)), np.full(len(TEXTS), 1 - 2.0**-53)):
        table, _kept = choices_table(Kind.SAMPLE, FILTERS[name], TEXTS, temperature=temperature, shares=shares)
        tokens, logprobs = choose(kernels, table, scores, len(TEXTS), guarded)
        with np.errstate(over="ignore"):
            heated = np.exp((exact.astype(np.float64) - exact.max(axis=1, keepdims=True)) / temperature)
        reached = np.cumsum(heated, axis=1)
        for row, token in enumerate(tokens[:, 0]):
            assert np.isfinite(exact[row, token])
            near = 1e-4 * reached[row, -1]  # log_softmax rounds, the kernel does not
            before = reached[row, token] - heated[row, token]
            assert before - near <= shares[row] * reached[row, -1] <= reached[row, token] + near
            assert logprobs[row, 0] == pytest.approx(exact[row, token], abs=3e-6)


def test_a_probe_ignores_the_filters(kernels, scores, guarded):
    table, _kept = choices_table(Kind.PROBE, FILTERS["nothing left"], TEXTS)
    tokens, probabilities = choose(kernels, table, scores, len(TEXTS), guarded)
    assert (tokens == 42).all()
    close(probabilities[:, 0], layers.softmax(scores)[:, 42], 2e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_logits_are_not_hidden(kernels, scores, guarded, value):
    scores[0, 100] = value
    scores[1] = value
    table, _kept = choices_table(Kind.TOP_K, FILTERS["text"], TEXTS)
    _, logprobs = choose(kernels, table, scores, len(TEXTS), guarded)
    assert not np.isfinite(logprobs[:2]).any()
    assert np.isfinite(logprobs[2:]).all()


def test_a_greedy_choice_becomes_the_next_token_of_its_row(kernels, scores, guarded):
    table, _kept = choices_table(Kind.TOP_K, FILTERS["times"], TEXTS, advance=1)
    fields = table.device_array[HEADER : HEADER + len(Field) * table.capacity].reshape(len(Field), -1)
    before = fields.copy()
    tokens, _ = choose(kernels, table, scores, len(TEXTS), guarded)
    after = fields[:, : len(TEXTS)]
    assert after[Field.TOKEN].tolist() == after[Field.LAST].tolist() == tokens[:, 0].tolist()
    for counted in (Field.POSITION, Field.GENERATED):
        assert (after[counted] == before[counted, : len(TEXTS)] + 1).all()
    assert after[Field.PREVIOUS].tolist() == before[Field.LAST, : len(TEXTS)].tolist()
    for row, (token,) in enumerate(tokens.tolist()):
        assert after[Field.LAST_TIMESTAMP, row] == (token if token >= FIRST else before[Field.LAST_TIMESTAMP, row])


# ------------------------------------------------------------------------------------------ steps


@on_cpu
@pytest.mark.filterwarnings("error")  # there is a warning if the kernels do not compile
@pytest.mark.parametrize(("dtype", "bound"), [("float32", STEP), ("float16", FLOAT16_KV)])
def test_prompts_and_steps_equal_the_readable_decoder(dtype, bound, gpus, rng, monkeypatch):
    """With the real kernels. In float16, keys and values are rounded."""
    monkeypatch.setattr(gpu, "load_kernels", load_kernels)
    here, there = (Whisper.random(SMALL, seed=3, dtype=dtype, device=device) for device in ("cpu", "cuda"))
    engines = EnginePair(there.engine, here.engine, bound, there.device)
    mels = rng.standard_normal((2, 1, 8, 300)).astype(np.float32)
    features = [here.encode(mel) for mel in mels]
    for mel, exact in zip(mels, features, strict=True):
        close(to_numpy(there.encode(mel)), exact, 1e-5)
    first, second = map(engines.new_cache, features)
    first, second = engines.decode(([[1, 2, 3, 4]], first, [0]), ([[11]], second))
    assert first.ours.slots[0].array.dtype == dtype
    first, second = first.reorder([0, 0, 0]), second.reorder([0, 0])
    second = engines.step([[1, 2, 3], [4, 5, 6]], second, [0, 2])
    for tokens in ([[[1], [2], [3]], [[4], [5]]], [[[6], [7], [8]], [[9], [10]]], [[[7], [8], [6]], [[9], [1]]]):
        other = engines.step([[11], [12], [13]], first)  # continues the same cache, and must not disturb it
        first, second = engines.decode((tokens[0], first), (tokens[1], second))
        engines.step([[1], [2], [3]], other)
        first = first.reorder([2, 0, 0])


# ------------------------------------------------------------------------------------------ threads, arguments


def test_the_order_of_threads_changes_nothing(kernels, rng, scores, guarded, monkeypatch):
    """It changes results if a kernel reads a value before another thread writes it."""
    heads, size, positions, width = 2, 8, 3 * CHUNK, 16

    def some(*shape, dtype=np.float32):
        return rng.standard_normal(shape).astype(dtype)

    given = {
        "x": some(2, width),
        "scores": some(3, 700),
        **{name: some(1, 2, positions, width, dtype=kernels.dtype) for name in ("slot", "audio")},
        "weight": some(width, width, dtype=kernels.dtype),
        "bias": some(width, dtype=kernels.dtype),
        "partial": np.zeros(Kernels.partial_shape(2, heads, positions, size), np.float32),
        "counters": np.zeros(2 * heads, np.int32),
        **{name: np.zeros((2, width), np.float32) for name in ("queries", "out", "product", "normed", "embedded")},
    }

    def compute(backward):
        monkeypatch.setattr(RawModule, "backward", backward)
        its = {name: array.copy() for name, array in given.items()}
        addresses = np.full((2, positions), address(its["slot"]))
        table = table_of(2, [(1, positions - 2, 0), (3, positions - 1, 1)], addresses, positions)
        for group in range(2):
            table.fields[[Field.CROSS_KV, Field.FIRST_ROW, Field.ROW_COUNT], group] = address(its["audio"]), group, 1
        table.header[HeaderAt.GROUPS_AT] = 2
        table.send(2)
        weights = {name: {"weight": its["weight"], "bias": its["bias"]} for name in ("query", "key", "value")}
        norm, at = Norm(its["bias"], its["bias"]), (its["partial"], its["counters"])
        kernels.embed(table, its["weight"], some(positions, width, dtype=kernels.dtype) * 0, its["embedded"])
        kernels.project_qkv(table, its["x"], weights, norm, its["queries"], 0)
        kernels.self_attention(table, its["queries"], *at, its["out"], heads, 0)
        kernels.cross_attention(table, its["out"], *at, its["product"], heads, 0, positions)
        kernels.linear(its["product"], its["weight"], its["bias"], its["x"], table=table, residual=its["x"], gelu=True)
        kernels.layer_norm(its["x"], its["bias"], its["bias"], its["normed"])
        kernels.softmax(its["scores"])
        for kind in Kind:
            choices, _kept = choices_table(kind, FILTERS["times"], TEXTS, top=1, shares=0.4)
            its[kind.name] = np.concatenate(choose(kernels, choices, scores, len(TEXTS), guarded), axis=1)
        return its

    forward, backward = compute(False), compute(True)
    for name, array in forward.items():
        assert array.tobytes() == backward[name].tobytes(), name


def test_invalid_arguments(kernels, draw, guarded):
    x, weight, y, table = draw(2, 16), draw(8, 16, dtype=kernels.dtype), draw(2, 8), table_of(2, [(0, 0, 0)] * 2)
    other = np.float16 if kernels.dtype == np.float32 else np.float32
    with pytest.raises(AssertionError, match="got"):
        kernels.linear(x, weight.astype(other), None, y, table=table)
    with pytest.raises(AssertionError, match="contiguous"):
        kernels.linear(x, np.asfortranarray(weight), None, y, table=table)
    with pytest.raises(AssertionError):
        kernels.linear(x, weight, None, draw(2, 9), table=table)
    with pytest.raises(AssertionError):
        kernels.linear(x, weight, None, y)  # two rows without a table
    for width, heads, words in ((3, 1, "multiple of 4"), (68, 1, "at most 64")):
        buffers = attention_buffers(2, heads, POSITIONS, width, guarded)
        with pytest.raises(AssertionError, match=words):
            kernels.self_attention(table, draw(2, width), *buffers, draw(2, width), heads, 0)
    partial, counters = attention_buffers(2, 4, CHUNK, 4, guarded)
    with pytest.raises(AssertionError):
        kernels.cross_attention(table, draw(2, 16), partial, counters, draw(2, 16), 4, 0, CHUNK + 1)
    kernels.epilogue(draw(0, 16))  # an empty array


OUT_OF_MEMORY = [
    refusing_cupy.OutOfMemoryError("Out of memory"),
    RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
]


def test_kernels_that_do_not_compile(monkeypatch):
    cupy = refusing_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.warns(UserWarning, match="expected weights in float32 or float16"):
        assert load_kernels(np.float64) is None
    cupy.RawModule = Mock(side_effect=RuntimeError("kernels.cu(7): error: no\nand more"))
    with pytest.warns(UserWarning, match=r"cannot compile the GPU kernels.*kernels.cu\(7\): error: no$"):
        assert load_kernels(np.float32) is None
    for error in OUT_OF_MEMORY:  # raised, because a smaller model may fit
        cupy.RawModule = Mock(side_effect=error)
        with pytest.raises(type(error), match=r"(?i)out.of.memory"):
            load_kernels(np.float32)


# ------------------------------------------------------------------------------------------ kernels on a CPU


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
def test_kernels_on_a_cpu_detect_faults(switch):
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

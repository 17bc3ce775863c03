"""The GPU kernels, run on a CPU (see cuda_on_cpu.py), equal the readable layers."""

import sys
from collections.abc import Iterator
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest

import cuda_on_cpu
import refusing_cupy
from cuda_on_cpu import RawModule
from engine_pair import EnginePair
from inputs import SMALL
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


@pytest.fixture(scope="module", params=["float32", "float16"])
def kernels(request) -> Iterator[Kernels]:
    """Return the kernels for a dtype. Threads run forward for one and backward for the other.

    A kernel that reads a value before another thread writes it gives a wrong result in one of the two orders.
    """
    if cuda_on_cpu.why_not():
        pytest.skip(cuda_on_cpu.why_not())
    with pytest.MonkeyPatch.context() as patch:
        cupy = refusing_cupy.make()
        cupy.RawModule = RawModule
        patch.setitem(sys.modules, "cupy", cupy)
        patch.setattr(RawModule, "backward", request.param == "float16")
        yield Kernels(request.param)


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


@pytest.mark.parametrize("width", [1, 33, 257, 1280])
def test_layer_norm_of_any_width_works_in_place(kernels, draw, width):
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


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 257), (2, 1500)])
def test_softmax_of_any_shape_equals_the_readable_layer(kernels, draw, rows, columns):
    scores = draw(2, rows, columns)
    scores *= 5
    expected = layers.softmax(scores)
    kernels.softmax(scores)
    close(scores, expected)


@pytest.mark.parametrize(("length", "stride", "by_time"), [(1, 1, True), (8, 1, False), (7, 2, False), (8, 2, True)])
def test_im2col_and_a_product_equal_a_convolution(kernels, draw, length, stride, by_time):
    x = draw(length, 5) if by_time else draw(5, length).T
    weight, bias = draw(6, 5, 3), np.zeros(6, np.float32)
    columns = draw(-(-length // stride), 5, 3)
    kernels.im2col(x, columns, stride)
    close(
        columns.reshape(len(columns), -1) @ weight.reshape(6, -1).T,
        layers.conv1d(np.ascontiguousarray(x)[None], weight, bias, stride)[0],
    )


def test_conversions_to_and_from_the_dtype_of_the_weights_round_once(kernels, draw):
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


def test_embed_adds_the_rows_of_tokens_and_positions(kernels, draw, guarded):
    tokens, positions = draw(60, 12, dtype=kernels.dtype), draw(9, 12, dtype=kernels.dtype)
    x = guarded(np.full((4, 12), 7.0))
    kernels.embed(table_of(4, [(59, 8, 0), (0, 3, 0), (30, 0, 1)]), tokens, positions, x)
    assert np.array_equal(x[:3], wide(tokens)[[59, 0, 30]] + wide(positions)[[8, 3, 0]])
    assert (x[3] == 7.0).all()


@pytest.mark.parametrize("multiprocessors", [1, 132])  # few blocks, or many whose warps share the sums
@pytest.mark.parametrize(
    ("rows", "inner", "outer"),
    [
        *((1, inner, 19) for inner in (1, 130, MAX_STAGED + 132)),
        *((rows, 136, 33) for rows in (2, 5, 8, 9, 17)),
        *((rows, 1284, 5) for rows in (2, 8)),
        (ROWS_PER_PASS, 2 * MAX_STAGED // ROWS_PER_PASS, 2 * 3 * WARPS * OUTPUTS_PER_WARP + 5),
    ],
)
def test_linear_changes_only_the_rows_in_the_table_and_equals_the_readable_layer(
    kernels, draw, guarded, rows, inner, outer, multiprocessors, monkeypatch
):
    monkeypatch.setattr(kernels, "multiprocessors", multiprocessors)
    capacity = rows if multiprocessors == 1 else rows + 3  # rows of the buffers; the table has ``rows``
    x, y = guarded(np.full((capacity, inner), np.nan)), guarded(np.full((capacity, outer), 7.0))
    x[:rows], y[:rows] = draw(rows, inner), draw(rows, outer)
    weight, bias, table = (
        draw(outer, inner, dtype=kernels.dtype),
        draw(outer, dtype=kernels.dtype),
        table_of(32, [(0, 0, 0)] * rows),
    )
    norm = Norm(draw(inner, dtype=kernels.dtype), draw(inner, dtype=kernels.dtype))
    normed = layers.layer_norm(x[:rows], wide(norm.weight), wide(norm.bias))
    expected = y[:rows] + layers.linear(normed, wide(weight), wide(bias))
    kernels.linear(x, weight, bias, y, table=table, norm=norm, residual=y)
    close(y[:rows], expected, 2e-6)
    kernels.linear(x, weight, bias, y, table=table, gelu=True)
    close(y[:rows], layers.gelu(layers.linear(x[:rows], wide(weight), wide(bias))), 2e-6)
    assert (y[rows:] == 7.0).all()


@pytest.mark.parametrize("offset", [1, 2, 4])
def test_linear_works_with_unaligned_weights_and_without_a_table(kernels, draw, offset):
    x, long, y = draw(1, 40), draw(offset + 12 * 40, dtype=kernels.dtype), draw(1, 12)
    weight = long[offset:].reshape(12, 40)
    kernels.linear(x, weight, None, y)
    close(y, layers.linear(x, wide(weight)))


@pytest.mark.parametrize("multiprocessors", [1, 132])
def test_projections_write_keys_and_values_to_the_slots(kernels, draw, multiprocessors, monkeypatch):
    monkeypatch.setattr(kernels, "multiprocessors", multiprocessors)
    width, blocks, layer = 24, 3, 1
    slots = np.empty((2, blocks, 2, POSITIONS, width), kernels.dtype)
    addresses = np.repeat([[address(slots[0])], [address(slots[1])]], POSITIONS, axis=1)
    addresses[1, :4] = address(slots[0])  # the second sequence continues the first
    matrices, vectors = draw(3, width, width, dtype=kernels.dtype), draw(4, width, dtype=kernels.dtype)
    weights = {
        name: {"weight": matrix, "bias": bias}
        for name, matrix, bias in zip(("query", "key", "value"), matrices, vectors, strict=False)
    }
    norm = Norm(vectors[3], vectors[1])
    x, queries, table = draw(3, width), draw(3, width), table_of(4, [(0, 5, 0), (0, 5, 1), (0, 6, 1)], addresses)
    normed = layers.layer_norm(x, wide(norm.weight), wide(norm.bias))
    query, key, value = (layers.linear(normed, wide(matrix)) for matrix in matrices)
    expected = np.full(slots.shape, 9.0, np.float32)
    for row, (slot, position) in enumerate(((0, 5), (1, 5), (1, 6))):
        expected[slot, layer, :, position] = key[row], value[row] + wide(vectors[2])
    for write in (
        lambda: kernels.project_qkv(table, x, weights, norm, queries, layer),
        lambda: kernels.write_kv(table, key, value, vectors[2], layer),
    ):
        slots[...] = 9.0
        write()
        np.testing.assert_allclose(wide(slots), expected, rtol=2e-3 if kernels.dtype == np.float16 else 1e-4, atol=1e-3)
        assert ((slots == 9.0) == (expected == 9.0)).all()
    close(queries, query + wide(vectors[0]), 2e-6)


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
def test_self_attention_over_several_slots_equals_the_readable_layer(
    kernels, draw, guarded, heads, size, positions, past
):
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


@pytest.mark.parametrize(("heads", "positions", "size"), [(2, CHUNK, 8), (3, CHUNK + 1, 12), (4, 448, 4), (1, 33, 64)])
def test_cross_attention_of_several_windows_equals_the_readable_layer(kernels, draw, guarded, heads, positions, size):
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


def choose(kernels, guarded, logits, kind, filters, *, top=1, advance=0, temperature=1.0, shares=0.0):
    """Return a choice per text, (texts, top) tokens and their log-probabilities, and the fields before and after."""
    count, table, packed = len(TEXTS), RowTable(8, 1, np.zeros(1)), pack_filters(filters, VOCABULARY)
    for number, text in enumerate(TEXTS):
        times = [token for token in text if filters.timestamps and token >= FIRST]
        table.fields[[Field.LOGITS_ROW, Field.KIND, Field.FILTERS], number] = number, kind, address(packed)
        table.fields[[Field.GENERATED, Field.PROBE_TOKEN], number] = len(text), 42
        last = [*text[:-3:-1], -1, -1][:2]  # the last token and the last but one
        table.fields[[Field.LAST, Field.PREVIOUS, Field.LAST_TIMESTAMP], number] = *last, [-1, *times][-1]
    table.doubles[Field.TEMPERATURE, :] = temperature
    table.doubles[Field.DRAW, :count] = shares
    table.header[[HeaderAt.CHOICES_AT, HeaderAt.TOP_AT, HeaderAt.ADVANCE_AT]] = count, top, advance
    table.send(0)
    fields = table.device_array[HEADER : HEADER + len(Field) * table.capacity].reshape(len(Field), -1)[:, :count]
    before = fields.copy()
    out, counters = guarded(np.full(2 * top * count, -9), np.int32), guarded(np.zeros(count), np.int32)
    kernels.choose_tokens(table, logits, np.full(Kernels.slices_shape(count), -1, np.int32), counters, out, count)
    assert not counters.any()
    out = out.reshape(count, top, 2)
    return out[..., 0], out[..., 1].view(np.float32), before, fields


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
@pytest.mark.parametrize("top", [1, MAX_TOP])
def test_top_tokens_equal_those_of_filters_and_log_softmax(kernels, scores, guarded, name, top):
    tokens, logprobs, *_ = choose(kernels, guarded, scores, Kind.TOP_K, FILTERS[name], top=top)
    exact = filtered(FILTERS[name], scores)
    for row, (its, values) in enumerate(zip(tokens, logprobs, strict=True)):
        expected = np.argsort(-exact[row], kind="stable")[:top]
        possible = np.isfinite(exact[row][expected])
        assert its[possible].tolist() == expected[possible].tolist(), (row, top)
        np.testing.assert_allclose(values, exact[row][expected], atol=2e-6)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("temperature", [0.01, 30.0])
def test_a_sample_is_the_token_at_its_share_of_the_cumulative_sum(kernels, scores, guarded, rng, name, temperature):
    exact = filtered(FILTERS[name], scores)
    for shares in (rng.random(len(TEXTS)), np.zeros(len(TEXTS)), np.full(len(TEXTS), 1 - 2.0**-53)):
        how = {"temperature": temperature, "shares": shares}
        tokens, logprobs, *_ = choose(kernels, guarded, scores, Kind.SAMPLE, FILTERS[name], **how)
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
    tokens, probabilities, *_ = choose(kernels, guarded, scores, Kind.PROBE, FILTERS["nothing left"])
    assert (tokens == 42).all()
    close(probabilities[:, 0], layers.softmax(scores)[:, 42], 2e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_logits_are_not_hidden(kernels, scores, guarded, value):
    scores[0, 100] = value
    scores[1] = value
    _, logprobs, *_ = choose(kernels, guarded, scores, Kind.TOP_K, FILTERS["text"])
    assert not np.isfinite(logprobs[:2]).any()
    assert np.isfinite(logprobs[2:]).all()


def test_a_greedy_choice_becomes_the_next_token_of_its_row(kernels, scores, guarded):
    tokens, _, before, after = choose(kernels, guarded, scores, Kind.TOP_K, FILTERS["times"], advance=1)
    assert after[Field.TOKEN].tolist() == after[Field.LAST].tolist() == tokens[:, 0].tolist()
    for counted in (Field.POSITION, Field.GENERATED):
        assert (after[counted] == before[counted] + 1).all()
    assert after[Field.PREVIOUS].tolist() == before[Field.LAST].tolist()
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


# ------------------------------------------------------------------------------------------ arguments


def test_invalid_arguments_are_rejected(kernels, draw, guarded):
    x, weight, y = draw(1, 16), draw(8, 16, dtype=kernels.dtype), draw(1, 8)
    other = np.float16 if kernels.dtype == np.float32 else np.float32
    for wrong, message in (
        (weight.astype(other), "got"),
        (np.asfortranarray(weight), "contiguous"),
        (weight[1:], None),
    ):
        with pytest.raises(AssertionError, match=message):
            kernels.linear(x, wrong, None, y)
    for width, words in ((3, "multiple of 4"), (68, "at most 64")):
        buffers, table = attention_buffers(2, 1, POSITIONS, width, guarded), table_of(2, [(0, 0, 0)] * 2)
        with pytest.raises(AssertionError, match=words):
            kernels.self_attention(table, draw(2, width), *buffers, draw(2, width), 1, 0)
    kernels.epilogue(draw(0, 16))  # an empty array


def test_kernels_that_do_not_compile_give_a_warning(monkeypatch):
    cupy = refusing_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.warns(UserWarning, match="expected weights in float32 or float16"):
        assert load_kernels(np.float64) is None
    cupy.RawModule = Mock(side_effect=RuntimeError("kernels.cu(7): error: no\nand more"))
    with pytest.warns(UserWarning, match=r"cannot compile the GPU kernels.*kernels.cu\(7\): error: no$"):
        assert load_kernels(np.float32) is None
    cupy.RawModule = Mock(side_effect=RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):  # raised, because a smaller model may fit
        load_kernels(np.float32)

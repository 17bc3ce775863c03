"""Steps of the decoder on a GPU: several sequences by one token each, and their next tokens chosen, in one launch.

To launch a kernel takes the processor longer than it takes a GPU to run a small one, and a step has dozens. As a CUDA
graph all of them are launched by one call. A graph replays the same kernels with the same arguments, so the rows are
described by a table in the GPU's memory (:mod:`minwhisper.fast.gpu.table`), and the graph is recorded once for 1, 2, 4,
8 … rows and serves every window, beam and batch. In a greedy search the kernel that chooses tokens writes them into the
table, so a token takes one launch and brings down eight bytes.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, address, array_module, to_numpy
from ...decoding.search import DecoderRequest, DecoderResponse, choose_tokens
from ...model.decoder import check_tokens
from ...model.engine import DecoderInput
from ..devices import is_out_of_memory
from .cache import GpuCache, Slot
from .decoder import MAX_KERNEL_ROWS, Decoder, RowBuffers
from .kernels import ROWS_PER_PASS
from .memory import memory_pool
from .sampling import GpuSampler, SampleBuffers
from .table import Field, HeaderAt, RowTable


class StepBuffers(NamedTuple):
    """What steps of up to so many rows are computed in, always at the same addresses."""

    rows: RowBuffers
    logits: Array  # (R, V)
    results: SampleBuffers


class Continuation(NamedTuple):
    """What a greedy step has left in the table: the step that continues it needs nothing sent.

    It must not keep keys and values alive. Caches with the same array of places and as many tokens are the same.
    """

    capacity: int
    caches: tuple[tuple[NDArray[np.int64], int], ...]  # places and length
    tokens: list[list[int]]
    ways: tuple[Any, ...]


class DecoderRunner:
    """A decoder's steps and prompts. One thread at a time computes; streams wait for each other."""

    def __init__(self, decoder: Decoder, choices: GpuSampler) -> None:
        self.use_graph = True
        self._decoder, self._choices = decoder, choices
        self._buffers: dict[int, StepBuffers] = {}
        self._graphs: dict[tuple[int, int], Any] = {}
        self._prompt_table: RowTable | None = None
        self._continuation: Continuation | None = None
        self._lock = threading.Lock()
        self._last: tuple[Any, Any] | None = None  # the stream that was used last, and an event after what it was given

    def reserve(self) -> None:
        """Make the buffers that one sequence needs, which stay: made later, they would divide the room of others."""
        self._buffers_of(1)
        self._table_of(self._positions // 2, 1)

    # -------------------------------------------------------------------------------------- what is asked for

    def new_cache(self, features: Array) -> GpuCache:
        """Return the cache of a window without tokens: features (1, T, D)."""
        with self._exclusive():
            return GpuCache.of(self._decoder.cross_kv(features), self._new_slot(), self._positions)

    def decode_batch(self, feeds: Sequence[DecoderInput]) -> list[tuple[Array, GpuCache]]:
        """Decode tokens: see :meth:`minwhisper.model.engine.Engine.decode_batch`."""
        with self._exclusive():
            found: dict[int, tuple[Array, GpuCache]] = {}
            stepping = [number for number, feed in enumerate(feeds) if _is_step(feed)]
            if stepping:
                caches = [self._extended(feeds[number].tokens, feeds[number].cache) for number in stepping]
                buffers = self._send_step(caches, [feeds[number].tokens for number in stepping])
                self._run(buffers, caches)
                starts = np.cumsum([0, *(cache.rows for cache in caches)]).tolist()
                for number, cache, start in zip(stepping, caches, starts, strict=False):
                    found[number] = buffers.logits[start : start + cache.rows, None].copy(), cache
            for number, feed in enumerate(feeds):
                if number not in found:
                    found[number] = self._prompt(feed)
            return [found[number] for number in range(len(feeds))]

    def choose_batch(
        self, requests: Sequence[tuple[DecoderRequest, GpuCache]]
    ) -> list[tuple[DecoderResponse, GpuCache]]:
        """Decode tokens and choose the next ones: see :func:`minwhisper.decoding.search.choose_batch`."""
        with self._exclusive():
            found: dict[int, tuple[DecoderResponse, GpuCache]] = {}
            together = []
            for number, (step, cache) in enumerate(requests):
                if not self._choices.possible(step):
                    logits, new = self._prompt(DecoderInput(step.tokens, cache, step.wanted))
                    found[number] = choose_tokens(step, logits), new
                elif step.probe is None and len(step.tokens[0]) == 1 and len(step.candidates) == cache.rows:
                    together.append(number)
                else:
                    found[number] = self._choose_after_prompt(step, cache)
            if together:
                steps = self._step([requests[number] for number in together])
                found.update(zip(together, steps, strict=True))
            return [found[number] for number in range(len(requests))]

    # -------------------------------------------------------------------------------------- steps

    def _step(self, requests: Sequence[tuple[DecoderRequest, GpuCache]]) -> list[tuple[DecoderResponse, GpuCache]]:
        steps = [step for step, _ in requests]
        before, self._continuation = self._continuation, None
        caches = [self._extended(step.tokens, cache) for step, cache in requests]
        tokens = [row for step in steps for row in step.tokens]
        ways = tuple((step.logit_filters, step.sampler.kernel_sampler) for step in steps)
        top, greedy = self._choices.top(steps), self._choices.greedy(steps)
        if before is not None and _continues(before, requests, caches, tokens, ways):
            buffers = self._buffers[before.capacity]
        else:
            buffers = self._send_step(caches, [step.tokens for step in steps], steps, greedy)
        self._run(buffers, caches)
        chosen = to_numpy(buffers.results.out[: 2 * top * len(tokens)]).reshape(len(tokens), top, 2)
        answers, start = [], 0
        for step in steps:
            answers.append(self._choices.read(step, chosen[start : start + len(step.candidates)]))
            start += len(step.candidates)
        if greedy:
            following = [[int(token)] for token in chosen[:, 0, 0]]
            left = tuple((cache.slot_addresses, cache.length) for cache in caches)
            self._continuation = Continuation(buffers.rows.table.capacity, left, following, ways)
        return list(zip(answers, caches, strict=True))

    def _send_step(
        self,
        caches: Sequence[GpuCache],
        tokens: Sequence[Sequence[Sequence[int]]],
        steps: Sequence[DecoderRequest] = (),
        greedy: bool = False,
    ) -> StepBuffers:
        """Describe a step, whose caches are extended already, in the table of its buffers, and send it."""
        self._continuation = None
        buffers = self._buffers_of(sum(cache.rows for cache in caches))
        table = buffers.rows.table
        _write_rows(table, caches, tokens)
        self._choices.describe(table, steps, self._choices.top(steps), greedy)
        table.send(sum(cache.rows for cache in caches))
        return buffers

    def _run(self, buffers: StepBuffers, caches: Sequence[GpuCache]) -> None:
        """All kernels of a step, as a graph if that is possible."""
        positions = caches[0].audio.shape[2]
        if any(cache.audio.shape[2] != positions for cache in caches):
            raise ValueError("windows that are decoded together: expected the same number of positions in each")
        if self.use_graph:
            key = (buffers.rows.table.capacity, positions)
            if key not in self._graphs:
                try:
                    self._graphs[key] = capture_graph(lambda: self._launch(buffers, positions))
                except Exception as error:  # CuPy raises its own types, and the driver's
                    warnings.warn(f"a step cannot be recorded on this GPU, so it is slower: {error}", stacklevel=2)
                    self.use_graph = False
            if self.use_graph:
                self._graphs[key].launch()
                return
        self._launch(buffers, positions)

    def _launch(self, buffers: StepBuffers, positions: int) -> None:
        self._decoder.forward(buffers.rows, positions, own_kernels=True)
        self._decoder.logits(buffers.rows, buffers.logits)
        self._choices.run(buffers.rows.table, buffers.logits, buffers.results)

    def _buffers_of(self, rows: int) -> StepBuffers:
        """The buffers for 1, 2, 4, 8 … rows: all of them together take less than twice what the largest do."""
        capacity = 1 << (rows - 1).bit_length()
        if capacity not in self._buffers:
            config, like = self._decoder.config, self._decoder.weights["token_embedding"]
            xp, table = array_module(like), RowTable(capacity, self._positions, like)
            self._buffers[capacity] = StepBuffers(
                rows=RowBuffers.make(capacity, table, config),
                logits=xp.empty((capacity, config.vocab_size), np.float32),
                results=self._choices.make(capacity),
            )
        return self._buffers[capacity]

    # -------------------------------------------------------------------------------------- prompts

    def _prompt(self, feed: DecoderInput) -> tuple[Array, GpuCache]:
        """Tokens of which a sequence has several: logits (R, positions wanted, V)."""
        length = len(feed.tokens[0])
        wanted = list(range(length)) if feed.wanted is None else list(feed.wanted)
        cache = self._extended(feed.tokens, feed.cache)
        rows = self._run_prompt(feed.tokens, cache)
        logits = self._prompt_logits(rows, [row * length + place for row in range(cache.rows) for place in wanted])
        return logits.reshape(cache.rows, len(wanted), -1), cache

    def _choose_after_prompt(self, step: DecoderRequest, cache: GpuCache) -> tuple[DecoderResponse, GpuCache]:
        """A prompt's probe, and choices from its last position for every candidate."""
        choices = len(step.candidates) + (step.probe is not None)
        new = self._extended(step.tokens, cache)
        rows = self._run_prompt(step.tokens, new, step, choices)
        length, wanted = len(step.tokens[0]), step.wanted
        if step.probe is None and new.rows > 1:
            wanted = [row * length + length - 1 for row in range(new.rows)]
        logits = self._prompt_logits(rows, wanted)
        top = self._choices.top([step])
        results = self._choices.make(choices)
        self._choices.run(rows.table, logits, results)
        chosen = to_numpy(results.out[: 2 * top * choices]).reshape(choices, top, 2)
        return self._choices.read(step, chosen), new

    def _run_prompt(
        self, tokens: Sequence[Sequence[int]], cache: GpuCache, step: DecoderRequest | None = None, choices: int = 0
    ) -> RowBuffers:
        """A prompt's tokens through the blocks."""
        self._continuation = None
        count = cache.rows * len(tokens[0])
        table = self._table_of(max(count, choices), cache.rows)
        _write_rows(table, [cache], [tokens])
        steps = [] if step is None else [step]
        self._choices.describe(table, steps, self._choices.top(steps), greedy=False)
        table.send(cache.rows)
        rows = RowBuffers.make(count, table, self._decoder.config)
        self._decoder.forward(rows, cache.audio.shape[2], own_kernels=count <= MAX_KERNEL_ROWS)
        return rows

    def _prompt_logits(self, rows: RowBuffers, wanted: Sequence[int]) -> Array:
        xp = array_module(rows.x)
        logits = xp.empty((len(wanted), self._decoder.config.vocab_size), np.float32)
        everything = list(wanted) == list(range(len(rows.x)))
        self._decoder.logits(rows, logits, None if everything else wanted)
        return logits

    def _table_of(self, rows: int, sequences: int) -> RowTable:
        """The table of prompts, which have many rows and few sequences."""
        table = self._prompt_table
        if table is None or table.capacity < rows or len(table.slot_addresses) < sequences:
            capacity, room = (max(MAX_KERNEL_ROWS, 1 << (count - 1).bit_length()) for count in (rows, sequences))
            like = self._decoder.weights["token_embedding"]
            table = self._prompt_table = RowTable(capacity, self._positions, like, room)
        return table

    # -------------------------------------------------------------------------------------- common

    @property
    def _positions(self) -> int:
        return self._decoder.config.max_target_positions

    def _extended(self, tokens: Sequence[Sequence[int]], cache: GpuCache) -> GpuCache:
        """The cache with room for tokens, which are checked."""
        check_tokens(np.asarray(tokens), cache.rows, cache.length, self._decoder.config)
        return cache.extend(len(tokens[0]), self._new_slot)

    def _new_slot(self) -> Slot:
        return Slot(self._decoder.new_slot())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One thread at a time, and its stream after the one that was used last: all share buffers and tables."""
        import cupy

        with self._lock:
            stream = cupy.cuda.get_current_stream()
            if self._last is not None and self._last[0] != stream:
                stream.wait_event(self._last[1])
            try:
                yield
            finally:
                event = self._last[1] if self._last is not None else cupy.cuda.Event(disable_timing=True)
                event.record(stream)
                self._last = stream, event


def _is_step(feed: DecoderInput) -> bool:
    """Whether each sequence goes on by one token, whose logits are wanted."""
    return all(len(row) == 1 for row in feed.tokens) and (feed.wanted is None or list(feed.wanted) == [0])


def _continues(
    before: Continuation,
    requests: Sequence[tuple[DecoderRequest, GpuCache]],
    caches: Sequence[GpuCache],
    tokens: list[list[int]],
    ways: tuple[Any, ...],
) -> bool:
    """Whether a step is the one that the table describes already."""
    return (
        before.tokens == tokens
        and len(before.caches) == len(requests)
        and all(
            places is cache.slot_addresses is new.slot_addresses and length == cache.length
            for (places, length), (_, cache), new in zip(before.caches, requests, caches, strict=True)
        )
        and all(was[0] is way[0] and was[1] is way[1] for was, way in zip(before.ways, ways, strict=True))
    )


def _write_rows(table: RowTable, caches: Sequence[GpuCache], tokens: Sequence[Sequence[Sequence[int]]]) -> None:
    """Enter rows, groups and places of caches that are extended by these tokens already."""
    table.wait()
    rows: list[tuple[int, int, int]] = []  # token, position, sequence
    groups: list[tuple[int, int, int]] = []  # the window's address, the first row, rows
    sequence = 0
    for cache, its in zip(caches, tokens, strict=True):
        first, begin = len(rows), cache.length - len(its[0])
        for number, row in enumerate(its, start=sequence):
            rows += [(token, position, number) for position, token in enumerate(row, start=begin)]
        table.slot_addresses[sequence : sequence + cache.rows] = cache.slot_addresses
        sequence += cache.rows
        audio = address(cache.audio)
        groups += [(audio, row, min(ROWS_PER_PASS, len(rows) - row)) for row in range(first, len(rows), ROWS_PER_PASS)]
    table.fields[Field.TOKEN : Field.SEQUENCE + 1, : len(rows)] = np.array(rows, np.int64).T
    table.fields[Field.CROSS_KV : Field.ROW_COUNT + 1, : len(groups)] = np.array(groups, np.int64).T
    table.header[HeaderAt.ROWS_AT], table.header[HeaderAt.GROUPS_AT] = len(rows), len(groups)


def capture_graph(launch: Callable[[], None]) -> Any:
    """What is launched as a CUDA graph, for which CUDA needs memory that CuPy's pool may be holding."""
    try:
        return _capture(launch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        memory_pool().free_all_blocks()
        return _capture(launch)


def _capture(launch: Callable[[], None]) -> Any:
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)  # the usual one cannot be recorded
    with stream:
        stream.begin_capture()
        try:
            launch()
        finally:
            graph = stream.end_capture()
    return graph

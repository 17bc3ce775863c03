"""Decoder steps and prompts on a GPU. A step extends several sequences by one token and chooses the next ones.

Launching a kernel takes the CPU longer than a small kernel takes to run, and a step has dozens of them. A CUDA graph
launches all of them at once. The same graph serves every window, beam and batch, because the rows are described by a
table in the GPU's memory (``fast.gpu.table``); one graph is captured for 1, 2, 4, 8 … rows. In a greedy
search the kernel that chooses tokens writes them to the table, so a token takes one launch and the transfer of eight
bytes.
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, array_module, to_numpy
from ...decoding.search import DecoderRequest, DecoderResponse, choose_tokens
from ...model.decoder import check_tokens
from ...model.engine import DecoderInput
from .buffers import MAX_KERNEL_ROWS, DecoderBuffers, RowBuffers, StepBuffers
from .cache import GpuCache, Slot
from .decoder import Decoder
from .graph import capture_graph
from .sampling import GpuSampler


class Continuation(NamedTuple):
    """The contents of the table after a greedy step; a step that continues it need not send the table again.

    It must not keep keys and values alive. Caches with the same array of slot addresses and the same length are equal.
    """

    rows: int
    caches: tuple[tuple[NDArray[np.int64], int], ...]  # slot addresses and length
    tokens: list[list[int]]
    sampling: tuple[Any, ...]  # the filters and the sampler of each request

    def matches(
        self,
        requests: Sequence[tuple[DecoderRequest, GpuCache]],
        extended: Sequence[GpuCache],
        tokens: list[list[int]],
        sampling: tuple[Any, ...],
    ) -> bool:
        """Return whether the table already describes this step."""
        return (
            self.tokens == tokens
            and len(self.caches) == len(requests)
            and all(
                addresses is cache.slot_addresses is new.slot_addresses and length == cache.length
                for (addresses, length), (_, cache), new in zip(self.caches, requests, extended, strict=True)
            )
            and all(a[0] is b[0] and a[1] is b[1] for a, b in zip(self.sampling, sampling, strict=True))
        )


class DecoderRunner:
    """A runner of decoder steps and prompts. Only one thread computes at a time, and streams wait for each other."""

    def __init__(self, decoder: Decoder, sampler: GpuSampler) -> None:
        self.use_graph = True
        self._decoder, self._sampler = decoder, sampler
        self._buffers = DecoderBuffers(decoder.config, sampler, decoder.weights["token_embedding"])
        self._graphs: dict[tuple[int, int], Any] = {}
        self._continuation: Continuation | None = None
        self._lock = threading.Lock()
        self._last: tuple[Any, Any] | None = None  # the stream that was used last, and an event after its work

    def reserve(self) -> None:
        """Allocate the buffers of one sequence."""
        self._buffers.reserve()

    def new_cache(self, features: Array) -> GpuCache:
        """Return the cache of a window without tokens: features (1, T, D)."""
        with self._exclusive():
            positions = self._decoder.config.max_target_positions
            return GpuCache.of(self._decoder.cross_kv(features), self._new_slot(), positions)

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, GpuCache]]:
        """Decode tokens: see ``model.engine.Engine.decode_batch``."""
        with self._exclusive():
            results: dict[int, tuple[Array, GpuCache]] = {}
            steps = [number for number, entry in enumerate(inputs) if _is_step(entry)]
            if steps:
                caches = [self._extended(inputs[number].tokens, inputs[number].cache) for number in steps]
                buffers = self._send(caches, [inputs[number].tokens for number in steps])
                self._run(buffers, caches)
                starts = np.cumsum([0, *(cache.rows for cache in caches)]).tolist()
                for number, cache, start in zip(steps, caches, starts, strict=False):
                    results[number] = buffers.logits[start : start + cache.rows, None].copy(), cache
            for number, entry in enumerate(inputs):
                if number not in results:
                    results[number] = self._prompt(entry)
            return [results[number] for number in range(len(inputs))]

    def choose_batch(
        self, requests: Sequence[tuple[DecoderRequest, GpuCache]]
    ) -> list[tuple[DecoderResponse, GpuCache]]:
        """Decode tokens and choose the next ones: see ``decoding.search.choose_batch``."""
        with self._exclusive():
            results: dict[int, tuple[DecoderResponse, GpuCache]] = {}
            steps = []
            for number, (request, cache) in enumerate(requests):
                if not self._sampler.supports(request):
                    logits, new = self._prompt(DecoderInput(request.tokens, cache, request.wanted))
                    results[number] = choose_tokens(request, logits), new
                elif request.probe is None and len(request.tokens[0]) == 1 and len(request.candidates) == cache.rows:
                    steps.append(number)
                else:
                    results[number] = self._choose_after_prompt(request, cache)
            if steps:
                responses = self._choose_after_step([requests[number] for number in steps])
                results.update(zip(steps, responses, strict=True))
            return [results[number] for number in range(len(requests))]

    # -------------------------------------------------------------------------------------- steps

    def _choose_after_step(
        self, requests: Sequence[tuple[DecoderRequest, GpuCache]]
    ) -> list[tuple[DecoderResponse, GpuCache]]:
        steps = [request for request, _ in requests]
        before, self._continuation = self._continuation, None
        caches = [self._extended(step.tokens, cache) for step, cache in requests]
        tokens = [row for step in steps for row in step.tokens]
        sampling = tuple((step.logit_filters, step.sampler.kernel_sampler) for step in steps)
        top, greedy = self._sampler.top(steps), self._sampler.is_greedy(steps)
        if before is not None and before.matches(requests, caches, tokens, sampling):
            buffers = self._buffers.step(before.rows)
        else:
            buffers = self._send(caches, [step.tokens for step in steps], steps, greedy)
        self._run(buffers, caches)
        chosen = to_numpy(buffers.samples.out[: 2 * top * len(tokens)]).reshape(len(tokens), top, 2)
        responses, start = [], 0
        for step in steps:
            responses.append(self._sampler.read(step, chosen[start : start + len(step.candidates)]))
            start += len(step.candidates)
        if greedy:
            next_tokens = [[int(token)] for token in chosen[:, 0, 0]]
            described = tuple((cache.slot_addresses, cache.length) for cache in caches)
            self._continuation = Continuation(len(tokens), described, next_tokens, sampling)
        return list(zip(responses, caches, strict=True))

    def _send(
        self,
        caches: Sequence[GpuCache],
        tokens: Sequence[Sequence[Sequence[int]]],
        requests: Sequence[DecoderRequest] = (),
        greedy: bool = False,
    ) -> StepBuffers:
        """Write a step to the table of its buffers, and send the table. The caches are already extended."""
        self._continuation = None
        rows = sum(cache.rows for cache in caches)
        buffers = self._buffers.step(rows)
        table = buffers.rows.table
        table.write_rows(caches, tokens)
        self._sampler.write_choices(table, requests, greedy)
        table.send(rows)
        return buffers

    def _run(self, buffers: StepBuffers, caches: Sequence[GpuCache]) -> None:
        """Run all kernels of a step, as a graph if possible."""
        positions = caches[0].cross_attention.shape[2]
        if any(cache.cross_attention.shape[2] != positions for cache in caches):
            raise ValueError("decode_batch: expected windows with the same number of positions in one batch")
        if self.use_graph:
            key = (buffers.rows.table.capacity, positions)
            if key not in self._graphs:
                try:
                    self._graphs[key] = capture_graph(lambda: self._launch(buffers, positions))
                except Exception as error:  # CuPy raises its own types, and the driver's
                    message = f"cannot capture a CUDA graph on this GPU, so decoding is slower: {error}"
                    warnings.warn(message, stacklevel=2)
                    self.use_graph = False
            if self.use_graph:
                self._graphs[key].launch()
                return
        self._launch(buffers, positions)

    def _launch(self, buffers: StepBuffers, positions: int) -> None:
        self._decoder.forward(buffers.rows, positions, own_kernels=True)
        self._decoder.logits(buffers.rows, buffers.logits)
        self._sampler.run(buffers.rows.table, buffers.logits, buffers.samples)

    # -------------------------------------------------------------------------------------- prompts

    def _prompt(self, entry: DecoderInput) -> tuple[Array, GpuCache]:
        """Decode several tokens per sequence: logits (R, positions wanted, V)."""
        length = len(entry.tokens[0])
        wanted = list(range(length)) if entry.wanted is None else list(entry.wanted)
        cache = self._extended(entry.tokens, entry.cache)
        rows = self._run_prompt(entry.tokens, cache)
        logits = self._prompt_logits(rows, [row * length + index for row in range(cache.rows) for index in wanted])
        return logits.reshape(cache.rows, len(wanted), -1), cache

    def _choose_after_prompt(self, request: DecoderRequest, cache: GpuCache) -> tuple[DecoderResponse, GpuCache]:
        """Decode a prompt, read its probe, and choose a token for every candidate."""
        choices = len(request.candidates) + (request.probe is not None)
        new = self._extended(request.tokens, cache)
        rows = self._run_prompt(request.tokens, new, [request], choices)
        length, wanted = len(request.tokens[0]), request.wanted
        if request.probe is None and new.rows > 1:
            wanted = [row * length + length - 1 for row in range(new.rows)]
        logits = self._prompt_logits(rows, wanted)
        top = self._sampler.top([request])
        samples = self._sampler.make_buffers(choices)
        self._sampler.run(rows.table, logits, samples)
        chosen = to_numpy(samples.out[: 2 * top * choices]).reshape(choices, top, 2)
        return self._sampler.read(request, chosen), new

    def _run_prompt(
        self,
        tokens: Sequence[Sequence[int]],
        cache: GpuCache,
        requests: Sequence[DecoderRequest] = (),
        choices: int = 0,
    ) -> RowBuffers:
        """Compute the residual stream of a prompt's tokens."""
        self._continuation = None
        count = cache.rows * len(tokens[0])
        table = self._buffers.prompt_table(max(count, choices), cache.rows)
        table.write_rows([cache], [tokens])
        self._sampler.write_choices(table, requests, greedy=False)
        table.send(cache.rows)
        rows = RowBuffers.make(count, table, self._decoder.config)
        self._decoder.forward(rows, cache.cross_attention.shape[2], own_kernels=count <= MAX_KERNEL_ROWS)
        return rows

    def _prompt_logits(self, rows: RowBuffers, wanted: Sequence[int]) -> Array:
        logits = array_module(rows.x).empty((len(wanted), self._decoder.config.vocab_size), np.float32)
        all_rows = list(wanted) == list(range(len(rows.x)))
        self._decoder.logits(rows, logits, None if all_rows else wanted)
        return logits

    # -------------------------------------------------------------------------------------- common

    def _extended(self, tokens: Sequence[Sequence[int]], cache: GpuCache) -> GpuCache:
        """Check tokens and extend the cache by them."""
        check_tokens(np.asarray(tokens), cache.rows, cache.length, self._decoder.config)
        return cache.extend(len(tokens[0]), self._new_slot)

    def _new_slot(self) -> Slot:
        return Slot(self._decoder.new_slot())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one thread in at a time, and make its stream wait for the last one: all share buffers and tables."""
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


def _is_step(entry: DecoderInput) -> bool:
    """Return whether each sequence is extended by one token, whose logits are wanted."""
    return all(len(row) == 1 for row in entry.tokens) and (entry.wanted is None or list(entry.wanted) == [0])

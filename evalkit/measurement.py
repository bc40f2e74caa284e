"""The only place where a network meets a sample set: decode, prepare, batch, device, memory, progress.

Each sample is decoded once and prepared once for every instrument asked for, in loader threads (Pillow and torch let go
of the interpreter lock); prepared tensors of one shape are batched together; each instrument sees each sample once.
Rows are kept by content, so a second measurement of the same samples with the same instrument reads them back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .cache import Cache, digest_of
from .errors import BadRows, ModalityMismatch, NothingToEvaluate, RunFailed, UnreadableSample
from .hardware import is_out_of_memory
from .samples import select
from .types import Excluded, Extractor, Features, Progress, Sample, SampleSet

if TYPE_CHECKING:
    from torch import Tensor


class Silence:
    """Progress that nobody watches."""

    def start(self, task: str, total: int) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Bench:
    """Where the work is done: device, memory of earlier work, who watches, how many at once."""

    device: str = "cpu"
    cache: Cache = field(default_factory=lambda: Cache(None))
    progress: Progress = field(default_factory=Silence)
    batch_size: int = 64
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))


@dataclass(frozen=True)
class Measured:
    """One sample set under several instruments: the readable samples, one Features an instrument, what was excluded."""

    samples: SampleSet
    features: dict[str, Features]
    excluded: tuple[Excluded, ...]


def measure(samples: SampleSet, instruments: Sequence[Extractor], bench: Bench) -> Measured:
    """Rows of every instrument for every readable sample, float32 [N, D] on the CPU, in sample order.

    Unreadable samples are listed with their reason. Raises ModalityMismatch, NothingToEvaluate when no sample is
    readable, BadRows when an instrument gives a number that is not finite, RunFailed when one sample alone is too
    much for the device's memory.
    """
    for instrument in instruments:
        if instrument.modality != samples.modality:
            raise ModalityMismatch(
                f"{instrument.name} measures {instrument.modality} samples, {samples.name!r} holds {samples.modality}"
            )
    stored = {i.digest: _recall(samples, i, bench.cache) for i in instruments}
    fresh = [i for i in instruments if stored[i.digest] is None]
    if fresh or not instruments:
        rows, kept, excluded = _pass(samples, fresh, bench)
        for instrument, table in zip(fresh, rows, strict=True):
            stored[instrument.digest] = (table, kept, excluded)
            _remember(samples, instrument, bench.cache, table, kept, excluded)
    else:
        found = stored[instruments[0].digest]
        assert found is not None
        _, kept, excluded = found
    if not kept:
        reason = f" (first: {excluded[0].id}: {excluded[0].reason})" if excluded else ""
        raise NothingToEvaluate(f"no readable sample among the {len(samples)} of {samples.name!r}{reason}")
    readable = samples if len(kept) == len(samples) else select(samples, kept)
    features = {}
    for instrument in instruments:
        entry = stored[instrument.digest]
        assert entry is not None
        features[instrument.name] = Features(entry[0], instrument.digest, readable, instrument.heads)
    return Measured(readable, features, excluded)


def nothing_measured(samples: SampleSet) -> Features:
    """Features of no instrument, rows [N, 0]: for metrics that read the samples themselves."""
    import torch

    return Features(torch.empty(len(samples), 0), "none", samples)


Entry = tuple["Tensor", list[int], tuple[Excluded, ...]]


def _key(samples: SampleSet, instrument: Extractor) -> str:
    return digest_of("features", samples.digest, instrument.digest, "float32")


def _recall(samples: SampleSet, instrument: Extractor, cache: Cache) -> Entry | None:
    found = cache.get_tensors("features", _key(samples, instrument))
    if found is None:
        return None
    tensors, notes = found
    # Positions and reasons are stored; ids are this set's own, since the key is of content only.
    listed = tuple(samples)
    excluded = tuple(Excluded(listed[i].id, reason) for i, reason in notes["excluded"])
    return tensors["rows"], [int(i) for i in tensors["kept"]], excluded


def _remember(
    samples: SampleSet,
    instrument: Extractor,
    cache: Cache,
    rows: Tensor,
    kept: list[int],
    excluded: tuple[Excluded, ...],
) -> None:
    import torch

    missing = sorted(set(range(len(samples))) - set(kept))
    notes = {
        "excluded": [[i, e.reason] for i, e in zip(missing, excluded, strict=True)],
        "samples": samples.digest,
        "instrument": instrument.digest,
    }
    tensors = {"rows": rows, "kept": torch.tensor(kept, dtype=torch.int64)}
    cache.put_tensors("features", _key(samples, instrument), tensors, notes)


def _pass(
    samples: SampleSet, instruments: Sequence[Extractor], bench: Bench
) -> tuple[list[Tensor], list[int], tuple[Excluded, ...]]:
    """One pass over the samples for all instruments."""
    import torch

    for instrument in instruments:
        instrument.to(bench.device)
    queues = [_Queue(instrument, bench) for instrument in instruments]
    names = ", ".join(i.name for i in instruments) or "reading"
    bench.progress.start(f"{samples.name}: {names}", len(samples))
    kept: list[int] = []
    excluded: list[Excluded] = []
    for position, sample, prepared in _prepared(samples, instruments, bench.workers, 4 * bench.batch_size):
        if isinstance(prepared, UnreadableSample):
            excluded.append(Excluded(sample.id, str(prepared)))
        else:
            for queue, tensor in zip(queues, prepared, strict=True):
                queue.add(len(kept), tensor)
            kept.append(position)
        bench.progress.advance()
    tables = [queue.table(len(kept)) if kept else torch.empty(0, 0) for queue in queues]
    bench.progress.finish()
    for instrument, table in zip(instruments, tables, strict=True):
        bad = (~torch.isfinite(table)).any(dim=1).nonzero().flatten().tolist()
        if bad:
            first = tuple(samples)[kept[bad[0]]].id
            raise BadRows(
                f"{instrument.name} gave NaN or infinite rows for {len(bad)} samples, first {first!r}; exclude them"
            )
    return tables, kept, tuple(excluded)


Prepared = tuple[int, Sample, "list[Tensor] | UnreadableSample"]


def _prepared(samples: SampleSet, instruments: Sequence[Extractor], workers: int, ahead: int) -> Iterator[Prepared]:
    """Samples decoded and prepared in order, at most `ahead` in flight."""

    def work(sample: Sample) -> list[Tensor] | UnreadableSample:
        try:
            media = sample.load()
            return [instrument.prepare(media) for instrument in instruments]
        except UnreadableSample as error:
            return error

    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="evalkit-loader")
    waiting: deque[tuple[int, Sample, Future[Any]]] = deque()
    try:
        for position, sample in enumerate(samples):
            waiting.append((position, sample, pool.submit(work, sample)))
            if len(waiting) >= ahead:
                first = waiting.popleft()
                yield first[0], first[1], first[2].result()
        while waiting:
            first = waiting.popleft()
            yield first[0], first[1], first[2].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Queue:
    """Prepared tensors of one instrument, waiting by shape until a batch is full."""

    def __init__(self, instrument: Extractor, bench: Bench) -> None:
        self.instrument = instrument
        self.device = bench.device
        self.size = bench.batch_size
        self.waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        self.rows: list[tuple[int, Tensor]] = []

    def add(self, position: int, tensor: Tensor) -> None:
        line = self.waiting.setdefault(tuple(tensor.shape), [])
        line.append((position, tensor))
        if len(line) >= self.size:
            self._run(self.waiting.pop(tuple(tensor.shape)))

    def table(self, n: int) -> Tensor:
        """All rows in sample order."""
        import torch

        for line in self.waiting.values():
            self._run(line)
        self.waiting.clear()
        self.rows.sort(key=lambda entry: entry[0])
        if len(self.rows) != n:
            raise RunFailed(f"{self.instrument.name} gave {len(self.rows)} rows for {n} samples")
        return torch.stack([row for _, row in self.rows])

    def _run(self, line: list[tuple[int, Tensor]]) -> None:
        import torch

        try:
            batch = torch.stack([tensor for _, tensor in line]).to(self.device)
            rows = self.instrument(batch).to("cpu", torch.float32)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(line) == 1:
                raise RunFailed(
                    f"{self.instrument.name}: one sample of shape {tuple(line[0][1].shape)} is too much for"
                    f" the memory of {self.device}; use smaller samples or another device"
                ) from error
            # Halve once and for all: the next batch of this size would fail too.
            half = max(1, len(line) // 2)
            self.size = min(self.size, half)
            for start in range(0, len(line), half):
                self._run(line[start : start + half])
            return
        self.rows.extend((position, row) for (position, _), row in zip(line, rows, strict=True))

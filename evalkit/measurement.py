"""The only place where a network meets a sample set: decode, prepare, batch, device, memory, progress.

Each sample is decoded once and prepared once for every instrument asked for, in loader threads (Pillow and torch let go
of the interpreter lock); each instrument sees each sample once. Which samples share a batch depends on their positions
and shapes alone: samples are taken in stretches of four batches, and a stretch leaves nothing waiting. So several
processes that share a set by stretches (`evalkit.sharing`) get the same rows as one, to the bit. Rows are kept by
content: a second measurement of the same samples with the same instrument reads them back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from .cache import Cache, digest_of
from .errors import BadRows, ModalityMismatch, NothingToEvaluate, RunFailed, UnreadableSample, UsageError
from .hardware import is_out_of_memory
from .rows import Rows, not_finite
from .samples import select
from .sharing import Alone, Team
from .types import Arranging, Excluded, Extractor, Features, Progress, Sample, SampleSet, Unrounded

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
    team: Team = field(default_factory=Alone)

    @property
    def stretch(self) -> int:
        """How many samples, by position, are measured before nothing may be left waiting for a batch."""
        return 4 * self.batch_size


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
    # Where several processes share the work the first one alone reads and writes what is remembered: the others have
    # only their own rows, and all must agree on what is left to measure.
    leads = not bench.team.rank
    stored = {i.digest: _recall(samples, i, bench.cache) if leads else None for i in instruments}
    unknown = bench.team.together(digest for digest, entry in stored.items() if leads and entry is None)
    fresh = [i for i in instruments if i.digest in unknown]
    passed = _pass(samples, fresh, bench) if fresh or not instruments else None
    if not leads:
        return Measured(samples, {}, ())
    if passed is not None:
        rows, kept, excluded = passed
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
        about = getattr(instrument, "about", {})
        features[instrument.name] = Features(entry[0], instrument.digest, readable, instrument.heads, about)
    return Measured(readable, features, excluded)


def measure_unrounded(samples: SampleSet, images: Iterable[Tensor], instrument: Extractor, bench: Bench) -> Features:
    """Rows of images that were not rounded to whole grey levels, float32 [N, D] on the CPU, in order; not cached.

    images: batches float32 [B, 3, H, W] in grey levels 0..255, one image for each of the N `samples`, which name them.
    Raises UsageError when the instrument sees whole grey levels only, and BadRows and RunFailed as `measure` does.
    """
    instrument.to(bench.device)
    bench.progress.start(f"{samples.name}: {instrument.name}", len(samples))
    with Rows(len(samples), bench.cache.root) as table:
        queue, n = _Queue(_Seeing(instrument), bench, table), 0
        for image in (image for batch in images for image in batch):
            queue.add(n, image)
            n += 1
            bench.progress.advance()
        queue.close(len(samples))
        rows = table.taken(n)
    bench.progress.finish()
    _check_finite(instrument, rows, samples, range(n))
    return Features(rows, instrument.digest, samples, instrument.heads, getattr(instrument, "about", {}))


def taken(features: Features, keep: Sequence[int]) -> Features:
    """The rows and samples at the positions `keep`, in that order."""
    return replace(features, rows=features.rows[list(keep)], samples=select(features.samples, keep))


def narrowed_to(side: Measured, keep: Sequence[int]) -> Measured:
    """The samples at the positions `keep` with their rows: no network runs again."""
    samples = select(side.samples, keep)
    features = {name: replace(f, rows=f.rows[list(keep)], samples=samples) for name, f in side.features.items()}
    return Measured(samples, features, side.excluded)


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
    for instrument in instruments:
        instrument.to(bench.device)
    start, stop = bench.team.share(len(samples), bench.stretch)
    names = ", ".join(i.name for i in instruments) or "reading"
    bench.progress.start(f"{samples.name}: {names}", stop - start)
    with ExitStack() as stack:
        tables = [stack.enter_context(Rows(stop - start, bench.cache.root)) for _ in instruments]
        queues = [_Queue(i, bench, table) for i, table in zip(instruments, tables, strict=True)]
        kept: list[int] = []
        excluded: list[Excluded] = []
        for position, sample, prepared in _prepared(samples, instruments, bench, start, stop):
            if (position - start) % bench.stretch == 0:
                for queue in queues:
                    queue.flush()
            if isinstance(prepared, UnreadableSample):
                excluded.append(Excluded(sample.id, str(prepared)))
            else:
                for queue, tensor in zip(queues, prepared, strict=True):
                    queue.add(len(kept), tensor)
                kept.append(position)
            bench.progress.advance()
        for queue in queues:
            queue.close(len(kept))
        bench.progress.finish()
        whole = [bench.team.joined(table.taken(len(kept)), bench.cache.root) for table in tables]
    kept, excluded = bench.team.together(kept), bench.team.together(excluded)
    if not bench.team.rank:
        for instrument, table in zip(instruments, whole, strict=True):
            _check_finite(instrument, table, samples, kept)
    return whole, kept, tuple(excluded)


def _check_finite(instrument: Extractor, table: Tensor, samples: SampleSet, kept: Sequence[int]) -> None:
    """Raise BadRows, naming the first sample, when a row holds NaN or infinity."""
    if bad := not_finite(table):
        first = tuple(samples)[kept[bad[0]]].id
        raise BadRows(
            f"{instrument.name} gave NaN or infinite rows for {len(bad)} samples, first {first!r}; exclude them"
        )


Prepared = tuple[int, Sample, "list[Tensor] | UnreadableSample"]


def _prepared(
    samples: SampleSet, instruments: Sequence[Extractor], bench: Bench, start: int, stop: int
) -> Iterator[Prepared]:
    """The samples from `start` to `stop`, decoded and prepared in order, at most one stretch of them in flight."""

    def work(sample: Sample) -> list[Tensor] | UnreadableSample:
        try:
            media = sample.load()
            return [instrument.prepare(media) for instrument in instruments]
        except UnreadableSample as error:
            return error

    pool = ThreadPoolExecutor(max(1, bench.workers), thread_name_prefix="evalkit-loader")
    waiting: deque[tuple[int, Sample, Future[Any]]] = deque()
    try:
        for position, sample in enumerate(islice(samples, start, stop), start):
            waiting.append((position, sample, pool.submit(work, sample)))
            if len(waiting) >= bench.stretch:
                first = waiting.popleft()
                yield first[0], first[1], first[2].result()
        while waiting:
            first = waiting.popleft()
            yield first[0], first[1], first[2].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Seeing:
    """An instrument that is given images, not rounded, where others are given what they prepared of samples."""

    def __init__(self, instrument: Extractor) -> None:
        if not isinstance(instrument, Unrounded):
            raise UsageError(f"{instrument.name} sees whole grey levels only; take lpips")
        self.name, self.instrument, self.batch_of = instrument.name, instrument, instrument.batch_of

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        import torch

        return self.batch_of(torch.stack(list(prepared)))

    def __call__(self, batch: Tensor) -> Tensor:
        return self.instrument(batch)


class _Queue:
    """Prepared tensors of one instrument, waiting until a batch is full: by shape, unless it arranges them itself."""

    def __init__(self, instrument: Extractor | _Seeing, bench: Bench, table: Rows) -> None:
        self.instrument = instrument
        self.device = bench.device
        self.size = bench.batch_size
        self.table = table
        self.waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        self.underway: tuple[list[int], Tensor] | None = None

    def add(self, position: int, tensor: Tensor) -> None:
        key = () if isinstance(self.instrument, Arranging) else tuple(tensor.shape)
        line = self.waiting.setdefault(key, [])
        line.append((position, tensor))
        if len(line) >= self.size:
            self._run(self.waiting.pop(key))

    def flush(self) -> None:
        """Leave nothing waiting."""
        for key in list(self.waiting):
            self._run(self.waiting.pop(key))

    def close(self, n: int) -> None:
        """Finish the table: n rows, one a sample."""
        self.flush()
        self._settle()
        if self.table.written != n:
            raise RunFailed(f"{self.instrument.name} gave {self.table.written} rows for {n} samples")

    def _run(self, line: list[tuple[int, Tensor]]) -> None:
        try:
            rows = self.instrument(self._batch([tensor for _, tensor in line]))
            # A GPU works on this batch while the rows of the one before are brought back.
            self._settle()
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
        if len(rows) != len(line):
            raise RunFailed(f"{self.instrument.name} gave {len(rows)} rows for {len(line)} samples")
        self.underway = ([position for position, _ in line], rows)

    def _batch(self, tensors: list[Tensor]) -> Tensor:
        import torch

        if isinstance(self.instrument, Arranging):
            return self.instrument.arrange([self._sent(tensor) for tensor in tensors])
        return self._sent(torch.stack(tensors))

    def _sent(self, tensor: Tensor) -> Tensor:
        """On the device; from page-locked memory a GPU fetches it while the next is made ready."""
        if self.device.startswith("cuda") and not tensor.is_cuda:
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _settle(self) -> None:
        if self.underway is not None:
            positions, rows = self.underway
            self.table.put(positions, rows)
            self.underway = None

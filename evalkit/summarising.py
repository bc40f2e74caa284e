"""A set's features as a statistics file, whole or a shard of it, and the files of several shards as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .cache import FileDigests
from .errors import BadSetting, UnwritableOutput, UsageError
from .measurement import Bench, measure
from .samples import open_samples, select
from .samples.statistics import StatisticsSet
from .statistics import Layout, Statistics, merge_statistics, shard_bounds, summarise, write_statistics

LAYOUTS: tuple[Layout, ...] = ("evalkit", "pytorch-fid", "clean-fid", "adm")


def stats(
    sources: Sequence[Any],
    *,
    output: Path,
    on: str = "",
    layout: Layout = "evalkit",
    shard: str = "",
    keep_rows: bool = False,
    bench: Bench | None = None,
) -> Statistics:
    """Write the mean and covariance of the features of one source, or merge statistics files given as sources.

    on: the instrument (default inception). layout: evalkit (mergeable), pytorch-fid, clean-fid or adm. shard: "2/5",
    the second of five parts, which merge into the whole, bit for bit. keep_rows: also the rows, for the kernel and
    neighbour metrics. Raises UsageError for sources that do not go together.
    """
    bench = bench or Bench()
    if output.suffix != ".npz":
        raise UnwritableOutput(f"-o {output}: expected a .npz")
    opened = [open_samples(s, digests=FileDigests(bench.cache.root)) for s in sources]
    files = [s.statistics for s in opened if isinstance(s, StatisticsSet)]
    if len(files) == len(opened):
        if on or shard or keep_rows:
            raise UsageError("--on, --shard and --keep-rows belong to samples; the sources are statistics files")
        found = merge_statistics(files) if len(files) > 1 else files[0]
    elif len(opened) == 1:
        found = _measured(opened[0], on or "inception", shard, keep_rows, bench)
        if layout == "adm":
            # Its evaluator reads two pairs of moments: of the pooled features, and of the spatial ones for sFID.
            spatial = _measured(opened[0], f"{on or 'inception'}:spatial", shard, False, bench)
            found = replace(found, spatial=spatial.pooled)
    else:
        raise UsageError("give one source of samples, or statistics files to merge")
    write_statistics(output, found, layout)
    return found


def _measured(samples: Any, on: str, shard: str, keep_rows: bool, bench: Bench) -> Statistics:
    instrument = registry.extractors.get(on)()
    if (fetch := getattr(instrument, "fetch", None)) is not None:
        fetch()
    start, stop = _bounds(shard, len(samples))
    part = select(samples, range(start, stop))
    side = measure(part, [instrument], bench)
    place = {sample.id: start + i for i, sample in enumerate(part)}
    return summarise(
        side.features[instrument.name].head("features"),
        instrument=instrument.name,
        shard=(start, stop),
        total=len(samples),
        of=samples.digest,
        positions=[place[sample.id] for sample in side.samples],
        keep_rows=keep_rows,
    )


def _bounds(shard: str, n: int) -> tuple[int, int]:
    """The samples of "2/5": the second of five parts."""
    if not shard:
        return 0, n
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise BadSetting(f"--shard {shard!r}; expected NUMBER/COUNT such as 2/5")
    start, stop = shard_bounds(n, int(count))[int(number) - 1]
    if start == stop:
        raise BadSetting(
            f"--shard {shard}: parts are whole blocks of 256 samples, and of {n} samples none is left for this part;"
            " use fewer parts"
        )
    return start, stop

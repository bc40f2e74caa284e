"""Statistics files: the mean and covariance of a set's features, as pytorch-fid, clean-fid, ADM and EDM2 keep them.

Ours keeps a tree of sums, so that the files of several shards merge into the file of the whole set, bit for bit.
"""

from __future__ import annotations

from .files import Layout, holds_statistics, read_statistics, write_statistics
from .record import Origin, Statistics, merge_statistics, summarise
from .tree import shard_bounds

__all__ = [
    "Layout",
    "Origin",
    "Statistics",
    "holds_statistics",
    "merge_statistics",
    "read_statistics",
    "shard_bounds",
    "summarise",
    "write_statistics",
]

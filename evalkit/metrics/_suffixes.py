"""Where sequences of tokens stand verbatim in other sequences: a suffix array by prefix doubling, and lookups in it.

Manber & Myers 1993: suffixes are ranked by their first token, then by 2, 4, 8, ... tokens, each time by a pair of the
ranks before. The ranks of every length are kept, and so the common prefix of any two suffixes is found in as many steps
as there are lengths, for all pairs at once. Text of one token repeated costs no more steps than any other.

Every sequence ends in a token of its own, so no match runs from one sequence into the next.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def rank_levels(ids: Ids) -> list[Ids]:
    """Ranks [N] of the suffixes of tokens [N] by their first 1, 2, 4, ... tokens; the last level tells all apart.

    ids: 0 or more, the last of them occurring once. A suffix shorter than the length is ranked below its extensions.
    """
    ranks = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    levels, n, step = [ranks], len(ids), 1
    while n and ranks.max() + 1 < n:
        after = np.zeros(n, dtype=np.int64)
        after[: n - step] = ranks[step:] + 1
        keys = ranks * (n + 1) + after
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        ranks = np.empty(n, dtype=np.int64)
        ranks[order] = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
        levels.append(ranks)
        step *= 2
    return levels


def suffix_array(ids: Ids) -> Ids:
    """Where the suffixes of tokens [N] begin, in their order, [N]; the last token must occur once."""
    found: Ids = np.argsort(rank_levels(ids)[-1]).astype(np.int64)
    return found


def common_prefixes(levels: Sequence[Ids], a: Ids, b: Ids) -> Ids:
    """How many tokens the suffixes at a [M] and at b [M] have in common, [M]; a and b differ everywhere."""
    n = len(levels[0])
    a, b, found = a.copy(), b.copy(), np.zeros(len(a), dtype=np.int64)
    for power in range(len(levels) - 1, -1, -1):
        inside = (a < n) & (b < n)
        same = np.zeros(len(a), dtype=bool)
        same[inside] = levels[power][a[inside]] == levels[power][b[inside]]
        step = same * (1 << power)
        found, a, b = found + step, a + step, b + step
    return found


def longest_matches(known: Sequence[Sequence[Hashable]], queries: Sequence[Sequence[Hashable]]) -> list[Ids]:
    """For each query [T] and each of its places, how many tokens from there on stand verbatim in one known sequence.

    int64 [T] each. Linear memory in all tokens together times the logarithm of the longest repeat.
    """
    numbers: dict[Hashable, int] = {}
    sequences = [*known, *queries]
    ids = [numbers.setdefault(token, len(numbers)) for sequence in sequences for token in sequence]
    sizes = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if not len(sizes):
        return []
    # A token of its own after every sequence.
    ends = np.cumsum(sizes)
    joined = np.insert(np.array(ids, dtype=np.int64), ends, len(numbers) + np.arange(len(sizes)))
    starts = ends - sizes + np.arange(len(sizes))
    first_query = int(starts[len(known)]) if queries else len(joined)
    lengths = _nearest_known(joined, first_query)
    return [
        lengths[start - first_query : start - first_query + size]
        for start, size in zip(starts[len(known) :].tolist(), sizes[len(known) :].tolist(), strict=True)
    ]


def _nearest_known(joined: Ids, first_query: int) -> Ids:
    """For every place from `first_query` on, the longest prefix it shares with any place before `first_query`.

    The suffix it shares most with is one of the two nearest in the suffix array.
    """
    n = len(joined)
    asked = np.arange(first_query, n)
    if not first_query:
        return np.zeros(len(asked), dtype=np.int64)
    levels = rank_levels(joined)
    ranks = levels[-1]
    order = np.argsort(ranks)
    is_known = order < first_query
    places = np.arange(n)
    below = np.maximum.accumulate(np.where(is_known, places, -1))
    above = np.minimum.accumulate(np.where(is_known, places, n)[::-1])[::-1]
    found = np.zeros(len(asked), dtype=np.int64)
    for nearest in (below, above):
        at = nearest[ranks[asked]]
        there = (at >= 0) & (at < n)
        found[there] = np.maximum(found[there], common_prefixes(levels, asked[there], order[at[there]]))
    return found


def inside_spans(lengths: Ids, least: int) -> npt.NDArray[np.bool_]:
    """Which tokens [T] lie in a matched span of `least` tokens or more, from what `longest_matches` found [T]."""
    places = np.arange(len(lengths))
    reach = np.maximum.accumulate(np.where(lengths >= least, places + lengths, 0)) if len(lengths) else lengths
    inside: npt.NDArray[np.bool_] = places < reach
    return inside

"""Statistics files: every layout there and back, shards that merge bit for bit, a source without samples."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadSetting, UsageError
from evalkit.metrics.frechet import frechet_distance
from evalkit.samples import open_samples
from evalkit.samples.statistics import StatisticsSet
from evalkit.statistics import (
    holds_statistics,
    merge_statistics,
    read_statistics,
    shard_bounds,
    summarise,
    write_statistics,
)
from evalkit.types import Features, SampleSet

from .toys import images

N, D = 1700, 5
SET = images(2)


def rows_of(n: int = N, d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, d + 1) + 3


def features(rows: Tensor, extractor: str = "sha256:net") -> Features:
    return Features(rows, extractor, SET, about={"resize": "clean"})


def whole(rows: Tensor):
    return summarise(features(rows), instrument="net")


def part(rows: Tensor, start: int, stop: int, **given):
    settings = {"instrument": "net", "shard": (start, stop), "total": len(rows), "of": SET.digest, **given}
    return summarise(features(rows[start:stop]), **settings)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


# ------------------------------------------------------------------------------------- mean and covariance


def test_moments_by_hand():
    """Rows 0 and 2: mean 1, variance 2 (n - 1)."""
    found = whole(torch.tensor([[0.0], [2.0]]))
    assert (found.mean.tolist(), found.covariance.tolist(), found.n) == ([1.0], [[2.0]], 2)


def test_moments_agree_with_numpy_far_from_the_origin():
    rows = rows_of().double() / 100 + 1000
    found = whole(rows)
    assert torch.allclose(found.mean, torch.from_numpy(rows.numpy().mean(axis=0)), rtol=1e-14)
    assert torch.allclose(found.covariance, torch.from_numpy(np.cov(rows.numpy(), rowvar=False)), rtol=1e-10)


def test_the_distance_from_statistics_is_that_from_rows():
    real, fake = rows_of(), rows_of(700, D, 1)
    assert frechet_distance(whole(real).moments("net"), fake) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


# ------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("n", [1, 256, 1700, 5000])
@pytest.mark.parametrize("shards", [1, 2, 3, 7, 40])
def test_every_sample_is_in_exactly_one_shard(n, shards):
    bounds = shard_bounds(n, shards)
    assert len(bounds) == shards
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(n))
    assert all(start % 256 == 0 or start == n for start, _ in bounds)
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 512


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_any_number_of_shards_gives_the_same_bits(tmp_path, shards):
    """In the order they come or the other way round; the files are the same byte for byte."""
    rows = rows_of(seed=5)
    parts = [part(rows, start, stop) for start, stop in shard_bounds(N, shards)]
    write_statistics(tmp_path / "whole.npz", whole(rows))
    for i, order in enumerate((parts, parts[::-1])):
        again = []
        for j, p in enumerate(order):
            write_statistics(tmp_path / f"{i}-{j}.npz", p)
            again.append(read_statistics(tmp_path / f"{i}-{j}.npz"))
        write_statistics(tmp_path / f"merged-{i}.npz", merge_statistics(again))
        assert (tmp_path / f"merged-{i}.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 9), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_gives_the_same_bits(n, shards, random):
    rows = rows_of(max(2, n), 3, n)
    parts = [part(rows, a, b) for a, b in shard_bounds(len(rows), shards) if a < b]
    random.shuffle(parts)
    while len(parts) > 1:
        size = random.randint(2, len(parts))
        parts = [merge_statistics(parts[:size]), *parts[size:]]
        random.shuffle(parts)
    expected = whole(rows)
    assert torch.equal(parts[0].mean, expected.mean)
    assert torch.equal(parts[0].covariance, expected.covariance)


def test_the_thread_count_does_not_change_the_bits():
    rows, before = rows_of(600, 300), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = whole(rows)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(two.covariance, whole(rows).covariance)


def test_few_nodes_are_kept():
    """16 leaves are one node; 15 are four."""
    assert [n.level for n in whole(rows_of(4096, 2)).tree.nodes] == [4]
    assert [n.level for n in whole(rows_of(3840, 2)).tree.nodes] == [3, 2, 1, 0]


def test_an_incomplete_file_says_what_is_missing_and_merges_on(tmp_path):
    rows = rows_of()
    bounds = shard_bounds(N, 3)
    first, middle, last = (part(rows, *b) for b in bounds)
    write_statistics(tmp_path / "some.npz", merge_statistics([first, last]))
    some = read_statistics(tmp_path / "some.npz")
    assert some.n is None and "mu" not in np.load(tmp_path / "some.npz", allow_pickle=False).files
    with pytest.raises(UsageError, match=f"samples {bounds[1][0]}-{bounds[1][1] - 1} of 1700 are missing"):
        some.moments("net")
    assert torch.equal(merge_statistics([some, middle]).covariance, whole(rows).covariance)


def test_unreadable_samples_leave_a_gap_and_the_same_bits():
    """Samples 3 and all of 256-511 could not be read."""
    rows = rows_of()
    kept = [i for i in range(N) if i != 3 and not 256 <= i < 512]
    once = summarise(features(rows[kept]), instrument="net", total=N, of=SET.digest, positions=kept)
    parts = []
    for start, stop in shard_bounds(N, 4):
        own = [i for i in kept if start <= i < stop]
        given = {"instrument": "net", "shard": (start, stop), "total": N, "of": SET.digest, "positions": own}
        parts.append(summarise(features(rows[own]), **given))
    assert torch.equal(merge_statistics(parts).covariance, once.covariance)
    assert once.n == len(kept) == N - 257
    assert torch.allclose(once.covariance, torch.cov(rows[kept].double().T), rtol=1e-10)


def test_rows_travel_along_where_every_part_kept_them(tmp_path):
    rows = rows_of()
    parts = [part(rows, *b, keep_rows=True) for b in shard_bounds(N, 3)]
    write_statistics(tmp_path / "rows.npz", merge_statistics(parts[::-1]))
    assert torch.equal(read_statistics(tmp_path / "rows.npz").rows, rows)
    assert merge_statistics([parts[0], part(rows, *shard_bounds(N, 3)[1])]).rows is None


def test_shards_that_do_not_belong_together_are_refused():
    rows = rows_of()
    (a, b), (c, d) = shard_bounds(N, 2)
    first, other = part(rows, a, b), part(rows, c, d)
    with pytest.raises(UsageError, match="samples 0-511 are in more than one of the files"):
        merge_statistics([first, other, first])
    with pytest.raises(UsageError, match="different instruments do not add up: net"):
        merge_statistics([first, summarise(features(rows[c:d], "sha256:x"), instrument="net", shard=(c, d), total=N)])
    with pytest.raises(UsageError, match="different sets do not add up"):
        merge_statistics([first, part(rows, c, d, of="sha256:another")])
    with pytest.raises(UsageError, match="no shard of whole leaves"):
        part(rows, 100, 400)
    with pytest.raises(UsageError, match="one row a sample"):
        summarise(features(rows[:100]), instrument="net", shard=(0, 256), total=N)
    with pytest.raises(BadSetting, match="at least 1"):
        shard_bounds(10, 0)


# ------------------------------------------------------------------------------------- files of other tools


@pytest.mark.parametrize(("layout", "mean"), [("pytorch-fid", "float64"), ("clean-fid", "float32")])
def test_peers_layouts_there_and_back(tmp_path, layout, mean):
    made = whole(rows_of())
    write_statistics(tmp_path / "s.npz", made, layout)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as stored:
        assert sorted(stored.files) == ["mu", "sigma"]
        assert (stored["mu"].dtype, stored["sigma"].dtype) == (mean, "float64")
    found = read_statistics(tmp_path / "s.npz")
    assert (found.origin, found.n, found.instrument) == (layout, None, None)
    assert torch.equal(found.covariance, made.covariance)
    assert torch.allclose(found.mean, made.mean, rtol=1e-6)
    with pytest.raises(UsageError, match="no spatial features"):
        found.moments("inception:spatial")
    with pytest.raises(UsageError, match="do not merge"):
        merge_statistics([found, made])


def test_adm_there_and_back_with_its_spatial_features(tmp_path):
    made = whole(rows_of())
    with pytest.raises(UsageError, match="no spatial"):
        write_statistics(tmp_path / "s.npz", made, "adm")
    spatial = whole(rows_of(400, 3, 1)).moments()
    write_statistics(tmp_path / "s.npz", replace(made, spatial=spatial), "adm")
    found = read_statistics(tmp_path / "s.npz")
    assert found.origin == "ADM"
    assert torch.equal(found.moments("inception:spatial").covariance, spatial.covariance)
    assert torch.equal(found.moments("inception").covariance, made.covariance)


def test_peers_read_a_complete_file_of_ours(tmp_path):
    """They take mu and sigma out of a .npz and look at nothing else."""
    made = whole(rows_of())
    write_statistics(tmp_path / "s.npz", made)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["mu"], made.mean.numpy())
        assert np.array_equal(stored["sigma"], made.covariance.numpy())


@pytest.mark.parametrize("joint", ["/", ".", "_"])
def test_edm2_holds_several_instruments(tmp_path, joint):
    a, b = whole(rows_of()).moments(), whole(rows_of(400, 3, 1)).moments()
    arrays = {f"fid{joint}mu": a.mean, f"fid{joint}sigma": a.covariance}
    arrays |= {f"fd_dinov2{joint}mu": b.mean, f"fd_dinov2{joint}sigma": b.covariance}
    found = read_statistics(saved(tmp_path / "s.npz", **{k: v.numpy() for k, v in arrays.items()}))
    assert found.origin == "EDM2"
    assert torch.equal(found.moments("inception:tf1").covariance, a.covariance)
    assert torch.equal(found.moments("dinov2").covariance, b.covariance)
    with pytest.raises(UsageError, match="none for clip"):
        found.moments("clip")


def test_mixed_precisions_are_no_matter(tmp_path):
    """float32 means beside float64 covariances, and the other way round, crash other tools."""
    made = whole(rows_of())
    for i, (first, second) in enumerate(itertools.product(("f4", "f8"), repeat=2)):
        arrays = {"mu": made.mean.numpy().astype(first), "sigma": made.covariance.numpy().astype(second)}
        found = read_statistics(saved(tmp_path / f"{i}.npz", **arrays))
        assert frechet_distance(found.moments(), made.moments()) == pytest.approx(0, abs=1e-5)


def test_clean_fid_keeps_rows_for_kid(tmp_path):
    rows = rows_of()
    found = read_statistics(saved(tmp_path / "s_kid.npz", feats=rows.numpy()))
    assert torch.equal(found.rows, rows)
    assert torch.allclose(found.covariance, torch.cov(rows.double().T), rtol=1e-10)


# ------------------------------------------------------------------------------------- as a source


def test_a_statistics_file_is_a_set_without_samples(tmp_path):
    write_statistics(tmp_path / "cats.npz", whole(rows_of()))
    found = open_samples(tmp_path / "cats.npz", modality="image")
    assert isinstance(found, StatisticsSet) and isinstance(found, SampleSet)
    assert (found.name, len(found), found.modality) == ("cats", N, "image")
    assert found.digest.startswith("sha256:") and found.digest == open_samples(tmp_path / "cats.npz").digest
    assert found.statistics.instrument == {"name": "net", "digest": "sha256:net", "resize": "clean"}
    assert open_samples(tmp_path / "cats.npz", name="dogs").name == "dogs"
    with pytest.raises(UsageError, match="holds no samples"):
        list(found)
    write_statistics(tmp_path / "theirs.npz", whole(rows_of()), "pytorch-fid")
    assert len(open_samples(tmp_path / "theirs.npz")) == 0


def test_images_stay_images(tmp_path):
    path = saved(tmp_path / "i.npz", images=np.zeros((3, 4, 4, 3), np.uint8))
    assert not holds_statistics(path) and len(list(open_samples(path))) == 3

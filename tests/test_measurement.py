"""Measuring: one decode and one forward a sample, rows that do not depend on batches, lack of memory, the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.cache import Cache
from evalkit.errors import BadRows, ModalityMismatch, NothingToEvaluate, RunFailed, UnreadableSample
from evalkit.measurement import Bench, measure
from evalkit.samples import ListedSet
from evalkit.samples.arrays import from_images
from evalkit.types import Sample
from tests.toys import Length, Mean, images, texts


def unreadable(reason: str = "corrupt: by hand") -> Sample:
    def load() -> str:
        raise UnreadableSample(reason)

    return Sample("bad", "00" * 32, load)


def test_rows_are_in_sample_order_and_known_by_hand() -> None:
    black_white = from_images(torch.tensor([[[0]], [[255]], [[51]]], dtype=torch.uint8).numpy(), "x")
    found = measure(black_white, [Mean()], Bench())
    assert found.features["mean"].rows.tolist() == [[0, 0, 0], [1, 1, 1], [pytest.approx(0.2)] * 3]


def test_each_sample_is_decoded_once_for_all_instruments_and_seen_once_by_each() -> None:
    decoded = []

    def counted(sample: Sample) -> Sample:
        return replace(sample, load=lambda: (decoded.append(sample.id), sample.load())[1])

    samples = images(50)
    counting = ListedSet("c", "image", tuple(counted(s) for s in samples))
    first, second = Mean("first"), Mean("second")
    measure(counting, [first, second], Bench(batch_size=8))
    assert sorted(decoded) == sorted(s.id for s in samples)
    assert first.prepared == second.prepared == 50
    assert sum(first.batches) == sum(second.batches) == 50
    assert first.batches == [8] * 6 + [2]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4))
def test_rows_do_not_depend_on_batch_size_or_workers(n: int, batch_size: int, workers: int) -> None:
    samples = images(n)
    wanted = measure(samples, [Mean()], Bench(batch_size=1, workers=1)).features["mean"].rows
    found = measure(samples, [Mean()], Bench(batch_size=batch_size, workers=workers)).features["mean"].rows
    assert torch.allclose(found, wanted, rtol=1e-6)


def test_samples_of_several_shapes_are_batched_by_shape_and_come_back_in_order() -> None:
    small, large = images(5, size=4), images(6, seed=1, size=9)
    mixed = tuple(s for pair in zip(small, large, strict=False) for s in pair)
    instrument = Mean()
    rows = measure(ListedSet("m", "image", mixed), [instrument], Bench(batch_size=4)).features["mean"].rows
    assert torch.allclose(rows[0::2], measure(small, [Mean()], Bench()).features["mean"].rows)
    assert instrument.batches == [4, 4, 1, 1]


def test_memory_that_runs_out_halves_the_batch_for_good() -> None:
    instrument = Mean(limit=10)
    rows = measure(images(70), [instrument], Bench(batch_size=32)).features["mean"].rows
    assert torch.allclose(rows, measure(images(70), [Mean()], Bench()).features["mean"].rows)
    assert max(instrument.batches) <= 10


def test_one_sample_too_large_for_the_device_is_said_in_one_line() -> None:
    with pytest.raises(RunFailed, match="one sample of shape"):
        measure(images(3), [Mean(limit=0)], Bench())


def test_unreadable_samples_are_listed_and_rows_belong_to_the_readable() -> None:
    good = tuple(images(4))
    mixed = ListedSet("m", "image", (good[0], unreadable(), *good[1:]))
    found = measure(mixed, [Mean()], Bench())
    assert [(e.id, e.reason) for e in found.excluded] == [("bad", "corrupt: by hand")]
    assert [s.id for s in found.samples] == [s.id for s in good]
    assert torch.equal(found.features["mean"].rows, measure(images(4), [Mean()], Bench()).features["mean"].rows)


def test_nothing_readable_nan_and_the_other_modality() -> None:
    with pytest.raises(NothingToEvaluate, match="no readable sample among the 2"):
        measure(ListedSet("m", "image", (unreadable(), unreadable())), [Mean()], Bench())
    with pytest.raises(ModalityMismatch, match="mean measures image samples"):
        measure(texts("a", "b"), [Mean()], Bench())  # type: ignore[list-item]

    class Broken(Mean):
        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            return super().__call__(batch) / 0 * 0

    with pytest.raises(BadRows, match="NaN or infinite rows for 3 samples, first 'images-000000'"):
        measure(images(3), [Broken()], Bench())


def test_rows_come_back_by_content_without_decoding(tmp_path: Path) -> None:
    bench = Bench(cache=Cache(tmp_path))
    samples = (*images(4), unreadable("truncated: by hand"))
    first = measure(ListedSet("a", "image", samples), [Mean()], bench)
    again_with = Mean()
    renamed = tuple(replace(s, id=f"other-{i}") for i, s in enumerate(samples))
    again = measure(ListedSet("b", "image", renamed), [again_with], bench)
    assert again_with.prepared == 0
    assert torch.equal(again.features["mean"].rows, first.features["mean"].rows)
    assert [(e.id, e.reason) for e in again.excluded] == [("other-4", "truncated: by hand")]
    measure(ListedSet("c", "image", samples[:3]), [again_with], bench)
    assert again_with.prepared == 3


def test_a_damaged_cache_entry_counts_as_absent(tmp_path: Path) -> None:
    bench = Bench(cache=Cache(tmp_path))
    rows = measure(images(3), [Mean()], bench).features["mean"].rows
    [entry] = (tmp_path / "features").iterdir()
    entry.write_bytes(entry.read_bytes()[:40])
    assert torch.equal(measure(images(3), [Mean()], bench).features["mean"].rows, rows)


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    bench = Bench(cache=Cache(tmp_path))
    measure(images(6), [Mean("first")], bench)
    first, second = Mean("first"), Mean("second")
    found = measure(images(6), [first, second], bench)
    assert (first.prepared, second.prepared) == (0, 6)
    assert set(found.features) == {"first", "second"}


def test_texts_are_measured_the_same_way() -> None:
    found = measure(texts("abc", "de", ""), [Length()], Bench())
    assert found.features["length"].rows.flatten().tolist() == [3, 2]
    assert [e.reason for e in found.excluded] == ["empty text"]

"""What two numbers have in common because they share samples: kept in a record, correlated, read back, refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit import pairing, records
from evalkit.errors import BadRecord
from evalkit.evaluation import Sides, evaluate
from evalkit.measurement import Bench, measure
from evalkit.metrics.detection import area_under_roc
from evalkit.metrics.frechet import fid
from evalkit.metrics.neighbours import neighbour_estimates, prdc
from evalkit.pairing import BUCKETS, THOUSANDTHS, correlation, kept
from evalkit.planning import Task
from evalkit.records import read_record, to_json, write_record
from evalkit.samples import ListedSet
from evalkit.types import Moves, RunRecord, Subject
from tests.test_records import record, result
from tests.toys import Mean, images

BOTH = {"real": "r", "fake": "f", "draws": "d"}


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_share_of_a_side_is_its_sum_of_squares_and_its_parts_are_thousandths_of_the_largest() -> None:
    found = kept({"real": column(2, -1, -1), "fake": column(1, -1)}, BOTH)
    assert found["real"] == Moves("r:3", 0.75, (999, -500, -500))
    assert found["fake"] == Moves("f:2", 0.25, (999, -999))


def test_the_correlation_of_two_numbers_by_hand() -> None:
    a = kept({"real": column(2, -1, -1), "fake": column(1, -1)}, BOTH)
    b = kept({"real": column(0, 3, -3), "fake": column(2, -2)}, BOTH)
    # Covariance: 0 of the real side, 1 * 2 + 1 * 2 of the fake; variances 8 and 26.
    assert correlation(a, b) == pytest.approx(4 / math.sqrt(8 * 26), abs=1e-3)
    assert correlation(a, a) == pytest.approx(1, abs=1e-3)


def test_only_sides_of_one_key_and_size_count() -> None:
    moves = {"real": column(2, -1, -1), "fake": column(1, -1)}
    a = kept(moves, BOTH)
    assert correlation(a, kept(moves, {"real": "r", "fake": "other"})) == pytest.approx(0.75, abs=1e-3)
    assert correlation(a, kept(moves, {"real": "s", "fake": "g"})) == 0
    assert correlation(a, kept({"real": column(1, -1), "fake": column(1, 0, -1)}, BOTH)) == 0
    assert set(kept(moves, {"real": "r"})) == {"real"}
    assert correlation(a, {}) == 0


def test_nothing_is_kept_where_nothing_moves() -> None:
    assert kept(None, BOTH) == {}
    assert kept({"real": torch.zeros(4)}, BOTH) == {}


def test_many_samples_fall_into_buckets_that_say_the_same_to_a_few_hundredths() -> None:
    g = torch.Generator().manual_seed(0)
    shared, a, b = torch.randn(3, 20_000, generator=g).double()
    a, b = a + shared, b + shared
    found = [kept({"real": x}, BOTH) for x in (a, b)]
    assert len(found[0]["real"].parts) == BUCKETS
    assert correlation(*found) == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)), abs=0.15)
    assert correlation(found[0], kept({"real": -a}, BOTH)) == pytest.approx(-1, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=40))
def test_a_correlation_is_symmetric_and_lies_between_minus_one_and_one(pairs: list[tuple[float, float]]) -> None:
    a, b = (kept({"real": column(*side), "fake": column(1, -1)}, BOTH) for side in zip(*pairs, strict=True))
    assert -1 <= correlation(a, b) <= 1
    assert correlation(a, b) == pytest.approx(correlation(b, a))


def delong(real: list[Tensor], fake: list[Tensor]) -> tuple[list[float], list[list[float]]]:
    """AUROCs of two detectors and their covariance, pair by pair as in DeLong et al. 1988, eq. 5 and 6."""
    m, n = len(fake[0]), len(real[0])

    def psi(x: float, y: float) -> float:
        return 1.0 if y < x else 0.5 if y == x else 0.0

    v10 = [[sum(psi(x, y) for y in r) / n for x in f] for r, f in zip(real, fake, strict=True)]
    v01 = [[sum(psi(x, y) for x in f) / m for y in r] for r, f in zip(real, fake, strict=True)]
    areas = [sum(v) / m for v in v10]

    def s(v: list[list[float]], i: int, j: int) -> float:
        pairs = zip(v[i], v[j], strict=True)
        return sum((a - areas[i]) * (b - areas[j]) for a, b in pairs) / (len(v[i]) - 1)

    return areas, [[s(v10, i, j) / m + s(v01, i, j) / n for j in (0, 1)] for i in (0, 1)]


def test_two_detectors_over_the_same_samples_have_delongs_covariance() -> None:
    g = torch.Generator().manual_seed(3)
    real, fake = torch.randn(90, generator=g), 1 + torch.randn(70, generator=g)
    other_real, other_fake = (x + 0.7 * torch.randn(len(x), generator=g) for x in (real, fake))
    # Ties count half on every way to the number.
    sides = [[x.double().mul(8).round() for x in side] for side in ((real, other_real), (fake, other_fake))]
    areas, covariance = delong(*sides)
    found = [area_under_roc(*pair) for pair in zip(*sides, strict=True)]
    assert [e.value for e in found] == pytest.approx(areas)
    for i, e in enumerate(found):
        assert e.moves is not None
        assert sum(float(x.square().sum()) for x in e.moves.values()) == pytest.approx(covariance[i][i])
    expected = covariance[0][1] / math.sqrt(covariance[0][0] * covariance[1][1])
    assert expected > 0.5
    assert correlation(*(kept(e.moves, BOTH) for e in found)) == pytest.approx(expected, abs=2e-3)


# Through an evaluation ------------------------------------------------------------------------------------


def scored(name: str, fake: ListedSet, real: ListedSet) -> RunRecord:
    sides = Sides(*(measure(side, [Mean()], Bench()) for side in (fake, real)))
    tasks = [Task(metric, "mean", None, dict(metric.params)) for metric in (fid, prdc)]
    about = Subject(name, "image", "by hand", len(fake), fake.digest)
    return evaluate(about, sides, tasks, seed=0, bench=Bench())


def correlations(a: RunRecord, b: RunRecord) -> dict[str, float]:
    return {x.name: correlation(x.moves, y.moves) for x, y in zip(a.results, b.results, strict=True)}


def test_subjects_with_one_reference_move_together_and_with_two_they_do_not() -> None:
    real, other = images(80, 1), images(80, 2)
    a, b = images(80, 3, shift=60), images(80, 4, shift=60)
    named = replace(b, samples=tuple(replace(s, id=f"b/{s.id}") for s in b))
    shared = correlations(scored("a", a, real), scored("b", named, real))
    assert shared["fid@mean"] > 0.2
    assert shared["prdc@mean.density"] > 0.2
    assert set(correlations(scored("a", a, real), scored("b", named, other)).values()) == {0.0}


def test_samples_that_only_carry_the_same_names_hardly_move_together() -> None:
    """Two hundred independent samples a side; 0.07 is one standard deviation of chance."""
    real, a, b = images(200, 1), images(200, 3, shift=60), images(200, 4, shift=60)
    [one, other] = (scored(name, fake, real).results[0] for name, fake in (("a", a), ("b", b)))
    assert one.moves["fake"].key == other.moves["fake"].key
    alone = [{"fake": x.moves["fake"]} for x in (one, other)]
    assert abs(correlation(*alone)) < 0.2


def test_halves_of_neighbour_metrics_are_dealt_alike() -> None:
    """Equal generated samples against one reference: the numbers are equal and so is everything that moves them."""
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 120, 8, generator=g).double()
    for part, estimate in neighbour_estimates(real, fake).items():
        own = kept(estimate.moves, BOTH)
        assert set(own) == {"fake" if part in ("precision", "density") else "real", "draws"}
        assert correlation(own, kept(neighbour_estimates(real, fake)[part].moves, BOTH)) == pytest.approx(1, abs=1e-3)


# In a record ----------------------------------------------------------------------------------------------

MOVES = {"real": Moves("sha256:r:3", 0.75, (999, -500, -499)), "draws": Moves("sha256:d:2", 0.25, (1, -999))}


def test_a_record_keeps_moves_and_reads_them_back(tmp_path: Path) -> None:
    whole = record("a", result(moves=MOVES), result("kid@pixels"))
    write_record(whole, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == whole
    body = to_json(whole)
    assert body["results"][0]["moves"]["real"]["parts"] == "999 -500 -499"
    assert "moves" not in body["results"][1]


@pytest.mark.parametrize(
    ("edited", "says"),
    [
        ({"real": {"parts": "999 -500"}}, "'real' have 2 parts; 3 samples have 3"),
        ({"real": {"parts": "999 -500 -499 0"}}, "4 parts"),
        ({"real": {"parts": "999 many -499"}}, "many"),
        ({"real": {"parts": "1e3 0 0"}}, "1e3"),
        ({"real": {"parts": "5000 0 0"}}, "out of range"),
        ({"real": {"parts": None}}, "None"),
        ({"real": {"share": 1.5}}, "out of range"),
        ({"real": {"share": "most"}}, "most"),
        ({"real": {"key": "sha256:r"}}, "invalid literal"),
        ({"real": {"key": "sha256:r:-3"}}, "3 parts"),
    ],
)
def test_edited_moves_are_refused_in_one_line(tmp_path: Path, edited: dict[str, dict[str, object]], says: str) -> None:
    body = to_json(record("a", result(moves=MOVES)))
    body["results"][0]["moves"]["real"].update(edited["real"])
    (tmp_path / "r.json").write_text(json.dumps(body))
    with pytest.raises(BadRecord, match=says) as caught:
        read_record(tmp_path / "r.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("moves", [[], "real", 3, {"real": []}, {"real": {"key": "r:1"}}])
def test_moves_of_another_shape_are_refused(tmp_path: Path, moves: object) -> None:
    body = to_json(record("a", result(moves=MOVES)))
    body["results"][0]["moves"] = moves
    (tmp_path / "r.json").write_text(json.dumps(body))
    with pytest.raises(BadRecord, match="damaged"):
        read_record(tmp_path / "r.json")


def test_records_know_how_much_pairing_keeps() -> None:
    assert (records.MOST_PLACES, records.LARGEST_PART) == (pairing.BUCKETS, THOUSANDTHS)

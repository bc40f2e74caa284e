"""The parity table's claims at small sizes, that it can say no, and what the peer benchmark makes of its readings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks import _peer_distances as distances
from benchmarks import _peer_images as images
from benchmarks import _peer_scores as scores
from benchmarks import peers
from benchmarks._peer_claims import Claim, Difference, apart, rows
from benchmarks._peer_images import Ground
from benchmarks.parity import agreement_table, difference_table
from evalkit.extractors._resize import DIALECTS as RESIZES
from evalkit.metrics.copying import memorization_informed_distance
from evalkit.metrics.frechet import frechet_distance
from evalkit.metrics.inception_score import DIALECTS as SCORES
from evalkit.metrics.kernel import DIALECTS as KERNELS

pytestmark = pytest.mark.filterwarnings("ignore")
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "parity.md"


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Random weights in the layouts of the torch port and of the TorchScript."""
    return Ground(tmp_path_factory.mktemp("ground"))


def met(claims, least):
    """The claims, all of them met, and at least so many."""
    found = list(claims)
    assert [c for c in found if not c.is_met] == []
    assert len(found) >= least
    return found


# the table ---------------------------------------------------------------------------------------------------


def test_apart_by_hand():
    assert apart([1.0, 2.0, 4.0], [1.0, 2.5, 5.0]) == pytest.approx(1 / 5)


def test_a_difference_beyond_its_target_is_not_met_and_neither_is_one_that_is_no_number():
    table = agreement_table([Claim("a", "b", "c", 2e-5, 1e-5), Claim("a", "b", "c", 0.002, 0.01, "grey levels")])
    assert table.splitlines()[2:] == [
        "| a | b | c | 2.0e-05 | 1.0e-05 | no |",
        "| a | b | c | 2.0e-03 grey levels | 1.0e-02 grey levels | yes |",
    ]
    assert not Claim("a", "b", "c", math.nan, 1.0).is_met
    assert difference_table([Difference("a", "1", "2", "1", False)]).endswith("| a | 1 | 2 | 1 | no |")


def test_the_document_has_a_row_for_every_dialect():
    text = DOCUMENT.read_text("utf-8")
    words = [f"inception:{name}" for name in RESIZES] + [f"dialect {name}" for name in KERNELS]
    words += [f"dialect {name}" for name in SCORES if name not in ("", "adm")]
    assert [word for word in words if f"| {word} |" not in text and f"kid, {word} |" not in text] == []


# agreement ---------------------------------------------------------------------------------------------------


def test_frechet():
    found = met(distances.frechet_claims(n=300, d=40), 3)
    assert any("N = 10 < d = 40" in claim.what for claim in found)


def test_kernel():
    met(distances.kernel_claims(n=100, d=16), 2)


def test_cmmd_and_mind():
    met(distances.cmmd_and_mind_claims(n=80), 2)


def test_scores():
    met(scores.score_claims(n=110), 4)


def test_neighbours():
    pytest.importorskip("prdc")
    met(scores.neighbour_claims(n=90, d=8), 1)


def test_mifid_of_fresh_samples():
    met(scores.mifid_claims(n=80, d=6), 1)
    # Near enough to the training rows for the penalty: else it would be FID that was compared.
    train, fresh = rows(80, 6, 0), rows(80, 6, 1, 0.9)
    assert memorization_informed_distance(train, fresh, train).value > 10 * frechet_distance(train, fresh)


def test_ms_ssim():
    met(scores.ms_ssim_claims(images.synthetic(2, 64, 64)), 1)


def test_lpips(ground):
    met(images.lpips_claims(ground), 1)


def test_resizers(ground):
    pytest.importorskip("torch_fidelity")
    pytest.importorskip("pytorch_fid")
    assert {c.ours for c in met(images.resize_claims(ground, ((8, 8), (31, 77), (299, 299))), 4)} == {
        f"inception:{name}" for name in RESIZES
    }


def test_features(ground):
    pytest.importorskip("torch_fidelity")
    found = met(images.feature_claims(ground, n=2, layers=("2048",)), 4)
    assert any("clean-fid" in claim.peer for claim in found)


def test_two_folders_from_files_to_number(ground):
    pytest.importorskip("torch_fidelity")
    met(images.folder_claims(ground, n=8, target=1e-4), 2)


# differences on purpose --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        lambda: distances.frechet_differences(n=32, d=128),
        lambda: distances.kernel_differences(n=400, d=16),
        lambda: distances.cmmd_differences(n=200),
        scores.neighbour_differences,
        lambda: scores.mifid_differences(n=300, copied=15, d=12),
        lambda: scores.ms_ssim_differences(images.synthetic(2, 192, 192)),
    ],
)
def test_a_peer_that_is_wrong_is_shown_to_be(found):
    shown = list(found())
    if not shown:
        pytest.skip("the peer is not installed")
    assert [difference for difference in shown if not difference.is_shown] == []


def test_the_exact_distance_is_that_of_two_lines_by_hand():
    """Two rows a side span a line: variances 2 and 8 along it, means 0 apart, so (sqrt 8 - sqrt 2)^2 = 2."""
    real, fake = torch.tensor([[1.0, 0, 0], [-1, 0, 0]]), torch.tensor([[2.0, 0, 0], [-2, 0, 0]])
    assert distances.exact_frechet(real, fake) == pytest.approx(2)
    assert frechet_distance(real, fake) == pytest.approx(2)


def test_rows_are_no_less_than_0_and_have_a_falling_spectrum():
    spread = torch.linalg.eigvalsh(torch.cov(rows(2000, 16, 0).T)).flip(0)
    assert float(rows(50, 16, 0).min()) == 0
    assert float(spread[0] / spread[-1]) > 4


# the benchmark's readings ------------------------------------------------------------------------------------


def readings(per_image, numbers, whole):
    stages = {stage: {"seconds": per_image / 3} for stage in ("decode", "resize", "forward")}
    return stages | {"numbers at 1000": {"seconds": numbers}, "whole": {"seconds": whole}}


def test_two_thousand_images_are_composed_of_their_stages_and_the_numbers():
    assert peers.composed(readings(0.1, 4.0, 20.0)) == pytest.approx(204)


def test_a_goal_is_met_by_the_composed_ratio():
    by = {"torch-fidelity": readings(0.2, 0.0, 30.0), "evalkit": readings(0.1, 0.0, 20.0)}
    assert list(peers._tool_goals(by)) == [["evalkit", "1.8x", "2.00x", "1.50x", "yes"]]
    by["evalkit"] = readings(0.15, 0.0, 20.0)
    assert next(peers._tool_goals(by))[-1] == "no"


def test_medians_are_taken_stage_by_stage_over_the_repetitions():
    lines = [{"stage": "whole", "seconds": s, "values": {}} for s in (3.0, 1.0, 10.0)]
    assert peers.medians(lines) == {"whole": {"seconds": 3.0}}


def test_the_clock_counts_this_process_and_not_the_wall():
    seconds, found = peers.timed(lambda: sum(range(2_000_000)), "cpu")
    assert found == 1_999_999_000_000 and 0 < seconds < 60

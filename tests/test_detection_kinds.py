"""Detectors that are not simply fitted: published ones, panels behind one plan, those that need a generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit import registry
from evalkit.cache import Cache
from evalkit.detection import HALVES, PUBLISHED, fitted, is_levelled, judge, load_detector, made
from evalkit.errors import UnknownName, UsageError
from evalkit.measurement import Bench
from evalkit.samples.arrays import from_images
from evalkit.types import Matrix, Published, SampleSet

from .data import shared


def photographs(n: int, seed: int, blur: bool = False, side: int = 24) -> SampleSet:
    """Noise with structure, uint8 [n, side, side, 3]; the blurred ones lack its finest detail."""
    rng = np.random.RandomState(seed)
    x = rng.rand(n, side, side, 3)
    x = (x + np.roll(x, 1, 1)) / 2
    if blur:
        x = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2)) / 3
    return from_images((x * 255).astype(np.uint8), f"set{seed}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(cache=Cache(tmp_path / "cache"))


def test_a_panel_is_fitted_and_asked_behind_one_plan(bench: Bench) -> None:
    real, fake = photographs(80, 0, side=40), photographs(80, 1, blur=True, side=48)
    found = judge("panel:spectrum+residual", real, fake, seed=0, bench=bench)
    assert is_levelled(found.detector) and found.detector.members == ("spectrum", "residual")
    assert found.real.rows.shape == (40, 2) and found.fake.rows.shape == (40, 2)
    # One size for both sides, and no word of it in the numbers of a detector that is not a panel.
    assert "40 x 40" in found.fitted_on["rule"] and found.fitted_on["rule"].startswith(HALVES)
    sides = {sample.load().shape for part in (found.real, found.fake) for sample in part.samples}
    assert sides == {(40, 40, 3)}
    value = registry.metrics.get("detectability").fn(found.real.head("panel"), found.fake.head("panel"))
    assert value.value > 0.9 and value.low > 0.8
    alone = judge("spectrum", real, fake, seed=0, bench=bench)
    assert alone.fitted_on["rule"] == HALVES and not is_levelled(alone.detector)


def test_a_reconstructing_detector_gets_a_generator_of_the_other_half_and_both_come_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit.samples.embedded import open_embedded
    from generators.vae import Vae

    quick = tuple(c if c.name != "steps" else type(c)(c.name, 10, c.says, c.low, c.high) for c in Vae.controls)
    monkeypatch.setattr(Vae, "controls", quick)
    whole = tuple(open_embedded("embedded:digits/train"))[:80]
    pixels = np.stack([s.load() for s in whole])
    real, fake = from_images(pixels, "real"), from_images(255 - pixels, "negatives")
    detector = fitted("reconstruction", real, fake, seed=0, bench=bench)
    assert "real n=40" in " ".join(detector.trained_on.split()) or "n=40" in detector.trained_on
    again = fitted("reconstruction", real, fake, seed=0, bench=bench)
    assert again.digest == detector.digest
    folder = next(p.parent for p in bench.cache.root.rglob("reconstructor"))
    loaded = load_detector(folder)
    batch = torch.stack([loaded.prepare(s.load()) for s in fake][:5])
    assert torch.allclose(loaded(batch), detector(batch), atol=1e-5)


def test_a_published_detector_is_not_fitted_and_judges_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(shared("weights", "tiny_ladeda")))
    real, fake = photographs(30, 4, side=40), photographs(25, 5, blur=True, side=40)
    found = judge("tiny_ladeda:wildrf", real, fake, seed=0, bench=bench)
    assert isinstance(found.detector, Published) and found.fitted_on["rule"] == PUBLISHED
    assert len(found.real) == 30 and len(found.fake) == 25
    assert load_detector("tiny_ladeda:wildrf").digest == found.detector.digest
    with pytest.raises(UsageError):
        found.detector.fit(real, fake, seed=0)


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("spectrum", UsageError, "has to be trained first"),
        ("spectrom", UnknownName, "spectrom"),
        ("fingerprint", UsageError, "evalkit attribute"),
        ("provenance", UsageError, "evalkit audit"),
        ("dwtdct", UsageError, "evalkit audit"),
    ],
)
def test_names_that_are_no_detector_to_load_say_what_to_do(place: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as found:
        load_detector(place)
    assert "\n" not in str(found.value)


def test_a_name_that_is_a_folder_too_is_asked_to_say_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    detector = made("residual")
    detector.fit(photographs(20, 0), photographs(20, 1, blur=True), seed=0)
    detector.save(tmp_path / "spectrum")
    with pytest.raises(UsageError, match=r"write \./spectrum for the folder"):
        load_detector("spectrum")
    assert load_detector("./spectrum").name == "residual" and load_detector(Path("spectrum")).name == "residual"


def test_an_attributor_is_no_detector_anywhere(bench: Bench) -> None:
    for act in (
        lambda: made("source_probe"),
        lambda: fitted("fingerprint", *[photographs(30, 0)] * 2, seed=0, bench=bench),
    ):
        with pytest.raises(UsageError, match="which source"):
            act()


def test_a_board_shows_the_members_of_a_panel_and_no_curve_of_it(tmp_path: Path) -> None:
    import evalkit

    sets = {"a": photographs(80, 6, blur=True), "b": photographs(80, 7)}
    board = evalkit.compare(
        [sets["a"], sets["b"]],
        real=photographs(80, 8),
        metrics=["detectability@panel:spectrum+residual"],
        bench=Bench(cache=Cache(tmp_path / "c")),
        out=tmp_path / "out",
    )
    [comparison] = board.comparisons
    [members] = [e for e in comparison.exhibits if isinstance(e, Matrix)]
    assert members.title == "Members of panel:spectrum+residual" and members.columns == ("spectrum", "residual")
    assert not any("ROC" in e.title for e in comparison.exhibits)
    document = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert document["comparisons"][0]["columns"][0]["name"] == "detectability@panel:spectrum+residual"

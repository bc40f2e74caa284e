"""The leak audit: a codec, a quality or a size of one side only is caught; behind one plan nothing is left of it."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from evalkit.cli import run
from evalkit.detection import Lesson, judge
from evalkit.errors import BadSetting, Inconclusive, ModalityMismatch, NothingToEvaluate, TooFewSamples
from evalkit.leakage import conclude, leak, leak_auc, leaks, stratified_auc
from evalkit.measurement import Bench
from evalkit.metrics.detection import area_under_roc
from evalkit.normalising import HIGHEST_QUALITY, Plan, normalised, plan_for
from evalkit.samples import open_samples
from evalkit.samples._headers import read_facts
from evalkit.types import SampleSet, Table

from .toys import images, texts


def scene(seed: int, side: int = 40) -> Image.Image:
    """A smooth picture with grain, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray(np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))


def folder(path: Path, seeds: range, suffix: str = "jpg", side: int = 40, quality: int = 90) -> SampleSet:
    path.mkdir(parents=True)
    for seed in seeds:
        options = {"quality": quality} if suffix == "jpg" else {}
        scene(seed, side).save(path / f"{seed:04d}.{suffix}", **options)  # type: ignore[arg-type]
    return open_samples(path)


# The audit ------------------------------------------------------------------------------------------------------------


def test_two_halves_of_one_source_are_at_chance(tmp_path: Path) -> None:
    real, fake = folder(tmp_path / "a", range(60)), folder(tmp_path / "b", range(100, 160))
    found = leak(real, fake)
    assert found.auc.low <= 0.5 <= found.auc.high
    same = {fact.name: fact.auc for fact in found.facts}
    # Equal facts tie: exactly one half, not the shares of the folds.
    assert same["format"].value == same["width"].value == 0.5
    assert not leaks(real, [fake]).data["over_limit"]


def test_facts_that_say_nothing_are_exactly_at_chance_with_uneven_sides(tmp_path: Path) -> None:
    """Pooled, folds of unequal shares would give under 0.5."""
    real, fake = images(83, size=6), images(31, seed=9, size=6)
    for seed in range(5):
        assert leak(real, fake, seed=seed).auc.value == 0.5


@pytest.mark.parametrize(
    ("suffix", "side", "quality", "told"),
    [("png", 40, 90, "format"), ("jpg", 40, 60, "quality"), ("jpg", 36, 90, "width")],
)
def test_a_difference_of_the_containers_is_caught_and_named(
    tmp_path: Path, suffix: str, side: int, quality: int, told: str
) -> None:
    real = folder(tmp_path / "a", range(40))
    fake = folder(tmp_path / "b", range(40), suffix, side, quality)
    study = leaks(real, [fake])
    [plain] = study.data["fakes"]
    assert plain["auc"] == 1 and plain["low"] > 0.6 and study.data["over_limit"] == ["b"]
    facts = {fact["name"]: fact for fact in plain["facts"]}
    assert facts[told]["auc"] == 1
    assert plain["facts"][0]["auc"] == max(fact["auc"] for fact in plain["facts"])
    assert study.warnings and told in study.warnings[0]
    # By construction: one size, one codec, no files.
    assert plain["normalised"]["auc"] == 0.5


def test_a_partial_leak_has_the_auc_of_its_share(tmp_path: Path) -> None:
    """Half of the fakes PNG, all else JPEG: the format alone orders 1/2 of the pairs and ties the rest: 0.75."""
    real = folder(tmp_path / "a", range(60))
    folder(tmp_path / "b", range(100, 130))
    for seed in range(130, 160):
        scene(seed).save(tmp_path / "b" / f"{seed}.png")
    facts = {fact.name: fact for fact in leak(real, open_samples(tmp_path / "b")).facts}
    assert facts["format"].auc.value == pytest.approx(0.75, abs=1e-9)
    assert facts["format"].fake == "JPEG (50%), PNG (50%)" or facts["format"].fake == "PNG (50%), JPEG (50%)"


def test_the_stratified_auc_is_delongs_where_there_is_one_fold_and_a_mean_over_folds_else() -> None:
    rng = np.random.default_rng(0)
    scores, is_fake = np.round(rng.normal(size=70), 1), np.arange(70) >= 40
    whole = stratified_auc(scores, is_fake, np.zeros(70, np.int64))
    known = area_under_roc(torch.from_numpy(scores[:40]), torch.from_numpy(scores[40:]))
    assert (whole.value, whole.low, whole.high) == pytest.approx((known.value, known.low, known.high), abs=1e-9)
    # A shift of one fold's scores changes nothing within it.
    fold = np.arange(70) % 2
    assert stratified_auc(scores + 5 * fold, is_fake, fold) == stratified_auc(scores, is_fake, fold)
    each = [roc_auc_score(is_fake[fold == k], scores[fold == k]) for k in (0, 1)]
    assert stratified_auc(scores, is_fake, fold).value == pytest.approx(sum(each) / 2, abs=1e-9)


def test_nothing_but_ties_has_the_interval_of_what_was_not_seen() -> None:
    """None of n files differs, so at 97.5 % at most Clopper-Pearson's upper share does, on either side."""
    found = stratified_auc(np.zeros(70), np.arange(70) >= 40, np.arange(70) % 5)
    other = [binomtest(0, n).proportion_ci(0.95, "exact").high for n in (30, 40)]
    assert found.value == 0.5 and found.high == pytest.approx(1 - (1 - other[0]) * (1 - other[1]) / 2)
    assert found.low == pytest.approx(1 - found.high) and found.method == "clopper-pearson"
    study = leaks(images(40), [images(30, seed=1)])
    [plain] = study.data["fakes"]
    assert (plain["low"], plain["high"]) == (found.low, found.high) and plain["low"] < 0.45
    assert "the same in every file of both sides" in study.findings[0] and study.data["over_limit"] == []


def test_only_what_is_one_value_in_every_file_is_called_the_same(tmp_path: Path) -> None:
    """One oblong file of sixty moves no median and is in no leaf: width varies and tells nothing apart."""
    real, _ = folder(tmp_path / "a", range(30)), folder(tmp_path / "b", range(100, 130))
    scene(100, 60).crop((0, 0, 60, 40)).save(tmp_path / "b" / "0100.jpg", quality=90)
    study = leaks(real, [open_samples(tmp_path / "b")])
    [table] = study.exhibits
    assert isinstance(table, Table)
    _, _, rest = table.note.partition("The same in every file: ")
    same, _, tied = rest.partition(". Not the same in every file, yet no help in telling the sides apart: ")
    assert {"format", "height", "progressive"} <= set(same.split(", ")) and not {"width", "aspect"} & set(
        same.split(", ")
    )
    assert set(tied.rstrip(".").split(", ")) == {"width", "aspect"}
    assert "the same in every file of both sides" not in study.findings[0]


def test_files_that_cannot_be_read_are_listed_and_over_one_per_cent_is_inconclusive(tmp_path: Path) -> None:
    real = folder(tmp_path / "a", range(20))
    folder(tmp_path / "b", range(100, 130))
    torn, junk = tmp_path / "b" / "0103.jpg", tmp_path / "b" / "0107.jpg"
    torn.write_bytes(torn.read_bytes()[:-300])
    assert read_facts(torn).width == 40  # its header is whole
    junk.write_bytes(b"no picture")
    study = leaks(real, [open_samples(tmp_path / "b")])
    assert [(name, out.id.rpartition("/")[2]) for name, out in study.excluded] == [("b", "0103.jpg"), ("b", "0107.jpg")]
    assert "truncated" in study.excluded[0][1].reason
    assert study.data["fakes"][0]["n"] == {"real": 20, "fake": 28}
    assert study.data["read"] == [{"set": "a", "n": 20, "unreadable": 0}, {"set": "b", "n": 30, "unreadable": 2}]
    with pytest.raises(Inconclusive, match="2 of 30 samples of 'b' could not be read"):
        conclude(study)
    conclude(leaks(real, [images(20, size=40)]))
    for file in (tmp_path / "b").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(NothingToEvaluate, match="among the 30 of 'b'"):
        leaks(real, [open_samples(tmp_path / "b")])


def test_the_command_writes_what_it_found_and_ends_with_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    folder(tmp_path / "a", range(15), side=16)
    folder(tmp_path / "b", range(100, 115), side=16)
    (tmp_path / "b" / "0100.jpg").write_bytes(b"no picture")
    given = [
        "leaks",
        "--real",
        str(tmp_path / "a"),
        "--fake",
        str(tmp_path / "b"),
        "-o",
        str(tmp_path / "l.json"),
        "-q",
    ]
    assert run(given) == 4
    [out] = json.loads((tmp_path / "l.json").read_text())["excluded"]
    assert out["set"] == "b" and out["id"].endswith("0100.jpg")


def test_one_unreadable_file_of_a_hundred_is_still_an_answer(tmp_path: Path) -> None:
    folder(tmp_path / "a", range(100), side=16)
    next((tmp_path / "a").iterdir()).write_bytes(b"no picture")
    study = leaks(open_samples(tmp_path / "a"), [images(20, size=16)])
    assert len(study.excluded) == 1
    conclude(study)


def test_the_limit_is_held_against_the_lower_end(tmp_path: Path) -> None:
    real, fake = folder(tmp_path / "a", range(12)), folder(tmp_path / "b", range(12), "png")
    found = leak(real, fake)
    assert found.auc.value == 1 and found.auc.low < 0.9
    assert found.is_over(0.6) and not found.is_over(0.9)
    assert leaks(real, [fake], limit=0.9).data["over_limit"] == []


def test_metadata_and_cameras_tell(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker \0"
    (tmp_path / "a").mkdir()
    for seed in range(20):
        scene(seed).save(tmp_path / "a" / f"{seed}.jpg", exif=exif, quality=90, subsampling=0, progressive=True)
    fake = folder(tmp_path / "b", range(20, 40))
    facts = {fact.name: fact for fact in leak(open_samples(tmp_path / "a"), fake).facts}
    for name in ("camera", "EXIF", "subsampling", "progressive"):
        assert facts[name].auc.value == 1, name
    assert facts["camera"].real == "Maker (100%)" and facts["subsampling"].real == "4:4:4 (100%)"


def test_sets_without_files_are_compared_by_size_and_said_so() -> None:
    study = leaks(images(20, size=8), [images(20, seed=1, size=10)])
    assert "no container facts" in study.findings[0] and study.data["fakes"][0]["auc"] == 1
    assert study.data["fakes"][0]["reads"] == "sizes"
    assert "no codec" in study.data["plan"]


def test_leak_auc_beside_a_detector(tmp_path: Path) -> None:
    real, fake = folder(tmp_path / "a", range(15)), folder(tmp_path / "b", range(15), "png")
    found = leak_auc(real, fake, 3)
    assert found is not None and found == leak_auc(real, fake, 3) and found.value == 1
    assert leak_auc(texts("a", "b"), texts("c"), 0) is None
    assert leak_auc(images(9), images(30), 0) is None


def test_what_cannot_be_audited_is_refused_in_words() -> None:
    with pytest.raises(TooFewSamples, match="has 5 readable samples; the audit needs 10"):
        leaks(images(5), [images(20)])
    with pytest.raises(ModalityMismatch, match="holds no images"):
        leaks(texts(*"abcdefghijkl"), [images(20)])
    with pytest.raises(BadSetting, match="limit 1"):
        leaks(images(20), [images(20, seed=1)], limit=1.0)


def test_the_study_is_plain_json(tmp_path: Path) -> None:
    study = leaks(folder(tmp_path / "a", range(12)), [folder(tmp_path / "b", range(12), "png")])
    assert json.loads(json.dumps(study.data, allow_nan=False)) == study.data


def test_header_facts_of_the_container() -> None:
    buffer = io.BytesIO()
    scene(0).save(buffer, "JPEG", quality=80, subsampling="4:2:2", progressive=True, comment=b"hello")
    facts = read_facts(buffer.getvalue())
    assert facts.bytes == len(buffer.getvalue()) and facts.subsampling == "4:2:2" and facts.progressive
    assert "comment" in facts.chunks and not facts.exif and facts.camera == ""
    tables = {q: io.BytesIO() for q in (80, 81)}
    for quality, other in tables.items():
        scene(1).save(other, "JPEG", quality=quality)
    assert read_facts(tables[80].getvalue()).tables == facts.tables != read_facts(tables[81].getvalue()).tables
    grey = io.BytesIO()
    scene(0).convert("L").save(grey, "JPEG")
    assert read_facts(grey.getvalue()).subsampling == "grey"
    png = io.BytesIO()
    scene(0).save(png, "PNG")
    assert read_facts(png.getvalue()).subsampling is None and read_facts(png.getvalue()).tables is None


# Normalising ----------------------------------------------------------------------------------------------------------


def test_the_plan_suits_nine_of_ten_of_every_side(tmp_path: Path) -> None:
    real = folder(tmp_path / "a", range(10), side=64, quality=85)
    fake = folder(tmp_path / "b", range(18), "png", side=48)
    for seed in range(50, 52):  # two of twenty: small enough a share to be left out
        scene(seed, 20).save(tmp_path / "b" / f"{seed}.png")
    fake = open_samples(tmp_path / "b")
    plan = plan_for([real, fake])
    assert plan == Plan(48, 85)
    done = normalised(real, fake)
    assert done.left_out == (0, 2) and "2 of 'b'" in done.words and "JPEG 85 at 4:2:0" in done.words
    assert {s.load().shape for side in (done.real, *done.fakes) for s in side} == {(48, 48, 3)}  # type: ignore[union-attr]
    assert all(s.facts is None for side in (done.real, *done.fakes) for s in side)
    assert plan_for([fake]).quality == HIGHEST_QUALITY
    assert plan_for([fake], side=30, quality=40) == Plan(30, 40)


def test_tiny_images_that_never_were_files_see_no_codec() -> None:
    assert plan_for([images(10, size=8), images(10, size=12)]) == Plan(8, None)
    assert plan_for([images(10, size=32)]) == Plan(32, HIGHEST_QUALITY)
    same = normalised(images(10, size=8), images(10, seed=1, size=8))
    for before, after in zip(images(10, size=8), same.real, strict=True):
        assert np.array_equal(before.load(), after.load())


def test_an_oblong_image_keeps_its_centre() -> None:
    wide = np.zeros((1, 20, 60, 3), np.uint8)
    wide[:, :, 20:40] = 200
    [sample] = normalised(open_samples(np.repeat(wide, 1, axis=0)), plan=Plan(20, None)).real
    assert (np.asarray(sample.load()) == 200).all()


def test_plans_out_of_range_are_refused() -> None:
    with pytest.raises(BadSetting, match="allow 1 to 6 without enlarging"):
        plan_for([images(5)], side=7)
    with pytest.raises(BadSetting, match="quality 0"):
        plan_for([images(5)], quality=0)
    with pytest.raises(ModalityMismatch, match="only images"):
        plan_for([texts("a")])
    with pytest.raises(NothingToEvaluate, match="no image of 9 pixels"):
        normalised(images(5), plan=Plan(9, None))


def test_pixels_that_leak_a_codec_are_alike_behind_the_plan(tmp_path: Path) -> None:
    """PNG fakes and JPEG 60 reals of the same pictures: spectrum tells them apart, and no longer once normalised."""
    sides = {
        (part, kind): folder(tmp_path / part / kind, seeds, kind, quality=60)
        for part, seeds in (("fit", range(80)), ("test", range(100, 180)))
        for kind in ("jpg", "png")
    }

    def auroc(fit: tuple[SampleSet, SampleSet], test: tuple[SampleSet, SampleSet]) -> tuple[float, float]:
        found = judge("spectrum", *test, seed=0, bench=Bench(workers=1), lesson=Lesson(*fit, "given"))
        value = area_under_roc(found.real.rows, found.fake.rows)
        return value.low, value.high

    fit, test = ((sides[part, "jpg"], sides[part, "png"]) for part in ("fit", "test"))
    assert auroc(fit, test)[0] > 0.9
    plan = plan_for([*fit])
    alike = [normalised(real, fake, plan=plan) for real, fake in (fit, test)]
    low, high = auroc(*((one.real, one.fakes[0]) for one in alike))
    assert low <= 0.5 + 0.05 and high >= 0.5 - 0.05
    assert math.isfinite(low)

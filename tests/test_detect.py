"""`evalkit detect` on samples of the user's own: operating points, p-values, verdicts, refusals, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from evalkit.cli import run
from evalkit.errors import BadRows, BadSource, Inconclusive, UsageError
from evalkit.judging import detecting
from evalkit.judging.detecting import detect
from evalkit.judging.operating import SCHEMA
from evalkit.samples import ListedSet, select
from evalkit.samples.arrays import from_images
from tests.conftest import failed, picture

pytestmark = pytest.mark.usefixtures("at_home")


class Brightness:
    """P(fake) is the mean of an image over 255: known by hand."""

    modality, trained_on, threshold, digest, recipe = "image", "", (0.2, 0.8), "toy:brightness", "toy"
    heads: ClassVar = {"p_fake": slice(0, 1)}

    def __init__(self, name="brightness", score=None, members=None, trained_on=""):
        self.name, self.score, self.members, self.trained_on = name, score, members, trained_on
        self.digest = f"toy:{name}{score}{members}"
        if members:
            self.heads = {"p_fake": slice(0, 1), "members": slice(1, 3)}

    def prepare(self, sample):
        return torch.tensor([float(sample.mean()) / 255])

    def to(self, device): ...

    def __call__(self, batch):
        rows = batch if self.score is None else torch.full_like(batch, self.score)
        return torch.cat([rows, torch.tensor([self.members] * len(rows))], dim=1) if self.members else rows


def flat(levels, size=12, name="set", mark=0):
    """One image a level: that level plus a fixed texture of mean 0, two of its pixels tell levels and sets apart."""
    texture = np.random.default_rng(0).integers(-20, 21, (size, size, 3))
    texture -= np.rint(texture.mean(axis=(0, 1))).astype(int)
    images = np.stack([np.clip(level + texture, 0, 255) for level in levels]).astype(np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(images)) % 251, np.arange(len(images)) // 251
    images[:, 0, 1, 0] = mark
    return from_images(images, name)


def levels(n, centre, seed):
    return np.random.default_rng(seed).normal(centre, 15, n).clip(25, 230)


@pytest.fixture
def with_toys(monkeypatch):
    """`detect` with detectors given as objects."""
    monkeypatch.setattr(detecting, "load_detector", lambda judge, **_: judge)


REAL, FAKE = flat(levels(300, 90, 1), name="reals"), flat(levels(100, 170, 2), name="fakes", mark=1)


@pytest.fixture
def media():
    return ListedSet("media", "image", (*flat(levels(60, 90, 3), mark=2), *flat(levels(60, 170, 4), mark=3)))


def truth_of(media: ListedSet) -> str:
    path = Path("truth.csv")
    half = len(media) // 2
    names = [f"s{i}" for i in range(len(media))]
    path.write_text("id,label\n" + "\n".join(f"{n},{'real' if i < half else 'fake'}" for i, n in enumerate(names)))
    return str(path)


def renamed(media):
    from dataclasses import replace

    return ListedSet("media", "image", tuple(replace(s, id=f"s{i}") for i, s in enumerate(media)))


def test_an_operating_point_on_the_users_reals(with_toys, media):
    media = renamed(media)
    found = detect(media, [Brightness()], calibrate=REAL, fpr=0.05)["detectors"][0]
    scores = sorted((float(s.load().mean()) / 255 for s in REAL), reverse=True)
    point = found["operating_point"]
    # 300 reals: the 10th largest keeps 5 % at 95 % confidence (P(Bin(300, 0.05) >= 10) = 0.93 < 0.95 for an 11th).
    assert point["threshold"] == pytest.approx(scores[point["rank"] - 1], abs=1e-6)
    assert point["attained_confidence"] >= 0.95 and point["realised_fpr"]["count"] == point["rank"] - 1
    assert found["threshold"][1] == point["threshold"] and "tpr" not in point
    for sample in found["samples"]:
        beyond = sum(s >= sample["p_fake"] - 1e-7 for s in scores)
        assert sample["p_value"] == pytest.approx((1 + beyond) / 301)
        assert "p_calibrated" not in sample
    above = [s for s in found["samples"] if s["p_fake"] > point["threshold"]]
    assert 50 < len(above) < 65
    # Brightness is also what the toy's images look like: the brightest are unlike any real one.
    taken_back = {s["id"] for s in above if s["novelty_p_value"] < 0.01}
    assert taken_back == {s["id"] for s in above if s["verdict"] == "uncertain"}
    assert all(s["verdict"] in ("synthetic", "uncertain") for s in above)
    average = detect(media, [Brightness()], calibrate=REAL, fpr=0.05, confidence=0)["detectors"][0]
    assert average["operating_point"]["threshold"] < point["threshold"]
    assert average["operating_point"]["rank"] == int(0.05 * 301)


def test_calibrated_probabilities_prevalence_and_numbers(with_toys, media):
    media = renamed(media)
    given = {"calibrate": REAL, "fake": [FAKE], "truth": truth_of(media)}
    found = detect(media, [Brightness()], **given, prevalence=0.01)["detectors"][0]
    results = {r["name"]: r for r in found["results"]}
    parts = {"ece", "brier", "cllr", "aurc"}
    assert {f"{m}@brightness.calibrated" for m in parts} <= set(results)
    assert results["cllr@brightness.calibrated"]["value"] < results["cllr@brightness"]["value"]
    assert results["min_cllr@brightness"]["value"] <= results["cllr@brightness.calibrated"]["value"]
    flagged = [
        [s["p_fake"] > found["threshold"][1] for s in part] for part in (found["samples"][:60], found["samples"][60:])
    ]
    fpr, tpr = (np.mean(part) for part in flagged)
    assert results["ppv@brightness.at_0.01"]["value"] == pytest.approx(0.01 * tpr / (0.01 * tpr + 0.99 * fpr))
    assert "oracle" in results["accuracy@brightness.oracle"]["note"]
    assert set(found["curves"]) == {"roc"} | {
        f"{c}{p}" for c in ("reliability", "risk_coverage") for p in ("", ".calibrated")
    }
    for sample in found["samples"]:
        p, low, high = (sample[k] for k in ("p_calibrated", "p_low", "p_high"))
        assert low <= p <= high and 0 < p < 1
        odds = p / (1 - p) / 99
        assert sample["p_at_prevalence"] == pytest.approx(odds / (1 + odds))
    (ppv,) = found["operating_point"]["ppv"]
    assert ppv["prevalence"] == 0.01 and ppv["low"] <= ppv["value"] <= ppv["high"] < 1.0001
    undeclared = detect(media, [Brightness()], **given)["detectors"][0]["operating_point"]
    assert [p["prevalence"] for p in undeclared["ppv"]] == [0.5, 0.1, 0.01]
    assert "p_at_prevalence" not in undeclared


def test_a_kept_calibration_gives_the_same_answer_and_reads_again_at_another_fpr(with_toys, media):
    file = Path("cal.json")
    given = {"calibrate": REAL, "fake": [FAKE], "method": "isotonic"}
    first = detect(media, [Brightness()], **given, keep_calibration=file)
    assert json.loads(file.read_text())["schema"] == SCHEMA
    assert detect(media, [Brightness()], calibration=file)["detectors"] == first["detectors"]
    other = detect(media, [Brightness()], calibration=file, fpr=0.05)["detectors"][0]["operating_point"]
    assert other["fpr"] == 0.05 and other["method"] == "isotonic"
    assert other["threshold"] < first["detectors"][0]["operating_point"]["threshold"]
    with pytest.raises(UsageError, match="holds no calibration of this other"):
        detect(media, [Brightness("other")], calibration=file)
    body = json.loads(file.read_text())
    body["detectors"][0]["real"]["scores"].pop()
    Path("bad.json").write_text(json.dumps(body))
    with pytest.raises(UsageError, match="damaged"):
        detect(media, [Brightness()], calibration=Path("bad.json"))
    # A judged sample that the thresholds were set on has no p-value and no part in the numbers.
    again = detect(select(REAL, range(30)), [Brightness()], calibration=file, truth="real")["detectors"][0]
    assert all("p_value" not in s and s["in_calibration"] for s in again["samples"]) and not again["results"]


def test_too_few_reals_are_refused_with_the_number_it_takes(with_toys, media):
    few = select(REAL, range(100))
    with pytest.raises(Inconclusive, match=r"100 calibration reals.*at least 299"):
        detect(media, [Brightness()], calibrate=few)
    detect(media, [Brightness()], calibrate=few, confidence=0)
    with pytest.raises(Inconclusive, match="2,995"):
        detect(media, [Brightness()], calibrate=REAL, fpr=0.001)
    with pytest.raises(Inconclusive, match="19 calibration fakes"):
        detect(media, [Brightness()], calibrate=REAL, fake=[select(FAKE, range(19))])


def test_sets_that_overlap(with_toys, media):
    both = ListedSet("both", "image", (*FAKE, REAL.samples[0]))
    with pytest.raises(UsageError, match="both a calibration real and a calibration fake"):
        detect(media, [Brightness()], calibrate=REAL, fake=[both])
    judged = ListedSet("judged", "image", (*media, *REAL.samples[:1]))
    found = detect(judged, [Brightness()], calibrate=REAL)
    assert found["detectors"][0]["operating_point"]["real"]["n"] == 299
    assert any("1 samples that are judged as well" in w for w in found["warnings"])
    copies = ListedSet("copies", "image", (*REAL, *REAL.samples[:7]))
    found = detect(media, [Brightness()], calibrate=copies)
    assert found["detectors"][0]["operating_point"]["real"]["n"] == 300 and "7 copies" in found["warnings"][0]
    with pytest.raises(BadSource, match="was trained on the real calibration set"):
        detect(media, [Brightness(trained_on=f"real {REAL.digest} n=300")], calibrate=REAL)
    found = detect(media, [Brightness(trained_on=f"real {media.digest}")])
    assert any("trained on these very samples" in w for w in found["warnings"])


def test_reasons_reach_the_verdicts(with_toys):
    odd = from_images(np.random.default_rng(5).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8), "noise")
    small = flat([200.0, 60.0], size=9, name="small")
    media = ListedSet("media", "image", (*odd, *small, *flat([122.0], name="usual")))
    found = detect(media, [Brightness()], calibrate=REAL, fpr=0.05)["detectors"][0]["samples"]
    kinds = [[r["kind"] for r in s.get("reasons", ())] for s in found]
    assert all("out_of_distribution" in k for k in kinds[:2]) and all("too_small" in k for k in kinds[2:4])
    assert found[4]["verdict"] == "synthetic" and not kinds[4]
    split = detect(media, [Brightness(members=[0.05, 0.99])])["detectors"][0]
    assert split["reasons"]["members_disagree"] == 5


def test_flips_under_mild_re_encoding(with_toys):
    class Fine(Brightness):
        """Detail of one pixel: what JPEG and resizing take away."""

        def prepare(self, sample):
            steps = np.abs(np.diff(sample.astype(float), axis=1)).mean()
            return torch.tensor([min(1.0, float(steps) / 100)])

    noise = np.random.default_rng(6).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    smooth = np.full((2, 32, 32, 3), 90, np.uint8) + np.arange(2, dtype=np.uint8)[:, None, None, None]
    media = ListedSet("media", "image", (*from_images(noise), *from_images(smooth)))
    for flips in (False, True):
        samples = detect(media, [Fine("fine")], flips=flips)["detectors"][0]["samples"]
        assert [s["verdict"] for s in samples] == ["uncertain" if flips else "synthetic"] * 4 + ["authentic"] * 2
    assert samples[0]["reasons"][0]["kind"] == "flips" and "resize0.9" in samples[0]["reasons"][0]["detail"]
    with pytest.raises(UsageError, match="only images"):

        class Words(Brightness):
            modality = "text"

            def prepare(self, sample):
                return torch.tensor([0.9])

        detect(["one text", "another"], [Words("words")], flips=True)


def test_several_detectors_have_one_verdict_a_file(with_toys, media):
    class Upside(Brightness):
        def prepare(self, sample):
            return 1 - super().prepare(sample)

    found = detect(media, [Brightness(), Upside("upside"), Brightness()])
    assert [d["name"] for d in found["detectors"]] == ["brightness", "upside", "brightness#2"]
    assert len(found["combined"]["samples"]) == len(media)
    for one, two, both in zip(
        *(d["samples"] for d in found["detectors"][:2]), found["combined"]["samples"], strict=True
    ):
        if {one["verdict"], two["verdict"]} == {"synthetic", "authentic"}:
            assert both["verdict"] == "uncertain" and both["reasons"][0]["kind"] == "detectors_disagree"
    same = detect(media, [Brightness(), Brightness("twin")])
    assert same["combined"]["verdicts"] == same["detectors"][0]["verdicts"]


def test_constant_and_broken_scores(with_toys, media):
    with pytest.raises(BadRows, match=r"all 400 calibration samples the score 0\.5"):
        detect(media, [Brightness(score=0.5)], calibrate=REAL, fake=[FAKE])
    with pytest.raises(BadRows, match=r"every sample the score 0\.5"):
        detect(media, [Brightness(score=0.5)], calibrate=REAL)
    found = detect(media, [Brightness(score=0.9)])["detectors"][0]
    assert found["verdicts"] == {"uncertain": 120} and found["reasons"] == {"constant_score": 120}
    with pytest.raises(BadRows, match="NaN"):
        detect(media, [Brightness(score=float("nan"))])


def test_one_class_and_few_samples_say_so(with_toys, media):
    found = detect(media, [Brightness()], calibrate=REAL, fpr=0.05, truth="real")
    names = {r["name"] for r in found["detectors"][0]["results"]}
    assert names == {"fpr@brightness.threshold", "decided@brightness", "wrong@brightness"}
    assert any("0 known to be fake, so no AUROC" in w for w in found["warnings"])
    few = renamed(ListedSet("few", "image", (*media.samples[:9], *media.samples[60:69])))
    found = detect(few, [Brightness()], truth=truth_of(few))
    assert any("only 9 samples" in w for w in found["warnings"])
    assert any("TPR at 5% FPR is not measurable on 9 reals (59 would do)" in w for w in found["warnings"])


def test_a_sample_one_detector_cannot_read_is_uncertain_not_gone(with_toys, media):
    from evalkit.errors import UnreadableSample

    class Picky(Brightness):
        def prepare(self, sample):
            if sample.mean() > 180:
                raise UnreadableSample("too bright for it")
            return super().prepare(sample)

    found = detect(media, [Picky("picky"), Brightness()])
    picky = found["detectors"][0]
    refused = [s for s in picky["samples"] if "p_fake" not in s]
    assert 0 < len(refused) < 60 and len(picky["samples"]) == len(media) == len(found["combined"]["samples"])
    assert all(s["verdict"] == "uncertain" and s["reasons"][0]["kind"] == "not_scored" for s in refused)
    usual = [round(s["p_fake"], 6) for s in found["detectors"][1]["samples"] if s["p_fake"] * 255 <= 180]
    assert [round(s["p_fake"], 6) for s in picky["samples"] if "p_fake" in s] == usual


# ---------------------------------------------------------------------------------------------- the command


@pytest.fixture
def judge(folders: Path) -> Path:
    assert run(["train", "detector", "spectrum", "--real", "real", "--fake", "bad", "--out", "judge", "-q"]) == 0
    for i in range(60):
        picture(folders / "cal" / f"{i}.png", 7000 + i)
        picture(folders / "calf" / f"{i}.png", 8000 + i, shift=50)
    return folders


def test_the_whole_command(judge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [part for suffix in ("json", "csv", "md", "html") for part in ("-o", f"out.{suffix}")]
    calibrated = ["--calibrate", "cal", "--fake", "calf", "--fpr", "0.05"]
    kept = ["--method", "temperature", "--prevalence", "0.1", "--keep-calibration", "cal.json", "--flips"]
    capsys.readouterr()
    code = run(["detect", "good", "--with", "judge", *calibrated, *kept, "--truth", "real", *outputs, "-q"])
    assert code == 0
    shown = capsys.readouterr().out
    assert "FPR <= 0.05 (95% confidence, 60 calibration reals)" in shown and "PPV not measurable" in shown
    document = json.loads(Path("out.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [float(r["p_value"]) for r in rows] == [s["p_value"] for s in document["detectors"][0]["samples"]]
    for name in ("out.md", "out.html"):
        text = Path(name).read_text()
        assert "60 calibration reals" in text and "P at prevalence 0.1" in text and "Samples under spectrum" in text
    assert run(["detect", "good", "--with", "judge", "--calibration", "cal.json", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["detectors"][0]["threshold"] == document["detectors"][0]["threshold"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--calibrate", "cal"], 4, "needs at least 299"),
        (["--fake", "calf"], 2, "--fake needs --calibrate"),
        (["--fpr", "0.05"], 2, "--fpr needs --calibrate"),
        (["--calibrate", "cal", "--fpr", "0.05", "--method", "isotonic"], 2, "--fake SOURCE beside"),
        (["--calibrate", "cal", "--fpr", "1.5"], 2, "between 0 and 1"),
        (["--calibrate", "cal", "--calibration", "x.json"], 2, "not both"),
        (["--calibration", "x.json"], 2, "cannot read calibration file"),
        (["--calibration", "judge/card.json"], 2, "is not a calibration"),
        (["--calibrate", "real", "--fpr", "0.1"], 2, "was trained on the real calibration set"),
        (["--fpr-in-expectation", "--confidence", "0.9"], 2, "one of them"),
        (["-o", "out.xml"], 2, "expected .json .csv .md .html"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(judge: Path, capsys, arguments, code, words) -> None:
    capsys.readouterr()
    found = failed(capsys, ["detect", "good", "--with", "judge", "-q", *arguments])
    assert found[0] == code and words in found[1]

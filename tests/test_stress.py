"""Stress: the threshold, the changes and the suites against numbers known by hand; the commands from end to end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from evalkit import registry
from evalkit.commands.stress import leaks
from evalkit.commands.stress import stress as stress_command
from evalkit.errors import (
    BadSetting,
    EvalkitError,
    ModalityMismatch,
    TooFewSamples,
    UnknownName,
    UnreadableSample,
)
from evalkit.samples import ListedSet
from evalkit.samples.arrays import from_images
from evalkit.stressing.bed import (
    Pair,
    made_bed,
    numbers_against,
    numbers_of,
    proportion,
    threshold_at,
)
from evalkit.stressing.suites import SUITES, holm, stress

from .toys import images, texts


class Rough:
    """P(fake) grows with the mean difference between neighbours; reads nothing under `least` pixels."""

    modality, recipe, threshold, trained_on = "image", "toy", (0.2, 0.8), "nothing"
    heads: Mapping[str, slice] = {"p_fake": slice(0, 1)}

    def __init__(self, name: str = "rough", least: int = 1) -> None:
        self.name, self.digest, self.least = name, f"toy:{name}:{least}", least

    def prepare(self, sample: Any) -> Tensor:
        if min(sample.shape[:2]) < self.least:
            raise UnreadableSample(f"under {self.least} pixels")
        steps = np.abs(np.diff(sample.astype(float), axis=1))
        return torch.tensor([steps.mean() / 255 if steps.size else 0.0], dtype=torch.float32)

    def to(self, device: str) -> None: ...

    def __call__(self, batch: Tensor) -> Tensor:
        return batch

    def fit(self, real: Any, fake: Any, *, seed: int, device: str = "cpu") -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


def grainy(n: int, grain: float, seed: int, size: int = 16, groups: list[str] | None = None) -> ListedSet:
    """n grey images with white noise of this standard deviation, a little more or less in each."""
    rng = np.random.default_rng(seed)
    spread = grain * rng.uniform(0.9, 1.1, (n, 1, 1, 1))
    pixels = np.clip(128 + spread * rng.normal(size=(n, size, size, 3)), 0, 255)
    return from_images(pixels.astype(np.uint8), f"grain{grain:g}", groups)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_the_threshold_is_an_order_statistic() -> None:
    scores = [i / 100 for i in range(100)]
    for fpr in (0.01, 0.05, 0.29, 0.5):
        threshold = threshold_at(scores, fpr)
        assert sum(s > threshold for s in scores) == round(100 * fpr)
    assert threshold_at([0.5] * 20, 0.05) == 0.5  # ties: nobody is flagged
    with pytest.raises(TooFewSamples, match=r"19 real samples; an FPR of 0\.05 needs at least 20"):
        threshold_at([0.0] * 19, 0.05)


def test_clopper_and_pearson_by_hand() -> None:
    """0 of n: 1 - (alpha / 2)^(1 / n)."""
    none = proportion(0, 59)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(1 - 0.025 ** (1 / 59))
    all_of = proportion(10, 10)
    assert all_of.high == 1 and all_of.low == pytest.approx(0.025**0.1)


def scores(n: int, shift: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {f"s{i}": float(x) for i, x in enumerate(np.round(rng.normal(shift, 1, n), 1))}


def test_changes_are_those_of_the_samples_both_have() -> None:
    clean = Pair(scores(60, 0, 0), scores(50, 1, 1))
    changed = Pair(dict(list(scores(60, 0.4, 2).items())[10:]), dict(list(scores(50, 0.8, 3).items())[:40]))
    found = numbers_against(clean, changed, 1.0, seed=0)
    assert found is not None and (found.n_real, found.n_fake) == (50, 40)
    kept = Pair({k: clean.real[k] for k in changed.real}, {k: clean.fake[k] for k in changed.fake})

    def auc(pair: Pair) -> float:
        truth = [0] * len(pair.real) + [1] * len(pair.fake)
        return float(roc_auc_score(truth, [*pair.real.values(), *pair.fake.values()]))

    assert found.auroc.value == pytest.approx(auc(changed))
    assert found.auroc_change is not None and found.tpr_change is not None and found.fpr_change is not None
    assert found.auroc_change.value == pytest.approx(auc(changed) - auc(kept))
    assert found.tpr_change.value == pytest.approx(found.tpr.value - numbers_of(kept, 1.0).tpr.value)
    assert found.fpr_change.value == pytest.approx(found.fpr.value - numbers_of(kept, 1.0).fpr.value)
    assert found.auroc_change.low < found.auroc_change.value < found.auroc_change.high


def test_a_change_that_changes_no_score_is_zero_without_doubt_and_pairing_narrows() -> None:
    clean = Pair(scores(80, 0, 0), scores(80, 1, 1))
    same = numbers_against(clean, clean, 0.5, seed=0)
    assert same is not None and same.auroc_change is not None
    assert (same.auroc_change.low, same.auroc_change.value, same.auroc_change.high) == (0, 0, 0)
    nearly = Pair({k: v + 0.01 * (i % 3) for i, (k, v) in enumerate(clean.real.items())}, clean.fake)
    paired = numbers_against(clean, nearly, 0.5, seed=0)
    assert paired is not None and paired.auroc_change is not None
    assert paired.auroc_change.high - paired.auroc_change.low < 0.2 * (paired.auroc.high - paired.auroc.low)
    assert numbers_against(clean, Pair({}, clean.fake), 0.5, seed=0) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# Suites ---------------------------------------------------------------------------------------------------------------


def test_laundering_names_the_chain_that_hurts() -> None:
    """Grain tells these apart: strong noise on both sides drowns it, a light JPEG hardly touches it."""
    study = stress(
        {"rough": Rough()},
        grainy(40, 2.0, 0),
        {"a": grainy(40, 2.4, 1), "b": grainy(40, 5.0, 2)},
        chains=["jpeg95", "noise", "double_jpeg"],
    )
    data = study.data["suites"]["laundering"]["rough"]
    assert set(data) == {"jpeg95", "noise", "double_jpeg"}
    assert data["noise"]["auroc_change"]["high"] < 0
    assert data["noise"]["fpr"]["value"] == 1 and data["noise"]["n"] == {"real": 40, "fake": 80}
    assert data["noise"]["fakes"]["b"]["auroc"]["value"] > data["noise"]["fakes"]["a"]["auroc"]["value"]
    clean = study.data["clean"]["rough"]
    assert clean["auroc"]["value"] > 0.95 and clean["fpr"]["value"] <= 0.05
    assert any("most false alarms behind noise" in words for words in study.findings)
    assert json.loads(json.dumps(study.data, allow_nan=False)) == study.data
    # At a threshold that is lost, the ranking that is kept is not the first thing to know.
    assert study.findings[0].startswith("rough: most false alarms behind noise: FPR 1.000")
    assert "clean AUROC" in study.findings[-1]
    alarms, table, matrix = study.exhibits
    assert alarms.rows == ("jpeg95", "noise", "double_jpeg") and alarms.cells[1][0].value == 1  # type: ignore[union-attr]
    assert [row[0] for row in table.rows] == ["clean", "jpeg95", "noise", "double_jpeg"]
    assert matrix.columns == ("a", "b") and matrix.rows[0] == "clean"  # type: ignore[union-attr]


def test_real_against_real_stays_at_chance_behind_every_chain() -> None:
    study = stress({"rough": Rough()}, grainy(60, 3.0, 0), {"again": grainy(60, 3.0, 1)}, chains=["jpeg50", "blur"])
    for one in study.data["suites"]["laundering"]["rough"].values():
        assert one["auroc"]["low"] < 0.5 < one["auroc"]["high"]


def test_sizes_fall_and_what_is_too_small_is_said() -> None:
    real, fake = grainy(30, 3.0, 0, size=16), {"f": grainy(30, 3.6, 1, size=16)}
    study = stress({"all": Rough("all"), "some": Rough("some", least=4)}, real, fake, suites=["sizes"])
    data = study.data["suites"]["sizes"]
    assert "under 4 pixels" in data["some"]["1/8"]["why"] and "auroc" in data["all"]["1/8"]
    curves = study.exhibits[0]
    by_name = {line.name: [x for x, _ in line.points] for line in curves.lines}  # type: ignore[union-attr]
    assert by_name == {"all": [2.0, 4.0, 8.0, 16.0], "some": [4.0, 8.0, 16.0], "chance": [2.0, 16.0]}
    assert [line.points[0][1] for line in curves.lines][-1] == 0.5  # type: ignore[union-attr]
    assert study.exhibits[1].title == "False positives against size"
    assert study.exhibits[1].lines[-1].points == ((2.0, 0.05), (16.0, 0.05))  # type: ignore[union-attr]


def test_samples_a_chain_cannot_take_are_left_out_in_words_and_in_pairs() -> None:
    small, large = grainy(25, 2.0, 0, size=8), grainy(30, 2.0, 3, size=16)
    mixed = ListedSet("mixed", "image", (*small.samples, *large.samples))
    study = stress({"rough": Rough()}, mixed, {"f": grainy(30, 3.0, 1)}, chains=["double_jpeg"])
    assert study.data["suites"]["laundering"]["rough"]["double_jpeg"]["n"] == {"real": 30, "fake": 30}
    assert any("25 of 55 of mixed" in words for words in study.warnings)


def test_subgroups_that_are_flagged_more_often_are_named() -> None:
    calm, rough = grainy(100, 2.0, 0, groups=["calm"] * 100), grainy(25, 4.0, 1, groups=["rough"] * 25)
    real = ListedSet("real", "image", (*calm.samples, *rough.samples))
    study = stress({"d": Rough()}, real, {"f": grainy(30, 5.0, 2)}, suites=["subgroups"], fpr=0.1)
    rows = study.data["suites"]["subgroups"]["d"]
    assert [row["group"] for row in rows] == ["rough", "calm"]
    assert rows[0]["fpr"]["value"] == pytest.approx(12 / 25) and rows[1]["fpr"]["value"] == 0
    assert rows[0]["p_holm"] < 1e-6
    assert any("differ: rough" in words for words in study.findings)
    plain = stress({"d": Rough()}, calm, {"f": grainy(30, 5.0, 2)}, suites=["subgroups"])
    assert any("no groups" in words for words in plain.warnings)


def test_windows_are_quarters_of_release() -> None:
    fakes = {"old": grainy(30, 6.0, 1), "older": grainy(30, 6.0, 4), "new": grainy(30, 2.0, 2), "lost": images(30)}
    released = {"old": date(2021, 3, 31), "older": date(2021, 1, 1), "new": date(2024, 10, 1)}
    study = stress({"d": Rough()}, grainy(40, 2.0, 0), fakes, suites=["windows"], released=released)
    rows = study.data["suites"]["windows"]["d"]
    assert [row["window"] for row in rows] == ["2021 Q1", "2024 Q4"]
    assert rows[0]["n"] == {"real": 40, "fake": 60} and rows[0]["auroc"]["value"] == 1
    assert abs(rows[1]["auroc"]["value"] - 0.5) < 0.25
    assert any("no release date of lost" in words for words in study.warnings)
    assert any("hardest window 2024 Q4" in words for words in study.findings)


def test_same_seed_same_study_and_at_most_n() -> None:
    def made() -> Any:
        real, fake = grainy(50, 2.0, 0), {"f": grainy(50, 2.3, 1)}
        return stress({"d": Rough()}, real, fake, chains=["rine_noise"], n=25, seed=3).data

    first = made()
    assert first == made() and first["clean"]["d"]["n"] == {"real": 25, "fake": 25}


def test_ids_that_repeat_are_told_apart() -> None:
    twice = grainy(20, 2.0, 0).samples + grainy(20, 2.5, 9).samples
    real = ListedSet("real", "image", tuple(s.__class__(f"x{i % 20}", s.digest, s.load) for i, s in enumerate(twice)))
    bed, _ = made_bed({"d": Rough()}, real, {"f": grainy(20, 3.0, 1)}, fpr=0.05, bench=stress_bench())
    assert len(bed.clean["d", ""]) == 40


def stress_bench() -> Any:
    from evalkit.measurement import Bench

    return Bench(workers=1)


def test_what_makes_no_sense_is_refused_before_any_work() -> None:
    real, fakes, judges = grainy(30, 2.0, 0), {"f": grainy(30, 3.0, 1)}, {"d": Rough()}
    cases: list[tuple[type[EvalkitError], str, dict[str, Any]]] = [
        (UnknownName, "did you mean 'laundering'", {"suites": ["laundring"]}),
        (UnknownName, "did you mean 'jpeg95'", {"chains": ["jpeg96"]}),
        (BadSetting, "--released NAME", {"suites": ["windows"]}),
        (UnknownName, "released", {"released": {"g": date(2024, 1, 1)}}),
        (BadSetting, "fpr is 0", {"fpr": 0.0}),
        (TooFewSamples, "needs at least 100", {"fpr": 0.01}),
        (BadSetting, "n is 5", {"n": 5}),
        (BadSetting, "no suite", {"suites": []}),
    ]
    for error, match, given in cases:
        with pytest.raises(error, match=match):
            stress(judges, real, fakes, **given)
    with pytest.raises(ModalityMismatch, match="give sets and detectors of one kind"):
        stress(judges, texts(*"abcdefghijklmnopqrstuvwxyz"), fakes)
    with pytest.raises(TooFewSamples, match="give 20"):
        stress(judges, real, {"f": grainy(8, 3.0, 1)})
    assert set(SUITES) >= {"laundering", "sizes", "subgroups", "windows"}


# Commands -------------------------------------------------------------------------------------------------------------


def written(home: Path, name: str, samples: ListedSet, suffix: str = "png") -> str:
    (home / name).mkdir()
    for i, sample in enumerate(samples):
        pixels = sample.load()
        assert not isinstance(pixels, str)
        Image.fromarray(pixels).save(home / name / f"{i:03d}.{suffix}")
    return str(home / name)


def invoke(command: click.Command, *arguments: str) -> Any:
    return CliRunner().invoke(command, [*arguments, "--device", "cpu", "-q"], catch_exceptions=False)


def test_leaks_command_and_its_exit_code(at_home: Path) -> None:
    real = written(at_home, "real", grainy(30, 3.0, 0))
    fake = written(at_home, "fake", grainy(30, 3.0, 1), "jpg")
    same = written(at_home, "same", grainy(30, 3.0, 2))
    out = at_home / "leaks.json"
    found = invoke(leaks, "--real", real, "--fake", fake, "--strict", "-o", str(out))
    assert found.exit_code == 1 and "above the limit" in found.output
    document = json.loads(out.read_text("utf-8"))
    assert document["schema"] == "evalkit.leakage/1" and document["over_limit"] == ["fake"]
    assert invoke(leaks, "--real", real, "--fake", fake).exit_code == 0
    assert invoke(leaks, "--real", real, "--fake", same, "--strict").exit_code == 0


def test_stress_command_writes_a_study(at_home: Path) -> None:
    from detectors.spectrum import Spectrum

    judge = Spectrum()
    judge.fit(grainy(30, 3.0, 5), grainy(30, 5.0, 6), seed=0)
    judge.save(at_home / "judge")
    real, fake = (written(at_home, k, grainy(30, g, s)) for k, g, s in (("real", 3.0, 0), ("x", 5.0, 1)))
    given = [str(at_home / "judge"), "--real", real, "--fake", f"mine={fake}", "--chains", "jpeg50,blur"]
    found = invoke(stress_command, *given, "--suite", "laundering,sizes", "--out", str(at_home / "out"), "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.output)
    assert set(document["suites"]["laundering"]["spectrum"]) == {"jpeg50", "blur"}
    assert document["clean"]["spectrum"]["auroc"]["value"] > 0.95
    assert (at_home / "out" / "index.html").is_file() and (at_home / "out" / "study.csv").is_file()
    assert "mine" in document["suites"]["laundering"]["spectrum"]["blur"]["fakes"]
    assert "study_json" in registry.reports.names()
    assert document["provenance"]["command"].startswith("evalkit")
    for name, content in {"torn": b"\xff\xd8\xff", "other": b"no image"}.items():
        (Path(fake) / f"{name}.png").write_bytes(content)
    (Path(real) / "0.png").write_bytes(b"no image")
    sized = invoke(stress_command, *given, "--suite", "sizes", "-o", str(at_home / "s.md"))
    assert sized.exit_code == 0 and "AUROC against size" in (at_home / "s.md").read_text("utf-8")
    told = [x for x in invoke(stress_command, *given).output.splitlines() if x.startswith("excluded: mine: ")]
    assert [x.split(": ")[2] for x in told] == ["other.png", "torn.png"]
    with pytest.raises(BadSetting, match="expected NAME=YYYY-MM-DD"):
        invoke(stress_command, *given, "--released", "mine=soon")
    with pytest.raises(BadSetting, match="two fake sets are called 'x'"):
        invoke(stress_command, *given[:3], "--fake", fake, "--fake", fake)

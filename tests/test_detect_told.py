"""What `evalkit detect` tells: unreadable inputs, what was left out, PPV, prevalence, its tables and thumbnails."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from evalkit.cli import run
from evalkit.errors import Inconclusive
from evalkit.judging import detecting
from evalkit.judging.detecting import detect
from evalkit.judging.scores import Known, measure_known
from evalkit.judging.study import findings, study_of
from evalkit.samples import ListedSet
from evalkit.tables import detection_table
from evalkit.types import Features, Grid
from tests.conftest import picture
from tests.test_detect import FAKE, REAL, Brightness, flat, levels

pytestmark = pytest.mark.usefixtures("at_home")
TRAINED = "real sha256:" + "ab12" * 16 + " n=300"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Any name given to `--with` is the brightness of an image; detectors given as objects are themselves."""
    monkeypatch.setattr(
        detecting, "load_detector", lambda d, **_: Brightness(trained_on=TRAINED) if isinstance(d, str | Path) else d
    )


def broken(folder: str, n: int) -> None:
    for i in range(n):
        Path(folder, f"broken{i}.png").write_bytes(f"no image {folder} {i}".encode())


@pytest.fixture
def sets(at_home: Path) -> Path:
    for i in range(100):
        picture(at_home / "cal" / f"{i}.png", i)
        picture(at_home / "calf" / f"{i}.png", 1000 + i, shift=50)
        if i < 40:
            picture(at_home / "media" / f"{i}.png", 2000 + i, shift=i)
    return at_home


CALIBRATED = ["--calibrate", "cal", "--fake", "calf", "--fpr", "0.05"]


@pytest.mark.parametrize(
    ("folder", "lost", "n", "option"),
    [("media", 1, 41, "SOURCE"), ("cal", 2, 102, "--calibrate"), ("calf", 2, 102, "--fake")],
)
def test_more_than_one_percent_unreadable_is_inconclusive_after_all_is_written(sets, capsys, folder, lost, n, option):
    broken(folder, lost)
    assert run(["detect", "media", "--with", "toy", *CALIBRATED, "-o", "out.json", "-o", "out.html", "-q"]) == 4
    shown, said = capsys.readouterr()
    words = f"{option} {folder!r}: {lost} of {n} samples could not be read"
    assert words in said and len(said.strip().splitlines()) == 1
    assert f"warning: {words}" in shown and Path("out.html").exists()
    document = json.loads(Path("out.json").read_text())
    assert document["inconclusive"][0].startswith(words) and document["warnings"][0].startswith(words)
    found = detect("media", ["toy"], calibrate="cal", fake=["calf"], fpr=0.05)
    assert found["inconclusive"] == document["inconclusive"]


def test_one_percent_unreadable_is_not_more_than_one_percent(sets, capsys):
    Path("cal/0.png").write_bytes(b"no image")
    assert run(["detect", "media", "--with", "toy", *CALIBRATED, "--json", "-q"]) == 0
    assert "inconclusive" not in json.loads(capsys.readouterr().out)


def test_too_few_reals_say_what_became_of_the_others(sets):
    broken("cal", 3)
    picture(Path("cal/again.png"), 5)
    for i in range(50):
        Path(f"media/cal{i}.png").write_bytes(Path(f"cal/{i}.png").read_bytes())
    words = (
        r"53 calibration reals.*at least 59.*of the 104 of 'cal' 51 .*judged as well, 0 .*copies.*3 could not be read"
    )
    with pytest.raises(Inconclusive, match=words):
        detect("media", ["toy"], calibrate="cal", fpr=0.05)
    with pytest.raises(Inconclusive, match="all 104 of them are judged as well"):
        detect("cal", ["toy"], calibrate="cal", fpr=0.05)


def test_an_orientation_is_named_only_where_its_interval_says_so():
    def said(fakes):
        return [w for w in detect(media, [Brightness()], calibrate=REAL, fake=[fakes])["warnings"] if "fakes" in w]

    media = flat([100.0, 120.0], mark=9)
    assert said(FAKE) == []
    (wrong,) = said(flat(levels(60, 60, 5), mark=4))
    assert "less fake than the reals (AUROC 0.0" in wrong and "mislead" in wrong
    # A median a little under that of the reals proves nothing.
    (unsure,) = said(flat(levels(40, 89, 6), mark=5))
    assert "does not tell the calibration fakes from the reals (AUROC" in unsure and "mislead" not in unsure


def known(real, fake, threshold):
    sides = [torch.tensor(side, dtype=torch.float64) for side in (real, fake)]
    rows = tuple(Features(s[:, None].float(), "toy", flat([90.0] * len(s)), {"p_fake": slice(0, 1)}) for s in sides)
    return Known("toy", *sides, None, None, [], threshold, rows, (0.1,))


def test_the_ppv_of_a_tpr_is_at_the_expected_fpr_and_nothing_flagged_has_none():
    real = [i / 200 for i in range(100)]
    warnings: list[str] = []
    told = known(real, [0.9] * 15 + [0.0] * 5, 0.5)
    measure_known(told, warnings)
    results = {r["name"]: r for r in told.results}
    # At 5 % of 100 reals the threshold is the sixth from the top: 6 / 101. PPV = 0.1 TPR / (0.1 TPR + 0.9 FPR).
    worth = 0.1 * 0.75 / (0.1 * 0.75 + 0.9 * 6 / 101)
    note = results["tpr_at_fpr@toy"]["note"]
    assert f"PPV {worth:.3g} at 0.1 prevalence, at the expected FPR r / (n + 1) = 6 / 101" in note
    assert results["ppv@toy.at_0.1"]["value"] == 1 and not warnings
    silent = known(real, [0.0] * 20, 0.95)
    measure_known(silent, warnings)
    assert not [r for r in silent.results if r["name"].startswith("ppv")]
    assert any("nothing of known truth was flagged, so its PPV is not measurable" in w for w in warnings)
    assert "PPV is not measurable" in next(r["note"] for r in silent.results if r["name"] == "tpr_at_fpr@toy")


def test_a_calibration_that_flags_nothing_has_no_ppv():
    given = {"calibrate": REAL, "fake": [flat(levels(30, 60, 7), mark=6)]}
    # The highest of 300 reals is the threshold at 1 % with 95 % confidence: no real lies above it.
    point = detect(flat([100.0]), [Brightness()], **given)["detectors"][0]["operating_point"]
    assert point["rank"] == 1 and point["tpr"]["count"] == 0
    assert point["ppv"] == [] and "not measurable" in point["ppv_note"]


def test_prevalence_has_its_own_column_everywhere(sets, capsys):
    outputs = [part for suffix in ("json", "csv", "md", "html") for part in ("-o", f"out.{suffix}")]
    assert run(["detect", "media", "--with", "toy", *CALIBRATED, "--prevalence", "0.02", *outputs, "-q"]) == 0
    texts = [capsys.readouterr().out, Path("out.md").read_text(), Path("out.html").read_text()]
    samples = json.loads(Path("out.json").read_text())["detectors"][0]["samples"]
    top = max(samples, key=lambda s: s["p_fake"])
    for text in texts:
        assert "P at prevalence 0.02" in text and "calibrated, even odds" in text
        assert f"{top['p_at_prevalence']:.4g}" in text and f"{top['p_calibrated']:.4g}" in text
    for row, sample in zip(csv.DictReader(Path("out.csv").read_text().splitlines()), samples, strict=True):
        for key in ("p_calibrated", "p_low", "p_high", "p_at_prevalence"):
            assert float(row[key]) == sample[key]


def test_the_terminal_shortens_digests_and_does_not_set_a_count_against_the_promise(sets, capsys):
    assert run(["detect", "media", "--with", "toy", *CALIBRATED, "-o", "out.json", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "sha256:ab12ab12ab12 n=300" in shown and not re.search("[0-9a-f]{13}", shown)
    assert TRAINED in Path("out.json").read_text()
    line = next(line for line in shown.splitlines() if "FPR <= 0.05" in line)
    assert "the promise comes from the rank" in line and "[" not in line
    assert "10 of 40 samples by P(fake)" in shown


def test_an_unknown_rate_of_false_alarms_is_not_claimed_beside_a_measured_one():
    media = flat(levels(30, 90, 8))
    assert any("unknown" in line for line in findings(detect(media, [Brightness()])))
    measured = " ".join(findings(detect(media, [Brightness()], truth="real")))
    assert "unknown" not in measured and "of the 30 judged samples known to be real" in measured
    assert any("unknown" in line for line in findings(detect(media, [Brightness()], truth="fake")))


def test_tables_shorten_what_the_json_says_in_full_and_thumbnails_are_of_the_highest():
    media = ListedSet("media", "image", tuple(flat(range(60, 200, 7))))
    document = detect(media, [Brightness()])
    listed = {s["id"]: s for s in document["detectors"][0]["samples"]}
    (table,) = (e for e in study_of(document).exhibits if e.title.startswith("Samples"))
    between = [row for row in table.rows if row[1] == "uncertain"]
    assert between and all(row[-1] == "between the thresholds" for row in between)
    assert all("lies between the thresholds 0.2 and 0.8" in listed[row[0]]["reasons"][0]["detail"] for row in between)
    assert table.header == ("sample", "verdict", "P(fake)", "reasons")
    shown = detecting._pictures(document, media)
    (grid,) = (e for e in study_of(document, pictures=shown).exhibits if isinstance(e, Grid))
    ((name, thumbnails),) = grid.lines
    assert name == "brightness" and len(thumbnails) == 12
    assert [t.alt.split(":")[0] for t in thumbnails] == [row[0] for row in table.rows[:12]]
    assert all(t.uri.startswith("data:image/png;base64,") for t in thumbnails)


def test_counts_of_reasons_may_be_more_than_samples_and_the_table_says_so():
    judged = {"name": "toy", "threshold": (0.2, 0.8), "trained_on": "", "samples": [], "results": []}
    judged |= {"verdicts": {"uncertain": 2}, "reasons": {"too_short": 2, "unlike_the_reals": 1}}
    found = {"source": {"name": "essays", "n": 2}, "detectors": [judged], "excluded": [], "warnings": []}
    line = next(line for line in detection_table(found, {}).splitlines() if "because of" in line)
    assert line.strip() == ("uncertain because of: 2 too short, 1 unlike the reals (a sample may have several reasons)")

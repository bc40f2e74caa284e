"""What a detector is trained on is looked at: too few, unreadable, on both sides, or nothing to tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.cli import run
from evalkit.errors import BadSource, Inconclusive, TooFewSamples
from evalkit.measurement import Bench
from evalkit.samples.arrays import from_texts
from evalkit.verbs import train, trained

from .toys import images

BENCH = Bench(workers=1)


def pictures(folder: Path, seeds: range, shift: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        values = np.random.default_rng(seed).integers(0, 200, (16, 16, 3)) + shift
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{seed:03d}.png")
    return folder


def cut(folder: Path, n: int) -> None:
    """The first n files end halfway: their headers still read."""
    for file in sorted(folder.iterdir())[:n]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_fewer_than_twenty_readable_samples_a_side_are_refused(tmp_path: Path) -> None:
    many, few = images(20, size=16), images(19, seed=5, size=16)
    for real, fake, role in ((few, many, "real"), (many, few, "fake")):
        with pytest.raises(TooFewSamples, match=f"from 20 {role} samples or more; .* has 19 readable of 19"):
            train("detector", "spectrum", out=tmp_path / "m", real=real, fake=[fake], bench=BENCH)
    folder = pictures(tmp_path / "fake", range(22))
    cut(folder, 3)
    with pytest.raises(TooFewSamples, match="has 19 readable of 22"):
        train("detector", "spectrum", out=tmp_path / "m", real=many, fake=[folder], bench=BENCH)
    cut(folder, 22)
    with pytest.raises(TooFewSamples, match="no readable sample among the 22"):
        train("detector", "spectrum", out=tmp_path / "m", real=many, fake=[folder], bench=BENCH)
    assert not (tmp_path / "m").exists()
    train("detector", "spectrum", out=tmp_path / "m", real=many, fake=[images(20, seed=5, size=16)], bench=BENCH)
    assert (tmp_path / "m" / "card.json").is_file()


def test_a_sample_on_both_sides_is_refused_by_content_and_named(tmp_path: Path) -> None:
    real, fake = pictures(tmp_path / "real", range(30)), pictures(tmp_path / "fake", range(100, 130), 50)
    for seed in (3, 4):
        (fake / f"copy{seed}.png").write_bytes((real / f"00{seed}.png").read_bytes())
    with pytest.raises(BadSource) as caught:
        train("detector", "spectrum", out=tmp_path / "m", real=real, fake=[fake], bench=BENCH)
    said = str(caught.value)
    assert "2 of the 32 fake samples" in said and "copy3.png" in said and "'003.png'" in said and "\n" not in said


def test_unreadable_samples_are_said_and_over_one_per_cent_is_inconclusive(tmp_path: Path) -> None:
    real, fake = pictures(tmp_path / "real", range(25)), pictures(tmp_path / "fake", range(100, 125), 50)
    whole = trained("detector", "spectrum", out=tmp_path / "a", real=real, fake=[fake], bench=BENCH)
    assert whole.warnings == () and whole.inconclusive == ""
    whole.conclude()
    cut(fake, 2)
    torn = trained("detector", "spectrum", out=tmp_path / "b", real=real, fake=[fake], bench=BENCH)
    assert torn.warnings[0].startswith("2 of 25 fake samples could not be read and were left out (first: ")
    assert (tmp_path / "b" / "card.json").is_file()
    with pytest.raises(Inconclusive, match="2 of 25 fake samples could not be read"):
        torn.conclude()


def test_one_unreadable_image_in_more_than_a_hundred_is_only_said(tmp_path: Path) -> None:
    fake = pictures(tmp_path / "fake", range(100, 201), 50)
    cut(fake, 1)
    done = trained("detector", "spectrum", out=tmp_path / "m", real=images(30, size=16), fake=[fake], bench=BENCH)
    assert done.warnings[0].startswith("1 of 101 fake samples") and done.inconclusive == ""


def test_a_detector_that_gives_one_score_to_all_it_learnt_from_is_said_to(tmp_path: Path) -> None:
    """Flat grey images of any level have one and the same spectrum: zero."""
    grey = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None, None], 16, 1).repeat(16, 2).repeat(3, 3)
    done = trained("detector", "spectrum", out=tmp_path / "m", real=grey[:30], fake=[grey[30:]], bench=BENCH)
    assert len(done.warnings) == 1 and "to all of 60 samples it learnt from; do not use it" in done.warnings[0]


def test_texts_are_looked_at_too(tmp_path: Path) -> None:
    real = from_texts([f"the cat number {i} sat on the mat" for i in range(25)])
    with pytest.raises(TooFewSamples, match="has 12 readable of 12"):
        few = from_texts([f"xq zz {i}" for i in range(12)])
        train("detector", "ngram_lr", out=tmp_path / "m", real=real, fake=[few], bench=BENCH)
    with pytest.raises(BadSource, match="1 of the 25 fake samples are"):
        copied = from_texts(["the cat number 7 sat on the mat", *(f"xq zz {i}" for i in range(24))])
        train("detector", "ngram_lr", out=tmp_path / "m", real=real, fake=[copied], bench=BENCH)


def test_the_command_says_what_was_left_out_and_ends_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    pictures(Path("real"), range(25))
    cut(pictures(Path("fake"), range(100, 130), 50), 3)
    code = run(["train", "detector", "spectrum", "--real", "real", "--fake", "fake", "--out", "m", "-q"])
    out, err = capsys.readouterr()
    assert code == 4 and Path("m/card.json").is_file() and out.strip() == "m/card.json"
    assert "warning: 3 of 30 fake samples could not be read and were left out" in err
    assert "do not act on it" in err

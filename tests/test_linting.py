"""Linting: each thing that can move a number without being about the model gets its line, and clean sets get none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from evalkit.linting import _differ, lint
from evalkit.samples import ListedSet, open_samples, select
from evalkit.samples._set import loaded
from evalkit.types import Sample, SampleSet
from tests.data import shared


def pixels(seed: int, size: tuple[int, int] = (40, 40)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def folder(
    path: Path, n: int = 40, first: int = 0, suffix: str = ".png", size: tuple[int, int] = (40, 40), **options: Any
) -> Path:
    """n images of noise with seeds from `first` on."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        Image.fromarray(pixels(i, size)).save(path / f"{i:04d}{suffix}", **options)
    return path


def linted(real: Path | SampleSet, fake: Path | SampleSet, train: Path | SampleSet | None = None) -> dict[str, str]:
    """code -> line; fails when a code comes twice or a line has no code."""
    found = lint(open_samples(real), open_samples(fake), None if train is None else open_samples(train))
    codes = [re.fullmatch(r"lint ([a-z]+): .*", line) for line in found]
    assert all(codes), found
    by_code = {m[1]: line for m, line in zip(codes, found, strict=True) if m}
    assert len(by_code) == len(found), found
    return by_code


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return folder(tmp_path / "real")


def test_clean_sets_have_nothing_to_say(real: Path, tmp_path: Path) -> None:
    assert linted(real, folder(tmp_path / "fake", first=100), folder(tmp_path / "train", first=200)) == {}


def test_codecs_that_differ(real: Path, tmp_path: Path) -> None:
    found = linted(folder(tmp_path / "jpegs", suffix=".jpg"), folder(tmp_path / "fake", first=100))
    assert list(found) == ["codec"]
    assert "real images are JPEG (40 of 40), fake ones PNG (40 of 40)" in found["codec"]
    assert "0000.jpg" in found["codec"]
    folder(tmp_path / "mixed", 30, first=300)
    folder(tmp_path / "mixed", 10, first=400, suffix=".webp")
    assert "fake ones PNG (30 of 40), WEBP (10 of 40)" in linted(real, tmp_path / "mixed")["codec"]


def test_jpeg_qualities_that_differ_in_middle_or_in_spread(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", suffix=".jpg", quality=95)
    low = linted(real, folder(tmp_path / "low", first=100, suffix=".jpg", quality=75))
    assert list(low) == ["quality"]
    assert "95 (95 to 95) in the 40 real JPEGs and 75 (75 to 75) in the 40 fake ones" in low["quality"]
    for i, quality in enumerate((70, 95, 95, 95, 100)):
        folder(tmp_path / "wide", 8, first=200 + 8 * i, suffix=".jpg", quality=quality)
    assert "95 (70 to 100)" in linted(real, tmp_path / "wide")["quality"]
    assert linted(real, folder(tmp_path / "same", first=300, suffix=".jpg", quality=95)) == {}


def test_sizes_and_shapes_that_differ(real: Path, tmp_path: Path) -> None:
    found = linted(real, folder(tmp_path / "large", first=100, size=(80, 80)))
    assert list(found) == ["size"]
    assert "mostly 40x40 (40 of 40), fake ones 80x80 (40 of 40)" in found["size"]
    wide = linted(real, folder(tmp_path / "wide", first=200, size=(50, 32)))
    assert set(wide) == {"size", "aspect"}
    assert "0 of 40 real images are not square and 40 of 40 fake images" in wide["aspect"]


def test_sizes_mixed_inside_a_side(real: Path, tmp_path: Path) -> None:
    folder(tmp_path / "fake", 30, first=100)
    folder(tmp_path / "fake", 6, first=200, size=(60, 40))
    found = linted(real, tmp_path / "fake")
    assert "fake images have 2 sizes from 40x40 to 60x40, aspects 1.00 to 1.50" in found["resolution"]
    assert "only 30 of 36 fake images are 40x40 (not so '0200.png')" in found["resolution"]


def test_copies_inside_a_side_and_between_sides(real: Path, tmp_path: Path) -> None:
    fake = folder(tmp_path / "fake", first=100)
    train = folder(tmp_path / "train", first=200)
    for i in range(3):
        (fake / f"again-{i}.png").write_bytes((fake / "0107.png").read_bytes())
    (fake / "stolen.png").write_bytes((real / "0003.png").read_bytes())
    found = lint(open_samples(real), open_samples(fake))
    assert len(found) == 2
    assert found[0].startswith("lint duplicates: 3 of 44 fake images are exact copies of others (most often '0107.png'")
    assert found[1].startswith(
        "lint copies: 1 of 44 fake images are exact copies of real ones (for example 'stolen.png'"
    )
    assert "of '0003.png'" in found[1]
    (fake / "learnt.png").write_bytes((train / "0200.png").read_bytes())
    assert "of training ones" in lint(None, open_samples(fake), open_samples(train))[1]


def test_one_image_repeated(real: Path, tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    for i in range(40):
        Image.fromarray(pixels(100)).save(tmp_path / "fake" / f"{i}.png")
    assert "all 40 fake images are copies of one ('0.png')" in linted(real, tmp_path / "fake")["repeated"]


def saved(path: Path, odd: Image.Image, name: str, **options: Any) -> Path:
    folder(path, first=100)
    odd.save(path / name, **options)
    return path


def test_odd_images_are_counted_and_named(real: Path, tmp_path: Path) -> None:
    plain, more = Image.fromarray(pixels(999)), [Image.fromarray(pixels(998))]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 3
    deep = Image.fromarray(pixels(5)[..., 0].astype(np.uint16) * 257)
    odd: Sequence[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("alpha", plain.convert("RGBA"), "odd.png", {}),
        ("depth", deep, "odd.png", {}),
        ("mode", plain.convert("P"), "odd.png", {}),
        ("profile", plain, "odd.png", {"icc_profile": profile}),
        ("orientation", plain, "odd.png", {"exif": exif}),
        ("animated", plain, "odd.png", {"save_all": True, "append_images": more}),
    ]
    for code, image, name, options in odd:
        found = linted(real, saved(tmp_path / code, image, name, **options))
        assert list(found) == [code]
        assert f"lint {code}: 1 of 41 fake images" in found[code] and "(for example 'odd.png')" in found[code]


def test_a_turned_tiff_is_fine_because_it_is_turned_on_decoding(real: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    found = linted(real, saved(tmp_path / "fake", Image.fromarray(pixels(7)), "odd.tif", exif=exif))
    assert "orientation" not in found


def test_grey_images_stored_in_colour_on_one_side(real: Path, tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    for i in range(40):
        grey = pixels(100 + i)[..., :1].repeat(3, axis=2)
        Image.fromarray(grey).save(tmp_path / "fake" / f"{i:02d}.png")
    found = linted(real, tmp_path / "fake")
    assert list(found) == ["grey"]
    assert "0 of 40 real images hold no colour and 40 of 40 fake images (for example '00.png')" in found["grey"]
    assert linted(tmp_path / "fake", folder(tmp_path / "more", first=300))["grey"].count("'00.png'") == 1


def test_small_images_and_sets_without_headers(tmp_path: Path) -> None:
    small = np.stack([pixels(i, (16, 16)) for i in range(300)])
    found = linted(open_samples(small[:150]), open_samples(small[150:]))
    assert list(found) == ["small"]
    assert "150 of 150 real images and 150 of 150 fake images have an edge under 32 pixels" in found["small"]
    assert "where a network made for 224 or more is used" in found["small"]
    # 200 of the 300 are looked at, because only pixels tell the size.
    assert "200 of the 200 real images looked at" in linted(open_samples(small), folder(tmp_path / "f", 5))["small"]


def grouped(counts: dict[str, int], salt: str) -> ListedSet:
    names = [(group, i) for group, n in counts.items() for i in range(n)]
    samples = (Sample(f"{g}-{i}", f"{salt}{k:063x}"[-64:], loaded("x"), g) for k, (g, i) in enumerate(names))
    return ListedSet("s", "text", tuple(samples))


def test_groups_with_very_different_shares() -> None:
    found = linted(grouped({"cat": 500, "dog": 500}, "a"), grouped({"cat": 100, "dog": 900}, "b"))
    assert "1 of 2 groups have very different shares, most of all 'cat': 500 of 1,000 real" in found["groups"]
    assert "100 of 1,000 fake" in found["groups"]
    lone = linted(grouped({"cat": 500, "dog": 500}, "a"), grouped({"cat": 600}, "b"))
    assert "1 of 2 groups of the real texts have no fake one (for example 'dog')" in lone["groups"]
    assert linted(grouped({"photos": 500}, "a"), grouped({"made": 500}, "b")) == {}


@pytest.mark.parametrize("k", [2, 20, 200])
def test_groups_drawn_from_one_distribution_are_not_called_uneven(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(10):
        p = rng.dirichlet(np.full(k, 5.0))
        counts = [{f"g{i:03d}": int(c) for i, c in enumerate(rng.multinomial(2000, p))} for _ in range(2)]
        found = lint(grouped(counts[0], "a"), grouped(counts[1], "b"))
        assert not [line for line in found if "very different" in line]


def test_shares_differ_only_beyond_chance_and_beyond_what_matters() -> None:
    assert _differ(50, 100, 90, 100)
    assert not _differ(5, 10, 8, 10)  # 0.5 and 0.8, of ten each: chance
    assert not _differ(50_000, 100_000, 53_000, 100_000)  # certain, and not worth a line
    assert not _differ(0, 10, 0, 10)


def test_at_most_so_many_are_looked_at_by_seed_and_the_line_says_so(real: Path, tmp_path: Path) -> None:
    fake = open_samples(folder(tmp_path / "fake", first=100, suffix=".jpg"))
    [line] = lint(open_samples(real), fake, most=10, seed=3)
    assert "real images are PNG (10 of 10), fake ones JPEG (10 of 10)" in line
    assert lint(open_samples(real), fake, most=10, seed=3) == (line,)
    alpha = saved(tmp_path / "alpha", Image.new("RGBA", (40, 40)), "odd.png")
    every = open_samples(alpha)
    only = select(every, [i for i, s in enumerate(every) if s.id == "odd.png"])
    assert "1 of 1 fake images have an alpha channel" in lint(None, only)[0]
    lines = [lint(None, every, most=30, seed=s) for s in range(12)]
    said = [found[0] for found in lines if found]
    assert 0 < len(said) < 12 and all("1 of the 30 fake images looked at have an alpha" in line for line in said)


def test_unreadable_files_are_left_to_the_measurement(real: Path, tmp_path: Path) -> None:
    fake = folder(tmp_path / "fake", first=100)
    (fake / "broken.png").write_bytes(b"not an image")
    assert linted(real, fake) == {}


def test_a_statistics_file_has_no_samples_to_look_at(real: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    fake = saved(tmp_path / "fake", Image.new("RGBA", (40, 40)), "odd.png")
    assert list(linted(tmp_path / "stats.npz", fake)) == ["alpha"]


def test_texts_get_what_can_be_known_of_them() -> None:
    found = lint(open_samples(["a", "b", "c"]), open_samples(["c", "d", "d"]))
    assert [line.split(":")[0] for line in found] == ["lint duplicates", "lint copies"]
    assert "1 of 3 fake texts are exact copies of real ones" in found[1]


def test_real_photographs_are_clean_and_another_data_set_is_not() -> None:
    faces = shared("data", "image", "faces")
    assert linted(faces / "real", faces / "fake") == {}
    found = linted(faces / "real", shared("data", "image", "cifar10_subset"))
    assert set(found) == {"quality", "size"}

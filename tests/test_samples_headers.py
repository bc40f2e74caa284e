"""Headers and pixels of odd images: what the header says without decoding, and what the decoder makes of each kind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from evalkit.errors import UnreadableSample
from evalkit.samples import open_samples
from evalkit.samples._headers import jpeg_quality, read_facts
from evalkit.samples._media import decode_image
from evalkit.types import MediaFacts


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def facts(image: Image.Image, kind: str, **options: Any) -> MediaFacts:
    return read_facts(encoded(image, kind, **options))


def noise(size: tuple[int, int] = (40, 24)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Headers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", range(1, 101))
def test_jpeg_quality_is_the_one_it_was_saved_with(quality: int) -> None:
    assert facts(noise(), "JPEG", quality=quality).quality == quality


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_quality_of_a_grey_and_of_a_progressive_file(quality: int) -> None:
    assert facts(noise().convert("L"), "JPEG", quality=quality).quality == quality
    assert facts(noise(), "JPEG", quality=quality, progressive=True, optimize=True).quality == quality


@given(st.integers(2, 99), st.lists(st.integers(-1, 1), min_size=64, max_size=64))
def test_a_table_near_one_of_the_scale_gets_nearly_its_quality(quality: int, wobble: list[int]) -> None:
    [table] = [Image.open(io.BytesIO(encoded(noise((8, 8)), "JPEG", quality=quality))).quantization[0]]  # type: ignore[attr-defined]
    moved = tuple(max(1, step + w) for step, w in zip(table, wobble, strict=True))
    assert abs(jpeg_quality(moved) - quality) <= 3


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("RGB", "PNG", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "LA"),
        ("L", "PNG", "L"),
        ("1", "PNG", "1"),
        ("P", "PNG", "P"),
        ("I;16", "PNG", "I;16"),
        ("I;16", "TIFF", "I;16"),
        ("F", "TIFF", "F"),
        ("CMYK", "JPEG", "CMYK"),
        ("CMYK", "TIFF", "CMYK"),
        ("L", "JPEG", "L"),
        ("P", "GIF", "P"),
        ("RGBA", "WEBP", "RGBA"),
        ("RGB", "BMP", "RGB"),
        ("RGB", "PPM", "RGB"),
    ],
)
def test_format_mode_and_size(mode: str, kind: str, expected: str) -> None:
    found = facts(Image.new(mode, (7, 5)), kind)
    assert (found.format, found.mode, found.width, found.height) == (kind, expected, 7, 5)
    assert (found.frames, found.orientation, found.profile) == (1, 1, False)
    assert (found.quality is None) == (kind != "JPEG")


def sixteen_bit_colour() -> bytes:
    """A PPM of one pixel with 16 bits a channel: 65535, 32896, 255."""
    return b"P6 1 1 65535\n" + np.array([65535, 32896, 255], ">u2").tobytes()


def sixteen_bit_png(colour: int, row: list[int]) -> bytes:
    """A 1x1 PNG of 16 bits a channel, colour type 2 (RGB) or 6 (RGBA), written by hand: Pillow cannot write one."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes((16, colour, 0, 0, 0))
    pixels = zlib.compress(b"\0" + np.array(row, ">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_told_from_eight() -> None:
    assert read_facts(sixteen_bit_png(2, [65535, 32896, 255])).mode == "RGB;16"
    assert read_facts(sixteen_bit_png(6, [65535, 0, 0, 9])).mode == "RGBA;16"
    assert read_facts(sixteen_bit_colour()).mode == "RGB;16"
    assert facts(noise(), "PNG").mode == "RGB"


def test_frames_are_counted_and_a_jpeg_with_a_second_picture_is_a_jpeg() -> None:
    more = [noise().rotate(90), noise().rotate(180)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        found = facts(noise(), kind, save_all=True, append_images=more)
        assert (found.format, found.frames) == (kind, 3)
    stereo = facts(noise(), "MPO", save_all=True, append_images=more)
    assert (stereo.format, stereo.frames, stereo.quality) == ("JPEG", 1, 75)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_and_profile_are_read(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = facts(noise(), kind, exif=turned(6), icc_profile=profile)
    assert (found.orientation, found.profile) == (6, True)
    assert facts(noise(), kind, exif=turned(9)).orientation == 1


def test_broken_exif_leaves_the_image_upright_and_readable() -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff\xff")
    assert read_facts(data).orientation == 1
    assert decode_image(data).shape == (24, 40, 3)


def test_the_header_is_enough() -> None:
    whole = encoded(noise((400, 300)), "JPEG", quality=80)
    head = whole[: whole.index(b"\xff\xda") + 20]
    assert read_facts(head) == read_facts(whole)
    with pytest.raises(UnreadableSample, match="truncated"):
        decode_image(head)


def test_headers_of_files_that_are_no_image_are_refused_as_decoding_is(tmp_path: Path) -> None:
    bomb = encoded(Image.new("1", (9000, 9000)), "PNG")
    for data, says in ((b"", "empty file"), (b"nothing", "not an image"), (bomb, "too large")):
        (tmp_path / "x.png").write_bytes(data)
        for read in (
            lambda d=data: read_facts(d),
            lambda: read_facts(tmp_path / "x.png"),
            lambda d=data: decode_image(d),
        ):
            with pytest.raises(UnreadableSample, match=says):
                read()
    with pytest.raises(UnreadableSample, match="cannot be read"):
        read_facts(tmp_path / "gone.png")


def test_samples_of_folders_and_archives_carry_facts_and_arrays_and_texts_do_not(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jpg").write_bytes(encoded(noise(), "JPEG", quality=81))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as packed:
        packed.write(tmp_path / "d" / "a.jpg", "a.jpg")
    for source in ("d", "d.zip"):
        [sample] = open_samples(tmp_path / source)
        assert sample.facts is not None
        assert sample.facts() == MediaFacts("JPEG", "RGB", 40, 24, 1, 81, 1, False)
    assert next(iter(open_samples(np.zeros((1, 4, 4), np.uint8)))).facts is None
    assert next(iter(open_samples(["a text"]))).facts is None


# Pixels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_not_applied(kind: str) -> None:
    assert decode_image(encoded(noise((40, 24)), kind, exif=turned(6))).shape == (24, 40, 3)


def test_a_turned_tiff_is_turned_by_pillow_and_its_header_tells_the_size_it_decodes_to() -> None:
    data = encoded(noise((40, 24)), "TIFF", exif=turned(6))
    found = read_facts(data)
    assert decode_image(data).shape == (40, 24, 3) == (found.height, found.width, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_by_257(kind: str) -> None:
    levels = np.array([[0, 128, 129, 255, 256, 257, 385, 386, 32896, 65406, 65407, 65535]], np.uint16)
    pixels = decode_image(encoded(Image.fromarray(levels), kind))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 128, 254, 255, 255]
    assert (pixels == pixels[..., :1]).all()


def test_a_dark_sixteen_bit_image_stays_dark() -> None:
    assert decode_image(encoded(Image.fromarray(np.full((2, 2), 200, np.uint16)), "PNG")).max() == 1


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    assert decode_image(sixteen_bit_png(2, [65535, 32896, 255])).tolist() == [[[255, 128, 0]]]
    assert decode_image(sixteen_bit_png(6, [65535, 32896, 255, 0])).tolist() == [[[255, 128, 0]]]


def test_thirty_two_bit_pixels_without_a_declared_white_are_refused() -> None:
    for mode in ("F", "I"):
        with pytest.raises(UnreadableSample, match="no declared white"):
            decode_image(encoded(Image.new(mode, (3, 2), 1), "TIFF"))


def test_alpha_is_dropped_not_blended() -> None:
    assert decode_image(encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 0)), "PNG")).tolist() == [[[9, 8, 7]]]
    assert decode_image(encoded(Image.new("LA", (1, 1), (50, 3)), "PNG")).tolist() == [[[50, 50, 50]]]


def test_palette_with_transparency_gives_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert decode_image(encoded(image, kind, transparency=0)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_cmyk_is_read_in_adobe_polarity() -> None:
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 0, 0, 255): (0, 0, 0), (255, 0, 0, 0): (0, 255, 255)}
    for ink, colour in inks.items():
        pixels = decode_image(encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100))
        assert np.abs(pixels[0, 0].astype(int) - colour).max() <= 2
        assert decode_image(encoded(Image.new("CMYK", (8, 8), ink), "TIFF"))[0, 0].tolist() == list(colour)


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode_image(encoded(image, "PNG")).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode_image(encoded(first, kind, save_all=True, append_images=[second], **options))
    assert pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_lines_and_points_are_images(size: tuple[int, int], kind: str) -> None:
    assert decode_image(encoded(noise(size), kind)).shape == (size[1], size[0], 3)


def test_an_image_of_no_pixels_is_refused() -> None:
    bmp = bytearray(encoded(noise((4, 4)), "BMP"))
    bmp[18:22] = (0).to_bytes(4, "little")
    for data in (bytes(bmp), b"P6 0 5 255\n"):
        with pytest.raises(UnreadableSample):
            decode_image(data)


def test_a_profile_changes_no_pixel() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (decode_image(encoded(noise(), "PNG", icc_profile=swapped)) == np.asarray(noise())).all()

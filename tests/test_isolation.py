"""Untrusted bytes through isolated workers: the same pixels and words as in process, and one state for each input."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import BadSetting, EvalkitError, RunFailed, UnreadableSample
from evalkit.isolation import Limits, Pool, kinds, witnessing
from evalkit.samples._headers import read_facts
from evalkit.samples._media import decode_image
from evalkit.types import STATES
from tests.test_samples_headers import encoded, noise, sixteen_bit_png

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(workers=2, hashes=False) as made:
        yield made


@cache
def images() -> dict[str, bytes]:
    """Files of every format and mode that is decoded, one larger than a band of rows."""
    rng = np.random.default_rng(1)
    deep = Image.fromarray(rng.integers(0, 65536, (30, 20)).astype(np.uint16))
    tall = Image.fromarray(rng.integers(0, 256, (2100, 2000), dtype=np.uint8))
    many = {"save_all": True, "append_images": [noise().rotate(90)]}
    made = {
        **{f"{mode} {kind}": encoded(noise().convert(mode), kind) for mode, kind in (
            ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("RGB", "JPEG"),
            ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("P", "GIF"), ("RGB", "BMP"),
            ("L", "BMP"), ("RGB", "TIFF"), ("CMYK", "TIFF"), ("RGB", "PPM"), ("L", "PPM"), ("1", "PPM"),
        )},
        **{f"frames {kind}": encoded(noise(), kind, **many) for kind in ("PNG", "GIF", "WEBP", "TIFF", "MPO")},
        "16 bits TIFF": encoded(deep, "TIFF"),
        "16 bits PNG": encoded(deep, "PNG"),
        "16 bits colour": sixteen_bit_png(2, [65535, 32896, 255]),
        "bands": encoded(tall, "PNG", compress_level=1),
        "bands CMYK": encoded(tall.convert("CMYK"), "TIFF"),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6
    made["turned"] = encoded(noise(), "TIFF", exif=exif)
    return made


@pytest.mark.parametrize("name", sorted(images()))
def test_pixels_and_facts_are_those_of_decoding_in_process(pool: Pool, name: str) -> None:
    data = images()[name]
    opened, pixels = pool.open(data)
    facts = read_facts(data)
    assert (opened.state, opened.stage, opened.reason, opened.modality) == ("ok", "", None, "image"), opened
    assert isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, decode_image(data))
    assert (opened.height, opened.width) == pixels.shape[:2]
    assert dict(opened.facts) == {**vars(facts), "chunks": list(facts.chunks)}
    assert opened.format == facts.format and opened.decoder == f"Pillow {Image.__version__} / {facts.format}"
    pixels[:] = 0  # it is the caller's own


def test_what_was_opened_earlier_is_not_overwritten_by_what_is_opened_later(pool: Pool) -> None:
    data = [encoded(noise((40 + i, 24)), "PNG") for i in range(6)]
    kept = [pool.open(each)[1] for each in data]
    for each, pixels in zip(data, kept, strict=True):
        assert np.array_equal(decode_image(each), pixels)  # type: ignore[arg-type]


def test_avif_is_opened_where_pillow_can(pool: Pool) -> None:
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(noise(), "AVIF", quality=100)
    opened, pixels = pool.open(data)
    assert (opened.state, opened.format, opened.width, opened.height) == ("ok", "AVIF", 40, 24)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))  # type: ignore[arg-type]


def test_texts_are_those_of_decoding_in_process(pool: Pool) -> None:
    for text in (
        "plain",
        "\ufeffwith a mark",
        "ein Süßes, 日本語 🙂\n",
        "and skip this",
        "BMW sells",
        "DDS is a format",
        "P1 is a page",
    ):
        opened, found = pool.open(text.encode())
        assert (opened.state, opened.modality, found) == ("ok", "text", text.removeprefix("\ufeff")), opened
    assert opened.decoder.startswith("Python 3")
    assert opened.facts["characters"] == len(text)


def test_what_is_wanted_is_given_and_nothing_else(pool: Pool) -> None:
    image, text = encoded(noise(), "PNG"), b"words"
    assert isinstance(pool.open(image, "pixels")[1], np.ndarray)
    assert pool.open(text, "text")[1] == "words"
    for data, want in ((image, "text"), (text, "pixels"), (image, "facts"), (text, "facts")):
        opened, media = pool.open(data, want)  # type: ignore[arg-type]
        assert opened.state == "ok" and media is None
    cut = encoded(noise((400, 300)), "JPEG")[:-2000]
    assert pool.open(cut, "facts")[0].state == "ok"
    assert pool.open(cut)[0].state == "truncated"
    with pytest.raises(BadSetting, match="want"):
        pool.open(text, "sound")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "state", "stage", "words"),
    [
        (b"", "truncated", "sniff", "empty file"),
        (b" \n\t", "unsupported", "decode", "white space"),
        (b"a\0b", "unsupported", "sniff", "neither a known format nor UTF-8 text \\(byte 1\\)"),
        (b"caf\xe9", "unsupported", "sniff", "byte 3"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "unsupported", "sniff", "^unsupported: an MP4 video$"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "unsupported", "sniff", "HEIC"),
        (b"\x1aE\xdf\xa3" + bytes(40), "unsupported", "sniff", "Matroska"),
        (b"%PDF-1.7\n", "unsupported", "sniff", "PDF"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "unsupported", "sniff", "SVG"),
        (b"PK\x03\x04" + bytes(26) + b"a.txt", "unsupported", "sniff", "ZIP"),
        (b"PK\x03\x04" + bytes(26) + b"x.npy", "unsupported", "sniff", "NPZ"),
        (b"ID3\x04" + bytes(40), "unsupported", "sniff", "MP3"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "unsupported", "sniff", "WAV"),
        ("Text".encode("utf-16"), "unsupported", "sniff", "UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "corrupt", "header", "header cannot be read"),
        (encoded(noise(), "PNG")[:-200], "truncated", "decode", "truncated"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "unsupported", "decode", "32-bit"),
        (encoded(Image.new("1", (9000, 9000)), "PNG"), "too_large", "header", "9000x9000"),
    ],
)  # fmt: skip
def test_each_file_ends_in_one_state_with_its_stage_and_reason(
    pool: Pool, data: bytes, state: str, stage: str, words: str
) -> None:
    import re

    opened, media = pool.open(data)
    assert (opened.state, opened.stage, media) == (state, stage, None), opened
    assert opened.reason is not None and re.search(words, opened.reason), opened.reason


def test_a_suffix_is_never_asked_and_a_warning_is_a_state(pool: Pool) -> None:
    transparent = noise().convert("P")
    opened, pixels = pool.open(encoded(transparent, "PNG", transparency=bytes(range(200))))
    assert opened.state == "ok_with_warning" and isinstance(pixels, np.ndarray)
    assert len(opened.warnings) == 1 and "Transparency" in opened.warnings[0]


def test_limits_are_those_given() -> None:
    limits = Limits(
        most_pixels=1900, most_frames=3, most_bytes=9000, most_characters=4, most_chunk=500, address_space=2**29
    )
    profile = np.random.default_rng(0).bytes(2000)
    small = [Image.new("L", (2, 2), 50 * i) for i in range(5)]
    more = {"save_all": True, "append_images": [noise().rotate(90)]}
    cases = [
        (encoded(Image.new("L", (50, 40)), "PNG"), "header", "50x40 pixels, at most 1,900"),
        (encoded(Image.new("L", (50, 40)), "JPEG"), "header", "exceeds limit of 1900 pixels"),
        (encoded(noise(), "GIF", **more), "header", "40x24 x 2 frames pixels"),
        (encoded(noise(), "WEBP", **more), "header", "40x24 x 2 frames pixels"),
        (encoded(noise(), "PNG", **more), "header", "40x24 x 2 frames pixels"),
        (encoded(noise((20, 12)), "TIFF", **{**more, "append_images": small[1:]}), "header", "frames, at most 3"),
        (encoded(small[0], "GIF", save_all=True, append_images=small[1:]), "header", "frames, at most 3"),
        (b"x" * 9001, "read", "9,001 bytes, at most 9,000"),
        (b"words", "decode", "5 characters, at most 4"),
        (encoded(noise((9, 9)), "PNG", icc_profile=profile), "header", "a iCCP of"),
        (encoded(noise((9, 9)), "WEBP", icc_profile=profile), "header", "a ICCP of"),
    ]
    with Pool(workers=1, limits=limits, hashes=False) as pool:
        assert pool.open(encoded(noise(), "PNG"))[0].state == "ok"
        for data, stage, words in cases:
            opened, media = pool.open(data)
            assert (opened.state, opened.stage, media) == ("too_large", stage, None), (words, opened)
            assert words in str(opened.reason)
    for name, value in (("cpu_seconds", 0), ("most_bytes", -1), ("wall_seconds", float("nan")), ("most_frames", True)):
        with pytest.raises(BadSetting, match=name):
            Limits(**{name: value})
    with pytest.raises(BadSetting, match="0 workers"):
        Pool(workers=0)


@pytest.mark.parametrize("together", [1, 5])
def test_many_come_in_order_with_few_held_at_once(pool: Pool, together: int) -> None:
    held, most = 0, 0
    lock = threading.Lock()

    def reader(i: int) -> bytes:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        if i == 7:
            raise PermissionError(13, "Permission denied")
        if i == 8:
            raise UnreadableSample("member 8 is encrypted")
        return f"text {i}".encode()

    found = []
    for opened, media in pool.open_many(((lambda i=i: reader(i)) for i in range(40)), together=together):
        held -= 1
        found.append((opened, media))
    assert [media for _, media in found] == [None if i in (7, 8) else f"text {i}" for i in range(40)]
    assert [(o.state, o.stage) for o, _ in found[7:9]] == [("io_error", "read")] * 2
    assert found[7][0].reason == "PermissionError: [Errno 13] Permission denied"
    assert found[8][0].reason == "member 8 is encrypted"
    assert {o.state for o, _ in found} <= set(STATES)
    assert most <= 2 * pool.workers * together


def test_several_files_a_request_give_what_each_gives_alone(pool: Pool) -> None:
    """Of every format and mode, some of which the decoder refuses; an image, a text and nothing in turn."""
    small = [data for data in images().values() if len(data) < 2**20]
    files = [*small, b"", "ein Süßes".encode(), b"a\0b", encoded(noise(), "PNG")[:-200], b"words"] * 2
    files.sort(key=lambda data: data[-9:-1])
    for (one, media), data in zip(pool.open_many([lambda d=d: d for d in files], together=7), files, strict=True):  # type: ignore[misc]
        alone, expected = pool.open(data)
        assert replace(one, seconds=0, peak_bytes=0) == replace(alone, seconds=0, peak_bytes=0)
        assert np.array_equal(media, expected) if isinstance(expected, np.ndarray) else media == expected
    for together in (0, 256):
        with pytest.raises(BadSetting, match="together"):
            list(pool.open_many([], together=together))


def test_a_closed_pool_says_so() -> None:
    with Pool(workers=1, hashes=False) as pool:
        assert pool.open(b"words")[1] == "words"
    with pytest.raises(RunFailed, match="closed"):
        pool.open(b"words")


def test_a_witness_that_cannot_be_made_is_an_error_before_any_file() -> None:
    broken = ("tests.toys_witness:Broken", {})
    with pytest.raises(RunFailed, match="its library is not installed"), Pool(workers=1, witnesses=[broken]):
        pass
    for name in ("tests.toys_witness:Nothing", "nosuchwitness", "tests.test_samples_headers:Any"):
        with pytest.raises((EvalkitError, AttributeError, TypeError)):
            witnessing.make([(name, {})])


def test_sniffing_hostile_text_takes_no_time() -> None:
    """A pattern that may match in many ways would take longer than the test does."""
    for data in (
        b"<!-- -->" * 10_000,
        b"<?xml " * 10_000,
        b"<!DOCTYPE svg" * 9999,
        b" " * 99_999,
        b"P1" + b" " * 99_999,
    ):
        assert kinds.sniff(data) == kinds.Kind(kinds.TEXT)


@pytest.mark.parametrize("started", ["script", pytest.param("module", marks=pytest.mark.slow), "standard input"])
def test_the_callers_main_module_runs_once(tmp_path: Path, started: str) -> None:
    """A script without the customary guard, a module, and what a notebook is: a main module without a file."""
    code = (
        "print('once')\nfrom evalkit.isolation import Pool\nwith Pool(workers=1) as p:\n    print(p.open(b'hi')[1])\n"
    )
    (tmp_path / "unguarded.py").write_text(code)
    command = {"script": [str(tmp_path / "unguarded.py")], "module": ["-m", "unguarded"], "standard input": ["-"]}
    done = subprocess.run(
        [sys.executable, *command[started]],
        input=code,
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("once\nhi\n", 0), done.stderr

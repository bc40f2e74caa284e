"""The malformed corpus, bombs and seeded mutants through isolated workers: one state each, little memory, no crash."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import UnreadableSample
from evalkit.isolation import Limits, Pool
from evalkit.samples._headers import read_facts
from evalkit.samples._media import IMAGE_FORMATS, decode_image
from evalkit.types import STATES, Opened
from tests.data import shared
from tests.test_samples_headers import encoded, noise

MiB = 2**20
# Each in a fresh worker, so that its peak is of that file; fewer pixels than by default, so that bombs are made soon.
ONE_FILE = Limits(recycle_after=1, most_pixels=4_000_000)


def files(*parts: str) -> list[Path]:
    return sorted(path for path in shared("data", "malformed", *parts).rglob("*") if path.is_file())


def in_process(data: bytes) -> np.ndarray | None:
    try:
        return decode_image(data)
    except UnreadableSample:
        return None


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(workers=1, hashes=False) as made:
        yield made


@pytest.fixture(scope="module")
def fresh() -> Iterator[Pool]:
    """A pool that opens each file in a worker of its own."""
    with Pool(workers=1, limits=ONE_FILE, hashes=False) as made:
        yield made


@pytest.mark.filterwarnings("ignore")
def test_each_malformed_file_has_one_state_and_the_pixels_of_decoding_in_process(pool: Pool) -> None:
    corpus = [path for path in files() if path.parent.name != "bombs"]
    assert len(corpus) > 300
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = [pool.open(path.read_bytes()) for path in corpus]
    # The parent holds no more than one image of the largest, which are small here.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert max(opened.peak_bytes for opened, _ in found) < 256 * MiB
    assert {opened.state for opened, _ in found} <= set(STATES) - {"crash", "timeout", "oom", "io_error"}
    assert sum(opened.readable for opened, _ in found) >= 160
    for path, (opened, media) in zip(corpus, found, strict=True):
        agree(path, opened, media)


def agree(path: Path, opened: Opened, media: object) -> None:
    """Readable is what has its media, and an image is readable here where it is in process, with the same pixels."""
    data = path.read_bytes()
    assert opened.readable == (media is not None) == (opened.reason is None) == (opened.stage == ""), (path, opened)
    expected = in_process(data)
    if expected is None:
        assert opened.format not in IMAGE_FORMATS or not opened.readable, (path, opened)
        return
    assert isinstance(media, np.ndarray) and np.array_equal(media, expected), (path, opened)
    facts = read_facts(data)
    assert dict(opened.facts) == {**vars(facts), "chunks": list(facts.chunks)}, path


@pytest.fixture(scope="module")
def idle_peak(fresh: Pool) -> int:
    """Peak memory of a worker that has opened one word."""
    return fresh.open(b"word")[0].peak_bytes


def made_bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that decode to much, made here: a canvas, many frames, many pages, metadata that unpacks."""
    from PIL.PngImagePlugin import PngInfo

    yield "png", encoded(Image.new("1", (2_100, 2_100)), "PNG")
    one = Image.new("L", (400, 400))
    yield (
        "gif",
        encoded(one, "GIF", save_all=True, append_images=[Image.new("L", (400, 400), 6 * i) for i in range(1, 40)]),
    )
    yield "tiff", encoded(one, "TIFF", compression="tiff_deflate", save_all=True, append_images=[one] * 40)
    info = PngInfo()
    info.add_text("Comment", "a" * 9_000_000, zip=True)
    yield "ztxt", encoded(noise(), "PNG", pnginfo=info)
    yield "iccp", encoded(noise(), "PNG", icc_profile=bytes(9_000_000))
    canvas = (16_000).to_bytes(3, "little")
    yield "webp", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + canvas + canvas


def test_bombs_are_refused_at_the_header_with_little_memory(fresh: Pool, idle_peak: int) -> None:
    for name, data in made_bombs():
        opened, media = fresh.open(data)
        assert (opened.state, opened.stage, media) == ("too_large", "header", None), (name, opened)
        assert opened.peak_bytes - idle_peak < 100 * MiB, name


def test_the_bombs_of_the_corpus_are_refused_with_little_memory(fresh: Pool, idle_peak: int) -> None:
    for path in files("bombs"):
        opened, media = fresh.open(path.read_bytes())
        state, stage = ("unsupported", "sniff") if path.suffix == ".npz" else ("too_large", "header")
        assert (opened.state, opened.stage, media) == (state, stage, None), (path, opened)
        assert opened.peak_bytes - idle_peak < 100 * MiB, path


def mutants(seeds: list[bytes], n: int) -> Iterator[bytes]:
    """Each a seed with some bytes changed, a piece cut out or doubled, or its end lost."""
    rng = np.random.default_rng(8)
    for i in range(n):
        data = bytearray(seeds[i % len(seeds)])
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        at, length = (int(rng.integers(len(data))) for _ in range(2))
        match int(rng.integers(5)):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + length % 64]
            case 2:
                data[at:at] = data[at : at + length % 64]
        yield bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_mutants_end_in_one_state_and_readable_ones_have_the_pixels_of_decoding_in_process(pool: Pool, n: int) -> None:
    more = {"save_all": True, "append_images": [noise().rotate(90)]}
    seeds = [encoded(noise(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    seeds += [encoded(noise(), kind, **more) for kind in ("PNG", "GIF", "WEBP", "TIFF")]
    for data in mutants(seeds, n):
        opened, media = pool.open(data)
        assert opened.state in set(STATES) - {"crash", "timeout", "oom", "io_error"}, opened
        expected = in_process(data)
        if opened.state == "too_large":
            continue  # frames count here, not in process
        if isinstance(media, np.ndarray):
            assert expected is not None and np.array_equal(media, expected)
        elif opened.format in IMAGE_FORMATS:
            assert expected is None, opened


@pytest.mark.parametrize("part", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_64_megapixels_fit_the_memory_that_a_worker_has(part: int) -> None:
    """By default a quarter of everything: of the pixels and of the memory."""
    full = Limits()
    limits = Limits(
        address_space=full.address_space // part + (32 * MiB if part > 1 else 0),  # a band of rows is no smaller
        most_bytes=full.most_bytes // part,
        most_pixels=full.most_pixels // part,
        most_characters=full.most_characters // part,
    )
    row = np.random.default_rng(0).integers(0, 256, (1, 8000, 3), dtype=np.uint8)
    line = encoded(Image.fromarray(row), "BMP")
    data = line[:22] + (rows := 8000 // part - 1).to_bytes(4, "little") + line[26:54] + line[54:] * rows
    with Pool(workers=1, limits=limits, hashes=False) as pool:
        opened, pixels = pool.open(data)
    assert opened.state == "ok", opened
    assert isinstance(pixels, np.ndarray) and pixels.shape == (rows, 8000, 3)
    assert (pixels[::999] == row).all()

"""Marks that are written: dwtDct bit for bit as the published package writes it, and folders of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from detectors.dwtdct import DwtDct, block_votes
from evalkit.cli import run
from evalkit.errors import BadSetting, ModalityMismatch, NothingToEvaluate, UnreadableSample, UnwritableOutput
from evalkit.marking.embedding import SOURCE_TYPE, embedded, labelled_png, payload_of
from evalkit.marking.writing import embed
from evalkit.measurement import Bench
from evalkit.samples import open_samples
from tests.data import shared
from tests.toys import images

pytestmark = pytest.mark.usefixtures("at_home")
SDXL = "b3ec907bb19e"


def colourful(seed: int, height: int = 272, width: int = 304) -> npt.NDArray[np.uint8]:
    """Smooth colours with texture, away from black and white: what this mark needs to be read back."""
    rng = np.random.default_rng(seed)
    slow = gaussian_filter(rng.normal(size=(height, width, 3)), (12, 12, 0)) * 900
    return np.clip(128 + slow + rng.normal(0, 4, (height, width, 3)), 20, 235).astype(np.uint8)


# The mark -------------------------------------------------------------------------------------------------------------


def test_every_bit_is_where_the_published_package_puts_it() -> None:
    package = pytest.importorskip("imwatermark", reason="invisible-watermark is not installed")
    rng = np.random.default_rng(0)
    cases = [(colourful(1), 6), (colourful(2, 259, 261), 4), (np.full((256, 256, 3), 90, np.uint8), 3)]
    # Noise of full range meets every rounding and leaves 0..255 nowhere in U.
    cases.append((rng.integers(0, 256, (300, 263, 3), dtype=np.uint8), 17))
    for image, length in cases:
        payload = rng.bytes(length)
        encoder = package.WatermarkEncoder()
        encoder.set_by_bytes(payload)
        theirs = encoder.encode(image[..., ::-1].copy(), "dwtDct")[..., ::-1]
        assert np.array_equal(embedded(image, payload), theirs)


def test_a_file_that_the_package_marked_is_made_again() -> None:
    folder = shared("data/image/watermark_dwtdct")
    cover = np.asarray(Image.open(folder / "cover_SD1-5.png").convert("RGB"))
    for name, payload in (
        ("wm_sdxl48_SD1-5.png", bytes.fromhex(SDXL)),
        ("wm_sdv1_136_SD1-5.png", b"StableDiffusionV1"),
    ):
        assert np.array_equal(embedded(cover, payload), np.asarray(Image.open(folder / name).convert("RGB")))


@settings(max_examples=8, deadline=None)
@given(payload=st.binary(min_size=3, max_size=32), seed=st.integers(0, 3))
def test_more_blocks_say_their_bit_than_before_and_the_picture_stays(payload: bytes, seed: int) -> None:
    image = colourful(seed)
    marked = embedded(image, payload)
    assert marked.shape == image.shape and marked.dtype == np.uint8
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    before, after = (block_votes(x) for x in (image, marked))
    wanted = bits[np.arange(len(after)) % len(bits)]
    # Not all of them: another coefficient of the block may be the largest once this one was moved.
    assert np.mean(after == wanted) > np.mean(before == wanted)
    # A mark is no picture: over 30 dB.
    assert np.mean((marked.astype(float) - image) ** 2) < 255**2 / 1e3


def test_images_and_payloads_that_no_decoder_reads_are_refused() -> None:
    with pytest.raises(UnreadableSample, match="255 x 256"):
        embedded(np.zeros((256, 255, 3), np.uint8), b"abc")
    for wrong in ("", "zz", "b3e", "b3ec", "00" * 33):
        with pytest.raises(BadSetting, match="payload"):
            payload_of(wrong)
    assert payload_of("B3EC907BB19E") == bytes.fromhex(SDXL)


def test_the_label_is_read_by_another_reader() -> None:
    image = colourful(0, 16, 16)
    Path("one.png").write_bytes(labelled_png(image))
    with Image.open("one.png") as again:
        assert np.array_equal(np.asarray(again), image)
        packet = again.text["XML:com.adobe.xmp"]
    element = importlib.import_module("xml.etree.ElementTree").fromstring(packet)
    (description,) = element.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == SOURCE_TYPE


# Marked folders -------------------------------------------------------------------------------------------------------


def written(folder: Path, n: int, *, first: int = 0) -> Path:
    for i in range(first, first + n):
        home = folder / ("cats" if i % 2 else "dogs")
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colourful(i)).save(home / f"{i}.png")
    return folder


def test_a_folder_is_marked_and_both_layers_are_found_until_it_is_laundered(capsys: pytest.CaptureFixture[str]) -> None:
    written(Path("photos"), 4)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save("photos/small.png")
    written(Path("real"), 4, first=10)
    assert run(["marking", "photos", "--embed", f"dwtdct={SDXL[::-1]}", "--out", "marked"]) == 0
    out = capsys.readouterr()
    assert out.out.strip() == "marked/set.json" and "small.png" in out.err
    about = json.loads(Path("marked/set.json").read_text())
    assert about["marks"] == {"dwtdct": SDXL[::-1]} and about["n"] == 4 and len(about["excluded"]) == 1
    assert sorted(p.parent.name for p in Path("marked").rglob("*.png")) == ["cats", "cats", "dogs", "dogs"]
    # The payload is not given again: set.json tells it.
    asks = ["--require", "both", "--survive", "watermark=stripped", "--survive", "metadata=resaved"]
    assert run(["marking", "marked", "--real", "real", "--chains", "jpeg75", *asks, "--json"]) == 0
    chains = json.loads(capsys.readouterr().out)["chains"]
    assert chains["copy"]["both"]["count"] == chains["copy"]["dwtdct"]["count"] == 4
    assert (chains["stripped"]["metadata"]["count"], chains["stripped"]["watermark"]["count"]) == (0, 4)
    assert (chains["resaved"]["metadata"]["count"], chains["jpeg75"]["metadata"]["count"]) == (4, 0)
    assert chains["copy"]["signed"]["count"] == 0
    assert run(["marking", "marked", "--require", "trusted", "--chains", "stripped"]) == 1


def test_without_its_payload_a_mark_of_ones_own_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    embed(open_samples(written(Path("photos"), 2)), {"dwtdct": "0a1b2c3d4e5f"}, Path("marked"), {}, Bench())
    Path("marked/set.json").unlink()
    short = ["marking", "marked", "--marks", "dwtdct", "--chains", "stripped", "--require", "watermark"]
    assert run(short) == 1
    assert run([*short, "--payload", "dwtdct=0a1b2c3d4e5f"]) == 0
    assert run([*short, "--payload", "dwtdct=ffffffffffff"]) == 2
    assert "flat images would match" in capsys.readouterr().err


def test_signed_outputs_of_real_generators_are_counted_as_signed(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    folder = shared("data/image/provenance/ai_generators")
    trust = shared("data/image/provenance/trust/C2PA-TRUST-LIST.pem")
    short = ["marking", str(folder), "--marks", "provenance", "--chains", "resaved", "--json"]
    found = []
    for extra in ([], ["--trust", str(trust)]):
        assert run([*short, *extra]) == 0
        found.append(json.loads(capsys.readouterr().out)["chains"])
    for chains in found:
        # Titan, ChatGPT, Firefly and FLUX are signed, Grok and Midjourney label, one carries a TrustMark alone.
        assert (chains["copy"]["signed"]["count"], chains["copy"]["unsigned"]["count"]) == (4, 2)
        assert chains["resaved"]["signed"]["count"] == 0
    assert found[0]["copy"]["trusted"]["count"] == 0 < found[1]["copy"]["trusted"]["count"]


def test_what_cannot_be_marked_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    samples = open_samples(written(Path("photos"), 1))
    with pytest.raises(NothingToEvaluate, match="65,536"):
        embed(images(2, size=32), {"dwtdct": SDXL}, Path("out"), {}, Bench())
    with pytest.raises(ModalityMismatch):
        embed(open_samples(["a text of some words"]), {"dwtdct": SDXL}, Path("out"), {}, Bench())
    for wrong in ({"rivagan": SDXL}, {"dwtdct": "00000000"}, {"dwtdct": "1"}):
        with pytest.raises(BadSetting):
            embed(samples, wrong, Path("out"), {}, Bench())
    assert not Path("out").exists()
    with pytest.raises(UnwritableOutput):
        embed(samples, {"dwtdct": SDXL}, Path("photos"), {}, Bench())
    assert DwtDct(payloads={"own": SDXL[::-1]}).count(next(iter(samples)).load())["own"][0] < 41
